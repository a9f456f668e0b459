"""Prisma's migrations as an operator asks for them: which tables, held against which folder; with which backup before each.

And ``untrack`` and ``resolve``, which start from the same: the project on disk, the schemas whose books are meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from naap_ops import exclusion
from naap_ops.app import App
from naap_ops.backup.repository import Backup
from naap_ops.config import patterns
from naap_ops.errors import OpsError, Refused
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import Connection, connect
from naap_ops.prisma import advisory, archive, resolving, tracking
from naap_ops.prisma.migrations import migrations
from naap_ops.prisma.project import Project
from naap_ops.prisma.status import Entry, compare
from naap_ops.prisma.untrack import Outcome, Place, Plan, Request, plan, untrack
from naap_ops.restore.failures import server_errors
from naap_ops.restore.outcome import size_text
from naap_ops.reverse.images import parked
from naap_ops.reverse.images.parked import Parked
from naap_ops.wording import count_of


@dataclass(frozen=True)
class Status:
    """All of it. ``tables`` are the schemas whose tracking tables were read, ``notes`` sentences for people, ``parked`` what
    rollbacks there have kept."""

    database: str
    migrations_folder: str
    tables: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    parked: tuple[Parked, ...] = ()

    @property
    def in_step(self) -> bool:
        return all(entry.in_step for entry in self.entries)


def status(app: App, database: str | None, *, all_tenants: bool = False) -> Status:
    """Look at folder, tables and backups. A repository that cannot be read is a note. Raises what the connection raises,
    PrismaProjectNotFound, PrismaUnsupported, ConfigurationError."""
    project = app.project()
    info = app.info(database)
    folders = migrations(project.migrations)
    held = {entry.migration for entry in archive.entries(app.archive) if entry.state == archive.HELD}
    with server_errors(info, "looking"), connect(info) as connection:
        tracking.refuse_contract(connection)
        there = tracking.schemas(connection)
        schemas = schemas_of(app, database, info, there, all_tenants=all_tenants)
        books = [tracking.read(connection, schema) for schema in schemas]
        holder = advisory.holder(connection)
        name = connection.info.dbname
        kept = tuple(each for each in parked.found(connection) if each.schema in schemas)
    entries = [entry for each in books for entry in compare(folders, each, migrating=holder is not None, held=held)]
    backups, problem = good_backups(app, database or app.alias(None) or name)
    notes = [*app.remarks(database), *_notes(project, schemas, there, holder), *([problem] if problem else [])]
    if remark := project.ordering([folder.name for folder in folders]):
        notes.append(remark)
    found = tuple(replace(entry, backup=_id(backup_before(backups, entry.schema, entry.name))) for entry in entries)
    notes += map(_waiting, kept)
    return Status(name, str(project.migrations), tuple(schemas), found, tuple(notes), kept)


def parked_line(each: Parked) -> str:
    """What is parked, for people."""
    columns = "" if each.park.whole else f"{', '.join(column.name for column in each.park.columns)} of "
    rows = f"{columns}{count_of(each.rows, 'row')} of {each.relation}"
    return f"{rows} ({size_text(each.bytes)}, parked {each.taken_at:%Y-%m-%d} by the rollback of {each.migration})"


def _waiting(each: Parked) -> str:
    until = f"{each.expires_at:%Y-%m-%d}"
    end = f"expired {until}: the next deploy drops it" if each.expired else f"until {until}"
    return f"parked: {parked_line(each)}, {end}; `invoke reapply --migration {each.migration}` brings it back"


def schemas_of(app: App, database: str | None, info: ConnInfo, there: Sequence[str], *, all_tenants: bool) -> list[str]:
    """The URL's schema, or with all tenants those that have a table, the URL's among them."""
    if not all_tenants:
        return [info.schema]
    tenants = patterns.matching(app.loaded.database(database).tenant_schemas, there)
    return [*([info.schema] if info.schema in there else []), *(each for each in tenants if each != info.schema)] or [
        info.schema
    ]


def _notes(project: Project, schemas: Sequence[str], there: Sequence[str], holder: advisory.Holder | None) -> Iterator[str]:
    yield from project.notes
    missing = [schema for schema in schemas if schema not in there]
    if missing:
        yield f"schema {', '.join(missing)} has no {tracking.TABLE}: nothing was ever deployed there by Prisma"
    if others := [schema for schema in there if schema not in schemas]:
        shown = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
        yield f"further tracking tables, not looked at: {shown} (?schema= in the URL, or --all-tenants)"
    if holder is not None:
        yield f"Prisma's migrate lock is held by {holder}"


def good_backups(app: App, alias: str) -> tuple[list[Backup], str | None]:
    """The good ones of kind full, newest first, and what kept them from being listed."""
    try:
        return [backup for backup in app.repository.backups(alias) if backup.verified and backup.sound.kind == "full"], None
    except OpsError as error:
        return [], f"backups are not known: {error.text}"


def backup_before(backups: Sequence[Backup], schema: str, name: str) -> Backup | None:
    """The newest backup of the whole database, or of the table's own schema, in whose books the migration is not.

    The books decide, not the clocks: a row is written before its migration runs.
    """
    for backup in backups:
        scope = backup.sound.scope
        if not scope.whole and (schema not in scope.schemas or scope.tables):
            continue
        books = [each for each in backup.sound.prisma if each.get("schema") == schema]
        rows = [row for each in books for row in each.get("migrations", ())]
        if not any(row.get("name") == name and row.get("state") != "rolled_back" for row in rows):
            return backup
    return None


def _id(backup: Backup | None) -> str | None:
    return backup.id if backup is not None else None


# --- untrack --------------------------------------------------------------------------------------------------------


def plan_untrack(app: App, database: str | None, request: Request, *, all_tenants: bool) -> tuple[str, Plan]:
    """The database's name, and what :func:`perform_untrack` would do, by the same code."""
    info = app.info(database)
    with server_errors(info, "planning"), connect(info) as connection:
        return connection.info.dbname, plan(connection, place_of(app), _asked(app, database, connection, request, all_tenants))


