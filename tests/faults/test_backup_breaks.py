"""What breaks under a backup: disk, destination, server, tool. A named failure, and nothing of the backup left behind."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from naap_ops.backup.engines import directory
from naap_ops.backup.reading import pack
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import installations
from tests.desk import Desk, command_lines, wait_until
from tests.s3server import WeedServer

DUMPING = "select count(*) from pg_stat_activity where query like 'COPY%' and state = 'active' and datname = current_database()"


def nothing_is_left(desk: Desk) -> None:
    assert desk.listed() == []
    assert desk.leftovers() == []


# --- disk -----------------------------------------------------------------------------------------------------------


def limit(size: int) -> None:
    """As `ulimit -f`: what would grow past it fails, or its process is killed, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("format", "compression"), [("directory", "none"), ("directory", "gzip:1"), ("custom", "none"), ("plain", "none")]
)
def test_disk_full_half_way(big: Desk, format: str, compression: str, jobs: str) -> None:
    answer = big.program(
        "backup",
        "--format",
        format,
        "--jobs",
        jobs,
        "--compression",
        compression,
        "--json",
        preexec_fn=lambda: limit(2_000_000),
    )
    assert answer.code == 10, answer.err
    assert answer.json["error"] == "NoSpace"
    assert str(big.repo) in answer.json["message"]
    nothing_is_left(big)


def full_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever large file we compress ourselves does not fit."""

    def full(path: Path) -> Path:
        if path.stat().st_size < 1_000_000:
            return pack(path)
        path.with_name(path.name + ".gz").write_bytes(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(directory, "pack", full)


@pytest.mark.parametrize("encrypted", [False, True], ids=["open", "encrypted"])
def test_a_disk_full_of_plain_files_is_left_to_pg_dump(big: Desk, monkeypatch: pytest.MonkeyPatch, encrypted: bool) -> None:
    """What pg_dump compresses itself needs less room, and that is tried before giving up."""
    if encrypted:
        big.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = str(pyrage.x25519.Identity.generate().to_public())
    full_for_ours(monkeypatch)
    answer = big.run("backup", "--compression", "gzip:1", "--json")
    assert answer.code == 0, answer.err
    (backup,) = big.listed()
    sums = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=big.path(backup), check=False)
    assert sums.returncode == 0
    assert {f.path for f in backup.sound.files} >= {"data/toc.dat", *(t.file for t in backup.sound.tables if t.file)}
    there = {path.name for path in (big.path(backup) / "data").iterdir()}
    assert len(there) == len([f for f in backup.sound.files if f.path.startswith("data/")])
    assert big.leftovers() == []


def test_disk_full_as_we_compress_for_a_store(big: Desk, s3_server: WeedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been sent off cannot be taken back: it is given up."""
    big.extra |= s3_server.environment()
    full_for_ours(monkeypatch)
    bucket = s3_server.bucket()
    answer = big.run("snapshot", "--repo", f"s3://{bucket}/x", "--compression", "gzip:1", "--json")
    assert answer.code == 10, answer.err + answer.out
    assert s3_server.client().list_objects_v2(Bucket=bucket).get("KeyCount", 0) == 0


def test_disk_full_at_the_last_small_file(desk: Desk) -> None:
    """Not pg_dump but the toolkit itself meets the end of the disk: roles take more than the tables."""
    for number in range(60):
        desk.sql(f"create role {desk.info.dbname}_{number}")  # type: ignore[union-attr]
    try:
        answer = desk.program("backup", "--json", preexec_fn=lambda: limit(4000))
        assert answer.code == 10, answer.err
        nothing_is_left(desk)
    finally:
        for number in range(60):
            desk.sql(f"drop role {desk.info.dbname}_{number}")  # type: ignore[union-attr]


# --- destination ----------------------------------------------------------------------------------------------------


def test_a_destination_that_is_no_path(desk: Desk) -> None:
    desk.settings('repository = "a\\u0000b"')
    assert desk.run("backup").code == 9
    desk.settings('repository = "~nobody-of-that-name/backups"')
    assert desk.run("backup").code == 9


@pytest.mark.parametrize("place", ["a file/backups", "/proc/backups", "/dev/null"])
def test_a_destination_that_cannot_be_written(desk: Desk, place: str) -> None:
    (desk.folder / "a file").write_text("")
    answer = desk.run("backup", "--repo", place, "--json")
    assert answer.code == 9, answer.err
    assert place.rpartition("/")[0] in answer.json["message"]
    wait_until(lambda: desk.ask("select count(*) from pg_stat_activity where application_name like 'naap_ops %'") == 0)


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "ftp://h/x"])
def test_a_destination_no_backend_serves(desk: Desk, url: str) -> None:
    answer = desk.run("backup", "--repo", url, "--json")
    assert answer.code == 9
    assert url.partition(":")[0] in answer.json["message"]


