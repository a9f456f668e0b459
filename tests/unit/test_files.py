"""Durable writing: whole or not there, private, and flushed before its name appears."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from naap_ops import files
from naap_ops.errors import NoSpace, OpsError, StorageError

OLD, NEW = b"old", b"new" * 100_000


@pytest.mark.parametrize("existing", [True, False])
def test_killed_at_any_step_a_file_is_the_old_or_the_new_one(
    existing: bool, killed_everywhere: Callable[[str], list[Path]]
) -> None:
    roots = killed_everywhere(f"""
from naap_ops import files
def prepare(root):
    if {existing}:
        (root / "file").write_bytes({OLD!r})
def act(root):
    files.write_durably(root / "file", b"new" * 100_000)
""")
    found = [(root / "file").read_bytes() if (root / "file").exists() else None for root in roots]
    assert set(found) == {OLD if existing else None, NEW}
    assert found[-1] == NEW
    for root in roots:
        strays = [path.name for path in root.iterdir() if path.name != "file"]
        assert all(files.TEMPORARY.fullmatch(name) for name in strays), "a listing can tell what a crash left"
    assert [path.name for path in roots[-1].iterdir()] == ["file"]


def test_a_write_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in the way").touch()
    with pytest.raises(OSError, match="directory"):
        files.write_durably(tmp_path / "folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_is_made_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.make_private_dir(tmp_path / "a" / "b")
        files.write_durably(tmp_path / "a" / "b" / "file", b"x")
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "file")] == [
        0o700,
        0o700,
        0o600,
    ]


def test_folders_that_exist_keep_their_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    files.make_private_dir(tmp_path / "shared" / "ours")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


def test_content_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    fsync, rename = os.fsync, os.rename

    def logged_fsync(fd: int) -> None:
        log.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{fd}')).suffix or 'folder'} {os.fstat(fd).st_size > 0}")
        fsync(fd)

    def logged_rename(source: Path, target: Path) -> None:
        log.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "rename", logged_rename)
    files.write_durably(tmp_path / "file", b"content")
    assert log == ["fsync .tmp True", "rename", "fsync folder True"]


def test_hash_and_size_of_what_is_there(tmp_path: Path) -> None:
    content = os.urandom(files.CHUNK * 2 + 1)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "big").write_bytes(content)
    (tmp_path / "small").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert files.sha256(tmp_path / "a" / "big") == hashlib.sha256(content).hexdigest()
    assert b"".join(files.chunks(tmp_path / "a" / "big")) == content
    (tmp_path / "link").unlink()
    assert files.tree_bytes(tmp_path) == len(content) + 5
    files.remove_tree(tmp_path / "a")
    assert files.tree_bytes(tmp_path) == 5


def test_a_write_that_is_cut_short_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is almost full: the next one fails, or there is room again."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    with open(tmp_path / "f", "wb") as file:
        files.write_all(file.fileno(), b"ten bytes.")
    assert (tmp_path / "f").read_bytes() == b"ten bytes."


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, StorageError)])
def test_failures_of_the_file_system_by_their_kind(number: int, kind: type[OpsError]) -> None:
    error = files.failure(Path("there"), OSError(number, os.strerror(number)), "a hint")
    assert type(error) is kind
    assert "there" in error.text
    assert os.strerror(number) in error.text
