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
from naap_ops.files import expanded
from naap_ops.lock import FileLock
from naap_ops.storage.base import translated

LOCK = ".lock"
_NAME = "naap_ops-s3-"
_YOUNG = ".naap_ops-s3-"  # not yet locked


def root(staging: Path | None) -> Path:
    """Where such folders are made: setting ``staging``, else the system's temporary folder."""
    return expanded(staging or Path(tempfile.gettempdir())).absolute()


class PrivateFolder:
    """A fresh folder with its lock held. It gets its name only with the lock; one that a sweep took for dead before that is
    made anew."""

    def __init__(self, staging: Path | None) -> None:
        parent = root(staging)
        try:
            files.make_private_dir(parent)
            while not self._made(parent):
                pass
        except OSError as error:
            raise translated(parent, error) from error

    def _made(self, parent: Path) -> bool:
        young = Path(tempfile.mkdtemp(prefix=_YOUNG, dir=parent))
        self._lock = FileLock(young / LOCK, what="a transfer")
        self.path = young.with_name(_NAME + young.name.removeprefix(_YOUNG))
        try:
            self._lock.acquire()
            young.rename(self.path)
        except (FileNotFoundError, Busy):
            self._lock.release()
            return False
        return True

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
    """Remove what dead processes of this user left: also those that died while they made a folder, or removed one."""
    for path in (each for name in (_NAME, _YOUNG) for each in root(staging).glob(f"{name}*")):
        with contextlib.suppress(OSError, Busy):
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            if (path / LOCK).is_file():
                with FileLock(path / LOCK, what=path.name):
                    shutil.rmtree(path)
            elif path.name.startswith(_YOUNG):
                path.rmdir()
            else:
                shutil.rmtree(path)
