"""Parts of an object: how large, and what their hashes make.

Equal parts, because some stores refuse others (R2), and as many as fit below the store's limit: 10,000 at AWS, 1,000
at Scaleway.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops.errors import StorageError
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MIB = 1 << 20
LEAST = 8 * MIB
MOST = 5 * 1024 * MIB  # of one part, at AWS and elsewhere
_CHUNK = MIB


def part_size(size: int, most: int, where: str) -> int:
    """Bytes per part, whole MiB, so that ``size`` bytes make at most ``most`` parts. Raises StorageError when nothing fits."""
    needed = -(-size // most)
    chosen = max(LEAST, -(-needed // MIB) * MIB)
    if chosen > MOST:
        raise StorageError(
            url=where, reason=f"{count_of(size, 'byte')} do not fit into {count_of(most, 'part')}", hint="Check s3.max_parts."
        )
    return chosen


def text(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode()


@dataclass
class Written:
    """An object that was sent. ``digests`` are the SHA-256 of each part, or one of the whole if not ``multipart``."""

    key: str
    size: int
    part_size: int
    digests: list[bytes] = field(repr=False)
    multipart: bool

    @property
    def checksum(self) -> str:
        """The SHA-256 that a store keeps of it: of the whole, or of the parts' hashes and their number."""
        if not self.multipart:
            return text(self.digests[0])
        return f"{text(hashlib.sha256(b''.join(self.digests)).digest())}-{len(self.digests)}"

    def range(self, index: int) -> tuple[int, int]:
        """First byte and length of a part, counted from 0."""
        start = index * self.part_size
        return start, min(self.part_size, self.size - start)


class Section(io.RawIOBase):
    """A part of a file as a file of its own, so that a large part is sent without being in memory."""

    def __init__(self, path: Path, start: int, length: int) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._start = start
        self._length = length
        self._at = 0

    def __len__(self) -> int:
        return self._length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self._length - self._at))
        got = os.preadv(self._fd, [view[:wanted]], self._start + self._at)
        self._at += got
        return got

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()

    def digests(self, *, md5: bool) -> tuple[bytes, bytes | None]:
        """SHA-256, and MD5 where wanted. Raises OSError, also when the file has become shorter."""
        hashes = [hashlib.sha256(), *([hashlib.md5(usedforsecurity=False)] if md5 else [])]
        buffer = memoryview(bytearray(_CHUNK))
        self.seek(0)
        while count := self.readinto(buffer):
            for each in hashes:
                each.update(buffer[:count])
        if self._at != self._length:
            raise OSError(errno.EIO, "the file became shorter while it was sent")
        self.seek(0)
        found = [each.digest() for each in hashes]
        return found[0], found[1] if md5 else None
