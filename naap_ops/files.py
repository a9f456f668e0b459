"""Durable writing and hashing. A file is either wholly there, on the disk, or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from naap_ops.errors import ConfigurationError, NoSpace, OpsError, StorageError

CHUNK = 1 << 20
PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700
# The names under which a file is written before it is whole; a crash can leave one behind.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp", re.DOTALL)


def home(environ: Mapping[str, str] | None = None) -> Path:
    """The user's home; the root where there is none, as for a user id without a name in a container."""
    try:
        return Path((os.environ if environ is None else environ).get("HOME") or Path.home())
    except RuntimeError:
        return Path("/")


def expanded(path: Path) -> Path:
    """``~`` written out. Raises ConfigurationError where it is nobody's, or that of a user who has no home."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ConfigurationError(detail=f"{path}: {error}", hint="Write the folder out.") from None


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def failure(where: Path, error: OSError, hint: str = "") -> OpsError:
    """A failure of the file system as ours: NoSpace where it is that, else StorageError, with ``hint``.

    With a ``hint`` it is a procedure's, of which nothing is removed for want of room.
    """
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return NoSpace(where=where, reason=reason, **({"hint": "Free room there, and run it again."} if hint else {}))
    return StorageError(url=where, reason=reason, **({"hint": hint} if hint else {}))


def write_all(fd: int, data: bytes) -> None:
    """As ``os.write``, all of it: on a disk that is almost full the first write is cut short, and only the next one fails."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_path(path: Path) -> None:
    """fsync one file or directory."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes, *, new: bool = False) -> None:
    """Write ``data`` as ``path``: temporary name, fsync, rename, fsync of the folder. Mode 0600.

    ``new``: raises FileExistsError where there is one already, so that of several writers one succeeds.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        (_rename_new if new else os.rename)(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def _rename_new(source: Path, target: Path) -> None:
    """A rename that replaces nothing. Without hard links (FAT, some shares) two at the same instant can both succeed."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(source, target)
    else:
        os.unlink(source)


def make_private_dir(path: Path) -> None:
    """``mkdir -p`` with mode 0700 for what is created, each new entry durable in its parent."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE_DIR, exist_ok=True)
        fsync_path(folder.parent)


def chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes in pieces of one MiB."""
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            yield piece


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    for piece in chunks(path):
        digest.update(piece)
    return digest.hexdigest()


def tree_bytes(path: Path) -> int:
    """Bytes of all regular files below ``path``; files that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total


def remove_tree(path: Path) -> None:
    """Remove a folder whole, and make the removal durable."""
    shutil.rmtree(path, ignore_errors=False)
    fsync_path(path.parent)
