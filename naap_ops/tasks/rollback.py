"""`invoke rollback`: back from a migration, with Prisma's books kept right."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naap_ops.tasks.command import Call, command
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.rollback.plan import Asked, Plan
    from naap_ops.rollback.rollback import Outcome


_SHOWN = 20


@command(
    lists=("default",),
    optional=("resume", "abort"),
    migration="which: its name, a unique beginning or part of it, latest, or failed",
    strategy="reverse or restore; by default the way that loses least",
    cascade="later migrations too, newest first",
    tenant="in this tenant's schema only (setting tenant_schemas)",
    all_tenants="in the schema of every tenant, one after the other",
    hold="keep an applied row, while images out there still carry the folder (setting rollback.hold)",
    keep_folder="leave the folder, mark the rows as rolled back: the next deploy runs the mended script",
    backup="restore this backup instead of the newest one from before the migration",
    conflicts="where a value that comes back was written since: report or theirs keep the newer one, ours takes the older",
    park="keep what goes for rolling forward again, however much it is (setting park.ceiling)",
    no_park="keep none of what goes: rows and values written since are lost",
    default="TABLE.COLUMN=VALUE, may be repeated: for rows that the state before cannot hold (NULL: a null)",
    park_rows="rows that the state before cannot hold are kept aside, with all that refers to them, for rolling forward again",
    resume="go on with the one that was interrupted, or with that of this ID",
    abort="undo the one that was interrupted, or that of this ID: what was rolled back is applied again",
    id="with --resume or --abort: which, where several are unfinished",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
    dry_run="show the ways back and what each loses, touch nothing",
)
def rollback(
    call: Call,
    migration: str | None = None,
    strategy: str | None = None,
    cascade: bool = False,
    tenant: str | None = None,
    all_tenants: bool = False,
    hold: bool = False,
    keep_folder: bool = False,
    backup: str | None = None,
    conflicts: str = "report",
    park: bool = False,
    no_park: bool = False,
    default: list[str] | None = None,
    park_rows: bool = False,
    resume: str | None = None,
    abort: str | None = None,
    id: str | None = None,
    project: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Undo a migration by its proved reverse, or by the backup before it, and have Prisma forget it.

    Shows both ways and what each loses, takes the one that loses least, and asks for the database's name. The reverse, the rows
    in Prisma's books and the audit row are one transaction. Interrupted, it is gone on with by --resume.

    Example: invoke rollback --migration 20261101120000_add_wallet
    """
    from naap_ops.errors import UsageError
    from naap_ops.rollback import rollback as procedure
    from naap_ops.rollback.plan import Asked

    call.override(prisma__root=project)
    if resume or abort:
        if (resume and abort) or migration or default or park_rows:
            raise UsageError(detail="--resume or --abort, alone: what they are about is known")
        ref = next((each for each in (id, resume, abort) if isinstance(each, str)), None)  # True where no ID was given
        return _gone_on(call, ref, abort=bool(abort), dry_run=dry_run)
    if not migration:
        raise UsageError(detail="which migration? --migration NAME, latest or failed; or --resume, or --abort")
    if tenant and all_tenants:
        raise UsageError(detail="--tenant or --all-tenants, not both")
    if hold and keep_folder:
        raise UsageError(detail="--hold keeps a row for a folder that goes, --keep-folder keeps the folder: give one of them")
    if conflicts not in ("report", "theirs", "ours"):
        raise UsageError(detail=f"--conflicts is report, theirs or ours, not {conflicts!r}")
    if park and no_park:
        raise UsageError(detail="--park or --no-park, not both")
    strategy = _strategy(strategy, backup, fitting=bool(default or park_rows))
    if park_rows and no_park:
        raise UsageError(detail="--park-rows keeps rows aside, --no-park keeps nothing: give one of them")
    parks = True if park else False if no_park else None
    asked = Asked(
        migration, strategy, cascade, tenant, all_tenants, hold, keep_folder, backup, conflicts, parks,
        tuple(default or ()), park_rows,
    )  # fmt: skip
    plan = _planned(call, asked)
    if dry_run:
        call.say("\n".join([f"rollback of {plan.migration} in {plan.database}:", *plan.lines()]))
        return _as_dict(plan)
    plan.decided()
    call.confirm_name(f"rolling back {plan.migration} in {plan.database!r}", plan.database, plan.lines())
    if plan.way.backup is not None and not (tenant or all_tenants):
        return _restored(call, dataclasses.replace(asked, ref=plan.migration, backup=plan.way.backup.id))
    call.begin("rollback")
    call.tell_steps(*(f"{name} in {schema}" for schema, names in plan.schemas.items() for name in names), "settle", "wait")
    asked = dataclasses.replace(asked, ref=plan.migration, strategy=plan.way.strategy)
    return _told(call, procedure.rollback(call.app, call.database, asked, plan))


