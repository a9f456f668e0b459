"""From a URL or path to a storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops.errors import StorageError
from naap_ops.storage.base import Storage

if TYPE_CHECKING:
    from naap_ops.config.settings import Settings


def open_storage(where: str, settings: Settings | None = None, *, base: Path | None = None) -> Storage:
    """The storage behind ``where``: a folder (relative to ``base``) or ``s3://bucket/prefix``. Nothing is read or sent yet.

    ``settings`` are the storage's own: ``s3`` and ``staging``; the defaults without them. Raises StorageError for what no
    backend serves.
    """
    if not where.strip():
        raise StorageError(url=repr(where), reason="names no place", hint="Give --repo a path or s3://bucket/prefix.")
    scheme, separator, _ = where.partition("://")
    if not separator and where.partition(":")[0].lower() in ("s3", "file"):
        raise StorageError(
            url=where,
            reason="is neither a URL nor, as it stands, a folder",
            hint=f"Write s3://bucket/prefix, file:///folder, or ./{where} for a folder of that name.",
        )
    if not separator or scheme == "file":
        return _folder(where, base)
    if scheme == "s3":
        return _bucket(where, settings)
    raise StorageError(
        url=where,
        reason=f"no storage backend for {scheme}://",
        hint="Backups are kept in folders and S3 buckets: give --repo a path or s3://bucket/prefix.",
    )


def _folder(where: str, base: Path | None) -> Storage:
    from naap_ops.storage.local import LocalStorage

    try:
        return LocalStorage((base or Path.cwd()) / Path(where.removeprefix("file://")).expanduser())
    except (ValueError, RuntimeError) as error:  # a NUL in it; the home of a user who does not exist
        raise StorageError(url=repr(where), reason=str(error)) from None


def _bucket(where: str, settings: Settings | None) -> Storage:
    from naap_ops.storage.s3.storage import S3Storage

    if settings is None:
        from naap_ops.config.settings import Settings

        settings = Settings()
    return S3Storage(where, settings.s3, settings.staging)
