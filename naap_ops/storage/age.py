"""Encryption with age in front of any storage: who stores needs recipients, who reads back needs an identity.

Every file of a set is encrypted on its own, as it becomes complete, and stored under its name with ``.age`` behind it: so
``age -d`` opens it without this toolkit, and one table can be read back without the others. What tells people what a set is
and how to open it stays readable: the file that is published last, the names in :data:`READABLE`, and records put later.
Format: age-encryption.org/v1, by pyrage (the Rust implementation, rage).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from naap_ops import files
from naap_ops.errors import ConfigurationError, OpsError, StorageError
from naap_ops.storage.agekeys import identities, recipients
from naap_ops.storage.base import ObjectInfo, Sink, Staging, Storage, StoredFile, translated

if TYPE_CHECKING:
    from _typeshed import SupportsRead, SupportsWrite

SUFFIX = ".age"
READABLE = frozenset({"RESTORE.md", "SHA256SUMS"})

_OTHER_KEYS = "No matching keys"  # how pyrage says that a file is for others


class IdentityMissing(ConfigurationError):
    """What is stored is encrypted, and none of the identities opens it."""

    message = "{name} is encrypted with age, and {reason}"
    hint = "Set encryption.identity_file (NAAP_OPS_ENCRYPTION__IDENTITY_FILE) to the file that holds the secret key."


class CiphertextDamaged(StorageError):
    """What is stored is not what was encrypted: bits of it are others, or its end is missing."""

    exit_code = 13
    name = "damaged"
    message = "{url} is damaged: {reason}"
    hint = "Do not rely on this backup. `invoke backup.list` shows the verified ones."


# --- streams ----------------------------------------------------------------------------------------------------------


class _Hashing:
    """Writes on, and knows what it wrote."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> int:
        self._write(data)
        self._digest.update(data)
        self._bytes += len(data)
        return len(data)

    def flush(self) -> None:
        pass

    def stored(self, name: str) -> StoredFile:
        return StoredFile(name, self._bytes, self._digest.hexdigest())


def _encrypt(reader: SupportsRead[bytes], writer: SupportsWrite[bytes], keys: Sequence[Any]) -> None:
    """In pieces of 64 KiB, each under its own authentication. What the streams raise comes out of it as text only."""
    import pyrage

    try:
        pyrage.encrypt_io(reader, writer, list(keys))
    except pyrage.EncryptError as error:
        raise StorageError(url="age", reason=str(error)) from error


