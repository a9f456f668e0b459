"""What Prisma's folder and tables say of each migration, held against each other; nothing is written.

``prisma migrate status`` calls a row without a folder "up to date" and knows no order. Here every pair of folder and row
gets one state, and each state says what the next ``deploy`` would do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from naap_ops.clock import iso
from naap_ops.prisma.migrations import Migration, locale_key
from naap_ops.prisma.tracking import Books, Row, State


class Standing(Enum):
    """Where a migration stands. The values are what ``--json`` prints."""

    APPLIED = "applied"
    PENDING = "pending"
    OUT_OF_ORDER = "out_of_order"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    EDITED = "edited"
    FOLDER_MISSING = "folder_missing"
    HELD = "held"
    ROLLED_BACK = "rolled_back"
    UNDONE = "undone"
    SCRIPT_MISSING = "script_missing"


IN_STEP = (Standing.APPLIED, Standing.HELD, Standing.UNDONE)

MEANING = {
    Standing.PENDING: "not applied: the next deploy applies it",
    Standing.OUT_OF_ORDER: "not applied, although later ones are: the next deploy applies it after them",
    Standing.FAILED: "failed half-way: deploy stops (P3009) until `prisma migrate resolve` or `invoke untrack`",
    Standing.IN_PROGRESS: "being applied now: Prisma's migrate lock is held",
    Standing.EDITED: "migration.sql was changed since it was applied: deploy does not mind, dev wants a reset",
    Standing.FOLDER_MISSING: "applied, but its folder is gone: deploy is silent, dev wants a reset",
    Standing.HELD: "untracked with --hold: `invoke untrack --finalise` once the commit without its folder is everywhere",
    Standing.ROLLED_BACK: "marked as rolled back, and its folder is there: the next deploy applies it again",
    Standing.UNDONE: "marked as rolled back, without a folder: before 7.9 dev wants a reset; `untrack` tidies up",
    Standing.SCRIPT_MISSING: "a folder without migration.sql: deploy stops (P3015)",
}


@dataclass(frozen=True)
class Entry:
    """One migration in one tracking table. ``backup``: the newest good one without it; ``reverse``: of down.sql."""

    schema: str
    name: str
    state: Standing
    applied_at: str | None = None
    reverse: str | None = None
    backup: str | None = None

    @property
    def in_step(self) -> bool:
        return self.state in IN_STEP


def compare(folders: Sequence[Migration], books: Books, *, migrating: bool = False, held: Collection[str] = ()) -> list[Entry]:
    """Every migration that a folder or a row knows, in the order in which Prisma applies.

    ``migrating``: somebody holds Prisma's lock. ``held``: names that were untracked with hold.
    """
    by_name = {migration.name: migration for migration in folders}
    names = sorted({*by_name, *books.names()}, key=locale_key)
    applied = [name for name in names if books.state(name) is State.APPLIED]
    newest = locale_key(applied[-1]) if applied else None
    entries = []
    for name in names:
        folder = by_name.get(name)
        late = newest is not None and locale_key(name) < newest
        rows = [row for row in books.of(name) if row.live]
        state = _standing(folder, books.state(name), rows, migrating=migrating, late=late, held=name in held)
        finished = max((row.finished for row in rows if row.finished is not None), default=None)
        entries.append(
            Entry(books.schema, name, state, iso(finished) if finished else None, folder.reverse if folder else None)
        )
    return entries


def _standing(
    folder: Migration | None, state: State, rows: Sequence[Row], *, migrating: bool, late: bool, held: bool
) -> Standing:
    if state is State.FAILED:
        return Standing.IN_PROGRESS if migrating else Standing.FAILED
    if folder is None:
        return Standing.UNDONE if state is State.ROLLED_BACK else Standing.HELD if held else Standing.FOLDER_MISSING
    if folder.sha256 is None:
        return Standing.SCRIPT_MISSING
    if state is State.APPLIED:
        return Standing.APPLIED if all(folder.matches(row.checksum) for row in rows) else Standing.EDITED
    if state is State.ROLLED_BACK:
        return Standing.ROLLED_BACK
    return Standing.OUT_OF_ORDER if late else Standing.PENDING
