"""A folder as storage. Staged sets are folders beside their final name, published by rename."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from naap_ops import files
from naap_ops.errors import Busy, StorageError
from naap_ops.lock import FileLock
from naap_ops.storage.base import ObjectInfo, Sink, StoredFile, translated

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PARTIAL = ".partial"
LOCK = ".lock"


@contextlib.contextmanager
def _errors(where: Path) -> Iterator[None]:
    """OSError as the storage's own errors."""
    try:
        yield
    except OSError as error:
        raise translated(where, error) from error


class LocalStaging:
    """``<prefix>.partial/`` with a lock file held for its lifetime, so that sweeping can tell the living from the dead."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self.path = final.with_name(final.name + PARTIAL)
        self._place = self.path  # where the set is at the moment
        self._published = False
        self._lock = FileLock(self.path / LOCK, what=f"writing {final.name}")
        with _errors(self.path):
            if final.exists():
                raise StorageError(url=final, reason="exists already and is never overwritten")
            files.make_private_dir(self.path.parent)
            self.path.mkdir(mode=files.PRIVATE_DIR)
            self._lock.acquire()

    streams = False
    recipients: Sequence[str] = ()
    waiting = 0  # the files are where they stay

    def complete(self, name: str, sha256: str | None = None) -> None:  # noqa: ARG002 - it has been read where it stays
        with _errors(self.path / name):
            os.chmod(self.path / name, files.PRIVATE_FILE)
            files.fsync_path(self.path / name)

    def drain(self, below: int = 0) -> None:
        pass

    @contextlib.contextmanager
    def sink(self, name: str, expected: int = 0) -> Iterator[Sink]:  # noqa: ARG002 - a file grows as it is written
        path = self.path / name
        with _errors(path):
            path.parent.mkdir(mode=files.PRIVATE_DIR, parents=True, exist_ok=True)
            file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed below, where its own failures are told from the caller's
        try:
            yield _FileSink(file, path)
        except BaseException:
            file.close()
            path.unlink(missing_ok=True)
            raise
        file.close()
        self.complete(name)

    def settle(self) -> dict[str, StoredFile]:
        return {}

    def publish(self, last: str, content: bytes) -> None:
        with _errors(self._final):
            for folder, _, names in os.walk(self.path):
                for name in names:
                    os.chmod(os.path.join(folder, name), files.PRIVATE_FILE)
                os.chmod(folder, files.PRIVATE_DIR)
                files.fsync_path(Path(folder))
            os.rename(self.path, self._final)
            self._place = self._final
            files.fsync_path(self._final.parent)
            files.write_durably(self._final / last, content)
            self._published = True
        with contextlib.suppress(OSError):  # it is published: a lock file that stays harms nothing
            (self._final / LOCK).unlink()
        self._lock.release()

    def abandon(self) -> None:
        if not self._published:
            with contextlib.suppress(OSError):  # what cannot be removed now is left to the next sweep
                _discard(self._place)
        self._lock.release()


class _FileSink:
    """A file whose failures are the storage's."""

    def __init__(self, file: io.FileIO, path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, data: bytes, /) -> None:
        view = memoryview(data)
        with _errors(self._path):
            while view:
                view = view[self._file.write(view) :]