def _strategy(strategy: str | None, backup: str | None, *, fitting: bool) -> str | None:
    """Raises UsageError. ``fitting``: flags say what becomes of rows that do not fit, of which only the reverse knows."""
    from naap_ops.errors import UsageError

    if strategy not in (None, "reverse", "restore"):
        raise UsageError(detail=f"--strategy is reverse or restore, not {strategy!r}")
    if fitting and (strategy == "restore" or backup):
        raise UsageError(detail="--default and --park-rows are for the reverse: a restore needs neither")
    return "reverse" if fitting else strategy


def _planned(call: Call, asked: Asked) -> Plan:
    from naap_ops import exclusion
    from naap_ops.rollback.plan import plan

    exclusion.look(call.app, call.database, "rollback")
    call.tell_steps("prove", "halfway")
    return plan(call.app, call.database, asked)


def _restored(call: Call, asked: Asked) -> dict[str, Any]:
    """The way back is the backup: loaded aside, swapped in, untracked, as an emergency does it, but without services."""
    from naap_ops.rollback import emergency as procedure
    from naap_ops.tasks import emergency
    from naap_ops.tasks.progress import progress

    call.events.subscribe(emergency.telling(call))
    call.begin("rollback")
    with progress(call):
        done = procedure.restore_back(call.app, call.database, asked, emergency.operator_of(call), services=False)
    return emergency.tell(call, done)


def _gone_on(call: Call, ref: str | None, *, abort: bool, dry_run: bool) -> dict[str, Any]:
    from naap_ops.rollback import rollback as procedure

    database, lines = procedure.plan_of(call.app, ref)
    what = "undo" if abort else "go on with"
    if dry_run:
        call.say("\n".join([f"{what} the rollback in {database}:", *lines]))
        return {"dry_run": True, "database": database, "plan": lines}
    call.confirm_name(f"to {what} the rollback in {database!r}", database, lines)
    call.begin("rollback")
    done = (procedure.undo if abort else procedure.resume)(call.app, call.database, ref)
    if not abort:
        return _told(call, done)
    call.report(detail=f"undone: {', '.join(done.migrations)} applied as before")
    call.say(f"undone: {', '.join(done.migrations)} applied as before, with the folder and its rows")
    return dataclasses.asdict(done)


def _as_dict(plan: Plan) -> dict[str, Any]:
    return {
        "dry_run": True,
        "database": plan.database,
        "migration": plan.migration,
        "migrations": list(plan.migrations),
        "schemas": {schema: list(names) for schema, names in plan.schemas.items()},
        "strategy": plan.way.strategy,
        "statements": plan.way.statements,
        "lost": dict(plan.way.lost),
        "parked": plan.way.parked_rows,
        "unfit": [each.as_dict() for way in plan.ways for each in way.unfit],
        "ways": [way.as_dict() for way in plan.ways],
        "plan": plan.lines(),
    }


def _told(call: Call, outcome: Outcome) -> dict[str, Any]:
    losses = f"lost: {'; '.join(outcome.losses)}" if outcome.losses else "nothing lost"
    call.report(detail=f"{', '.join(outcome.migrations)} rolled back by {outcome.strategy}, {losses}")
    for name in outcome.migrations:
        call.say(f"{name} is rolled back by {outcome.strategy}")
    for schema, state in outcome.tenants.items():
        call.say(f"  {schema}: {state}")
    for table, rows in outcome.restored.items():
        call.say(f"brought back: {count_of(rows, 'row')} of {table}")
    for each in outcome.conflicts[:_SHOWN]:
        what = f"{', '.join(each['columns'])} of" if each["columns"] else "all of"
        call.say(f"conflict: {each['table']} {each['key']}: {what} it was written since, and stays as it is")
    if len(outcome.conflicts) > _SHOWN:
        call.say(f"and {count_of(len(outcome.conflicts) - _SHOWN, 'conflict')} more: see the record")
    for table, rows in outcome.defaulted.items():
        call.say(f"given a default: {count_of(rows, 'row')} of {table}")
    for table, rows in outcome.parked.items():
        call.say(f"parked: {count_of(rows, 'row')} of {table}: `invoke reapply` brings them back")
    for loss in outcome.losses:
        call.say(f"lost: {loss}")
    for path in outcome.archive:
        whole = any(each.is_dir() for each in Path(path).iterdir())
        call.say(f"its {'folder and its rows' if whole else 'rows'} are kept in {path}")
    for line in outcome.commit:
        call.say(f"commit it: {line}")
    for note in outcome.notes:
        call.say(f"note: {note}")
    if outcome.record:
        call.say(f"record: {outcome.record}")
    return dataclasses.asdict(outcome)
