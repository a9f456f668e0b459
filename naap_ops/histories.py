"""The history of a schema as its books tell it: which migrations were applied, in which order, and where their scripts are.

A script is that of the folder, also when it was edited since. A folder that is gone is looked for in the archive of untracked
ones. What Prisma's books call applied but an untracking holds on to (``--hold``) has been undone: it is not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from naap_ops import reverses
from naap_ops.app import App
from naap_ops.prisma import archive, tracking
from naap_ops.prisma.migrations import DOWN, SCRIPT, migrations
from naap_ops.prisma.migrations import Migration as Folder
from naap_ops.reverse.files import RECORD, Migration

_SHOWN = 5


@dataclass(frozen=True)
class History:
    """``migrations`` oldest first; ``lost``: applied, and their scripts are nowhere; ``failed``: stopped half-way, not part of
    it; ``notes``: sentences for people."""

    schema: str
    migrations: tuple[Migration, ...]
    lost: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[Path, ...]:
        """What tells one history from another."""
        return tuple(each.path for each in self.migrations)

    @property
    def why_unknown(self) -> str:
        """Why it cannot be replayed, '' when it can."""
        if not self.lost:
            return ""
        names = ", ".join(self.lost[:_SHOWN]) + (", ..." if len(self.lost) > _SHOWN else "")
        return f"applied, and neither in the folder nor in the archive, so that it cannot be replayed: {names}"


class Histories:
    """Reads histories against one folder of migrations."""

    def __init__(self, app: App, given: str | None = None) -> None:
        self.place = reverses.folder(app, given)
        self._folders: Mapping[str, Folder] = {each.name: each for each in migrations(self.place)}
        self._archived = archive.entries(app.archive)

    def of(self, books: tracking.Books, *, until: str | None = None) -> History:
        """What the books say, all of it, or what was begun before the migration ``until``."""
        found: list[Migration] = []
        lost: list[str] = []
        notes: list[str] = []
        for row in _applied(books, until):
            folder = self._folders.get(row.name)
            if folder is not None and folder.sha256 is not None:
                found.append(_at(row.name, folder.path))
                if not folder.matches(row.checksum):
                    notes.append(f"{row.name} was edited since it was applied: taken as it is now in the folder")
                continue
            if any(entry.migration == row.name and entry.state == archive.HELD for entry in self._archived):
                notes.append(f"{row.name} is untracked and held: counted as undone")
                continue
            path = self._in_archive(row)
            if path is None:
                lost.append(row.name)
            else:
                found.append(_at(row.name, path))
                notes.append(f"{row.name} has no folder: taken from the archive, {path}")
        failed = [name for name in books.names() if books.state(name) is tracking.State.FAILED and name != until]
        return History(books.schema, tuple(found), tuple(lost), tuple(failed), tuple(notes))

    def script_of(self, name: str) -> Migration | None:
        """The migration by its name, in the folder or in the archive."""
        folder = self._folders.get(name)
        if folder is not None and folder.sha256 is not None:
            return _at(name, folder.path)
        there = [entry.folder for entry in self._archived if entry.migration == name and (entry.folder / SCRIPT).is_file()]
        return _at(name, there[0]) if there else None

    def _in_archive(self, row: tracking.Row) -> Path | None:
        """The newest that was put away under this name; one with the row's checksum before others."""
        there = [entry for entry in self._archived if entry.migration == row.name and (entry.folder / SCRIPT).is_file()]
        same = [entry for entry in there if Folder(row.name, entry.folder, entry.checksum or "-").matches(row.checksum)]
        return (same or there)[0].folder if there else None


def _applied(books: tracking.Books, until: str | None) -> Iterator[tracking.Row]:
    """One row for each applied migration, in the order in which they were begun."""
    limit = min((row.started for row in books.of(until) if row.live), default=None) if until else None
    seen = set()
    for row in books.rows:
        if not row.live or row.name in seen or row.name == until or books.state(row.name) is not tracking.State.APPLIED:
            continue
        if limit is not None and row.started >= limit:
            continue
        seen.add(row.name)
        yield row


def _at(name: str, path: Path) -> Migration:
    return Migration(name, path / SCRIPT, path / DOWN, path / RECORD)
