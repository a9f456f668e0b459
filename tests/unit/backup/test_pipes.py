"""Archives behind named pipes, read by a process that is not pg_restore."""

from __future__ import annotations

import gzip
import hashlib
import signal
from pathlib import Path

import pytest

from naap_ops import process
from naap_ops.backup.pipes import PipedArchive
from tests.desk import wait_until

ROWS = b"1\tone\n2\ttwo\n" * 200_000 + b"\\.\n\n\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "toc.dat").write_bytes(b"PGDMP")
    (folder / "blobs.toc").write_bytes(b"")
    (folder / "11.dat").write_bytes(ROWS)
    (folder / "12.dat.gz").write_bytes(gzip.compress(ROWS, 1))
    (folder / "13.dat.lz4").write_bytes(b"only pg_restore can read this")
    return folder


def hashes(archive: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in archive.iterdir()}


def begin(piped: PipedArchive, dump_id: int) -> process.Child:
    """A process that reads one item and prints how long it is, when it gets to its end."""
    child = process.start(["wc", "-c", str(piped.path / f"{dump_id}.dat")], stdout=process.PIPE)
    piped.started(child)
    piped.heard(f"pg_restore: launching item {dump_id} TABLE DATA some table")
    return child


@pytest.mark.parametrize(("dump_id", "name"), [(11, "11.dat"), (12, "12.dat.gz")])
def test_a_file_comes_out_decompressed_and_is_known_to_be_sound(archive: Path, dump_id: int, name: str) -> None:
    with PipedArchive(archive, hashes(archive), 2) as piped, begin(piped, dump_id) as child:
        assert int(child.stdout.read().split()[0]) == len(ROWS)
    assert piped.sound == {name}
    assert piped.problems == []
    assert not piped.path.exists()


def test_everything_else_is_there_as_it_is(archive: Path) -> None:
    with PipedArchive(archive, hashes(archive), 2) as piped:
        assert sorted(path.name for path in piped.path.iterdir()) == ["11.dat", "12.dat", "13.dat.lz4", "blobs.toc", "toc.dat"]
        assert (piped.path / "toc.dat").read_bytes() == b"PGDMP"
        piped.heard("pg_restore: launching item 13 TABLE DATA compressed otherwise")
    assert piped.sound == set()


def _other_hash(archive: Path) -> None:
    (archive / "12.dat.gz").write_bytes(gzip.compress(ROWS, 2))


def _cut_short(archive: Path) -> None:
    whole = (archive / "12.dat.gz").read_bytes()
    (archive / "12.dat.gz").write_bytes(whole[: len(whole) // 2])


def _gone(archive: Path) -> None:
    (archive / "12.dat.gz").unlink()


@pytest.mark.parametrize("damage", [_other_hash, _cut_short, _gone])
def test_the_reader_of_a_damaged_file_never_gets_to_its_end(archive: Path, damage: object) -> None:
    wanted = hashes(archive)
    with PipedArchive(archive, wanted, 2) as piped:
        damage(archive)  # type: ignore[operator]
        with begin(piped, 12) as child:
            assert child.wait() == -signal.SIGTERM
    assert len(piped.problems) == 1
    assert "12.dat.gz" in piped.problems[0]
    assert piped.sound == set()


def test_a_reader_that_ends_without_opening_the_pipe_is_not_waited_for(archive: Path) -> None:
    with PipedArchive(archive, hashes(archive), 2) as piped:
        piped.heard("pg_restore: launching item 11 TABLE DATA t")
        piped.heard("pg_restore: launching item 12 TABLE DATA u")
    assert piped.sound == set()
    assert not piped.path.exists()


def test_a_reader_that_stops_half_way_is_no_damage(archive: Path) -> None:
    with PipedArchive(archive, hashes(archive), 2) as piped:
        child = process.start(["head", "-c", "10", str(piped.path / "11.dat")], stdout=process.PIPE)
        piped.started(child)
        piped.heard("pg_restore: launching item 11 TABLE DATA t")
        with child:
            wait_until(lambda: child.poll() is not None)
    assert piped.problems == []
    assert piped.sound == set()