class LocalStorage:
    """Keys are paths below ``root``. Files are 0600, folders 0700."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.url = str(self.root)

    def _path(self, key: str) -> Path:
        pure = PurePosixPath(key)
        if pure.is_absolute() or ".." in pure.parts or "\0" in key:
            raise StorageError(url=self.url, reason=f"{key!r} leads outside")
        return self.root / pure

    def _set(self, prefix: str) -> Path:
        """The folder of a set, which is never the root itself."""
        if (path := self._path(prefix)) == self.root:
            raise StorageError(url=self.url, reason="the whole storage is not a set of files")
        return path

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _errors(path):
            files.make_private_dir(path.parent)
            try:
                files.write_durably(path, data, new=True)
            except FileExistsError:
                raise StorageError(url=path, reason="exists already and is never overwritten") from None

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with _errors(path):
            return path.read_bytes()

    @contextlib.contextmanager
    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[BinaryIO]:
        path = self._path(key)
        with _errors(path):
            file = open(path, "rb")  # noqa: SIM115 - closed below; what fails inside the caller's block is not ours to translate
        with file:
            file.seek(start)
            yield file if length is None else io.BufferedReader(_Window(file, length))

    def stat(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with _errors(path):
            try:
                facts = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        if not stat.S_ISREG(facts.st_mode):
            return None
        return ObjectInfo(key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        root = self._path(prefix)
        with _errors(root):
            found = sorted(self._keys(root))
        for key in found:
            if (info := self.stat(key)) is not None:
                yield info

    def _keys(self, root: Path) -> Iterator[str]:
        """Keys of whole objects below ``root``, in no order."""
        for folder, below, names in os.walk(root, onerror=_unless_gone):
            below[:] = [name for name in below if not name.endswith(PARTIAL)]
            for name in names:
                if name != LOCK and not files.TEMPORARY.fullmatch(name):
                    yield Path(folder, name).relative_to(self.root).as_posix()

    def folders(self, prefix: str = "") -> Iterable[str]:
        root = self._path(prefix)
        with _errors(root):
            if not root.is_dir():
                return []
            below = [entry for entry in os.scandir(root) if entry.is_dir() and not entry.name.endswith(PARTIAL)]
            return sorted(entry.name for entry in below if any(self._keys(Path(entry))))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _errors(path):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
                files.fsync_path(path.parent)
            parent = path.parent
            while parent != self.root and parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
                parent = parent.parent

    def stage(self, prefix: str) -> LocalStaging:
        return LocalStaging(self._set(prefix))

    def sweep(self, folder: str, last: str) -> Iterable[str]:
        root = self._path(folder)
        with _errors(root):
            if not root.is_dir():
                return []
            entries = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.is_symlink()]
            return [entry.name for entry in entries if _unfinished(entry, last) and _remove_dead(entry)]

    def remove(self, prefix: str, last: str) -> None:
        folder = self._set(prefix)
        with _errors(folder):
            if not folder.is_dir():
                return
            with FileLock(folder / LOCK, what=f"removing {folder.name}"):
                (folder / last).unlink(missing_ok=True)
                files.fsync_path(folder)
                _discard(folder)

    @contextlib.contextmanager
    def local(self, prefix: str, names: Iterable[str] | None = None) -> Iterator[Path]:  # noqa: ARG002 - all are here already
        yield self._path(prefix)


def _unless_gone(error: OSError) -> None:
    """What vanishes while it is listed is simply not there; a folder that cannot be read is not an empty one."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _unfinished(entry: Path, last: str) -> bool:
    """Whether this is, by its name or its missing ``last``, a set that was never finished, or half removed.

    A folder without our lock file is not ours and never touched; but an empty partial is one killed beside its lock file.
    """
    partial = entry.name.endswith(PARTIAL)
    if (entry / LOCK).exists():
        return partial or not (entry / last).exists()
    return partial and not any(entry.iterdir())


def _remove_dead(entry: Path) -> bool:
    """Remove an unfinished set, unless its writer lives."""
    try:
        if not (entry / LOCK).exists():
            entry.rmdir()
            return True
        with FileLock(entry / LOCK, what=entry.name):
            _discard(entry)
    except (Busy, OSError):
        return False
    return True


def _discard(folder: Path) -> None:
    """Remove a set whose lock we hold: partial by name first, lock file last.

    Killed half-way, it is still one that :func:`_unfinished` knows.
    """
    if not folder.name.endswith(PARTIAL):
        folder = folder.rename(folder.with_name(folder.name + PARTIAL))
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
    (folder / LOCK).unlink(missing_ok=True)
    folder.rmdir()
    files.fsync_path(folder.parent)


class _Window(io.RawIOBase):
    """At most ``length`` bytes of a file, from where it stands."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        data = self._file.read(min(self._left, memoryview(buffer).nbytes))
        memoryview(buffer).cast("B")[: len(data)] = data
        self._left -= len(data)
        return len(data)
