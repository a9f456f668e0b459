"""A set on its way into the bucket.

Files are sent in parts while later ones are still being made, but no upload is completed before :meth:`publish`: until then the
bucket shows nothing of the set, and what is given up needs no right to delete and leaves no locked object behind.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from naap_ops import files
from naap_ops.errors import NoSpace, OpsError, StorageError
from naap_ops.storage.base import Sink, StoredFile, translated
from naap_ops.storage.s3 import errors, marker, objects
from naap_ops.storage.s3.client import Place
from naap_ops.storage.s3.folders import LOCK, PrivateFolder
from naap_ops.storage.s3.parts import Written
from naap_ops.storage.s3.queue import Queue
from naap_ops.storage.s3.upload import FileUpload, StreamUpload

# Files so small that one request is cheaper than three stay on the disk until publish, up to so many bytes of them.
SMALL = 128 << 10
KEPT = 32 << 20


class S3Staging:
    """See :class:`naap_ops.storage.base.Staging`."""

    streams = True
    recipients: Sequence[str] = ()

    def __init__(self, place: Place, prefix: str) -> None:
        self._place = place
        self._set = place.object_key(prefix)
        self._published = self._closed = False
        self._known: set[str] = set()
        self._kept: list[str] = []
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._uploads: list[FileUpload | StreamUpload] = []
        self._created: list[str] = []
        self._demand_new()
        objects.demand_lockable(place)
        self._folder = PrivateFolder(place.staging)
        self.path = self._folder.path
        try:
            self._marker = marker.put(place, prefix, self.path)
        except BaseException:
            self._folder.remove()
            raise
        self._queue = Queue(place.settings.jobs)

    def _demand_new(self) -> None:
        """Raises StorageError when there is such a set. Keys that may not list rely on conditional writes."""
        try:
            page = next(objects.listed(self._place, f"{self._set}/", PaginationConfig={"PageSize": 1}))
        except StorageError as error:
            if not errors.denied(error):
                raise
            return
        if page.get("Contents"):
            raise objects.exists(self._place, self._set)

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    def complete(self, name: str, sha256: str | None = None) -> None:
        self._queue.check()
        path = self.path / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise translated(path, error) from error
        if self._keep(name, size):
            return
        upload = FileUpload(self._place, self._queue, f"{self._set}/{name}", path, size, sha256)
        self._uploads.append(upload)
        self._queue.wait_for(size)
        self._queue.submit(upload.begin)

    def _keep(self, name: str, size: int) -> bool:
        """Whether a small file stays here until publish."""
        with self._lock:
            self._known.add(name)
            keep = size <= SMALL and self._kept_bytes + size <= KEPT
            if keep:
                self._kept.append(name)
                self._kept_bytes += size
            return keep

    def drain(self, below: int = 0) -> None:
        self._queue.drain(below)

    @contextlib.contextmanager
    def sink(self, name: str, expected: int = 0) -> Iterator[Sink]:
        self._queue.check()
        self._known.add(name)
        upload = StreamUpload(self._place, self._queue, f"{self._set}/{name}", expected)
        self._uploads.append(upload)
        try:
            yield upload
            content = upload.rest()
        except BaseException:
            upload.given_up = True
            with contextlib.suppress(OpsError):  # then abandon, or a sweep, does it
                self._queue.drain()
                self._abort(upload)
            raise
        if content is not None:
            self._uploads.remove(upload)
            self._write(name, content)
            self.complete(name)

    def _abort(self, upload: StreamUpload) -> None:
        if upload.multipart is not None:
            upload.multipart.abort()

    def _write(self, name: str, content: bytes) -> None:
        path = self.path / name
        try:
            path.parent.mkdir(mode=files.PRIVATE_DIR, parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise translated(path, error) from error

    def settle(self) -> dict[str, StoredFile]:
        for name in self._remaining():
            self.complete(name)
        self._queue.drain()
        return {}

    def publish(self, last: str, content: bytes) -> None:
        self.settle()
        self._prove(self._finish())
        with self._creating(f"{self._set}/{last}"):
            objects.create(self._place, f"{self._set}/{last}", content, self._place.protection())
        self._published = True
        self._close()

    def _remaining(self) -> list[str]:
        """Files in the folder that nobody called complete."""
        found = (
            Path(folder, name).relative_to(self.path).as_posix() for folder, _, names in os.walk(self.path) for name in names
        )
        return sorted(name for name in found if name != LOCK and name not in self._known)

    def _finish(self) -> list[tuple[Written, int]]:
        """Make objects of the uploads and of the files kept back. The parts to be read back."""
        wanted = [upload.multipart for upload in self._uploads if upload.multipart is not None and not upload.given_up]
        jobs: list[tuple[str, Callable[[], Written]]] = [(multipart.key, multipart.finish) for multipart in wanted]
        jobs += [(f"{self._set}/{name}", partial(self._put, name)) for name in self._kept]
        with ThreadPoolExecutor(self._place.settings.jobs, thread_name_prefix="s3-finish") as pool:
            return [each for found in pool.map(lambda job: self._create(*job), jobs) for each in found]

    def _create(self, key: str, job: Callable[[], Written]) -> list[tuple[Written, int]]:
        with self._creating(key):
            written = job()
        return [(written, index) for index in objects.prove(self._place, written)]

    @contextlib.contextmanager
    def _creating(self, key: str) -> Iterator[None]:
        """Remember the object as ours, to be deleted if the set is given up: also when it is unclear whether it came to be."""
        try:
            yield
        except StorageError as error:
            if errors.code(error) != "exists":
                self._created.append(key)
            raise
        except BaseException:
            self._created.append(key)
            raise
        self._created.append(key)

    def _put(self, name: str) -> Written:
        path = self.path / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise translated(path, error) from error
        return objects.create(self._place, f"{self._set}/{name}", content, self._place.protection(archive=True))

    def _prove(self, parts: list[tuple[Written, int]]) -> None:
        with ThreadPoolExecutor(self._place.settings.jobs, thread_name_prefix="s3-read") as pool:
            list(pool.map(lambda part: objects.read_part(self._place, *part), parts))

    def abandon(self) -> None:
        if self._closed:
            return
        self._queue.stop()
        clean = self._undo()
        self._close(forget=clean)

    def _undo(self) -> bool:
        """Remove what was sent, ``last`` first. Whether nothing is left; what is left, is left to a sweep."""
        multiparts = [upload.multipart for upload in self._uploads if upload.multipart is not None]
        clean = True
        tasks: list[Callable[[], None]] = [partial(objects.delete, self._place, key) for key in reversed(self._created)]
        for task in [*tasks, *(multipart.abort for multipart in multiparts)]:
            try:
                task()
            except (StorageError, NoSpace) as error:
                clean = False
                if not errors.denied(error):  # the store is not to be reached: no use in asking for each
                    break
        return clean

    def _close(self, *, forget: bool = True) -> None:
        """Let go of everything. The marker goes when nothing is left that it stands for, and when the keys may delete it."""
        self._closed = True
        self._queue.stop()
        if forget:
            with contextlib.suppress(OpsError):
                objects.delete(self._place, self._marker)
        self._folder.remove()
