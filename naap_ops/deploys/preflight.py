"""What can be known before anything is done: what is pending, what stands in the way, what should be known."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from naap_ops import drifts, statuses
from naap_ops.app import App
from naap_ops.config import patterns
from naap_ops.deploys import returning
from naap_ops.errors import Busy, MigrationUnreadable, NoSpace, OpsError, OutOfStep
from naap_ops.places import Target
from naap_ops.postgres.session import connect
from naap_ops.prisma import advisory, applier, tracking
from naap_ops.prisma.codes import FailedBefore, MigrateRefused
from naap_ops.prisma.migrations import migrations
from naap_ops.prisma.project import Project
from naap_ops.prisma.status import MEANING, Standing, compare
from naap_ops.prisma.tracking import Books
from naap_ops.procedure.command import present
from naap_ops.restore.failures import server_errors
from naap_ops.restore.outcome import size_text
from naap_ops.reverse import files
from naap_ops.reverse.dangers import dangers
from naap_ops.reverse.images import parked
from naap_ops.reverse.images.parked import Parked

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_TOLD = (Standing.EDITED, Standing.OUT_OF_ORDER, Standing.FOLDER_MISSING, Standing.ROLLED_BACK, Standing.HELD)
_SHOWN = 12


@dataclass(frozen=True)
class Part:
    """One schema with books of its own. ``pending``: by name, in the order in which they are applied, the script's SHA-256.
    ``before``: every migration's state."""

    schema: str
    pending: Mapping[str, str]
    before: Mapping[str, str]


@dataclass(frozen=True)
class Preflight:
    """``parts``: the schemas that are deployed to, in this order. ``blocked``: those of tenants whose books `migrate deploy`
    would refuse, and why. ``fleet``: tenants were asked for. ``notes`` are sentences for people; ``dangers`` what the pending
    scripts may do, by name. ``parked``: what comes back with them; ``expired``: what has been parked for too long."""

    database: str
    target: Target
    project: Project
    parts: tuple[Part, ...]
    blocked: Mapping[str, OpsError] = field(default_factory=dict)
    fleet: bool = False
    notes: tuple[str, ...] = ()
    dangers: tuple[str, ...] = ()
    parked: tuple[Parked, ...] = ()
    expired: tuple[Parked, ...] = ()

    @property
    def schemas(self) -> list[str]:
        return [part.schema for part in self.parts]

    @property
    def schema(self) -> str:
        """The schema; of several the first."""
        return self.parts[0].schema if self.parts else self.target.info.schema

    @property
    def pending(self) -> dict[str, str]:
        """What is pending anywhere, in Prisma's order, with the script's SHA-256."""
        found = {name: sha256 for part in self.parts for name, sha256 in part.pending.items()}
        return {name: found[name] for name in sorted(found, key=self.project.key)}

    def only(self, part: Part) -> Preflight:
        """What was seen of one schema."""
        parked = tuple(each for each in self.parked if each.schema == part.schema)
        return replace(self, parts=(part,), blocked={}, parked=parked)

    def lines(self) -> list[str]:
        """For people."""
        return [
            *(f"apply {name} in {told([part.schema for part in self.parts if name in part.pending])}" for name in self.pending),
            *(f"left out: {schema}: {error.text.splitlines()[0]}" for schema, error in self.blocked.items()),
            *(f"brings back {statuses.parked_line(each)}" for each in self.parked if each.rows),
            *(f"danger: {danger}" for danger in self.dangers),
            *(f"note: {note}" for note in self.notes),
        ]


def told(schemas: Sequence[str]) -> str:
    """Schemas in a sentence: their names, of many the number."""
    return ", ".join(schemas) if len(schemas) <= _SHOWN else f"{len(schemas)} schemas ({schemas[0]} ... {schemas[-1]})"


