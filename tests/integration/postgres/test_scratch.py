"""Scratch servers: as root and not, out of reach, crashed, left behind, misconfigured."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from naap_ops.errors import Busy, CommandFailed, NoSpace, ToolMissing
from naap_ops.postgres import scratch as scratch_module
from naap_ops.postgres import unprivileged
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import installations, server_bindir

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")


@pytest.fixture
def bindir() -> Path:
    """The bin folder of one installation."""
    found = installations()
    if not found:
        pytest.skip("no server installation found")
    return found.get(16) or next(iter(found.values()))


def answer(server: ScratchServer, query: str) -> object:
    with closing(connect(server.info)) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_every_major_runs_and_leaves_nothing(server: ScratchServer, tmp_path: Path) -> None:
    with ScratchServer(server.bindir, tmp_path / "work") as scratch:
        assert answer(scratch, "SHOW fsync") == "off"
        assert answer(scratch, "SHOW server_encoding") == "UTF8"
        assert answer(scratch, "SHOW listen_addresses") == ""
        place, pid = scratch.place, scratch.pid
        assert pid is not None
    assert not place.exists()
    assert not alive(pid)
    assert list((tmp_path / "work").iterdir()) == []


def test_settings_of_the_caller_win(bindir: Path, tmp_path: Path) -> None:
    with ScratchServer(bindir, tmp_path, config={"shared_buffers": "16MB", "search_path": "a, 'b'"}) as scratch:
        assert answer(scratch, "SHOW shared_buffers") == "16MB"
        assert answer(scratch, "SHOW search_path") == "a, 'b'"


def test_a_stopped_server_keeps_its_data_and_a_killed_one_recovers(bindir: Path, tmp_path: Path) -> None:
    with ScratchServer(bindir, tmp_path) as scratch:
        with closing(connect(scratch.info)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        scratch.stop()
        assert scratch.pid is None
        scratch.start()
        assert answer(scratch, "SELECT n FROM kept") == 7
        with closing(connect(scratch.info)) as connection:
            connection.execute("CHECKPOINT")
            scratch.kill()
        scratch.start()
        assert answer(scratch, "SELECT n FROM kept") == 7


def test_a_server_that_died_by_itself_is_started_again(bindir: Path, tmp_path: Path) -> None:
    with ScratchServer(bindir, tmp_path) as scratch, closing(connect(scratch.info)):
        first = scratch.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        while scratch.pid is not None:
            pass
        scratch.start()
        assert answer(scratch, "SELECT 1") == 1


@needs_root
def test_a_temporary_folder_out_of_reach_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    who = unprivileged.account()
    place = unprivileged.temporary_place(who)
    try:
        assert not place.is_relative_to(tmp_path)
        assert who.can_write(place)
        assert list(tmp_path.iterdir()) == []
    finally:
        place.rmdir()


def test_a_work_folder_with_a_long_name_gets_a_short_socket(bindir: Path) -> None:
    base = unprivileged.temporary_place(unprivileged.account())
    try:
        deep = base / ("long " * 20).strip() / ("é" * 60)
        with ScratchServer(bindir, deep) as scratch:
            assert scratch.place.is_relative_to(deep)
            assert answer(scratch, "SELECT 1") == 1
            socket_dir = scratch.socket_dir
            assert len(os.fsencode(socket_dir)) < 90
        assert not socket_dir.exists()
    finally:
        shutil.rmtree(base)


@needs_root
def test_an_installation_and_a_work_folder_that_only_root_reaches(tmp_path: Path) -> None:
    source = server_bindir(16)
    package = source.parent.parent
    private = tmp_path / "root only"
    shutil.copytree(package, private / package.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, private / libraries.name)
    private.chmod(0o700)
    bindir = private / package.name / source.parent.name / "bin"
    assert not unprivileged.account().can_run(bindir / "postgres")
    with ScratchServer(bindir, private / "work") as scratch:
        assert scratch.bindir != bindir
        assert answer(scratch, "SELECT count(*) FROM pg_timezone_names WHERE name = 'UTC'") == 1
        place = scratch.place
    assert not place.exists()


@needs_root
def test_an_installation_unpacked_with_a_strict_umask(tmp_path: Path) -> None:
    package = server_bindir(16).parent.parent
    open_place = unprivileged.temporary_place(unprivileged.account())
    try:
        copy = unprivileged.copy_installation(server_bindir(16), open_place / "strict")
        for folder, _, files in os.walk(open_place / "strict"):
            os.chmod(folder, 0o700)
            for name in files:
                target = Path(folder) / name
                if not target.is_symlink():
                    content, mode = target.read_bytes(), target.stat().st_mode
                    target.unlink()  # it is hard-linked to the original
                    target.write_bytes(content)
                    target.chmod(mode & 0o700)
        assert package.exists()
        with ScratchServer(copy, tmp_path) as scratch:
            assert scratch.bindir != copy
            assert answer(scratch, "SELECT 1") == 1
    finally:
        shutil.rmtree(open_place)


def test_what_a_killed_run_left_is_ended_by_the_next(bindir: Path, tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from naap_ops.postgres.scratch import ScratchServer
server = ScratchServer(Path(sys.argv[1]), Path(sys.argv[2]))
server.start()
print(server.pid, server.place, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", script, bindir, tmp_path], capture_output=True, text=True, check=False)
    pid, _, place = run.stdout.strip().partition(" ")
    assert alive(int(pid))
    with ScratchServer(bindir, tmp_path) as scratch:
        assert not alive(int(pid))
        assert scratch.place == Path(place) or not Path(place).exists()
    assert not Path(place).exists()


def test_a_process_that_merely_has_the_number_is_spared(bindir: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "300"]) as other:
        data = tmp_path / "server" / "data"
        data.mkdir(parents=True)
        (data / "postmaster.pid").write_text(f"{other.pid}\n{data}\n")
        (tmp_path / "scratch.json").write_text(f'["{tmp_path / "server"}"]')
        with ScratchServer(bindir, tmp_path) as scratch:
            assert answer(scratch, "SELECT 1") == 1
        assert other.poll() is None
        other.kill()


def test_the_server_of_a_living_run_is_spared(bindir: Path, tmp_path: Path) -> None:
    with ScratchServer(bindir, tmp_path) as first:
        with pytest.raises(Busy), ScratchServer(bindir, tmp_path):
            pass
        assert answer(first, "SELECT 1") == 1


def test_a_server_that_does_not_start_shows_its_log(bindir: Path, tmp_path: Path) -> None:
    scratch = ScratchServer(bindir, tmp_path, config={"shared_buffers": "nonsense"})
    with pytest.raises(CommandFailed) as caught, scratch:
        pass
    assert 'invalid value for parameter "shared_buffers"' in caught.value.text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_programs(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing), ScratchServer(tmp_path, tmp_path / "work"):
        pass
    assert not (tmp_path / "work").exists()


def test_a_major_that_is_not_installed_names_the_extra() -> None:
    with pytest.raises(ToolMissing) as caught:
        server_bindir(99)
    assert "naap-ops[embedded]" in caught.value.advice


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    bindir = tmp_path / "bin"
    bindir.mkdir()
    for name in ("initdb", "postgres"):
        program = bindir / name
        program.write_text("#!/bin/sh\ncp /dev/zero /dev/full\n")
        program.chmod(0o755)
    with pytest.raises(NoSpace), ScratchServer(bindir, tmp_path / "work"):
        pass


def test_a_port_that_was_taken_meanwhile(bindir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((scratch_module.LOOPBACK, 0))
        taken.listen()
        ports = [taken.getsockname()[1], scratch_module.free_port()]
        monkeypatch.setattr(scratch_module, "free_port", lambda: ports.pop(0))
        with ScratchServer(bindir, tmp_path, tcp=True) as scratch:
            assert scratch.port != taken.getsockname()[1]
            assert answer(scratch, "SELECT 1") == 1
    assert ports == []
