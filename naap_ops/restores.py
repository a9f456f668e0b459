"""Restores as an operator asks for them: which procedure of the restore room, from what, into what."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import exclusion
from naap_ops.app import App
from naap_ops.backup.repository import Backup
from naap_ops.config import patterns
from naap_ops.errors import BackupAmbiguous, BackupNotFound, DatabaseMissing, Refused, UsageError
from naap_ops.places import Target
from naap_ops.postgres.conninfo import resolve
from naap_ops.postgres.session import maintenance, server_info
from naap_ops.postgres.tools import find_tools
from naap_ops.restore import whole
from naap_ops.restore.outcome import Outcome, Plan, RestoreOptions

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.restore.kept import Kept
    from naap_ops.restore.kept_parts import KeptPart


@dataclass(frozen=True)
class Aim:
    """Where to: ``what`` is ``swap``, ``into``, ``schema`` or ``table``; ``name`` that of the database, schema or table."""

    what: str
    name: str = ""


def target(app: App, database: str | None) -> Target:
    """As :meth:`App.target`, but the database may be gone: then its server is enough."""
    try:
        return app.target(database)
    except DatabaseMissing:
        choice = app.choice(database)
        info = resolve(choice)
        with maintenance(info) as connection:
            server = server_info(connection)
        return Target(choice.alias or info.dbname or "", info, server, find_tools(server.major, app.loaded.settings.tools))


def options(app: App, *, owner: bool = True, privileges: bool = True, partial: bool = False) -> RestoreOptions:
    """Options from the settings and what the flags add."""
    settings = app.loaded.settings.restore
    return RestoreOptions(
        jobs=settings.jobs,
        owner=owner,
        privileges=privileges,
        partial=partial,
        maintenance_work_mem=settings.maintenance_work_mem,
        lock_timeout=settings.lock_timeout.total_seconds(),
    )


def aim(app: App, what: str, value: str, database: str | None) -> Aim:
    """An aim from a flag; a tenant is the schema its pattern makes of it."""
    if what == "tenant":
        return Aim("schema", patterns.schema_for(app.loaded.database(database).tenant_schemas, value))
    return Aim(what, value if what != "swap" else "")


def chosen(app: App, ref: str, alias: str | None, at: Aim, given: RestoreOptions) -> Backup:
    """The backup that ``ref`` means. Raises as :meth:`Repository.find`; Refused for a part in the whole's place."""
    found = app.repository.find(ref, alias)
    held = found.manifest
    if at.what == "swap" and not given.partial and held is not None and not held.scope.whole:
        try:
            other = app.repository.newest(alias)
        except (BackupNotFound, BackupAmbiguous):
            other = found
        raise Refused(
            reason=f"backup {found.id} holds only {held.scope.text()}: everything else would be gone",
            hint=(f"The newest of the whole database is {other.id}: --backup {other.id}. " if other.whole else "")
            + "Restore that part with --schema, --tenant or --table, or --into a new database.",
        )
    return found


def plan(source: Backup | Path, to: Target, at: Aim, chosen: RestoreOptions) -> Plan:
    """What :func:`restore` would do, by the same code up to the first write."""
    if isinstance(source, Path):
        from naap_ops.restore.script import plan_script

        return plan_script(source, to.info, chosen, to.tools, into=_new(at))
    if at.what == "schema":
        from naap_ops.restore.schema import plan_schema

        return plan_schema(source, to.info, at.name, chosen, to.tools)
    if at.what == "table":
        from naap_ops.restore.table import plan_table

        return plan_table(source, to.info, *table_of(source, at.name), chosen, to.tools)
    if at.what == "into":
        return whole.plan_into(source, to.info, at.name, chosen, to.tools)
    return whole.plan_swap(source, to.info, chosen, to.tools)


def restore(app: App, source: Backup | Path, to: Target, at: Aim, chosen: RestoreOptions) -> Outcome:
    """Restore a backup, or a part of one, or a script. What can go wrong: the restore room's errors, DESIGN.md, section 4."""
    if isinstance(source, Path):
        from naap_ops.restore.script import restore_script

        if at.what != "swap":
            return restore_script(source, to.info, chosen, to.tools, app.events, into=_new(at))
        with _nobody_else(app, to.info):
            return restore_script(source, to.info, chosen, to.tools, app.events, into=None)
    if at.what == "schema":
        from naap_ops.restore.schema import restore_schema

        return restore_schema(source, to.info, at.name, chosen, to.tools, app.events)
    if at.what == "table":
        from naap_ops.restore.table import restore_table

        return restore_table(source, to.info, *table_of(source, at.name), chosen, to.tools, app.events)
    if at.what == "into":
        return whole.restore_into(source, to.info, at.name, chosen, to.tools, app.events)
    with _nobody_else(app, to.info):
        return whole.restore_swap(source, to.info, chosen, to.tools, app.events)