def look(
    app: App, database: str | None, *, tenant: str | None = None, all_tenants: bool = False, drift: bool = False
) -> Preflight:
    """Look, touch nothing. ``drift``: also at whether the schema is what the applied migrations make, on a shadow.

    Raises Busy while somebody migrates, NoSpace, ProgramMissing for a configured command, and what `migrate deploy` would
    refuse: FailedBefore, MigrateRefused, MigrateMisconfigured; OutOfStep for drift, or where it cannot be told;
    Refused for a tenant without a schema. With ``all_tenants`` what stands in one schema's books blocks that one only.
    """
    target, project = app.target(database), app.project()
    pattern = app.loaded.database(database).tenant_schemas
    with server_errors(target.info, "looking"), connect(target.info, application_name="naap_ops deploy") as connection:
        if (holder := advisory.holder(connection)) is not None:
            raise Busy(what="a Prisma migrate command", holder=str(holder))
        schemas = statuses.tenant_schemas(app, database, connection, tenant, all_tenants=all_tenants)
        parts, blocked = _parts(connection, project, schemas, pattern, several=all_tenants)
        row = connection.execute("select pg_database_size(current_database())").fetchone()
        found = Preflight(connection.info.dbname, target, project, parts, blocked, tenant is not None or all_tenants)
        others = [] if found.fleet else list(_other_books(app, database, connection, schemas))
        found, waiting = _parked(found, connection)
    notes = [*_standings(parts), *others, *waiting]
    if not found.pending:
        return replace(found, notes=tuple(notes))
    for words in (app.loaded.settings.deploy.command, app.loaded.settings.deploy.status):
        if words:
            present(words, project.root)
    _room(app, target, int(row[0]) if row else 0)
    remark = project.ordering(list(found.pending))
    notes = [*app.remarks(database), *project.notes, *notes, *_lock_disabled(), *([remark] if remark else [])]
    notes.append(_no_drift(app, database, found) if drift else "drift was not looked for (--drift does)")
    return replace(found, notes=tuple(notes), dangers=tuple(_dangers(app, found)))


def _parked(found: Preflight, connection: Connection) -> tuple[Preflight, list[str]]:
    """What comes back, what has expired; and what should be known of both."""
    every = parked.found(connection)
    awaited = returning.awaited(every, {part.schema: part.pending for part in found.parts})
    expired = tuple(each for each in every if each.expired and each not in awaited)
    applied = {(part.schema, name) for part in found.parts for name, state in part.before.items() if state == "applied"}
    stranded = [each for each in every if (each.schema, each.migration) in applied and not each.expired]
    return replace(found, parked=awaited, expired=expired), list(returning.notes(expired, stranded))


def _parts(
    connection: Connection, project: Project, schemas: Sequence[str], pattern: str, *, several: bool
) -> tuple[tuple[Part, ...], dict[str, OpsError]]:
    """What is pending in each schema, and the schemas in which nothing may be deployed. The folder is read once."""
    folders, there = migrations(project.migrations), set(tracking.schemas(connection))
    parts: list[Part] = []
    blocked: dict[str, OpsError] = {}
    for schema in schemas:
        try:
            pending = applier.look(connection, project, schema, folders).migrations
        except MigrateRefused as error:
            if not several:
                raise
            blocked[schema] = error
            continue
        except FailedBefore as error:
            told_how = FailedBefore(**{**error.fields, "hint": _mending(error, pattern, schema)})
            if not several:
                raise told_how from error
            blocked[schema] = told_how
            continue
        books = tracking.read(connection, schema) if schema in there else Books(schema, ())
        before = {entry.name: entry.state.value for entry in compare(folders, books)}
        parts.append(Part(schema, {each.name: each.sha256 or "" for each in pending}, before))
    return tuple(parts), blocked


