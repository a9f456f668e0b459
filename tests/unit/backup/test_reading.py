"""One file read from end to end: what is cut, goes on, or has a flipped bit is found; memory does not follow the content."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import random
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from naap_ops.backup import reading as readings
from naap_ops.backup.copytext import NotCopyText
from naap_ops.backup.reading import Unreadable, is_table_data, read_file, read_stream
from naap_ops.errors import BackupDamaged, OpsError


def _zstd(data: bytes) -> bytes:
    """As pg_dump writes it: one frame, streamed, no checksum, no size in the header."""
    stream = zstandard.ZstdCompressor(level=1, write_checksum=False).compressobj()
    return stream.compress(data) + stream.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": lambda data: gzip.compress(data, 1), ".zst": _zstd}
RANDOM = random.Random(20261121)
ROWS = b"".join(b"%d\t%s\t\\N\n" % (n, RANDOM.randbytes(8).hex().encode()) for n in range(3000))
DATA = ROWS + b"\\.\n\n\n"

suffixes = pytest.mark.parametrize("suffix", sorted(PACK), ids=["plain", "gzip", "zstd"])
packed = pytest.mark.parametrize("suffix", [".gz", ".zst"], ids=["gzip", "zstd"])


def content(path: Path) -> bytes:
    """What ``read_stream`` hands over."""
    parts: list[bytes] = []
    read_stream(path, parts.append)
    return b"".join(parts)


@suffixes
def test_a_whole_file_gives_bytes_hash_and_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"3456.dat{suffix}"
    stored = PACK[suffix](DATA)
    path.write_bytes(stored)
    for content_too, sync in ((True, True), (True, False), (False, False)):
        reading = read_file(path, content=content_too, sync=sync)
        assert (reading.bytes, reading.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
        assert reading.rows == (3000 if content_too else None)
    assert content(path) == DATA


@suffixes
def test_only_table_data_has_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"blob_16400.dat{suffix}"
    path.write_bytes(PACK[suffix](b"any bytes"))
    assert read_file(path, content=True).rows is None


def test_which_files_are_table_data() -> None:
    others = "toc.dat blobs.toc 1.dat.lz4 blob_1.dat.gz 1 x1.dat .dat 1.data"
    assert all(is_table_data(Path("data") / name) for name in ("1.dat", "1.dat.gz", "1.dat.zst", "123456.dat"))
    assert not any(is_table_data(Path("data") / name) for name in others.split())


def test_a_missing_terminator_is_found_in_plain_and_packed_data(tmp_path: Path) -> None:
    for suffix, pack in PACK.items():
        path = tmp_path / f"1.dat{suffix}"
        path.write_bytes(pack(ROWS))
        with pytest.raises(NotCopyText):
            read_file(path, content=True)


@pytest.mark.parametrize("plain", [DATA, b"", b"\0" * 3_000_000], ids=["rows", "empty", "zeros"])
def test_what_we_pack_is_gzip_and_takes_the_place_of_the_plain_file(tmp_path: Path, plain: bytes) -> None:
    path = tmp_path / "blob_1.dat"
    path.write_bytes(plain)
    made = readings.pack(path)
    assert [p.name for p in tmp_path.iterdir()] == [made.name] == ["blob_1.dat.gz"]
    assert gzip.decompress(made.read_bytes()) == plain
    assert content(made) == plain


def test_a_full_disk_while_packing_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """Not a short file, which would be found only as damage."""
    path = tmp_path / "1.dat"
    path.write_bytes(RANDOM.randbytes(400_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_001, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            readings.pack(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.exists()


# --- damage -------------------------------------------------------------------------------------------------------


@suffixes
def test_cut_anywhere_it_is_found(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"1.dat{suffix}"
    stored = PACK[suffix](DATA)
    for length in {*range(0, len(stored), 997), *range(20), *range(len(stored) - 20, len(stored))}:
        path.write_bytes(stored[:length])
        with pytest.raises((Unreadable, NotCopyText)) as caught:
            read_file(path, content=True)
        assert caught.value.exit_code == BackupDamaged.exit_code


@packed
@pytest.mark.parametrize("garbage", [b"\0", b"x", b"\x1f\x8b", b"more" * 100_000], ids=["zero", "byte", "magic", "much"])
def test_what_goes_on_after_its_end_is_found(tmp_path: Path, suffix: str, garbage: bytes) -> None:
    path = tmp_path / f"1.dat{suffix}"
    path.write_bytes(PACK[suffix](DATA) + garbage)
    with pytest.raises(Unreadable, match=r"goes on after its end|does not decompress"):
        read_file(path, content=True)


@packed
def test_a_second_stream_after_the_first_is_found(tmp_path: Path, suffix: str) -> None:
    """pg_dump writes one stream per file; what follows would be read by nobody or by everybody but pg_restore."""
    path = tmp_path / f"1.dat{suffix}"
    path.write_bytes(PACK[suffix](ROWS) + PACK[suffix](b"\\.\n\n\n"))
    with pytest.raises(Unreadable):
        read_file(path, content=True)


@suffixes
def test_a_flipped_bit_is_an_error_or_another_hash(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"1.dat{suffix}"
    stored = PACK[suffix](DATA)
    right = hashlib.sha256(stored).hexdigest()
    found: list[int] = []
    for _ in range(30):
        position = RANDOM.randrange(len(stored) * 8)
        flipped = bytearray(stored)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            assert read_file(path, content=True).sha256 != right
        except OpsError as error:
            found.append(error.exit_code)
    assert set(found) <= {BackupDamaged.exit_code}


@pytest.mark.parametrize("position", range(-8, 0))
def test_gzips_own_checksum_and_length_are_checked(tmp_path: Path, position: int) -> None:
    """What a hash taken of bytes that were bad already would not find."""
    stored = bytearray(gzip.compress(DATA))
    stored[position] ^= 1
    (tmp_path / "1.dat.gz").write_bytes(stored)
    with pytest.raises(Unreadable):
        read_file(tmp_path / "1.dat.gz", content=True)


@packed
@given(garbage=st.binary(max_size=300))
def test_no_bytes_at_all_make_it_stumble(tmp_path_factory: pytest.TempPathFactory, suffix: str, garbage: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"{os.getpid()}.dat{suffix}"
    for stored in (garbage, PACK[suffix](b"")[:4] + garbage, PACK[suffix](b"abc" * 50)[:-3] + garbage):
        path.write_bytes(stored)
        with contextlib.suppress(Unreadable):
            content(path)


@packed
def test_a_packed_file_that_is_not_packed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"1.dat{suffix}"
    path.write_bytes(DATA)
    with pytest.raises(Unreadable, match=r"1\.dat\S* does not decompress"):
        read_file(path, content=True)


# --- sizes --------------------------------------------------------------------------------------------------------

MIB = 1 << 20


@packed
@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7, 40 * MIB, 64 * MIB - 1])
def test_content_of_any_size_comes_whole(tmp_path: Path, suffix: str, size: int) -> None:
    """Also where the last compressed byte has been taken in long before the last piece of content comes out."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(PACK[suffix](bytes(size)))
    crc = total = 0

    def consume(piece: bytes) -> None:
        nonlocal crc, total
        crc, total = zlib.crc32(piece, crc), total + len(piece)

    read_stream(path, consume)
    assert (total, crc) == (size, zlib.crc32(bytes(size)))


