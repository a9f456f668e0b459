"""Reads one file of a backup from its first byte to its last: hash, decompression, and what the content must end with.

Memory is bounded whatever the compression ratio. The heavy calls release the interpreter's lock, so threads read in parallel.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import cast

from naap_ops.backup.copytext import DataFileCounter
from naap_ops.errors import OpsError

# Small enough for the processor's own cache: four times as large, gzip takes 20 % longer.
_READ = 1 << 17
_EXPANDED = 1 << 19
# A zstd block is at least 4 bytes and expands to at most 128 KiB (RFC 8878, 3.1.1.2): 1 KiB becomes 32 MiB at the very most.
_ZSTD_STEP = 1 << 10

# ISA-L's level 1 is four times as fast as zlib's, and its files are 4 % smaller (measured on COPY text).
PACK_LEVEL = 1

# The suffixes pg_dump gives to data files of the directory format, and how the toolkit can read them itself.
SUFFIXES = ("", ".gz", ".zst")


class Unreadable(OpsError):
    """Bytes that do not decompress, or do not end as they should. Field ``detail``."""

    exit_code = 13
    name = "damaged"


@dataclass(frozen=True)
class Reading:
    """What a file turned out to hold. ``rows`` is None for files that are not table data."""

    bytes: int
    sha256: str
    rows: int | None


def read_file(path: Path, *, content: bool, sync: bool = False) -> Reading:
    """Hash ``path``; with ``content``, decompress it to its end and count the rows if it is table data.

    ``sync`` makes the file durable on the way. Raises Unreadable, or NotCopyText for table data cut short.
    """
    counter = DataFileCounter() if content and is_table_data(path) else None
    reading = read_stream(path, (counter.feed if counter else _ignore) if content else None, sync=sync)
    return Reading(reading.bytes, reading.sha256, counter.rows() if counter else None)


def read_stream(path: Path, consume: Callable[[bytes], None] | None, *, sync: bool = False) -> Reading:
    """Hash ``path`` and hand its decompressed content to ``consume`` piece by piece (None: hash only). Raises Unreadable."""
    passing = Passing(path.name, consume)
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_READ):
            passing.feed(piece)
        reading = passing.finish()
        if sync:
            os.fsync(file.fileno())
    return reading


class Passing:
    """Bytes of a file as they come by: hashed, and their decompressed content handed to ``consume`` (None: hash only).

    ``name`` tells the compression by its suffix. Raises Unreadable.
    """

    def __init__(self, name: str, consume: Callable[[bytes], None] | None) -> None:
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._consume = consume
        self._expand = _expander(name) if consume else None

    def feed(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._bytes += len(piece)
        if self._expand is not None and self._consume is not None:
            for text in filter(None, self._expand.feed(piece)):  # the head of a frame expands to nothing
                self._consume(text)

    def finish(self) -> Reading:
        """The end. Raises Unreadable when the content should go on."""
        if self._expand is not None:
            self._expand.finish()
        return Reading(self._bytes, self._digest.hexdigest(), None)


def pack(path: Path) -> Path:
    """Compress ``path`` to ``<path>.gz`` by ISA-L and remove it. The new path; it has yet to be read back. Raises OSError."""
    from isal import isal_zlib

    packed = path.with_name(path.name + ".gz")
    stream = isal_zlib.compressobj(PACK_LEVEL, isal_zlib.DEFLATED, 31)
    # Written through a buffer: a bare file may take a part of what it is given, as a disk does that is about to be full.
    with open(path, "rb", buffering=0) as plain, open(packed, "xb") as file:
        while piece := plain.read(_READ):
            file.write(stream.compress(piece))
        file.write(stream.flush())
    path.unlink()
    return packed


def _ignore(_: bytes) -> None:
    """Decompressing is the check; the content is not looked at."""


def is_table_data(path: Path) -> bool:
    """Whether this is a table's rows in the directory format: ``1234.dat``, with or without a compression's suffix."""
    stem = path.name.removesuffix(".gz").removesuffix(".zst")
    return stem.endswith(".dat") and stem.removesuffix(".dat").isdigit()


class _Plain:
    def feed(self, piece: bytes) -> Iterator[bytes]:
        yield piece

    def finish(self) -> None:
        pass


class _Gzip:
    """gzip by ISA-L, which is three times as fast as zlib; it checks the CRC and the length of the trailer."""

    def __init__(self, name: str) -> None:
        from isal import isal_zlib

        self._name = name
        self._error = cast(type[Exception], isal_zlib.error)
        self._stream = isal_zlib.decompressobj(wbits=31)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        try:
            while piece:
                if self._stream.eof:
                    raise Unreadable(detail=f"{self._name} goes on after its end")
                yield self._stream.decompress(piece, _EXPANDED)
                piece = self._stream.unconsumed_tail or self._stream.unused_data
        except self._error as error:
            raise Unreadable(detail=f"{self._name} does not decompress: {error}") from None

    def finish(self) -> None:
        if not self._stream.eof:
            raise Unreadable(detail=f"{self._name} is cut short")


class _Zstd:
    """zstd frames. pg_dump writes them without a content checksum: the hash in the manifest is what finds a flipped bit."""

    def __init__(self, name: str) -> None:
        import zstandard

        self._name = name
        self._error = zstandard.ZstdError
        self._stream = zstandard.ZstdDecompressor().decompressobj(write_size=_EXPANDED, read_across_frames=False)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        if self._stream.eof:
            raise Unreadable(detail=f"{self._name} goes on after its end")
        try:
            for start in range(0, len(piece), _ZSTD_STEP):
                yield self._stream.decompress(piece[start : start + _ZSTD_STEP])
        except self._error as error:
            raise Unreadable(detail=f"{self._name} does not decompress: {error}") from None
        if self._stream.unused_data:
            raise Unreadable(detail=f"{self._name} goes on after its end")

    def finish(self) -> None:
        if not self._stream.eof:
            raise Unreadable(detail=f"{self._name} is cut short")


def _expander(name: str) -> _Plain | _Gzip | _Zstd:
    makers: dict[str, Callable[[str], _Plain | _Gzip | _Zstd]] = {".gz": _Gzip, ".zst": _Zstd}
    maker = makers.get(PurePath(name).suffix)
    return maker(name) if maker else _Plain()
