"""Rollback by the reverse, as a procedure: journalled, gone on with after a crash, undone on demand.

Prisma's lock is held from the first look to the end. What was planned and confirmed is what runs: the journal keeps the text
of the reverse, so that nothing that happens to the folder meanwhile changes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from naap_ops import clock, exclusion, files, statuses
from naap_ops.app import App
from naap_ops.errors import OpsError, OutOfStep, Partial, ProcedureInterrupted, Refused, StorageError
from naap_ops.postgres.session import connect
from naap_ops.prisma import advisory
from naap_ops.prisma.migrations import SCRIPT
from naap_ops.prisma.untrack import reminders
from naap_ops.prisma.worktree import Worktree
from naap_ops.procedure.journal import ABORTED, DONE, Journal
from naap_ops.procedure.perform import abort, perform
from naap_ops.procedure.step import Step
from naap_ops.restore.failures import server_errors
from naap_ops.restore.locking import procedure_lock
from naap_ops.reverse.images import store
from naap_ops.reverse.images.fitting import Chosen
from naap_ops.reverse.images.model import Keep, images_of
from naap_ops.reverse.images.parks import Park
from naap_ops.reverse.images.staged import Staged
from naap_ops.rollback import audit
from naap_ops.rollback.choosing import as_json
from naap_ops.rollback.filling import Filling
from naap_ops.rollback.plan import THEIRS, Asked, Plan, look
from naap_ops.rollback.rehydrating import Rehydrating
from naap_ops.rollback.running import Patience
from naap_ops.rollback.settling import Settling
from naap_ops.rollback.unit import Ground, Putting, Unit
from naap_ops.rollback.ways import REVERSE

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.rollback.sources import Filled

NAME: Final = "rollback"
_UNFINISHED: Final = (
    "The others are rolled back, and the folder stays away meanwhile. Mend what stands in the way, then"
    " `invoke rollback --resume`; `invoke rollback --abort` applies it again everywhere."
)
_STOPPED: Final = (
    "What is undone stays undone until `invoke rollback --resume`, which goes on, or `invoke rollback --abort`, which puts it"
    " back; then another way can be taken, as with --default or --park-rows where rows do not fit."
)


@dataclass(frozen=True)
class Request:
    """What is done, as the journal keeps it. ``schemas``: by schema the migrations undone there, newest first. ``downs``: their
    reverses; ``halves``: by schema, for those that had failed half-way there, ``text`` and ``upto`` of :class:`Half`.
    ``filled``: likewise the reverses that bring rows back; ``told``: their conflicts are listed;
    ``fetched``: by schema, backup and migration the keeps that come out of it first; ``staged``: by schema and migration the
    columns that are filled first;
    ``parks``: likewise what is parked; ``chosen``: what becomes of rows that do not fit, ``keep``: values that are replaced are
    parked."""

    database: str
    migrations: list[str]
    schemas: dict[str, list[str]]
    downs: dict[str, str]
    putting: dict[str, bool]
    tidy: list[str]
    lost: dict[str, int] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    statements: int = 0
    halves: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    address: str | None = None
    filled: dict[str, dict[str, str]] = field(default_factory=dict)
    told: bool = True
    fetched: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = field(default_factory=dict)
    staged: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    parks: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    chosen: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    keep: bool = True


@dataclass(frozen=True)
class Outcome:
    """What was done. ``untracked``: by schema, the migrations that Prisma has forgotten there."""

    migration: str
    migrations: list[str]
    strategy: str
    statements: int
    lost: dict[str, int]
    losses: list[str]
    seconds: float
    downtime_seconds: float
    untracked: dict[str, list[str]]
    archive: list[str]
    record: str
    journal: str
    steps: list[dict[str, Any]]
    restored: dict[str, int] = field(default_factory=dict)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    parked: dict[str, int] = field(default_factory=dict)
    defaulted: dict[str, int] = field(default_factory=dict)
    unparked: dict[str, int] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)
    commit: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def rollback(app: App, database: str | None, asked: Asked, seen: Plan) -> Outcome:
    """Do what ``seen`` says, which must still be what a new look gives.

    Raises what :func:`naap_ops.rollback.plan.plan` raises; OutOfStep when things have changed since; ProcedureUnfinished; Busy;
    Blocked; Partial when some of several schemas are done; StorageError.
    """
    if seen.way.backup is not None:
        raise Refused(
            reason=f"the way back is backup {seen.way.backup.id}, and of tenants a restore is done by itself",
            hint=f"`invoke restore --backup {seen.way.backup.id} --tenant ...`,"
            f" then `invoke untrack --migration {seen.migration}`.",
        )
    with exclusion.alone(app, exclusion.named(app, database), NAME), _locked(app, database) as connection:
        now = look(app, database, asked, connection)
        if (dict(now.undone), now.scripts) != (dict(seen.schemas), dict(seen.scripts)):
            raise OutOfStep(reason="the books or the folder have changed since the plan was shown: nothing was done")
        request = _request(app, seen, asked, app.info(database).address)
        with Journal.begin(_folder(app), NAME, asdict(request)) as journal, _interruptible(journal):
            return _carried_out(app, connection, database, journal, request)


def resume(app: App, database: str | None, ref: str | None) -> Outcome:
    """Go on with the unfinished one (``ref``: its id). Raises ProcedureMissing and what :func:`rollback` raises."""
    with _reopened(app, database, ref) as (journal, connection), _interruptible(journal):
        request = _of(journal, connection)
        journal.note("resume")
        return _carried_out(app, connection, database, journal, request)


def undo(app: App, database: str | None, ref: str | None) -> Outcome:
    """Undo the unfinished one: what was rolled back is applied again, its rows and its folder are put back."""
    with _reopened(app, database, ref) as (journal, connection), _interruptible(journal):
        request = _of(journal, connection)
        ground = _ground(app, connection, database, journal)
        audit.prepare(connection)
        abort(journal, _steps(app, ground, database, request), app.events)
        return _outcome(app, journal, request, {}, [])


def plan_of(app: App, ref: str | None) -> tuple[str, list[str]]:
    """The database of the unfinished one, and what going on with it, or undoing it, is about."""
    with Journal.resume(_folder(app), NAME, ref) as journal:
        request = Request(**journal.request)
        lines = [f"{journal.id}, begun {journal.events[0]['at']} by {journal.events[0]['user']}@{journal.events[0]['host']}"]
        lines += [f"{each['name']}: {each['state']}" for each in journal.steps()]
        lines += ["what was parked comes back with it"] if request.parks or (request.chosen and request.keep) else []
        lines += [f"the reverse loses {loss}, which applying it again does not bring back" for loss in request.losses]
        return request.database, lines


# --- parts ------------------------------------------------------------------------------------------------------------


def _folder(app: App) -> Path:
    return app.state / "journal"


@contextmanager
def _interruptible(journal: Journal) -> Iterator[None]:
    """Where it has stopped is said, and how to go on."""
    try:
        yield
    except Partial:
        raise
    except OpsError as error:
        if journal.outcome is None and not journal.aborting:
            error.advise(_STOPPED)
        raise
    except KeyboardInterrupt:
        states = journal.steps()
        raise ProcedureInterrupted(procedure=NAME, id=journal.id, step=states[-1]["name"] if states else "begin") from None


@contextmanager
def _reopened(app: App, database: str | None, ref: str | None) -> Iterator[tuple[Journal, Connection]]:
    """The unfinished one, with nobody else at work on its database."""
    with Journal.resume(_folder(app), NAME, ref) as journal:
        info = exclusion.named(app, database)
        with procedure_lock(info, info.dbname or "", NAME, needed=False), _locked(app, database) as connection:
            yield journal, connection


@contextmanager
def _locked(app: App, database: str | None) -> Iterator[Connection]:
    """A session that holds Prisma's lock. Raises Busy."""
    seconds = app.loaded.settings.prisma.lock_timeout.total_seconds()
    info = app.info(database)
    with server_errors(info, "rolling back"), connect(info, application_name="naap_ops rollback") as connection, \
            advisory.migrate_lock(connection, seconds):  # fmt: skip
        yield connection


