"""What a staged set sends: finished files, part by part, and streams that never touch the disk."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path

from naap_ops import files
from naap_ops.errors import StorageError
from naap_ops.storage.base import translated
from naap_ops.storage.s3.client import Place
from naap_ops.storage.s3.multipart import Multipart
from naap_ops.storage.s3.parts import LEAST, MIB, Section, part_size
from naap_ops.storage.s3.queue import Queue
from naap_ops.wording import count_of

# Bytes of a stream's parts that are in memory at a time, the one being filled not counted.
STREAM_MEMORY = 64 * MIB
# A stream of unknown length gets parts for this much.
UNKNOWN = 160 << 30


class FileUpload:
    """A finished file on its way. Removed from the disk when all of it has arrived."""

    def __init__(self, place: Place, queue: Queue, key: str, path: Path, size: int, sha256: str | None) -> None:
        self._queue = queue
        self._path = path
        self._size = size
        self._sha256 = sha256
        self._place = place
        self._key = key
        self._lock = threading.Lock()
        self._left = 0
        self.given_up = False
        self.multipart: Multipart | None = None

    def begin(self) -> None:
        """Start the upload and queue its parts."""
        size = part_size(self._size, self._place.settings.max_parts, self._place.where(self._key))
        self.multipart = Multipart(self._place, self._key, size)
        starts = range(0, self._size, size)
        check = self._sha256 is not None
        self._left = len(starts) + check
        if check:
            self._queue.submit(self._check_hash)
        for index, start in enumerate(starts):
            self._queue.submit(self._send, index, start, min(size, self._size - start))

    def _check_hash(self) -> None:
        """That the file is still what its reader saw."""
        with _disk_errors(self._path):
            found = files.sha256(self._path)
        if found != self._sha256:
            raise StorageError(
                url=self._path, reason="the file on disk is not the one that was read: its SHA-256 differs", hint=None
            )
        self._arrived()

    def _send(self, index: int, start: int, length: int) -> None:
        assert self.multipart is not None
        with _disk_errors(self._path), Section(self._path, start, length) as section:
            self.multipart.send_section(index, section)
        self._arrived()

    def _arrived(self) -> None:
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            with _disk_errors(self._path):
                self._path.unlink()
            self._queue.wait_for(-self._size)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise translated(path, error) from error


class StreamUpload:
    """A file written as a stream. Holds the part being filled, and as many on their way as STREAM_MEMORY allows."""

    def __init__(self, place: Place, queue: Queue, key: str, expected: int) -> None:
        self._place = place
        self._queue = queue
        self._key = key
        self._part = part_size(expected or UNKNOWN, place.settings.max_parts, place.where(key))
        self._room = threading.BoundedSemaphore(max(1, min(place.settings.jobs, STREAM_MEMORY // self._part)))
        self._buffer = io.BytesIO()
        self._count = 0
        self.given_up = False
        self.multipart: Multipart | None = None

    def write(self, data: bytes) -> None:
        """Take more bytes. Waits while the parts before are on their way. Raises StorageError, NoSpace."""
        view = memoryview(data)
        while view:
            taken = view[: self._part - self._buffer.tell()]
            self._buffer.write(taken)
            view = view[len(taken) :]
            if self._buffer.tell() == self._part:
                self._flush()

    def rest(self) -> bytes | None:
        """The whole content when it is less than a part, which needs no upload in parts; else None, the last part queued."""
        if self.multipart is None and self._buffer.tell() < LEAST:
            return self._buffer.getvalue()
        if self._buffer.tell():
            self._flush()
        return None

    def _flush(self) -> None:
        self._queue.check()
        if self._count == self._place.settings.max_parts:
            raise StorageError(
                url=self._place.where(self._key),
                reason=f"is larger than {count_of(self._count, 'part')} of {count_of(self._part, 'byte')}",
                hint="The database has grown past what was expected; take the directory format.",
            )
        if self.multipart is None:
            self.multipart = Multipart(self._place, self._key, self._part)
        while not self._room.acquire(timeout=1):
            self._queue.check()
        body, self._buffer = self._buffer, io.BytesIO()
        self._queue.submit(self._send, self._count, body)
        self._count += 1

    def _send(self, index: int, body: io.BytesIO) -> None:
        assert self.multipart is not None
        try:
            self.multipart.send(index, body)
        finally:
            self._room.release()
