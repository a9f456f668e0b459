"""Migrations as files: a project's folder of them, and the reverse beside each, which a person may have edited.

``down.json`` keeps the hash of the ``down.sql`` that was written: one with another hash is somebody's own work and is not
overwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naap_ops.errors import ConfigurationError, MigrationAmbiguous, MigrationNotFound, Refused, StorageError, UsageError
from naap_ops.files import make_private_dir, write_durably
from naap_ops.reverse.script import Script, parse

FORWARD = "migration.sql"
DOWN = "down.sql"
RECORD = "down.json"
# Where Prisma projects have their folder.
USUAL = (
    "prisma/migrations",
    "packages/database/prisma/migrations",
    "packages/db/prisma/migrations",
    "apps/backend/prisma/migrations",
)


@dataclass(frozen=True)
class Migration:
    """A forward file, and where its reverse and what is known of that belong."""

    name: str
    path: Path
    down: Path
    record: Path

    def read(self) -> bytes:
        """The forward file. Raises StorageError."""
        return _read(self.path)

    def script(self) -> Script:
        """The same, parsed. Raises MigrationUnreadable."""
        return parse(self.read(), name=self.name)

    def known(self) -> dict[str, Any]:
        """What ``down.json`` says, empty without one that can be read."""
        try:
            found = json.loads(self.record.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def edited(self) -> bool:
        """Whether there is a ``down.sql`` that is not, or not as, we wrote it."""
        if not self.down.exists():
            return False
        known = self.known()
        own = (known.get("down_sha256"), known.get("down_sha256_before"))
        return bool(known.get("edited")) or hashlib.sha256(_read(self.down)).hexdigest() not in own


def in_folder(folder: Path) -> list[Migration]:
    """The migrations of a folder in Prisma's order, by their names' bytes. Raises ConfigurationError when it is missing."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name.encode("utf-8", "surrogateescape"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            detail=f"there is no folder of migrations {folder}",
            hint=f"Name it: --migrations DIR, or the setting reverse.migrations. Usual are {', '.join(USUAL)}.",
        ) from None
    except OSError as error:
        raise _failed(folder, error) from None
    return [
        Migration(entry.name, entry / FORWARD, entry / DOWN, entry / RECORD) for entry in entries if (entry / FORWARD).is_file()
    ]


def usual_folder(base: Path) -> Path:
    """The first of the usual places below ``base`` that exists. Raises ConfigurationError."""
    for name in USUAL:
        if (base / name).is_dir():
            return base / name
    raise ConfigurationError(
        detail=f"there is no folder of migrations below {base}: looked for {', '.join(USUAL)}",
        hint="Name it: --migrations DIR, or the setting reverse.migrations.",
    )


def single(path: Path) -> Migration:
    """Any SQL file; its reverse goes beside it as ``<stem>.down.sql``. Raises UsageError when it is not there."""
    if not path.is_file():
        raise UsageError(detail=f"there is no file {path}")
    return Migration(path.name, path, path.with_name(f"{path.stem}.down.sql"), path.with_name(f"{path.stem}.down.json"))


def pick(migrations: Sequence[Migration], ref: str, folder: Path) -> Migration:
    """The one that ``ref`` means: its name, ``latest``, a unique beginning, a unique part.

    Raises MigrationNotFound, MigrationAmbiguous.
    """
    if ref == "latest" and migrations:
        return migrations[-1]
    exact = [each for each in migrations if each.name == ref]
    begin = [each for each in migrations if each.name.startswith(ref)]
    found = exact or begin or [each for each in migrations if ref in each.name]
    if not found or not ref:
        what = f"{len(migrations)}, the last {migrations[-1].name}" if migrations else "none"
        raise MigrationNotFound(ref=ref, folder=folder, what=what)
    if len(found) > 1:
        names = [each.name for each in found[:5]] + (["..."] if len(found) > 5 else [])
        raise MigrationAmbiguous(ref=ref, count=len(found), candidates=", ".join(names))
    return found[0]


def may_write(migration: Migration, *, force: bool = False) -> None:
    """Raises Refused where a ``down.sql`` is somebody's own work."""
    if not force and migration.edited():
        raise Refused(
            reason=f"{migration.down} was written or edited by hand: it is not overwritten",
            hint="`invoke reverse.prove` proves it as it is; --force writes a new one in its place.",
        )


def write(migration: Migration, text: str, record: dict[str, Any]) -> Path:
    """Write reverse and record, each wholly or not at all. Raises StorageError.

    The record comes first and knows the hash of the reverse before it, so that when it is killed in between, the ``down.sql``
    that is there still counts as ours.
    """
    before = _digest(_read(migration.down)) if migration.down.exists() else None
    known = {**record, "down_sha256": _digest(text.encode()), "down_sha256_before": before}
    write_record(migration, known)
    _put(migration.down, text.encode(), like=migration.path)
    return migration.down


def write_record(migration: Migration, record: dict[str, Any]) -> None:
    """Write ``down.json`` alone. Raises StorageError."""
    _put(migration.record, json.dumps(record, indent=2, ensure_ascii=False, default=str).encode() + b"\n", like=migration.path)


def must_be_writable(folder: Path) -> None:
    """Make the folder if it is not there. Raises StorageError when nothing can be written into it."""
    try:
        make_private_dir(folder)
        probe = folder / f".{RECORD}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _failed(folder, error) from None


def _put(path: Path, data: bytes, *, like: Path) -> None:
    try:
        write_durably(path, data)
        path.chmod(like.stat().st_mode & 0o666)  # it belongs to the project, like the migration itself
    except OSError as error:
        raise _failed(path, error) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _failed(path, error) from None


def _failed(path: Path, error: OSError) -> StorageError:
    hint = "Is the folder writable? --check writes nothing, and only says what the reverse would be."
    return StorageError(url=path, reason=error.strerror, hint=hint)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
