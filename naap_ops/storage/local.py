"""A folder as storage. Staged sets are folders beside their final name, published by rename."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from naap_ops import files
from naap_ops.errors import Busy, NoSpace, OpsError, StorageError
from naap_ops.lock import FileLock
from naap_ops.storage.base import ObjectInfo

PARTIAL = ".partial"
LOCK = ".lock"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _translated(where: Path, error: OSError) -> OpsError:
    reason = error.strerror or str(error)
    return NoSpace(where=where, reason=reason) if error.errno in _FULL else StorageError(url=where, reason=reason)


@contextlib.contextmanager
def _errors(where: Path) -> Iterator[None]:
    """OSError as the storage's own errors."""
    try:
        yield
    except OSError as error:
        raise _translated(where, error) from error


class LocalStaging:
    """``<prefix>.partial/`` with a lock file held for its lifetime, so that sweeping can tell the living from the dead."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path = final.with_name(final.name + PARTIAL)
        with _errors(self.path):
            files.make_private_dir(self.path.parent)
            self.path.mkdir(mode=files.PRIVATE_DIR)
            self._lock = FileLock(self.path / LOCK, what=f"writing {final.name}")
            self._lock.acquire()
        self._published = False

    def complete(self, name: str) -> None:
        with _errors(self.path / name):
            os.chmod(self.path / name, files.PRIVATE_FILE)
            files.fsync_path(self.path / name)

    def publish(self, last: str, content: bytes) -> None:
        with _errors(self._final):
            for folder, _, names in os.walk(self.path):
                os.chmod(folder, files.PRIVATE_DIR)
                for name in names:
                    os.chmod(os.path.join(folder, name), files.PRIVATE_FILE)
                files.fsync_path(Path(folder))
            os.rename(self.path, self._final)
            files.fsync_path(self._final.parent)
            files.write_durably(self._final / last, content)
            self._published = True
            (self._final / LOCK).unlink()
        self._lock.release()

    def abandon(self) -> None:
        if not self._published:
            for place in (self.path, self._final):
                if place.exists() and (place / LOCK).exists():
                    shutil.rmtree(place, ignore_errors=True)
        self._lock.release()


class LocalStorage:
    """Keys are paths below ``root``. Files are 0600, folders 0700."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.url = str(self.root)

    def _path(self, key: str) -> Path:
        pure = PurePosixPath(key)
        if pure.is_absolute() or ".." in pure.parts:
            raise StorageError(url=self.url, reason=f"{key!r} leads outside")
        return self.root / pure

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _errors(path):
            files.make_private_dir(path.parent)
            if path.exists():
                raise StorageError(url=path, reason="exists already and is never overwritten")
            files.write_durably(path, data)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with _errors(path):
            return path.read_bytes()

    @contextlib.contextmanager
    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        path = self._path(key)
        with _errors(path), open(path, "rb") as file:
            file.seek(start)
            yield file if length is None else cast(BinaryIO, _Window(file, length))

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            facts = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ObjectInfo(key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        root = self._path(prefix)
        found = []
        for folder, below, names in os.walk(root):
            below[:] = [name for name in below if not name.endswith(PARTIAL)]
            found += [Path(folder, n).relative_to(self.root).as_posix() for n in names if not (n == LOCK or n.endswith(".tmp"))]
        for key in sorted(found):
            if (info := self.stat(key)) is not None:
                yield info

    def folders(self, prefix: str = "") -> Iterable[str]:
        root = self._path(prefix)
        if not root.is_dir():
            return []
        with _errors(root):
            return sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.endswith(PARTIAL))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _errors(path):
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                files.fsync_path(path.parent)
            parent = path.parent
            while parent != self.root and parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
                parent = parent.parent

    def stage(self, prefix: str) -> LocalStaging:
        return LocalStaging(self._path(prefix))

    def sweep(self, folder: str, last: str) -> Iterable[str]:
        root = self._path(folder)
        if not root.is_dir():
            return []
        swept = []
        for entry in sorted(root.iterdir()):
            unfinished = entry.name.endswith(PARTIAL) or not (entry / last).exists()
            if entry.is_dir() and unfinished and (entry / LOCK).exists() and _remove_unlocked(entry):
                swept.append(entry.name)
            elif entry.is_dir() and entry.name.endswith(PARTIAL) and not any(entry.iterdir()):
                entry.rmdir()  # killed between mkdir and lock
                swept.append(entry.name)
        return swept

    def remove(self, prefix: str, last: str) -> None:
        folder = self._path(prefix)
        with _errors(folder), FileLock(folder / LOCK, what=f"removing {folder.name}"):
            (folder / last).unlink(missing_ok=True)
            files.fsync_path(folder)
            shutil.rmtree(folder)
            files.fsync_path(folder.parent)

    @contextlib.contextmanager
    def local(self, prefix: str, names: Iterable[str] | None = None) -> Iterator[Path]:  # noqa: ARG002 - all are here already
        yield self._path(prefix)


def _remove_unlocked(entry: Path) -> bool:
    """Remove a dead stage, unless its writer lives. A folder without our lock file is not ours and never touched."""
    try:
        with FileLock(entry / LOCK, what=entry.name):
            shutil.rmtree(entry)
    except (Busy, OSError):
        return False
    return True


class _Window:
    """At most ``length`` bytes of a file."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int = -1) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        data = self._file.read(size)
        self._left -= len(data)
        return data

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)
