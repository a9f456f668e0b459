"""`invoke restore` and what belongs to it: kept, undo, drop-old."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from naap_ops.errors import UsageError
from naap_ops.tasks.command import Call, command, number, one_of
from naap_ops.tasks.progress import progress, size

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
    no_owner: bool = False,
    no_privileges: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Restore a backup: beside the live database and swapped in, or a part of it.

    Example: invoke restore --backup pre_migration --swap
    """
    what = one_of({"swap": swap, "into": into, "schema": schema, "tenant": tenant, "table": table})
    if file and what not in ("swap", "into"):
        raise UsageError(detail="a script is restored whole: give --into NAME or --swap")
    call.override(restore__jobs=number("--jobs", jobs))
    app = call.app
    target = app.target(call.database)
    options = app.restore_options(owner=not no_owner, privileges=not no_privileges)
    source = Path(file) if file else app.repository.find(backup, target.alias)
    part = {"swap": swap, "into": into, "schema": schema, "tenant": tenant, "table": table}
    plan = app.restore_plan(source, target, options, **part)
    if dry_run:
        call.say("\n".join(plan.lines))
        return {"dry_run": True, "plan": plan.lines, "database": plan.database}
    if what != "into":
        call.confirm_name("\n".join(plan.lines), plan.database)
    with progress(call):
        outcome = app.restore(source, target, options, **part)
    call.say(_told(outcome))
    return dataclasses.asdict(outcome)


def _told(outcome: Outcome) -> str:
    text = f"restored {outcome.database}: {outcome.rows:,} rows in {outcome.tables} tables, {outcome.seconds:.1f} s"
    if outcome.previous:
        text += f", downtime {outcome.downtime_seconds:.2f} s\nthe old one is kept as {outcome.previous} (`invoke restore.undo` swaps it back)"
    return text


collection = Collection("restore", run)
