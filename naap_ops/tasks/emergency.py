"""`invoke emergency`: a migration taken back by the backup before it, with services stopped and started around the swap."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naap_ops.errors import Refused, StorageError, UsageError
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.progress import progress
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.events import Event
    from naap_ops.rollback.commands import Operator
    from naap_ops.rollback.emergency import Plan
    from naap_ops.rollback.incident import Outcome


@command(
    optional=("resume", "abort"),
    migration="which: its name, a unique beginning or part of it, or latest",
    backup="the backup to go back to; without it the newest verified one from before the migration",
    cascade="take back the migrations that were applied after it as well",
    hold="keep an applied row, while images out there still carry the folder",
    maintenance_first="maintenance on before the backup is loaded: nothing more is written that would be lost",
    resume="go on with the one that was interrupted, or with that of this ID",
    abort="undo the one that was interrupted, or that of this ID",
    runbook="write a page for this case that says each step, by hand too, and do nothing",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
    dry_run="say what would be done, touch nothing",
)
def emergency(
    call: Call,
    migration: str | None = None,
    backup: str | None = None,
    cascade: bool = False,
    hold: bool = False,
    maintenance_first: bool = False,
    resume: str | None = None,
    abort: str | None = None,
    runbook: str | None = None,
    project: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Take a migration back by restoring the backup before it; Prisma forgets it; services are down for the swap only.

    Interrupted, it is gone on with by --resume, or undone by --abort. A record is kept below .naap_ops/incidents.

    Example: invoke emergency --migration 20261101120000_add_wallet
    """
    from naap_ops.rollback import emergency as procedure
    from naap_ops.rollback.plan import Asked

    given = [flag for flag, value in (("--migration", migration), ("--resume", resume), ("--abort", abort)) if value]
    if len(given) != 1:
        raise UsageError(detail="give exactly one of --migration, --resume, --abort")
    call.override(prisma__root=project)
    call.events.subscribe(telling(call))
    operator = operator_of(call)
    if resume or abort:
        return _reopened(call, resume, abort, operator, dry_run=dry_run)
    asked = Asked(str(migration), cascade=cascade, hold=hold, backup=backup)
    app, unasked = call.app, call.yes and not dry_run and not runbook
    seen: Plan | None = None
    if not unasked:
        looking = dataclasses.replace(operator, left=operator.left or dry_run or bool(runbook))
        seen = procedure.plan(app, call.database, asked, looking, maintenance_first=maintenance_first)
        if runbook:
            return _page(call, runbook, procedure.runbook(app, seen))
        if dry_run:
            call.say("\n".join(seen.lines))
            return {"dry_run": True, "plan": list(seen.lines), **_of_case(seen)}
        call.confirm_name(f"an emergency of {seen.case.database!r}", seen.case.database, seen.lines)
    call.begin("emergency")
    with progress(call):
        outcome = procedure.restore_back(
            app,
            call.database,
            asked,
            operator,
            services=True,
            maintenance_first=maintenance_first,
            seen=seen.case if seen else None,
        )
    return tell(call, outcome)


def _reopened(call: Call, resume: Any, abort: Any, operator: Operator, *, dry_run: bool) -> dict[str, Any]:
    """``resume`` or ``abort``: an id, or True where none was given."""
    from naap_ops.rollback import emergency as procedure

    ref = next((each for each in (resume, abort) if isinstance(each, str)), None)
    case, lines = procedure.open_case(call.app, call.database, ref)
    what = "going on with it" if resume else "undoing it"
    if dry_run:
        call.say("\n".join([f"{what}:", *lines]))
        return {"dry_run": True, "migration": case.migration, "database": case.database, "plan": lines}
    call.confirm_name(f"{what}, in {case.database!r},", case.database, lines)
    call.begin("emergency")
    with progress(call):
        outcome = (procedure.resume if resume else procedure.abort)(call.app, call.database, ref, operator)
    return tell(call, outcome)


def operator_of(call: Call) -> Operator:
    """Who is asked for what no command does: whoever sits at the terminal."""
    from naap_ops.rollback.commands import Operator

    def ask(text: str) -> None:
        print(f"{text}: ", end="", file=sys.stderr, flush=True)
        if not sys.stdin.readline():
            raise Refused(reason="nobody answered: the terminal is gone")

    return Operator(call.complain, ask if sys.stdin.isatty() else None, left=call.yes)


def telling(call: Call) -> Any:
    """Says the steps as they come."""

    def told(event: Event) -> None:
        if event.name == "emergency.step":
            call.note(str(event.data["text"]))
        elif event.name == "emergency.stopped":
            call.complain(str(event.data["text"]))

    return told


def _of_case(plan: Plan) -> dict[str, Any]:
    case = plan.case
    return {
        "migration": case.migration,
        "migrations": case.migrations,
        "strategy": "restore",
        "backup": case.backup,
        "lost": case.lost,
        "steps": [{"name": name, "text": text} for name, text in plan.steps],
    }


def _page(call: Call, path: str, text: str) -> dict[str, Any]:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(url=path, reason=error.strerror or error) from None
    call.say(f"wrote {path}; nothing was done")
    return {"runbook": path}


def tell(call: Call, outcome: Outcome) -> dict[str, Any]:
    """Say what was done, and what remains to be. The JSON object."""
    names = ", ".join(outcome.migrations)
    if outcome.outcome == "aborted":
        call.report(detail=f"undone: {names} applied as before")
        call.say(f"undone: {outcome.database} is as before, {names} applied")
    else:
        took = f"{outcome.seconds:.1f} s, downtime {outcome.downtime_seconds:.2f} s"
        about = "" if outcome.exact else "about "
        lost = ", ".join(f"{about}{count_of(rows, 'row')} of {table}" for table, rows in outcome.lost.items())
        call.report(detail=f"{names} taken back by backup {outcome.backup}, {took}, lost: {lost or 'nothing'}")
        call.say(f"{names} taken back by backup {outcome.backup}, {took}")
        for table, rows in outcome.lost.items():
            call.say(f"lost: {table}: {'' if outcome.exact else 'about '}{count_of(rows, 'row')} written since the backup")
        if outcome.status:
            call.say(f"status of migrations: {outcome.status}")
        if outcome.previous:
            call.say(f"the old database is kept as {outcome.previous}")
    for line in outcome.todo:
        call.say(f"to do: {line}")
    for note in outcome.notes:
        call.say(f"note: {note}")
    if outcome.record:
        call.say(f"record: {outcome.record}")
    return dataclasses.asdict(outcome)
