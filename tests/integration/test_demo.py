"""`invoke demo` proves what it prints, and leaves nothing behind but its folder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from naap_ops import process
from naap_ops.errors import CommandFailed

PROGRAM = Path(sys.executable).with_name("naap-ops")


def _demo(folder: Path, *words: str) -> tuple[dict[str, object], str]:
    _, output, errors = process.run([PROGRAM, "demo", "--folder", str(folder), "--json", *words], cwd=folder.parent)
    found: dict[str, object] = json.loads(output.decode().splitlines()[-1])
    return found, errors


@pytest.mark.slow
@pytest.mark.parametrize("major", [16, pytest.param(18, marks=pytest.mark.long)])
def test_every_table_comes_back_and_nothing_stays_running(tmp_path: Path, major: int) -> None:
    folder = tmp_path / "demo"
    outcome, text = _demo(folder, f"--major={major}")

    assert outcome["identical"] is True
    assert outcome["tables"] == 10
    assert text.count("damaged, and back") == 6
    assert "PROVED: 10 of 10 tables" in text
    assert sorted(entry.name for entry in folder.iterdir()) == ["backups", "naap_ops-demo"]
    assert not [pid for pid in _processes() if str(folder) in pid]


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(CommandFailed, match="not from an earlier demonstration") as caught:
        _demo(folder)
    assert caught.value.fields["status"] == 17
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_place_where_nothing_can_be_made() -> None:
    with pytest.raises(CommandFailed, match="give another --folder") as caught:
        _demo(Path("/proc/here"))
    assert caught.value.fields["status"] == 9


def _processes() -> list[str]:
    """The command lines of all processes."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
