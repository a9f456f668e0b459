"""Where untracked migrations go: one folder each, outside of ``migrations/``, where Prisma would stop on it (P3015).

    <archive>/<time>-<name>/<name>/migration.sql ...     the folder as it was
    <archive>/<time>-<name>/untracked.json               every row of every attempt, and how far it came

The record is written before anything is moved or deleted. What has really happened is asked of the folder and the table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from naap_ops import clock, files
from naap_ops.errors import ConfigurationError, Refused, StorageError

RECORD = "untracked.json"
BEGUN, HELD, DONE = "begun", "held", "done"


@dataclass(frozen=True)
class Entry:
    """One migration put away. ``rows`` by schema, whole rows as JSON objects; ``state`` begun, held or done."""

    path: Path
    migration: str
    came_from: str
    begun: str
    state: str = BEGUN
    checksum: str | None = None
    rows: dict[str, list[dict[str, Any]]] | None = None
    ended: str | None = None

    @property
    def folder(self) -> Path:
        """Where the migration's folder is, or will be."""
        return self.path / self.migration

    def saved(self, **changes: Any) -> Entry:
        """This entry with ``changes``, on the disk. Raises StorageError."""
        entry = replace(self, **changes)
        record = {
            "version": 1,
            "migration": entry.migration,
            "state": entry.state,
            "begun": entry.begun,
            "ended": entry.ended,
            "from": entry.came_from,
            "checksum": entry.checksum,
            "rows": entry.rows or {},
        }
        try:
            files.make_private_dir(self.path)
            text = json.dumps(record, indent=1, ensure_ascii=False)
            files.write_durably(self.path / RECORD, (text + "\n").encode())
        except OSError as error:
            raise files.failure(self.path, error, "The archive (setting prisma.archive) must be writable.") from None
        return entry

    def keep(self, rows: Mapping[str, list[dict[str, Any]]]) -> Entry:
        """With ``rows`` by schema beside those that an earlier run has kept, each once by its id. Raises StorageError."""
        before = self.rows or {}
        merged = {}
        for schema in {**before, **rows}:
            by_id = {row["id"]: row for row in (*before.get(schema, ()), *rows.get(schema, ()))}
            merged[schema] = list(by_id.values())
        return self.saved(rows=merged)

    def checksum_of(self, schema: str) -> str:
        """The checksum to hold the migration with: the folder's, else that of its last row. Raises Refused without either."""
        kept = [str(row["checksum"]) for row in (self.rows or {}).get(schema, ())]
        if self.checksum is None and not kept:
            raise Refused(reason=f"{self.migration} has neither a folder nor a row: there is no checksum to hold it with")
        return self.checksum or kept[-1]

    def take(self, source: Path) -> None:
        """Move the migration's folder in: one rename, durable in both places. Raises StorageError; then nothing has moved."""
        try:
            os.rename(source, self.folder)
            files.fsync_path(source.parent)
            files.fsync_path(self.path)
        except OSError as error:
            where = f"it cannot be moved to {self.folder}: {error.strerror or error}"
            hint = "The folder must be writable, and the archive (prisma.archive) on the same file system."
            raise files.failure(source, OSError(error.errno, where), hint) from None

    def give_back(self, source: Path) -> None:
        """The reverse of :meth:`take`; nothing where the folder is in its place. Raises StorageError."""
        if source.exists() or not self.folder.exists():
            return
        try:
            os.rename(self.folder, source)
            files.fsync_path(source.parent)
        except OSError as error:
            raise StorageError(
                url=self.folder, reason=f"it cannot be moved back to {source}: {error.strerror or error}"
            ) from None

    def forget(self) -> None:
        """Remove the record and its folder: the migration is back in its place."""
        try:
            (self.path / RECORD).unlink(missing_ok=True)
            if self.path.exists():
                for half in self.path.iterdir():  # what a crash has left of a record that was being written
                    if files.TEMPORARY.fullmatch(half.name):
                        half.unlink()
                self.path.rmdir()
        except OSError as error:
            raise StorageError(url=self.path, reason=error.strerror or error) from None


def begin(archive: Path, migration: str, source: Path, checksum: str | None) -> Entry:
    """A new entry, not yet on the disk."""
    moment = clock.now()
    path = archive / f"{clock.stamp(moment)}-{migration}"
    number = 2
    while path.exists():
        path = archive / f"{clock.stamp(moment)}.{number}-{migration}"
        number += 1
    return Entry(path, migration, str(source), clock.iso(moment), checksum=checksum)


def entries(archive: Path, migration: str | None = None) -> list[Entry]:
    """What lies in the archive, newest first. Records that cannot be read are passed over."""
    try:
        folders = sorted((path for path in archive.iterdir() if path.is_dir()), reverse=True)
    except OSError:
        return []
    found = [entry for path in folders if (entry := _entry(path)) is not None]
    return [entry for entry in found if migration in (None, entry.migration)]


def _entry(path: Path) -> Entry | None:
    try:
        raw = json.loads((path / RECORD).read_bytes())
        return Entry(
            path, raw["migration"], raw["from"], raw["begun"], raw["state"], raw["checksum"], raw["rows"], raw["ended"]
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def checked(archive: Path, migrations: Path) -> None:
    """Raise ConfigurationError where the archive cannot be there: inside of the migrations, or on another file system."""
    if archive.resolve().is_relative_to(migrations.resolve()):
        raise ConfigurationError(
            detail=f"prisma.archive, {archive}, lies inside of the migrations folder: Prisma would stop on it (P3015)"
        )
    there = next(path for path in (archive, *archive.absolute().parents) if path.exists())
    if migrations.exists() and there.stat().st_dev != migrations.stat().st_dev:
        raise ConfigurationError(
            detail=f"prisma.archive, {archive}, is on another file system than {migrations}",
            hint="Folders are put away by rename, so that they are never half-moved: choose a place beside the project.",
        )
