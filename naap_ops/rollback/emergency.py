"""Rollback by restore, as a procedure: with services and maintenance (``invoke emergency``), or the restore alone.

One lock per database is held throughout, so that of two operators one is told who the other is. What was decided is in the
journal; what has happened is asked of the server, of the folders, and for the operator's commands of the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from naap_ops import clock, exclusion, resources
from naap_ops.app import App
from naap_ops.errors import Interrupted, OpsError, OutOfStep, ProcedureInterrupted, Refused
from naap_ops.postgres.session import maintenance, server_info
from naap_ops.postgres.tools import find_tools
from naap_ops.prisma.untrack import reminders
from naap_ops.procedure.journal import Journal
from naap_ops.procedure.perform import abort as undo_steps
from naap_ops.procedure.perform import perform
from naap_ops.procedure.step import Step
from naap_ops.restore.failures import server_errors
from naap_ops.restore.locking import ProcedureLock, procedure_lock
from naap_ops.rollback import incident, restoring
from naap_ops.rollback.case import Case, decide
from naap_ops.rollback.checking import Check
from naap_ops.rollback.commands import Operator, Surroundings
from naap_ops.rollback.incident import Outcome
from naap_ops.rollback.maintenance import MaintenanceOff, MaintenanceOn
from naap_ops.rollback.scene import Scene
from naap_ops.rollback.services import StartServices, StopServices
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.tools import Toolset
    from naap_ops.rollback.plan import Asked

NAME: Final = "emergency"


@dataclass(frozen=True)
class Plan:
    """What would be done: the case, its steps, and lines for people."""

    case: Case
    steps: tuple[tuple[str, str], ...]
    lines: tuple[str, ...]


def plan(
    app: App, database: str | None, asked: Asked, operator: Operator, *, services: bool = True, maintenance_first: bool = False
) -> Plan:
    """Look, touch nothing: by the code that does it, but for the hashes of the backup's files.

    Raises Busy; ProcedureUnfinished; what :func:`naap_ops.rollback.case.decide` and the check raise.
    """
    info = exclusion.named(app, database)
    exclusion.look(app, database, NAME)  # one that is running is no unfinished one
    case = decide(app, database, asked, services=services, maintenance_first=maintenance_first)
    journal = Journal(_folder(app) / "planned")  # never written
    scene = _scene(app, case, info, journal, operator)
    _refuse_nobody(app, case, operator)
    check = Check(scene)
    restore = check.look()
    steps = tuple((each.name, each.text) for each in _steps(scene))
    return Plan(case, steps, tuple(_lines(case, steps, restore)))


def restore_back(
    app: App,
    database: str | None,
    asked: Asked,
    operator: Operator,
    *,
    services: bool,
    maintenance_first: bool = False,
    seen: Case | None = None,
) -> Outcome:
    """Take a migration back by the backup before it; ``services``: with services and maintenance around it.

    ``seen`` was shown and confirmed: it must still be what a new look gives. Raises Busy, ProcedureUnfinished, OutOfStep; what
    :func:`plan` and the steps raise; ProcedureInterrupted.
    """
    info = exclusion.named(app, database)
    with exclusion.alone(app, info, NAME, needed=True) as lock:
        case = decide(app, database, asked, services=services, maintenance_first=maintenance_first)
        if seen is not None and (case.schemas, case.backup, case.folders) != (seen.schemas, seen.backup, seen.folders):
            raise OutOfStep(reason="the books or the backups have changed since the plan was shown: nothing was done")
        _refuse_nobody(app, case, operator)
        with Journal.begin(_folder(app), NAME, case.as_dict()) as journal:
            scene = _scene(app, case, info, journal, operator)
            return _carried_out(scene, lambda steps: perform(journal, steps, app.events, before=lock.keep))


def resume(app: App, database: str | None, ref: str | None, operator: Operator) -> Outcome:
    """Go on with the unfinished one (``ref``: its id). Raises ProcedureMissing and what :func:`restore_back` raises."""
    with _reopened(app, database, ref, operator) as (scene, lock):
        journal = scene.around.journal
        journal.note("resume")
        return _carried_out(scene, lambda steps: perform(journal, steps, app.events, before=lock.keep))


def abort(app: App, database: str | None, ref: str | None, operator: Operator) -> Outcome:
    """Undo the unfinished one: everything is as before. A database that was live meanwhile is kept."""
    with _reopened(app, database, ref, operator) as (scene, _):
        journal = scene.around.journal
        return _carried_out(scene, lambda steps: undo_steps(journal, steps, app.events))


def open_case(app: App, database: str | None, ref: str | None) -> tuple[Case, list[str]]:
    """The unfinished one's case, and for people how far it has come. Raises ProcedureMissing, ProcedureUnfinished, Busy."""
    with Journal.resume(_folder(app), NAME, ref or _only(app, database)) as journal:
        begin = journal.events[0]
        lines = [f"{journal.id}, begun {begin['at']} by {begin['user']}@{begin['host']}"]
        return Case(**journal.request), [*lines, *(f"{each['name']}: {each['state']}" for each in journal.steps())]


