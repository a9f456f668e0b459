"""From a URL or path to a storage."""

from __future__ import annotations

from pathlib import Path

from naap_ops.errors import StorageError
from naap_ops.storage.base import Storage


def open_storage(where: str, *, base: Path | None = None) -> Storage:
    """The storage behind ``where``: a folder (relative to ``base``). Raises StorageError for what no backend serves."""
    if not where.strip():
        raise StorageError(url=repr(where), reason="names no place", hint="Give --repo a path.")
    scheme, separator, _ = where.partition("://")
    if not separator or scheme == "file":
        from naap_ops.storage.local import LocalStorage

        try:
            return LocalStorage((base or Path.cwd()) / Path(where.removeprefix("file://")).expanduser())
        except (ValueError, RuntimeError) as error:  # a NUL in it; the home of a user who does not exist
            raise StorageError(url=repr(where), reason=str(error)) from None
    raise StorageError(
        url=where,
        reason=f"no storage backend for {scheme}://",
        hint="This version keeps backups in folders: give --repo a path.",
    )