def _nobody_else(app: App, info: ConnInfo) -> AbstractContextManager[object]:
    """No procedure under way, whose database would be put away under its hands. An unfinished one is no hindrance: a restore
    may be the way out of it."""
    return exclusion.alone(app, info, "restore", refuse=False)


def _new(at: Aim) -> str | None:
    """The new database's name for a script; None swaps."""
    if at.what not in ("swap", "into"):
        raise UsageError(detail="a script is restored whole: give --into NAME or --swap")
    return at.name or None


def table_of(backup: Backup, name: str) -> tuple[str, str]:
    """Schema and table for ``schema.table``, or for a bare name that only one schema of the backup has."""
    tables = backup.sound.tables
    found = [t for t in tables if t.qualified == name] or [t for t in tables if t.name == name]
    if len(found) != 1:
        several = ", ".join(t.qualified for t in found)
        raise UsageError(
            detail=f"{name!r} is {several}" if found else f"the backup holds no table {name!r}",
            hint="Write it as schema.table; `invoke backup.show` lists the tables.",
        )
    return found[0].schema, found[0].name


# --- what is kept ---------------------------------------------------------------------------------------------------


def kept(info: ConnInfo, *, everywhere: bool = False) -> list[Kept | KeptPart]:
    """Old databases that restores left behind (of all databases if ``everywhere``), and old schemas and tables in this one."""
    from naap_ops.restore.kept import kept as databases
    from naap_ops.restore.kept_parts import kept_parts

    with suppress(DatabaseMissing):
        return [*databases(info, None if everywhere else info.dbname), *kept_parts(info)]
    return [*databases(info, None if everywhere else info.dbname)]


def plan_undo(info: ConnInfo, at: Aim, chosen: RestoreOptions, name: str | None) -> Plan:
    """What :func:`undo` would do."""
    if at.what == "schema":
        from naap_ops.restore.kept_parts import plan_undo_schema

        return plan_undo_schema(info, at.name, chosen, name=name)
    if at.what == "table":
        from naap_ops.restore.table import plan_undo_table

        return plan_undo_table(info, *_kept_table(info, at.name), chosen, name=name)
    from naap_ops.restore.kept import plan_undo as of_database

    return of_database(info, info.dbname or "", name=name)


def undo(app: App, info: ConnInfo, at: Aim, chosen: RestoreOptions, name: str | None) -> Outcome:
    """Bring back what a restore has put aside: the newest, or the kept one ``name``."""
    if at.what == "schema":
        from naap_ops.restore.kept_parts import undo_schema

        return undo_schema(info, at.name, chosen, app.events, name=name)
    if at.what == "table":
        from naap_ops.restore.table import undo_table

        return undo_table(info, *_kept_table(info, at.name), chosen, app.events, name=name)
    from naap_ops.restore.kept import undo as of_database

    with _nobody_else(app, info):
        return of_database(info, info.dbname or "", chosen, app.events, name=name)


def _kept_table(info: ConnInfo, name: str) -> tuple[str, str]:
    """Schema and table for ``schema.table``, or for a bare name if only one table of that name is kept. Raises UsageError."""
    from naap_ops.restore.kept_parts import kept_parts, table_names

    there = sorted({part.of for part in kept_parts(info) if part.kind == "table"})
    found = [of for of in there if of == name] or [of for of in there if table_names(info, of)[1] == name]
    if len(found) == 1:
        return table_names(info, found[0])
    if "." in name and not found:
        return table_names(info, name)
    detail = f"{name!r} is {', '.join(found)}" if found else f"no restore has kept a table {name!r}: nothing to undo"
    raise UsageError(detail=detail, hint="Write it as schema.table; `invoke restore.kept` lists what is kept.")


def droppable(info: ConnInfo, name: str) -> Kept | KeptPart:
    """What :func:`drop_old` would drop. Raises Refused for anything that no restore has kept."""
    from naap_ops.restore.kept import droppable as database

    for each in kept(info):
        if each.name == name:
            return each
    return database(info, name)


def drop_old(info: ConnInfo, name: str, chosen: RestoreOptions) -> Kept | KeptPart:
    """Drop a kept database, or the schema of a kept schema or table. Raises Refused for anything that bears no mark."""
    from naap_ops.restore.kept import drop_old as database
    from naap_ops.restore.kept_parts import drop_old_part

    if name in [each.name for each in kept(info) if hasattr(each, "kind")]:
        return drop_old_part(info, name, name, chosen)
    return database(info, name, name)