def _mending(error: FailedBefore, pattern: str, schema: str) -> str:
    """What to type, of a tenant for that one: `--applied` for all of them would pass over those where it is still to run."""
    slug = patterns.slug_of(pattern, schema)
    if slug is None:
        return error.advice
    name, tenant = error.fields["names"][0], shlex.join(["--tenant", slug])
    return (
        f"Nothing of it took effect there, or it was undone by hand: `invoke resolve --rolled-back {name} {tenant}`."
        f" All of it took effect: `invoke resolve --applied {name} {tenant}`."
    )


def _other_books(app: App, database: str | None, connection: Connection, schemas: Sequence[str]) -> Iterator[str]:
    """That tenants are not deployed to along with the URL's schema."""
    tenants = patterns.matching(app.loaded.database(database).tenant_schemas, tracking.schemas(connection))
    if left := [each for each in tenants if each not in schemas]:
        yield f"tenants keep books of their own, and are not deployed to: {told(left)} (--all-tenants)"


def states(connection: Connection, project: Project, schema: str) -> dict[str, str]:
    """Every migration's state by its name, as `invoke status` has it."""
    entries = compare(migrations(project.migrations), tracking.read(connection, schema))
    return {entry.name: entry.state.value for entry in entries}


def _standings(parts: Sequence[Part]) -> Iterator[str]:
    """What does not stop a deploy but should be known; of several schemas with how many it is so in."""
    for standing in _TOLD:
        found = {name: None for part in parts for name, state in part.before.items() if state == standing.value}
        where = [part.schema for part in parts if standing.value in part.before.values()]
        if found:
            yield f"{', '.join(found)}{f' in {told(where)}' if len(parts) > 1 else ''}: {MEANING[standing]}"


def _no_drift(app: App, database: str | None, seen: Preflight) -> str:
    there = [part.schema for part in seen.parts if set(part.before.values()) != {Standing.PENDING.value}]
    if not there:
        return "nothing was ever deployed here: there is nothing to drift from"
    found = drifts.look(app, drifts.Asked(database, all_tenants=seen.fleet)).schemas
    apart = [each for each in found if each.schema in there and each.state != drifts.NONE]
    if not apart:
        return "no drift: the schema is what its applied migrations make"
    where = " of {}" if seen.fleet else ""
    objects = [f"{each}{where.format(one.schema)}" for one in apart for each in one.drift]
    shown = "; ".join(objects[:_SHOWN]) + (f"; and {len(objects) - _SHOWN} more" if len(objects) > _SHOWN else "")
    raise OutOfStep(
        reason=f"nothing was deployed: the schema is not what its migrations make: {shown}"
        if objects
        else f"nothing was deployed: whether the schema is what its migrations make cannot be told: {apart[0].reason}",
        hint="`invoke drift --sql PREFIX` has the SQL that mends it, either way; without --drift it is not looked for.",
    )


def _lock_disabled() -> Iterator[str]:
    if advisory.disabled():
        yield f"{advisory.DISABLING} is set here: nothing keeps two deploys apart"


def _dangers(app: App, found: Preflight) -> Iterator[str]:
    allowed = set(app.loaded.settings.lint.allow)
    for each in files.in_folder(found.project.migrations):
        if each.name not in found.pending:
            continue
        try:
            script = each.script()
        except MigrationUnreadable as error:
            yield error.text
            continue
        for danger in dangers(script):
            if danger.word not in allowed:
                yield f"{each.name}, line {danger.statement.line}: {danger.word}: {danger.reason}"


def _room(app: App, target: Target, size: int) -> None:
    """Raise NoSpace where a backup as large as the last one, else a tenth of the database, does not fit any more.

    A store elsewhere is not looked at.
    """
    where = app.loaded.settings.repository
    if "://" in where:
        return
    folder = (app.loaded.cwd / where).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    last = [each.sound.bytes for each in app.repository.backups(target.alias) if not each.bad][:1]
    wanted = last[0] if last else size // 10
    free = shutil.disk_usage(there).free
    if free < wanted:
        reason = f"{size_text(free)} are free, the backup before the deploy takes about {size_text(wanted)}"
        raise NoSpace(where=folder, reason=reason)