def perform_untrack(app: App, database: str | None, request: Request, *, all_tenants: bool) -> Outcome:
    """Do it, on a session of its own that holds Prisma's lock throughout."""
    info = exclusion.named(app, database)
    with exclusion.alone(app, info, "untrack"), server_errors(info, "untracking"), \
            connect(info, application_name="naap_ops untrack") as connection:  # fmt: skip
        return untrack(connection, place_of(app), _asked(app, database, connection, request, all_tenants), app.events)


def place_of(app: App) -> Place:
    """Where a migration is untracked: the project, the archive, how long locks are waited for."""
    return Place(app.project(), app.archive, app.loaded.settings.prisma.lock_timeout.total_seconds())


def _asked(app: App, database: str | None, connection: Connection, request: Request, all_tenants: bool) -> Request:
    there = tracking.schemas(connection)
    return replace(request, schemas=schemas_of(app, database, app.info(database), there, all_tenants=all_tenants))


# --- resolve --------------------------------------------------------------------------------------------------------


def plan_resolve(
    app: App, database: str | None, request: resolving.Request, *, all_tenants: bool, tenant: str | None = None
) -> tuple[str, resolving.Plan]:
    """The database's name, and what :func:`perform_resolve` would do, by the same code."""
    info = app.info(database)
    with server_errors(info, "planning"), connect(info) as connection:
        asked = replace(request, schemas=tenant_schemas(app, database, connection, tenant, all_tenants=all_tenants))
        return connection.info.dbname, resolving.plan(connection, app.project(), asked)


def perform_resolve(
    app: App, database: str | None, request: resolving.Request, *, all_tenants: bool, tenant: str | None = None
) -> resolving.Plan:
    """Do it, on a session of its own that holds Prisma's lock throughout."""
    info = app.info(database)
    with server_errors(info, "resolving"), connect(info, application_name="naap_ops resolve") as connection:
        asked = replace(request, schemas=tenant_schemas(app, database, connection, tenant, all_tenants=all_tenants))
        return resolving.resolve(connection, app.project(), asked, app.loaded.settings.prisma.lock_timeout.total_seconds())


def tenant_schemas(
    app: App, database: str | None, connection: Connection, tenant: str | None = None, *, all_tenants: bool
) -> list[str]:
    """The URL's schema; that of one ``tenant``; or those of all, with a tracking table or without, and the URL's if it has one.

    Raises Refused for a tenant that has no schema: Prisma would make one for a mistyped name.
    """
    own, pattern = app.info(database).schema, app.loaded.database(database).tenant_schemas
    names = [name for (name,) in connection.execute("select nspname from pg_catalog.pg_namespace order by 1").fetchall()]
    if tenant is not None:
        if (schema := patterns.schema_for(pattern, tenant)) not in names:
            raise Refused(
                reason=f"there is no schema {schema!r}: nothing was done",
                hint="For a new tenant make it first: create schema. What there is: `invoke status --all-tenants`.",
            )
        return [schema]
    if not all_tenants:
        return [own]
    tenants = patterns.matching(pattern, names)
    kept = [own] if own in tracking.schemas(connection) else []
    return [*kept, *(each for each in tenants if each != own)] or [own]
