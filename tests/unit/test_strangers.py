"""Started by `sudo -u`, or in a container by a bare number: in folders and with a PATH that belong to somebody else."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from naap_ops import files
from naap_ops.errors import ConfigurationError
from naap_ops.postgres import unprivileged

_FIRST = """
from pathlib import Path
from naap_ops.config.sources import load
from naap_ops.errors import ConfigurationError, PrismaProjectNotFound
from naap_ops.postgres import installed
from naap_ops.prisma import project
load({}, cwd=Path("/proc"), environ={})
"""
_IN_A_PRIVATE_FOLDER = """
private = Path(root, "private", "below")
found = load({}, cwd=private, environ={"HOME": str(private)})
print(found.settings_file, found.database(None).url)
try:
    project.find(private)
except PrismaProjectNotFound:
    print("no project")
os.environ["PATH"] = f"{private}:/bin"
print([str(folder) for folder, _ in installed.places([16]) if "private" in str(folder)])
"""


def test_what_may_not_be_looked_into_holds_nothing(open_folder: Path, as_nobody: Callable[..., str]) -> None:
    private = open_folder / "private" / "below"
    private.mkdir(parents=True)
    for name in (".env", "naap_ops.toml", "pg_dump", "prisma.config.ts"):
        (private / name).write_text("")
        (private / name).chmod(0o700)
    private.chmod(0o700)
    private.parent.chmod(0o700)
    assert as_nobody(_IN_A_PRIVATE_FOLDER, _FIRST).splitlines() == ["None None", "no project", "[]"]


def test_a_file_that_may_not_be_read_in_a_folder_that_may(open_folder: Path, as_nobody: Callable[..., str]) -> None:
    (open_folder / ".env").write_text("DATABASE_URL=postgresql://h/d")
    (open_folder / ".env").chmod(0o600)
    source = """
try:
    load({}, cwd=Path(root), environ={"HOME": "/"})
except ConfigurationError as error:
    print(error.text)
"""
    assert ".env cannot be read" in as_nobody(source, _FIRST) or os.geteuid() != 0


def test_a_number_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody_knows)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(ConfigurationError, match="54321 has no name") as caught:
        unprivileged.account()
    assert "scratch_url" in caught.value.advice


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert files.home({}) == Path("/")
    assert files.home({"HOME": "/home/me"}) == Path("/home/me")
    with pytest.raises(ConfigurationError, match="~nobody_has_this_name/x"):
        files.expanded(Path("~nobody_has_this_name/x"))