def runbook(app: App, planned: Plan) -> str:
    """A page for whoever is on call: the case, each step, and how to do it by hand."""
    import shlex

    settings, case = app.loaded.settings, planned.case
    words = ["invoke", NAME, "--migration", case.migration, "--backup", case.backup]
    words += [flag for flag, given in {
        "--cascade": len(case.migrations) > 1, "--hold": case.hold, "--maintenance-first": case.maintenance_first,
    }.items() if given]  # fmt: skip
    words += ["--database", case.selection] if case.selection else []
    return resources.render(
        "runbooks",
        "emergency.md.j2",
        case=case,
        at=clock.iso(),
        command=shlex.join(words),
        steps=[{"name": name, "text": text} for name, text in planned.steps],
        quoted=shlex.quote,
        on=settings.maintenance.on,
        off=settings.maintenance.off,
        stop=settings.services.stop,
        start=settings.services.start,
        status=settings.deploy.status,
    )


# --- parts ------------------------------------------------------------------------------------------------------------


def _folder(app: App) -> Path:
    return app.state / "journal"


def _only(app: App, database: str | None) -> str | None:
    """The unfinished one of this database, where there is one; None leaves the choice to the journals."""
    try:
        info = app.info(database)
    except OpsError:  # several databases and none named: the journal knows which
        return None
    found = exclusion.unfinished(app, info, NAME)
    return found[0] if len(found) == 1 else None


@contextmanager
def _reopened(app: App, database: str | None, ref: str | None, operator: Operator) -> Iterator[tuple[Scene, ProcedureLock]]:
    """Never by the live database, which may refuse connections."""
    with Journal.resume(_folder(app), NAME, ref or _only(app, database)) as journal:
        selection = database if database is not None else journal.request.get("selection")
        info = app.info(selection)
        case = Case.of(journal.request, info)
        info = info.with_dbname(case.database)
        with procedure_lock(info, case.database, NAME) as lock:
            yield _scene(app, case, info, journal, operator), lock


def _scene(app: App, case: Case, info: ConnInfo, journal: Journal, operator: Operator) -> Scene:
    return Scene(app, case, Surroundings(app.project().root, info, operator, journal), _tools(app, info))


def _tools(app: App, info: ConnInfo) -> Toolset:
    with closing(maintenance(info, avoid=(info.dbname,))) as session:
        major = server_info(session).major
    tools = find_tools(major, app.loaded.settings.tools)
    tools.check(info)
    return tools


def _steps(scene: Scene) -> list[Step]:
    check, load, between, looking, record = restoring.steps(scene)
    if not scene.case.services:
        return [check, load, *between, *looking, record]
    settings, around = scene.app.loaded.settings, scene.around
    on, off = MaintenanceOn(settings.maintenance, around), MaintenanceOff(settings.maintenance, around)
    stop, start = StopServices(settings.services, around), StartServices(settings.services, around)
    first = [on, load] if scene.case.maintenance_first else [load, on]
    return [check, *first, stop, *between, *looking, start, off, record]


def _refuse_nobody(app: App, case: Case, operator: Operator) -> None:
    """Raise Refused where services are to be stopped by hand and nobody has agreed to that: see :class:`Operator`."""
    settings = app.loaded.settings.services
    if case.services and not (settings.stop and settings.start) and operator.ask is None and not operator.left:
        raise Refused(
            reason="no command stops or starts the services (settings services.stop, services.start), and nobody can be asked",
            hint="Configure them, run it at a terminal, or give --yes: then that is left to you.",
        )


def _carried_out(scene: Scene, work: Callable[[Sequence[Step]], None]) -> Outcome:
    """The record is written whatever comes of it."""
    journal, events = scene.around.journal, scene.app.events
    try:
        with server_errors(scene.around.info, "going back"):
            work(_steps(scene))
    except (KeyboardInterrupt, Interrupted):
        _concluded(scene)
        states = journal.steps()
        raise ProcedureInterrupted(procedure=NAME, id=journal.id, step=states[-1]["name"] if states else "begin") from None
    except BaseException:
        outcome = _concluded(scene)
        left = outcome.todo if journal.outcome is None else ["nothing of it is left"]
        events.emit("emergency.stopped", text=f"{outcome.outcome}: {'; '.join(left)} (record: {outcome.record or 'none'})")
        raise
    return _concluded(scene)


def _concluded(scene: Scene) -> Outcome:
    journal, case = scene.around.journal, scene.case
    left: list[str] = []
    try:
        left = reminders(scene.app.project(), held=case.hold)
    except OpsError as error:
        left = [f"the project was not found any more: {error.text}"]
    return incident.concluded(journal, case, scene.app.state / "incidents", left)


def _lines(case: Case, steps: Sequence[tuple[str, str]], restore: Sequence[str]) -> Iterator[str]:
    yield f"take back {', '.join(case.migrations)} of {case.database} by backup {case.backup}, as of {case.taken_at}"
    for table, rows in case.lost.items():
        yield f"lost, about: {table}: {count_of(rows, 'row')} written since"
    if not case.lost:
        yield "nothing was written since the backup"
    yield from (f"{number}. {name}: {text}" for number, (name, text) in enumerate(steps, 1))
    yield from (f"restore: {line}" for line in restore)
    yield from (f"note: {note}" for note in case.notes)
