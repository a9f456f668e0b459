"""`invoke status`: Prisma's folder held against its tables, for people and for CI."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from naap_ops.tasks.command import Call, command

if TYPE_CHECKING:
    from naap_ops.prisma.status import Entry
    from naap_ops.statuses import Status


@command(
    without=("yes",),
    all_tenants="the tracking table of every tenant's schema too (setting tenant_schemas)",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
)
def status(call: Call, all_tenants: bool = False, project: str | None = None) -> dict[str, Any]:
    """
    Say which migrations are applied, pending, failed, edited or lost, and what each could be rolled back by.

    Exit code 23 when something is not as it should be, a pending migration included. Nothing is changed.

    Example: invoke status --json
    """
    from naap_ops import statuses
    from naap_ops.errors import OutOfStep

    call.override(prisma__root=project)
    found = statuses.status(call.app, call.database, all_tenants=all_tenants)
    _tell(call, found)
    call.exit_code = 0 if found.in_step else OutOfStep.exit_code
    return {
        "database": found.database,
        "folder": found.migrations_folder,
        "tables": list(found.tables),
        "in_step": found.in_step,
        "migrations": [{**dataclasses.asdict(entry), "state": entry.state.value} for entry in found.entries],
        "drift": [],
        "notes": list(found.notes),
    }


def _tell(call: Call, found: Status) -> None:
    from naap_ops.prisma.status import MEANING

    several = len(found.tables) > 1
    if found.entries:
        call.table(
            [*(["SCHEMA"] if several else []), "MIGRATION", "STATE", "APPLIED AT", "BACKUP BEFORE", "REVERSE"],
            [[*([entry.schema] if several else []), *_row(entry)] for entry in found.entries],
        )
    else:
        call.say(f"no migrations, neither in {found.migrations_folder} nor in the database")
    for state in dict.fromkeys(entry.state for entry in found.entries):
        if state in MEANING:
            call.say(f"{state.value}: {MEANING[state]}")
    for note in found.notes:
        call.say(f"note: {note}")
    if not found.in_step:
        wrong = sum(not entry.in_step for entry in found.entries)
        call.insist(f"{wrong} of {len(found.entries)} migrations of {found.database} are not as they should be")


def _row(entry: Entry) -> list[str]:
    return [entry.name, entry.state.value, (entry.applied_at or "")[:19], entry.backup or "", entry.reverse or ""]