def _request(app: App, plan: Plan, asked: Asked, address: str) -> Request:
    folder = app.project().migrations
    tree = Worktree.of(folder) if folder.is_dir() else None
    tidy = [name for name in plan.migrations if tree is not None and tree.tidy(folder / name, app.archive)]
    return Request(
        plan.database,
        list(plan.migrations),
        {schema: list(names) for schema, names in plan.schemas.items()},
        dict(plan.way.downs),
        asdict(plan.putting),
        tidy,
        dict(plan.way.lost),
        list(plan.way.losses),
        plan.way.statements,
        {
            schema: {name: {"text": half.text, "upto": half.upto} for name, half in of.items()}
            for schema, of in plan.way.halves.items()
        },
        address,
        {schema: {name: each.text for name, each in of.items()} for schema, of in plan.way.filled.items()},
        asked.conflicts != THEIRS,
        {schema: _fetched(of) for schema, of in plan.way.filled.items()},
        {
            schema: {name: [one.as_dict() for one in each.staged] for name, each in of.items() if each.staged}
            for schema, of in plan.way.filled.items()
        },
        {
            schema: {name: [park.as_dict() for park in parks] for name, parks in of.items()}
            for schema, of in plan.way.parks.items()
        },
        as_json(plan.way.chosen),
        plan.parks,
    )