# --- server ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_server(tmp_path: Path, any_server: ScratchServer) -> Iterator[ScratchServer]:
    """A server that a test may stop."""
    with ScratchServer(any_server.bindir, tmp_path / "own server") as server:
        with connect(server.info) as connection:
            connection.execute(
                b"create table big as select i, md5(i::text) || md5((-i)::text) t from generate_series(1, 200000) i"
            )
            connection.execute(b"create table small as select 1 i")
        yield server


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("format", ["directory", "plain"])
def test_the_server_stops_during_the_dump(own_server: ScratchServer, tmp_path: Path, format: str, end: str) -> None:
    desk = Desk(tmp_path, own_server.info)
    child = desk.spawn("backup", "--format", format, "--compression", "gzip:9", "--json")
    wait_until(lambda: desk.ask(DUMPING))
    getattr(own_server, end)()
    out, err = child.communicate(timeout=120)
    assert child.returncode == 4, err
    assert own_server.info.address in json.loads(out.splitlines()[-1])["message"]
    nothing_is_left(desk)
    own_server.start()
    after = Desk(tmp_path, own_server.info)
    assert after.run("backup").code == 0
    assert len(after.listed()) == 1


def test_the_snapshots_session_is_ended(own_server: ScratchServer, tmp_path: Path) -> None:
    """An administrator ends it while pg_dump starts: the snapshot is gone, and a dump of another one must not pass for it."""
    desk = Desk(tmp_path, own_server.info)
    with connect(own_server.info, autocommit=False) as blocker:
        blocker.execute(b"lock table small in access exclusive mode")
        child = desk.spawn("backup", "--json")
        wait_until(lambda: desk.ask("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"))
        desk.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'naap_ops %'")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 4, err
    nothing_is_left(desk)


# --- tools ----------------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Processes below ``pid``, from /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found += [int(folder.name), *children(int(folder.name))]
    return found