def test_content_that_hardly_compresses_comes_whole(tmp_path: Path) -> None:
    data = RANDOM.randbytes(3 * MIB + 11)
    for suffix, pack in PACK.items():
        path = tmp_path / f"x{suffix}"
        path.write_bytes(pack(data))
        assert content(path) == data


BOMB = """
import resource, sys
from pathlib import Path
from naap_ops.backup.reading import read_file, read_stream
path = Path(sys.argv[1])
read_stream(path.with_name("small" + path.suffix), lambda piece: None)  # loads the libraries
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = 0
def consume(piece):
    global total
    total += len(piece)
read_stream(path, consume)
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@packed
def test_memory_is_bounded_whatever_the_ratio(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    size = 256 * MIB
    if suffix == ".zst":
        stream = zstandard.ZstdCompressor().compressobj()
        path.write_bytes(b"".join(stream.compress(bytes(16 * MIB)) for _ in range(16)) + stream.flush())
    else:
        gz = zlib.compressobj(9, wbits=31)
        path.write_bytes(b"".join(gz.compress(bytes(16 * MIB)) for _ in range(16)) + gz.flush())
    assert path.stat().st_size < MIB // 2
    (tmp_path / f"small{suffix}").write_bytes(PACK[suffix](b"x"))
    done = subprocess.run([sys.executable, "-c", BOMB, str(path)], check=True, stdout=subprocess.PIPE, text=True)
    total, kib = map(int, done.stdout.split())
    assert total == size
    assert kib < 96 * 1024, "a zstd step of 1 KiB makes 32 MiB at most, twice while it is put together"


def test_hashing_alone_reads_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "1.dat.zst"
    path.write_bytes(b"not zstd at all")
    assert read_file(path, content=False).sha256 == hashlib.sha256(b"not zstd at all").hexdigest()


def test_a_missing_file_is_the_callers_to_judge(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "1.dat", content=True)
