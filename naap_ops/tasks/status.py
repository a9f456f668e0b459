"""`invoke status`: Prisma's folder held against its tables, for people and for CI."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from naap_ops.tasks.command import Call, command

NOT_LOOKED = "drift was not looked for: --drift"

if TYPE_CHECKING:
    from naap_ops.drifts import Report
    from naap_ops.prisma.status import Entry
    from naap_ops.statuses import Status


@command(
    without=("yes",),
    drift="also compare the schema with what its applied migrations make, on a shadow (`invoke drift` says more)",
    all_tenants="the tracking table of every tenant's schema too (setting tenant_schemas)",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
)
def status(
    call: Call,
    drift: bool = False,
    all_tenants: bool = False,
    project: str | None = None,
) -> dict[str, Any]:
    """
    Say which migrations are applied, pending, failed, edited or lost, and what each could be rolled back by.

    Exit code 23 when something is not as it should be, a pending migration or drift included. Nothing is changed.

    Example: invoke status --json
    """
    from naap_ops import statuses
    from naap_ops.errors import OutOfStep
    from naap_ops.tasks import drift as drifting

    call.override(prisma__root=project)
    found = statuses.status(call.app, call.database, all_tenants=all_tenants)
    report = _drift(call, all_tenants=all_tenants) if drift else None
    notes = [*found.notes, *([NOT_LOOKED] if report is None else [])]
    _tell(call, found, notes)
    if report is not None:
        drifting.tell(call, report, {})
    in_step = found.in_step and (report is None or report.in_step)
    call.exit_code = 0 if in_step else OutOfStep.exit_code
    return {
        "database": found.database,
        "folder": found.migrations_folder,
        "tables": list(found.tables),
        "in_step": in_step,
        "migrations": [{**dataclasses.asdict(entry), "state": entry.state.value} for entry in found.entries],
        "parked": [each.as_dict() for each in found.parked],
        "drift": drifting.drift_of(report) if report else [],
        "drift_state": drifting.state_of(report) if report else None,
        "notes": [*notes, *(note for schema in report.schemas for note in schema.notes)] if report else notes,
    }


def _drift(call: Call, *, all_tenants: bool) -> Report:
    from naap_ops import drifts
    from naap_ops.tasks.progress import progress

    with progress(call):
        return drifts.look(call.app, drifts.Asked(call.database, all_tenants))


def _tell(call: Call, found: Status, notes: list[str]) -> None:
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
    for note in notes:
        call.say(f"note: {note}")
    if not found.in_step:
        wrong = sum(not entry.in_step for entry in found.entries)
        call.insist(f"{wrong} of {len(found.entries)} migrations of {found.database} are not as they should be")


def _row(entry: Entry) -> list[str]:
    return [entry.name, entry.state.value, (entry.applied_at or "")[:19], entry.backup or "", entry.reverse or ""]