class _Failing:
    """A stream whose own failure is kept: pyrage would make a text of it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: BaseException | None = None

    def _kept(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (OpsError, OSError) as error:
            self.error = error
            raise

    def read(self, size: int = -1) -> bytes:
        return cast(bytes, self._kept(lambda: self._stream.read(size)))

    def write(self, data: bytes) -> int:
        return cast(int, self._kept(lambda: self._stream.write(data)))

    def flush(self) -> None:
        self._kept(self._stream.flush)


@contextlib.contextmanager
def _own_errors(*streams: _Failing) -> Iterator[None]:
    try:
        yield
    except StorageError:
        for stream in streams:
            if stream.error is not None:
                raise stream.error from None
        raise


class AgeStaging:
    """Encrypts what is complete into the staging behind it."""

    def __init__(self, inner: Staging, keys: Sequence[Any], texts: Sequence[str]) -> None:
        self._inner = inner
        self._keys = keys
        self.recipients = texts
        self._stored: dict[str, StoredFile] = {}
        self.path = inner.path
        self.streams = inner.streams

    @property
    def waiting(self) -> int:
        return self._inner.waiting

    def complete(self, name: str, sha256: str | None = None) -> None:
        if name in READABLE:
            self._inner.complete(name, sha256)
            return
        source = self.path / name
        try:
            with open(source, "rb") as plain, self._inner.sink(name + SUFFIX, source.stat().st_size) as sink:
                self._encrypt(name, plain, sink)
            source.unlink()
        except OSError as error:
            raise translated(source, error) from error

    def _encrypt(self, name: str, plain: SupportsRead[bytes], sink: Sink) -> None:
        hashing = _Hashing(sink.write)
        reader, writer = _Failing(plain), _Failing(hashing)
        with _own_errors(reader, writer):
            _encrypt(reader, writer, self._keys)
        self._stored[name] = hashing.stored(name + SUFFIX)

    def drain(self, below: int = 0) -> None:
        self._inner.drain(below)

    @contextlib.contextmanager
    def sink(self, name: str, expected: int = 0) -> Iterator[Sink]:
        """age reads where we write: a pipe and a thread between them."""
        readable, writable = os.pipe()
        failures: list[BaseException] = []
        with self._inner.sink(name + SUFFIX, expected) as inner:

            def work() -> None:
                with open(readable, "rb") as plain:
                    try:
                        self._encrypt(name, plain, inner)
                    except BaseException as error:  # noqa: BLE001 - raised again below, on the caller's thread
                        failures.append(error)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            try:
                with contextlib.suppress(BrokenPipeError), open(writable, "wb") as pipe:
                    yield cast(Sink, pipe)
            finally:
                thread.join()
            if failures:
                raise failures[0]

    def settle(self) -> dict[str, StoredFile]:
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if path.is_file() and not name.endswith(SUFFIX) and not path.name.startswith(".") and name not in READABLE:
                self.complete(name)
        return {**self._inner.settle(), **self._stored}

    def publish(self, last: str, content: bytes) -> None:
        self._inner.publish(last, content)

    def abandon(self) -> None:
        self._inner.abandon()


class AgeStorage:
    """``inner`` with encryption: stored as it is without recipients; without an identity only what is readable is read."""

    def __init__(self, inner: Storage, keys: Sequence[str] = (), identity_file: Path | None = None) -> None:
        self.inner = inner
        self.url = inner.url
        self._texts = keys
        self._keys = recipients(keys)
        self._identity_file = identity_file

    def stage(self, prefix: str) -> Staging:
        inner = self.inner.stage(prefix)
        return AgeStaging(inner, self._keys, self._texts) if self._keys else inner

    @contextlib.contextmanager
    def local(self, prefix: str, names: Iterable[str] | None = None) -> Iterator[Path]:
        """As the contract says; what is encrypted is decrypted. Raises IdentityMissing, CiphertextDamaged."""
        stored = {info.key.removeprefix(f"{prefix}/") for info in self.inner.list(prefix)}
        wanted = stored if names is None else {name + SUFFIX if name + SUFFIX in stored else name for name in names}
        if not any(name.endswith(SUFFIX) for name in wanted):
            with self.inner.local(prefix, None if names is None else wanted) as folder:
                yield folder
            return
        opened = self._identities(prefix)
        with self.inner.local(prefix, wanted) as folder, tempfile.TemporaryDirectory(prefix="naap_ops_") as place:
            _open_all(Path(place), folder, sorted(wanted), opened)
            yield Path(place)

    @property
    def opens(self) -> bool:
        """Whether an identity is configured here; it may be another's."""
        return self._identity_file is not None

    def _identities(self, prefix: str) -> list[Any]:
        if self._identity_file is None:
            raise IdentityMissing(name=prefix, reason="no identity is configured here")
        return identities(self._identity_file)

    # --- as it is -------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        self.inner.put(key, data)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def open(self, key: str, start: int = 0, length: int | None = None) -> AbstractContextManager[BinaryIO]:
        return self.inner.open(key, start, length)

    def stat(self, key: str) -> ObjectInfo | None:
        return self.inner.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix)

    def folders(self, prefix: str = "") -> Iterable[str]:
        return self.inner.folders(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def sweep(self, folder: str, last: str) -> Iterable[str]:
        return self.inner.sweep(folder, last)

    def remove(self, prefix: str, last: str) -> None:
        self.inner.remove(prefix, last)


def _open_all(place: Path, folder: Path, names: Iterable[str], keys: Sequence[Any]) -> None:
    """Files of a set into ``place``. They are for the same keys: where one opens, one that does not is damaged."""
    fits = False
    closed: IdentityMissing | None = None
    for name in names:
        try:
            fits = _open_into(place, folder, name, keys) or fits
        except IdentityMissing as error:
            closed = closed or error
    if closed is not None:
        raise CiphertextDamaged(url=closed.fields["name"], reason="its header is another") if fits else closed


def _open_into(place: Path, folder: Path, name: str, keys: Sequence[Any]) -> bool:
    """One file of a set into ``place``: decrypted, or linked. Whether it was decrypted."""
    source, target = folder / name, place / name.removesuffix(SUFFIX)
    target.parent.mkdir(parents=True, exist_ok=True, mode=files.PRIVATE_DIR)
    if not name.endswith(SUFFIX):
        target.symlink_to(source)
        return False
    import pyrage

    try:
        with open(source, "rb") as sealed, open(target, "xb") as plain:
            reader, writer = _Failing(sealed), _Failing(plain)
            with _own_errors(reader, writer):
                _decrypt(reader, writer, keys, name)
    except pyrage.DecryptError as error:  # in the header, before any content
        if not str(error).startswith(_OTHER_KEYS):
            raise CiphertextDamaged(url=name, reason=f"its header cannot be read ({' '.join(str(error).split())})") from None
        raise IdentityMissing(name=name, reason=f"the identity configured here does not open it ({error})") from None
    except OSError as error:
        raise translated(target, error) from error
    return True


def _decrypt(reader: Any, writer: Any, keys: Sequence[Any], name: str) -> None:
    import pyrage

    try:
        pyrage.decrypt_io(reader, writer, list(keys))
    except OSError as error:  # what pyrage raises for ciphertext that fails its authentication or ends early
        raise CiphertextDamaged(url=name, reason=f"it does not decrypt ({error})") from error
