"""Reading: a stream that resumes by range where its connection broke, and whole sets fetched in parallel."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from naap_ops import files
from naap_ops.errors import NoSpace, StorageError
from naap_ops.storage.base import translated
from naap_ops.storage.s3 import errors
from naap_ops.storage.s3.client import Place
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SLICE = 32 << 20  # what one thread fetches at a time
_CHUNK = 1 << 18
_PROGRESS = 1 << 16  # fewer bytes than this between two failures are no progress
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds
_NO_SUCH_RANGE = {"InvalidRange", "416", "RequestedRangeNotSatisfiable"}


class Ranged(io.RawIOBase):
    """Bytes of an object from ``start``, ``length`` of them or all. Raises StorageError when it is missing or breaks off."""

    def __init__(self, place: Place, key: str, start: int = 0, length: int | None = None) -> None:
        self._place = place
        self._key = key
        self._at = self._resumed_at = start
        self._end = None if length is None else start + length
        self._etag: str | None = None
        self._body: Any = None
        self._failures = 0
        self._connect()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while self._end is not None and self._at < self._end:
            try:
                if self._body is None:
                    self._connect()
                    continue
                data = self._body.read(min(len(view), self._end - self._at))
                if not data:
                    raise aws.IncompleteReadError(actual_bytes=self._at, expected_bytes=self._end)
            except (aws.HTTPClientError, aws.IncompleteReadError) as error:
                self._broken(error)
                continue
            view[: len(data)] = data
            self._at += len(data)
            return len(data)
        return 0

    def _connect(self) -> None:
        """Ask for what is still wanted, and learn the object's size and ETag the first time."""
        with errors.at(self._place.where(self._key)):
            try:
                answer = self._place.client.get_object(Bucket=self._place.bucket, Key=self._key, **self._wanted())
            except aws.ClientError as error:
                if errors.code(error) not in _NO_SUCH_RANGE or self._etag is not None:
                    raise
                self._end = self._at  # nothing lies there
                return
        self._body = answer["Body"]
        available = self._at + int(answer["ContentLength"])
        self._end = available if self._end is None else min(self._end, available) if self._etag is None else self._end
        self._etag = answer["ETag"]

    def _wanted(self) -> dict[str, str]:
        same = {} if self._etag is None else {"IfMatch": self._etag}
        if self._end is None:
            return same | ({"Range": f"bytes={self._at}-"} if self._at else {})
        return same | {"Range": f"bytes={self._at}-{max(self._at, self._end - 1)}"}

    def _broken(self, error: aws.BotoCoreError) -> None:
        """Count a failure and forget the connection. Raises StorageError when there were too many without progress."""
        self._failures = 1 if self._at - self._resumed_at >= _PROGRESS else self._failures + 1
        self._resumed_at = self._at
        self._drop()
        if self._failures >= self._place.settings.attempts:
            where = self._place.where(self._key)
            reason = f"the download broke off at byte {self._at} and again, {count_of(self._failures, 'time')}: {error}"
            raise StorageError(
                url=where, reason=reason, hint="Check the network and the store, and try again.", code=""
            ) from error
        time.sleep(min(_PAUSE * 2**self._failures, _LONGEST_PAUSE))

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        self._drop()
        super().close()


def pieces(place: Place, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """The same as pieces of bounded size."""
    with Ranged(place, key, start, length) as stream:
        while piece := stream.read(_CHUNK):
            yield piece


def demand_room(folder: Path, size: int) -> None:
    """Raises NoSpace when ``size`` bytes do not fit below ``folder``."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise NoSpace(
            where=folder,
            reason=f"to be fetched: {count_of(size, 'byte')}; free: {free:,}",
            hint="Free room there, or set `staging` to a folder on a larger disk.",
        )


def fetch(place: Place, wanted: Iterable[tuple[str, int, Path]]) -> None:
    """Fetch objects (bucket's key, bytes, target) with s3.jobs threads. Raises StorageError, NoSpace."""
    slices = []
    for key, size, path in wanted:
        _make(path)
        slices += [(key, path, start, min(SLICE, size - start)) for start in range(0, size, SLICE)]
    with ThreadPoolExecutor(place.settings.jobs, thread_name_prefix="s3-fetch") as pool:
        tasks = [pool.submit(_fetch_slice, place, *each) for each in slices]
        try:
            wait(tasks, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for task in tasks:
        if not task.cancelled():
            task.result()


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(mode=files.PRIVATE_DIR, parents=True, exist_ok=True)
        path.touch(files.PRIVATE_FILE)
    except OSError as error:
        raise translated(path, error) from error


def _fetch_slice(place: Place, key: str, path: Path, start: int, length: int) -> None:
    at = start
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for piece in pieces(place, key, start, length):
            _write(fd, piece, at, path)
            at += len(piece)
    finally:
        os.close(fd)
    if at != start + length:
        raise StorageError(url=place.where(key), reason="became shorter while it was fetched", hint="", code="")


def _write(fd: int, piece: bytes, at: int, path: Path) -> None:
    view = memoryview(piece)
    try:
        while view:
            done = os.pwrite(fd, view, at)
            view, at = view[done:], at + done
    except OSError as error:
        raise translated(path, error) from error
