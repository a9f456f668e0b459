"""A lock file: one holder, named to whoever comes second, gone with its process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from naap_ops.errors import Busy
from naap_ops.lock import FileLock, is_held

HOLDER = """
import sys
from pathlib import Path
from naap_ops.lock import FileLock
with FileLock(Path(sys.argv[1]), what="backup"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who_has_it_until_that_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    argv = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            assert is_held(path)
            with pytest.raises(Busy, match=f'restore is already running: .*"pid": {process.pid}') as caught:
                FileLock(path, what="restore").acquire()
            assert caught.value.exit_code == 15
            assert json.loads(caught.value.fields["holder"]).keys() == {"pid", "host", "since"}
            assert is_held(path), "looking and being refused change nothing"
        finally:
            process.kill()
        process.wait()
        assert not is_held(path)
        with FileLock(path, what="restore"):
            assert json.loads(path.read_text())["pid"] == os.getpid()


def test_free_again_after_the_block_also_by_exception(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock", what="x")
    with lock:
        assert is_held(lock.path)
    assert not is_held(lock.path)
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert not is_held(lock.path)
    lock.release()


def test_the_same_process_is_refused_as_well(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock", what="x") as lock:
        with pytest.raises(Busy):
            FileLock(tmp_path / "lock", what="x").acquire()
        with pytest.raises(Busy):
            lock.acquire()
        assert is_held(lock.path)
    assert not is_held(lock.path)


def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock", what="x"):
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        assert not is_held(tmp_path / "lock")
    finally:
        child.kill()
        child.wait()


def test_a_missing_file_is_not_held_and_not_made(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_where_no_file_can_be_made_no_lock_is_had(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "no" / "lock", what="x").acquire()


def test_a_disk_too_full_for_the_holders_name_can_still_be_locked(tmp_path: Path) -> None:
    source = f"""
import resource
from pathlib import Path
from naap_ops.errors import Busy
from naap_ops.lock import FileLock, is_held
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
path = Path({str(tmp_path / "lock")!r})
with FileLock(path, what="x"):
    assert is_held(path)
    try:
        FileLock(path, what="x").acquire()
    except Busy as error:
        assert "holder unknown" in error.text
"""
    subprocess.run([sys.executable, "-c", source], check=True)