@pytest.mark.parametrize("whom", ["leader", "worker"])
@pytest.mark.parametrize("format", ["directory", "custom"])
def test_pg_dump_is_killed(big: Desk, format: str, whom: str) -> None:
    """As the kernel does when memory runs out."""
    child = big.spawn("backup", "--format", format, "--json")
    # Its own: the workers of one that was killed before may still be at their last tables.
    wait_until(lambda: big.ask(f"{DUMPING} and application_name like 'naap_ops pg_dump {child.pid}@%'"))
    tools = [pid for pid in children(child.pid) if b"pg_dump\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(tools[0] if whom == "leader" else tools[-1], signal.SIGKILL)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 20, err
    assert json.loads(out.splitlines()[-1])["error"] == "CommandFailed"
    assert "pg_dump" in err
    nothing_is_left(big)


def stand_in(desk: Desk, real: Path, tool: str, script: str) -> Path:
    """A folder of client tools, one of which is a script."""
    folder = desk.folder / "stand-in"
    folder.mkdir()
    for name in ("pg_dump", "pg_dumpall", "pg_restore", "psql"):
        (folder / name).symlink_to(real / name)
    (folder / tool).unlink()
    (folder / tool).write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec "{real}/{tool}" --version\n{script}\n')
    (folder / tool).chmod(0o755)
    return folder


def test_pg_dump_is_killed_while_we_compress(big: Desk, any_server: ScratchServer) -> None:
    folder = stand_in(big, any_server.bindir, "pg_dump", f'"{any_server.bindir}/pg_dump" "$@"; kill -9 $$')
    answer = big.run("backup", "--compression", "gzip:1", "--json", NAAP_OPS_TOOLS__BINDIR=str(folder))
    assert answer.code == 20, answer.err
    assert answer.json["error"] == "CommandFailed"
    nothing_is_left(big)


LIARS = {
    "exits well without a word": "exit 0",
    "leaves out a table": 'exec "{real}/pg_dump" --exclude-table-data=t "$@"',
    "loses the end": '"{real}/pg_dump" "$@"; for a; do case $a in --file=*) f=${a#*=};; esac; done; truncate -s 9 $f/toc.dat',
}


@pytest.mark.parametrize("lie", LIARS.values(), ids=LIARS.keys())
def test_a_pg_dump_that_says_all_is_well(desk: Desk, any_server: ScratchServer, lie: str) -> None:
    """The exit status alone is not believed: what was written is read back, and every table must be in it."""
    desk.sql("create table t as select generate_series(1, 100) i")
    folder = stand_in(desk, any_server.bindir, "pg_dump", lie.replace("{real}", str(any_server.bindir)))
    answer = desk.run("backup", "--json", NAAP_OPS_TOOLS__BINDIR=str(folder))
    assert answer.code in (13, 20), answer.err
    nothing_is_left(desk)


def test_roles_that_cannot_be_read_fail_the_backup(desk: Desk, any_server: ScratchServer) -> None:
    folder = stand_in(desk, any_server.bindir, "pg_dumpall", "echo 'pg_dumpall: error: no luck' >&2; exit 1")
    answer = desk.run("backup", "--json", NAAP_OPS_TOOLS__BINDIR=str(folder))
    assert (answer.code, "no luck" in answer.json["message"]) == (20, True)
    nothing_is_left(desk)


def test_an_ordinary_user_without_the_usual_databases(desk: Desk) -> None:
    """Managed services: no superuser, no rights on the databases `postgres` and `template1`, timeouts on the role."""
    assert desk.info is not None
    role = f"{desk.info.dbname}_app"
    desk.sql(
        f"create role {role} login",
        f"alter role {role} set statement_timeout = '1ms'",
        f"alter role {role} set idle_in_transaction_session_timeout = '1ms'",
        f"alter role {role} set lock_timeout = '1ms'",
        "create table t as select generate_series(1, 1000) i",
        f"grant select on t to {role}",
        "revoke connect on database postgres from public",
        "revoke connect on database template1 from public",
    )
    try:
        reader = Desk(desk.folder, type(desk.info)(desk.info.host, desk.info.port, role, desk.info.dbname))
        answer = reader.run("backup", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["rows"] == 1000
    finally:
        desk.sql(
            "grant connect on database postgres to public",
            "grant connect on database template1 to public",
            f"drop owned by {role}",
            f"drop role {role}",
        )


def test_pg_dump_starts_without_the_roles_timeouts(desk: Desk, any_server: ScratchServer) -> None:
    """It lifts them itself, but by then has asked its first question, which on a busy machine takes a while."""
    seen = desk.folder / "options"
    script = f'echo "$PGOPTIONS" >"{seen}"; exec "{any_server.bindir}/pg_dump" "$@"'
    folder = stand_in(desk, any_server.bindir, "pg_dump", script)
    assert desk.run("backup", NAAP_OPS_TOOLS__BINDIR=str(folder)).code == 0
    assert "-c statement_timeout=0" in seen.read_text()


# --- memory ---------------------------------------------------------------------------------------------------------


# Not ru_maxrss: a process inherits that from who started it.
PEAK = """
import sys
from naap_ops.cli import main
try:
    main(["naap-ops", *sys.argv[1:]])
finally:
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(line.split()[1], file=sys.stderr)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("major", "format", "compression"),
    [
        (16, "directory", "gzip:9"),
        (16, "plain", "gzip:9"),
        (16, "custom", "gzip:9"),
        (17, "directory", "zstd:9"),
        (17, "plain", "zstd:9"),
    ],
)
def test_memory_stays_bounded(servers: object, tmp_path: Path, major: int, format: str, compression: str) -> None:
    """A table of 200 MB in rows of 10 MB that compresses to nothing: neither a row nor the file may be held whole."""
    if major not in installations():
        pytest.skip(f"no PostgreSQL {major}")
    server: ScratchServer = servers.get(major)  # type: ignore[attr-defined]
    name = f"memory_{major}_{format}"
    desk = Desk(tmp_path, server.info.with_dbname(name))
    desk.sql(f"create database {name} template template0", dbname="postgres")
    try:
        desk.sql("create table t as select repeat('a', 10000000) from generate_series(1, 20)")
        driver = tmp_path / "peak.py"
        driver.write_text(PEAK)
        for words in (("backup", "--format", format, "--compression", compression), ("backup.verify", "latest")):
            answer = desk.program(*words, argv0=(sys.executable, str(driver)))
            assert answer.code == 0, answer.err
            assert int(answer.err.split()[-1]) < 150_000  # kB
    finally:
        desk.sql(f"drop database {name} with (force)", dbname="postgres")


def test_nothing_runs_on_after_a_failure(big: Desk) -> None:
    """A failing dump takes its helpers with it."""
    answer = big.program("backup", "--compression", "none", preexec_fn=lambda: limit(2_000_000))
    assert answer.code == 10
    assert not any(str(big.repo).encode() in words for words in command_lines())
    wait_until(lambda: big.ask("select count(*) from pg_stat_activity where application_name like 'naap_ops pg_dump%'") == 0)
