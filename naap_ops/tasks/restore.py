"""`invoke restore` and what belongs to it: kept, undo, drop-old."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from naap_ops.errors import UsageError
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.flags import number, one_of
from naap_ops.tasks.progress import progress, size
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.restore.kept import Kept
    from naap_ops.restore.kept_parts import KeptPart
    from naap_ops.restore.outcome import Outcome
    from naap_ops.restores import Aim


@command(
    name="run",
    of_namespace=True,
    backup="which: latest (the default), an id or a unique beginning of one, or a label",
    swap="the whole database: load beside the live one, check, then take its place; the old one is kept",
    into="the whole database, into this new one; the live one is not touched",
    schema="only this schema, into the live database, in one transaction",
    tenant="only this tenant's schema (setting tenant_schemas), into the live database, in one transaction",
    table="only this table (schema.table), into the live database, in one transaction",
    file="a plain SQL script instead of a backup; .gz and .zst too (with --into or --swap)",
    jobs="parallel jobs of pg_restore",
    partial="allow a swap although the backup lacks schemas or rows: what it lacks is then not in the live database",
    no_owner="everything restored belongs to the connecting role",
    no_privileges="leave out GRANTs and REVOKEs",
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
    what = one_of(flags, "Where to? --swap takes the live database's place and keeps it; --into NAME leaves it alone.")
    if file and backup != "latest":
        raise UsageError(detail="--file and --backup both say what to restore: give one of them")
    call.override(restore__jobs=number("--jobs", jobs))
    if call.yes and not dry_run:
        call.begin("restore")
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
            call.confirm_name(f"restoring into {plan.database!r}", plan.database, plan.lines)
    call.tell_steps("sweep", "leftover", "wait")
    call.begin("restore")  # not before the question was answered
    call.report(None if isinstance(source, Path) else source, database=target.alias)
    with progress(call):
        outcome = restores.restore(call.app, source, target, aim, options)
    call.report(rows=outcome.rows)
    call.say(_told(outcome, aim, call.database, file=bool(file)))
    return dataclasses.asdict(outcome)


def _told(outcome: Outcome, aim: Aim, database: str | None, *, file: bool = False) -> str:
    part = aim.what if aim.what in ("schema", "table") else ""
    what = f"{part} {aim.name} of {outcome.database}" if part else outcome.database
    text = f"restored {what}: {count_of(outcome.rows, 'row')} in {count_of(outcome.tables, 'table')}, {outcome.seconds:.1f} s"
    if outcome.previous:
        text += "" if part else f", downtime {outcome.downtime_seconds:.2f} s"
        words = [*(["--database", database] if database else []), *([f"--{part}", aim.name] if part else [])]
        undo = shlex.join(["invoke", "restore.undo", *words])
        text += f"\nthe old one is kept as {outcome.previous}; `{undo}` puts it back"
        if aim.what == "swap" and not file:
            salvage = shlex.join(["invoke", "salvage", "--since-backup", "--dry-run", *words])
            text += f"; `{salvage}` says what was written there since the backup and can be brought over"
    return "\n".join([text, *(f"note: {note}" for note in outcome.notes)])


@command(name="kept", all_databases="what is kept of every database of the server, not only of this one")
def kept_(call: Call, all_databases: bool = False) -> dict[str, Any]:
    """
    List what restores have left behind: old databases, and old schemas and tables in this one.

    Example: invoke restore.kept
    """
    from naap_ops import restores

    found = restores.kept(call.app.info(call.database), everywhere=all_databases)
    if found:
        call.table(
            ["NAME", "OF", "KIND", "ROLE", "UNTIL", " SIZE", "BACKUP"],
            [[k.name, k.of, _kind(k), k.role, k.at, "?" if k.bytes is None else size(k.bytes), k.backup or ""] for k in found],
        )
    else:
        call.say("nothing is kept")
    return {"kept": [{**dataclasses.asdict(k), "kind": _kind(k)} for k in found]}


def _kind(kept: Kept | KeptPart) -> str:
    return getattr(kept, "kind", "database")


@command(
    schema="undo the restore of this schema",
    tenant="undo the restore of this tenant's schema (setting tenant_schemas)",
    table="undo the restore of this table (schema.table)",
    kept="the name of what to bring back, as `restore.kept` lists it; without it what the last restore replaced",
    dry_run="say what would be done, touch nothing",
)
def undo(
    call: Call,
    schema: str | None = None,
    tenant: str | None = None,
    table: str | None = None,
    kept: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Swap back what the last restore replaced: the database, or one schema or table.

    Example: invoke restore.undo
    """
    from naap_ops import restores

    flags = {"schema": schema, "tenant": tenant, "table": table}
    what = one_of(flags) if any(flags.values()) else "swap"
    aim = restores.aim(call.app, what, str(flags.get(what)), call.database)
    info = call.app.info(call.database)
    options = restores.options(call.app)
    if dry_run or not call.yes:
        plan = restores.plan_undo(info, aim, options, kept)
        if dry_run:
            call.say("\n".join(plan.lines))
            return {"dry_run": True, "database": plan.database, "plan": plan.lines}
        call.confirm_name(f"undoing a restore in {plan.database!r}", plan.database, plan.lines)
    call.tell_steps("wait")
    outcome = restores.undo(call.app, info, aim, options, kept)
    there = f"; what was live until now is kept as {outcome.previous}" if outcome.previous else ""
    call.say("\n".join([f"{aim.name or outcome.database} is put back{there}", *(f"note: {n}" for n in outcome.notes)]))
    return dataclasses.asdict(outcome)


@command(name="drop-old", old="what to drop, as `restore.kept` names it")
def drop_old(call: Call, old: str) -> dict[str, Any]:
    """
    Drop what a restore has left behind. Nothing else can be dropped; the name is asked for again.

    Example: invoke restore.drop-old naap__before_20261121T031500Z
    """
    from naap_ops import restores

    info = call.app.info(call.database)
    if not call.yes:
        there = restores.droppable(info, old)
        held = f", {size(there.bytes)}" if there.bytes is not None else ""
        call.confirm_name(f"dropping {old!r} for good", old, [f"drop {_kind(there)} {old}, kept of {there.of}{held}, for good"])
    dropped = restores.drop_old(info, old, restores.options(call.app))
    call.say(f"dropped {dropped.name}")
    return {"dropped": dropped.name, "of": dropped.of, "bytes": dropped.bytes}


collection = Collection("restore", run, kept_, undo, drop_old)