def _fetched(filled: Mapping[str, Filled]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By backup and migration what comes out of it."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, each in filled.items():
        if each.backup is not None:
            found.setdefault(each.backup.id, {})[name] = [image.keep.as_dict() for image in each.images]
    return found


def _of(journal: Journal, connection: Connection) -> Request:
    request = Request(**journal.request)
    if connection.info.dbname != request.database:
        raise OutOfStep(
            reason=f"{journal.id} is about database {request.database!r}, and this is {connection.info.dbname!r}",
            hint="Give its --url or --database.",
        )
    return request


def _ground(app: App, connection: Connection, database: str | None, journal: Journal) -> Ground:
    chosen = app.loaded.settings.rollback
    patience = Patience(chosen.lock_timeout.total_seconds(), chosen.attempts)
    return Ground(connection, app.info(database), journal, statuses.place_of(app), patience, app.events)


def _units(ground: Ground, request: Request, lasting: timedelta) -> dict[str, list[Unit]]:
    putting = Putting(**request.putting)

    def unit(name: str, schema: str) -> Unit:
        half = request.halves.get(schema, {}).get(name)
        if half is None:
            text = request.filled.get(schema, {}).get(name, request.downs[name])
            parks = tuple(map(Park.of, request.parks.get(schema, {}).get(name, ())))
            chosen = tuple(map(Chosen.of, request.chosen.get(schema, {}).get(name, ())))
            return Unit(
                ground, name, schema, text, putting, told=request.told, parks=parks, lasting=lasting, chosen=chosen,
                keep=request.keep,
            )  # fmt: skip
        return Unit(ground, name, schema, half["text"], putting, half["upto"])

    return {schema: [unit(name, schema) for name in names] for schema, names in request.schemas.items()}


def _steps(app: App, ground: Ground, database: str | None, request: Request) -> list[Step]:
    units = [step for each in _reversing(app, ground, request).values() for step in each]
    return [*_fetching(app, ground, database, request), *units, _settling(ground, request)]


def _reversing(app: App, ground: Ground, request: Request) -> dict[str, list[Step]]:
    """By schema the units, each after what has to be filled before it."""
    jobs = app.loaded.settings.rollback.jobs
    return {
        schema: [step for unit in units for step in (*_filling(unit, request, jobs), unit)]
        for schema, units in _units(ground, request, app.loaded.settings.park.expires).items()
    }


def _filling(unit: Unit, request: Request, jobs: int) -> list[Filling]:
    several = request.staged.get(unit.schema, {}).get(unit.migration, ())
    return [Filling(unit, tuple(map(Staged.of, several)), jobs)] if several else []


def _fetching(app: App, ground: Ground, database: str | None, request: Request) -> list[Rehydrating]:
    """A step for each backup that rows of a schema come out of."""
    if not any(request.fetched.values()):
        return []
    units = _units(ground, request, app.loaded.settings.park.expires)
    return [
        Rehydrating(
            app,
            database,
            ground.connection,
            backup,
            schema,
            {name: images_of(name, tuple(map(Keep.of, keeps)), "backup") for name, keeps in keeps_of.items()},
            partial(_undone, units[schema]),
            alone=len(of) == 1,
        )
        for schema, of in request.fetched.items()
        for backup, keeps_of in of.items()
    ]


def _undone(units: Sequence[Unit], migration: str) -> bool:
    return next(unit for unit in units if unit.migration == migration).done()


def _settling(ground: Ground, request: Request) -> Settling:
    return Settling(ground, request.migrations, request.schemas, Putting(**request.putting), request.tidy)


def _carried_out(app: App, connection: Connection, database: str | None, journal: Journal, request: Request) -> Outcome:
    """Each schema by itself: one that fails neither stops nor hides the others."""
    ground = _ground(app, connection, database, journal)
    trouble = audit.prepare(connection)
    failed: dict[str, OpsError] = {}
    perform(journal, _fetching(app, ground, database, request), app.events, end=False)
    if request.parks or (request.chosen and request.keep):
        store.prepare(connection)
    for schema, steps in _reversing(app, ground, request).items():
        try:
            with server_errors(ground.info, "rolling back"):
                perform(journal, steps, app.events, end=False)
        except OpsError as error:
            if len(request.schemas) == 1 or connection.broken:
                raise
            failed[schema] = error
    if failed:
        done = [{"schema": schema, "migrations": names} for schema, names in request.schemas.items() if schema not in failed]
        raise Partial(done=done, failed=failed, hint=_UNFINISHED)
    perform(journal, [_settling(ground, request)], app.events)
    project = ground.place.project
    scripts = ", ".join(str(project.migrations / name / SCRIPT) for name in reversed(request.migrations))
    if request.putting["redo"]:
        left = [f"mend it before the next `invoke deploy`, which runs it again: {scripts}"]
    else:
        left = reminders(project, held=request.putting["hold"])
    notes = [*([trouble] if trouble else []), *left]
    return _outcome(app, journal, request, dict.fromkeys(request.schemas, "done"), notes)


def _outcome(app: App, journal: Journal, request: Request, tenants: Mapping[str, str], notes: Sequence[str]) -> Outcome:
    undone = journal.outcome == ABORTED
    entries = [journal.facts(f"archive {name}").get("entry") for name in request.migrations]
    facts = [
        journal.facts(f"{before}{name} in {schema}")
        for schema, names in request.schemas.items()
        for name in names
        for before in ("", "columns of ")
    ]
    began = clock.parse(journal.events[0]["at"])
    outcome = Outcome(
        migration=request.migrations[-1],
        migrations=request.migrations,
        strategy=REVERSE,
        statements=request.statements,
        lost=request.lost,
        losses=request.losses,
        seconds=round((clock.now() - began).total_seconds(), 3),
        downtime_seconds=0.0,
        untracked={} if undone or request.putting["hold"] or request.putting["redo"] else request.schemas,
        archive=[entry for entry in entries if entry and not undone],
        record=str(app.state / "records" / f"{journal.id}.json"),
        journal=journal.id,
        steps=journal.steps(),
        restored={} if undone else _sums(facts, "restored"),
        parked={} if undone else _sums(facts, "parked"),
        defaulted={} if undone else _sums(facts, "defaulted"),
        unparked=_sums([fact["unparked"] for fact in facts if "unparked" in fact], "rows") if undone else {},
        conflicts=[] if undone else [one for each in facts for one in each.get("conflicts", [])],
        tenants=dict(tenants) if len(tenants) > 1 else {},
        commit=list(journal.facts("settle").get("commit", [])),
        notes=list(notes),
    )
    return _recorded(journal, outcome)


def _sums(facts: Sequence[Mapping[str, Any]], what: str) -> dict[str, int]:
    """Rows by table, over all migrations."""
    found: dict[str, int] = {}
    for each in facts:
        for table, rows in each.get(what, {}).items():
            found[table] = found.get(table, 0) + rows
    return found


def _recorded(journal: Journal, outcome: Outcome) -> Outcome:
    """Keep the outcome on the disk. That it cannot be kept is a note: what was done is done."""
    path = Path(outcome.record)
    record = {"id": journal.id, "outcome": journal.outcome or DONE, **journal.events[0], **asdict(outcome)}
    try:
        files.make_private_dir(path.parent)
        files.write_durably(path, (json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n").encode())
    except (OSError, StorageError) as error:
        return replace(outcome, record="", notes=[*outcome.notes, f"no record was written: {error}"])
    return outcome
