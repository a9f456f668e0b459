"""A prefix of an S3 bucket as storage: the contract of :mod:`naap_ops.storage.base` over the modules beside this one."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import BinaryIO

from naap_ops.config.settings import S3Settings
from naap_ops.errors import StorageError
from naap_ops.storage.base import ObjectInfo
from naap_ops.storage.s3 import download, errors, folders, marker, objects
from naap_ops.storage.s3.client import place
from naap_ops.storage.s3.removal import Removal
from naap_ops.storage.s3.staging import S3Staging

_BUFFER = 1 << 20


class S3Storage:
    """Keys are those of the bucket below ``prefix``. Safe to use from several threads."""

    def __init__(self, url: str, settings: S3Settings, staging: Path | None = None) -> None:
        self.place = place(url, settings, staging)
        self.url = self.place.url

    def put(self, key: str, data: bytes) -> None:
        objects.create(self.place, self.place.object_key(key), data, self.place.protection(), look=True)

    def get(self, key: str) -> bytes:
        with self.open(key) as stream:
            return stream.read()

    @contextlib.contextmanager
    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        with io.BufferedReader(download.Ranged(self.place, self.place.object_key(key), start, length), _BUFFER) as stream:
            yield stream

    def stat(self, key: str) -> ObjectInfo | None:
        found = objects.head(self.place, self.place.key(key)) if self.place.key(key) else None
        if found is None:
            return None
        return ObjectInfo(key, int(found["ContentLength"]), found["LastModified"].astimezone(UTC))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        # Sorted here: not every store lists by the bytes of the whole key (SeaweedFS goes folder by folder).
        yield from sorted(self._objects(prefix), key=lambda info: info.key)

    def _objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in objects.listed(self.place, self.place.folder(prefix)):
            for found in page.get("Contents", ()):
                key = self.place.relative(found["Key"])
                if not key.endswith("/") and not _hidden(key):
                    yield ObjectInfo(key, int(found["Size"]), found["LastModified"].astimezone(UTC))

    def folders(self, prefix: str = "") -> Iterable[str]:
        above = self.place.folder(prefix)
        pages = list(objects.listed(self.place, above, Delimiter="/"))
        names = {each["Prefix"][len(above) : -1] for page in pages for each in page.get("CommonPrefixes", ())}
        shown = sorted(name for name in names if name and not _hidden(name))
        server = pages[0]["ResponseMetadata"]["HTTPHeaders"].get("server", "") if pages else ""
        if not server.startswith("SeaweedFS"):
            return shown
        # It has real folders, which it shows for minutes after their last object is gone.
        with ThreadPoolExecutor(self.place.settings.jobs, thread_name_prefix="s3-list") as pool:
            return [
                name
                for name, full in zip(shown, pool.map(self._holds_objects, (above + n for n in shown)), strict=True)
                if full
            ]

    def _holds_objects(self, full: str) -> bool:
        return bool(next(objects.listed(self.place, f"{full}/", PaginationConfig={"PageSize": 1})).get("Contents"))

    def delete(self, key: str) -> None:
        objects.delete(self.place, self.place.object_key(key))

    def stage(self, prefix: str) -> S3Staging:
        return S3Staging(self.place, prefix)

    def sweep(self, folder: str, last: str) -> Iterable[str]:
        self.place.key(folder)
        folders.sweep(self.place.staging)
        try:
            return Removal(self.place).sweep(folder, last)
        except StorageError as error:
            if errors.denied(error):  # without the right to list, nothing can be found that could be removed
                return []
            raise

    def remove(self, prefix: str, last: str) -> None:
        self.place.object_key(prefix)
        Removal(self.place).remove(prefix, last)

    @contextlib.contextmanager
    def local(self, prefix: str, names: Iterable[str] | None = None) -> Iterator[Path]:
        above = self.place.folder(prefix)
        wanted = self._sizes(prefix, names)
        with folders.private_folder(self.place.staging) as folder:
            download.demand_room(folder, sum(wanted.values()))
            download.fetch(self.place, ((above + name, size, folder / name) for name, size in wanted.items()))
            yield folder

    def _sizes(self, prefix: str, names: Iterable[str] | None) -> dict[str, int]:
        """Bytes of the files of a set by name. Raises StorageError when one that is named is not there."""
        if names is None:
            start = len(self.place.relative(self.place.folder(prefix)))
            return {info.key[start:]: info.bytes for info in self.list(prefix)}
        with ThreadPoolExecutor(self.place.settings.jobs) as pool:
            asked = dict.fromkeys(names)
            return dict(zip(asked, pool.map(lambda name: self._size(f"{prefix}/{name}"), asked), strict=True))

    def _size(self, key: str) -> int:
        info = self.stat(key)
        if info is None:
            raise StorageError(
                url=self.place.where(self.place.key(key)), reason="there is no such object", hint=None, code="404"
            )
        return info.bytes


def _hidden(key: str) -> bool:
    """Whether it lies in a folder of what is not published."""
    return any(part.endswith(marker.FOLDER) for part in key.split("/")[:-1]) or ("/" not in key and key.endswith(marker.FOLDER))
