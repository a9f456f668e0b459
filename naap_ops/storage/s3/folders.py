"""Private folders on the local disk for what is being sent or fetched, each with a lock that dies with its process."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from naap_ops import files
from naap_ops.errors import Busy
from naap_ops.lock import FileLock
from naap_ops.storage.base import translated

LOCK = ".lock"
_NAME = "naap_ops-s3-"
_YOUNG = ".naap_ops-s3-"  # not yet locked


def root(staging: Path | None) -> Path:
    """Where such folders are made: setting ``staging``, else the system's temporary folder."""
    return (staging or Path(tempfile.gettempdir())).expanduser().absolute()


class PrivateFolder:
    """A fresh folder with its lock held. It gets its name only with the lock, so that no sweep takes it for a dead one."""

    def __init__(self, staging: Path | None) -> None:
        parent = root(staging)
        try:
            files.make_private_dir(parent)
            young = Path(tempfile.mkdtemp(prefix=_YOUNG, dir=parent))
            self._lock = FileLock(young / LOCK, what="a transfer")
            self._lock.acquire()
            self.path = young.with_name(_NAME + young.name.removeprefix(_YOUNG))
            young.rename(self.path)
        except OSError as error:
            raise translated(parent, error) from error

    def remove(self) -> None:
        """Remove it; what cannot be removed is left to a sweep."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.path)
        self._lock.release()


@contextlib.contextmanager
def private_folder(staging: Path | None) -> Iterator[Path]:
    """A folder for the length of the block."""
    folder = PrivateFolder(staging)
    try:
        yield folder.path
    finally:
        folder.remove()


def sweep(staging: Path | None) -> None:
    """Remove what dead processes of this user left."""
    for path in root(staging).glob(f"{_NAME}*"):
        with contextlib.suppress(OSError, Busy):
            if path.is_symlink() or path.stat().st_uid != os.geteuid() or not (path / LOCK).is_file():
                continue
            with FileLock(path / LOCK, what=path.name):
                shutil.rmtree(path)
