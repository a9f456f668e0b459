"""The storage contract. Keys are relative POSIX paths; a storage knows nothing of what it keeps.

What holds for every backend, and is tested by one conformance suite (`tests/contract/test_storage.py`):

- ``put`` succeeds whole or leaves no trace, and never overwrites;
- what ``put`` or ``publish`` has returned for is durable;
- ``list`` shows only whole objects, sorted by key, never what is still staged;
- ``delete`` of what is not there is no error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from naap_ops import files
from naap_ops.errors import OpsError


@dataclass(frozen=True)
class StoredFile:
    """A file of a set as it is stored, where that is not as it was made: its name, bytes and hex SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object: its key, its size in bytes, when it was last written (UTC)."""

    key: str
    bytes: int
    modified: datetime


def translated(where: Path, error: OSError) -> OpsError:
    """A failure of the file system as a failure of storage: NoSpace where it is that, else StorageError."""
    return files.failure(where, error)


class Sink(Protocol):
    """A file being written as a stream."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``. Waits where it has to; raises StorageError, NoSpace."""


class Staging(Protocol):
    """A place where a set of files is made before it is published as one, its ``last`` file after all others.

    Nothing of it is visible under its prefix before ``publish``. ``complete`` and ``sink`` may be called by several threads.
    """

    path: Path
    """A fresh private folder in which the files are made. It is on this machine's disk whatever the storage is."""
    streams: bool
    """Whether :meth:`sink` goes past ``path``: then it is better not to make large files there first."""
    recipients: Sequence[str]
    """The public keys that its files are encrypted for; none: they are stored as they are."""

    @property
    def waiting(self) -> int:
        """Bytes of files that are complete, and still on the disk because they have not been sent off yet. 0 in a folder."""

    def complete(self, name: str, sha256: str | None = None) -> None:
        """The file ``name`` (relative) is finished and nobody reads it any more: make it durable, or send it off.

        Where it is sent off, it is gone from ``path`` some time later. ``sha256``: the hex hash of its bytes as they lie in
        ``path``, where known; what is sent is checked against it. An earlier file's failure is raised here, or by the next
        ``drain`` or ``publish``: StorageError, NoSpace.
        """

    def drain(self, below: int = 0) -> None:
        """Wait until no more than ``below`` bytes are waiting."""

    def sink(self, name: str, expected: int = 0) -> AbstractContextManager[Sink]:
        """The file ``name`` written as a stream, past the disk where the storage can.

        ``expected``: an upper guess of its bytes, by which parts are sized. Left by an exception, the block leaves no file.
        """

    def settle(self) -> dict[str, StoredFile]:
        """Complete what is left in ``path`` and wait until all is sent off. The files that are stored otherwise, by name."""

    def publish(self, last: str, content: bytes) -> None:
        """Make the set visible under its prefix, then write ``last``. Nothing is visible before; all is durable after."""

    def abandon(self) -> None:
        """Remove what was made. Harmless after ``publish``."""


class Storage(Protocol):
    """A place of keys and bytes. Raises StorageError, or NoSpace where the place is full."""

    url: str

    def put(self, key: str, data: bytes) -> None:
        """Store a small object. Raises StorageError when the key exists."""

    def get(self, key: str) -> bytes:
        """The whole object. Raises StorageError when it is not there."""

    def open(self, key: str, start: int = 0, length: int | None = None) -> AbstractContextManager[BinaryIO]:
        """A stream of the object, or of ``length`` bytes of it from ``start``."""

    def stat(self, key: str) -> ObjectInfo | None:
        """The object's facts, or None."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with the folder ``prefix``, sorted by key."""

    def folders(self, prefix: str = "") -> Iterable[str]:
        """The names directly below the folder ``prefix`` that hold objects, sorted."""

    def delete(self, key: str) -> None:
        """Remove one object, durably."""

    def stage(self, prefix: str) -> Staging:
        """Begin a set of files that will be published under ``prefix``."""

    def sweep(self, folder: str, last: str) -> Iterable[str]:
        """Remove what died unpublished below ``folder``: stages whose writer is gone and sets without ``last``. Their names."""

    def remove(self, prefix: str, last: str) -> None:
        """Remove a published set: ``last`` first, so that a removal cut short leaves nothing that looks whole."""

    def local(self, prefix: str, names: Iterable[str] | None = None) -> AbstractContextManager[Path]:
        """The set under ``prefix`` (or only ``names`` of it) as a local folder for the length of the block."""
