"""`invoke restore` and what belongs to it: kept, undo, drop-old."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from naap_ops.tasks.command import Call, command, number, one_of
from naap_ops.tasks.progress import progress

if TYPE_CHECKING:
    from naap_ops.restore.outcome import Outcome


@command(
    name="run",
    default=True,
    backup="which: latest, an id or a unique beginning of one, or a label",
    swap="load beside the live database, check, then take its place; the old one is kept",
    into="load into this new database",
    schema="only this schema, into the live database, in one transaction",
    tenant="only this tenant's schema (setting tenant_schemas)",
    table="only this table (schema.table), into the live database, in one transaction",
    file="a plain SQL script instead of a backup; .gz and .zst too (with --into or --swap)",
    jobs="parallel jobs of pg_restore",
    partial="allow a swap although the backup holds a part of the database only",
    no_owner="everything belongs to the connecting role",
    no_privileges="leave out GRANTs",
    dry_run="say what would be done, touch nothing",
)
def run(
    call: Call,
    backup: str = "latest",
    swap: bool = False,
    into: str | None = None,
    schema: str | None = None,
    tenant: str | None = None,
    table: str | None = None,
    file: str | None = None,
    jobs: int | None = None,
    partial: bool = False,
    no_owner: bool = False,
    no_privileges: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Restore a backup: beside the live database and swapped in, or a part of it.

    Example: invoke restore --backup pre_migration --swap
    """
    from naap_ops import restores

    flags = {"swap": swap, "into": into, "schema": schema, "tenant": tenant, "table": table}
    what = one_of(flags)
    call.override(restore__jobs=number("--jobs", jobs))
    target = restores.target(call.app, call.database)
    aim = restores.aim(call.app, what, str(flags[what]), call.database)
    options = restores.options(call.app, owner=not no_owner, privileges=not no_privileges, partial=partial)
    source = Path(file) if file else call.app.repository.find(backup, target.alias)
    if dry_run or not call.yes:
        plan = restores.plan(source, target, aim, options)
        if dry_run:
            call.say("\n".join(plan.lines))
            return {"dry_run": True, "database": plan.database, "plan": plan.lines}
        if aim.what != "into":
            call.confirm_name("\n".join(plan.lines), plan.database)
    with progress(call):
        outcome = restores.restore(call.app, source, target, aim, options)
    call.say(_told(outcome))
    return dataclasses.asdict(outcome)


def _told(outcome: Outcome) -> str:
    text = f"restored {outcome.database}: {outcome.rows:,} rows in {outcome.tables} tables, {outcome.seconds:.1f} s"
    if outcome.previous:
        text += f", downtime {outcome.downtime_seconds:.2f} s\nthe old one is kept as {outcome.previous} (`invoke restore.undo` swaps it back)"
    return text


collection = Collection("restore", run)
