"""One schema (or tenant) restored into the live database, in one transaction.

The live schema is renamed and a new one made under its name: who reads meanwhile keeps seeing the old tables until the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from naap_ops import clock
from naap_ops.backup.manifest import Manifest, TableFact
from naap_ops.backup.repository import Backup
from naap_ops.backup.toc import Entry
from naap_ops.errors import BackupNotFound, Refused
from naap_ops.events import Events
from naap_ops.restore import keys, marks, matviews, schema_facts
from naap_ops.restore.archive import Archive
from naap_ops.restore.contents import Contents
from naap_ops.restore.dependants import Around, ForeignKey, around
from naap_ops.restore.live import (
    analyze,
    comment_on_schema,
    free_schema_name,
    live_transaction,
    publication_note,
)
from naap_ops.restore.marks import Mark
from naap_ops.restore.outcome import Outcome, Plan, RestoreOptions, described, size_text, totals
from naap_ops.restore.schema_facts import LiveSchema, live_schema

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset

KIND = "schema"

_RELATIONS: LiteralString = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %s and c.relkind in ('r', 'm', 'p') and not c.relispartition order by c.relname
"""


def restore_schema(
    backup: Backup, info: ConnInfo, schema: str, options: RestoreOptions, tools: Toolset, events: Events
) -> Outcome:
    """Restore ``schema`` into the database ``info`` names; the live one is kept as ``<schema>__before_<time>``.

    Raises Refused (something outside depends on it and cannot be put back, rows are missing), BackupNotFound when the backup
    does not hold it, BackupDamaged, Busy, Blocked, PrivilegeMissing. After any of them the database is as it was.
    """
    began = clock.monotonic()
    archive = Archive(backup, tools, options)
    tables = _tables(archive.manifest, backup, schema)
    with archive.choose(tables), live_transaction(info, options, f"the restore of schema {schema}") as connection:
        archive.gate(connection)
        live = live_schema(connection, schema)
        neighbours = _around(connection, live)
        made = live or _recorded(archive.manifest, schema, options)
        stages = archive.stages(lambda found: _entries(found, anew=live is None), f"--schema={schema}")
        notes = [*publication_note(neighbours.publications), *_cached_types(live)]
        kept = step_aside(connection, live, marks.BEFORE)
        schema_facts.create(connection, made)
        schema_facts.move_extensions(connection, made.extensions, schema)
        _add_extensions(connection, archive.manifest, schema)
        events.emit("restore.step", name="load", text=f"loading schema {schema}")
        rows = archive.load(connection, stages, events)
        archive.proven()
        events.emit("restore.step", name="check", text="statistics, rights, foreign keys")
        if archive.manifest.kind == "data":
            matviews.refresh(connection, schema)
        schema_facts.grant(connection, made)
        settle(connection, live, neighbours, kept, Mark(marks.BEFORE, schema, backup.id), schema)
    return _outcome(info, kept, began, len(tables), rows, backup.id, notes)


def plan_schema(backup: Backup, info: ConnInfo, schema: str, options: RestoreOptions, tools: Toolset) -> Plan:
    """What :func:`restore_schema` would do."""
    archive = Archive(backup, tools, options)
    tables = _tables(archive.manifest, backup, schema)
    with archive.choose(tables), live_transaction(info, options, "planning") as connection:
        archive.gate(connection)
        live = live_schema(connection, schema)
        neighbours = _around(connection, live)
        archive.stages(lambda found: _entries(found, anew=live is None), f"--schema={schema}")
        lines = [f"restore schema {schema} from {described(archive.manifest)}: {totals(tables)}"]
        if live is None:
            lines.append(f"create schema {schema}, which does not exist")
        else:
            kept = free_schema_name(connection, schema, marks.BEFORE)
            size = size_text(schema_facts.total_bytes(connection, live.oid))
            lines.append(f"rename the live schema {schema} ({live.tables} tables, {size}) to {kept}")
            lines += key_lines(neighbours)
        notes = [*publication_note(neighbours.publications), *_cached_types(live)]
        return Plan(info.dbname or "", lines + [f"note: {note}" for note in notes], notes)


def key_lines(neighbours: Around) -> list[str]:
    """What would happen to foreign keys, for people."""
    lines = [f"point foreign key {key} at the restored tables, and check it" for key in neighbours.inbound]
    return lines + [f"take foreign key {key} off the tables that are kept" for key in neighbours.outbound]


# --- the steps, shared with undoing ---------------------------------------------------------------------------------


def step_aside(connection: Connection, live: LiveSchema | None, role: str) -> str | None:
    """Rename the live schema out of the way. Its new name."""
    if live is None:
        return None
    kept = free_schema_name(connection, live.name, role)
    connection.execute(sql.SQL("alter schema {} rename to {}").format(sql.Identifier(live.name), sql.Identifier(kept)))
    return kept


def settle(
    connection: Connection, live: LiveSchema | None, neighbours: Around, kept: str | None, mark: Mark, schema: str
) -> None:
    """Statistics; keys turned to the new tables and taken off the kept ones; the mark. What keeps others out comes last."""
    analyze(connection, [(nsp, name) for nsp, name in connection.execute(_RELATIONS, [schema])])
    keys.turn(connection, neighbours.inbound)
    if live is None or kept is None:
        return
    keys.drop(connection, neighbours.outbound, kept)
    dropped = [asdict(key) for key in neighbours.outbound]
    marked = replace(mark, comment=live.comment, data={"kind": KIND, "foreign_keys": dropped})
    comment_on_schema(connection, kept, marked.text())


def taken_off(mark: Mark) -> list[ForeignKey]:
    """The keys that were taken off what ``mark`` is on."""
    return [ForeignKey.from_json(raw) for raw in mark.data.get("foreign_keys", [])]


# --- from the backup ------------------------------------------------------------------------------------------------


def _tables(manifest: Manifest, backup: Backup, schema: str) -> list[TableFact]:
    """The schema's tables in the backup. Raises BackupNotFound, Refused when the backup holds a part of the schema only."""
    scope = manifest.scope
    tables = [table for table in manifest.tables if table.schema == schema]
    known = {each["name"] for each in manifest.schemas}
    if (scope.schemas and schema not in scope.schemas) or (not tables and schema not in known):
        there = ", ".join(scope.schemas or sorted(known)) or "none"
        raise BackupNotFound(
            ref=f"{backup.id} with schema {schema}",
            database=f"database {backup.alias!r}",
            repository=backup.storage.url,
            hint=f"It holds: {there}.",
        )
    if scope.tables:
        raise Refused(
            reason=f"the backup holds only {scope.text()}: other tables of schema {schema} would be gone",
            hint="Restore those tables with --table.",
        )
    return tables


def _recorded(manifest: Manifest, schema: str, options: RestoreOptions) -> LiveSchema:
    """A schema that is not there any more, as the backup knows it."""
    fact = next((each for each in manifest.schemas if each["name"] == schema), {})
    return LiveSchema(
        oid=0,
        name=schema,
        owner=fact.get("owner") if options.owner else None,
        acl=fact.get("acl") if options.privileges else None,
        comment=fact.get("comment"),
        tables=0,
        defaults=(),
        extensions=(),
    )


def _entries(found: Contents, *, anew: bool) -> list[Entry]:
    """The schema's entries. Rows of tables that no entry makes are an extension's, and live with it."""
    made = {e.oid for e in found.entries if e.describes("TABLE")}
    chosen = found.of_schema(default_privileges=anew)
    return [e for e in chosen if not (e.describes("TABLE DATA") and e.oid not in made)]


def _add_extensions(connection: Connection, manifest: Manifest, schema: str) -> None:
    """Extensions that were in the schema and are nowhere now."""
    wanted = [each["name"] for each in manifest.extensions if each["schema"] == schema]
    present = {name for (name,) in connection.execute("select extname from pg_extension where extname = any(%s)", [wanted])}
    for name in sorted(set(wanted) - present):
        statement = sql.SQL("create extension {} schema {} cascade")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(schema)))


def _around(connection: Connection, live: LiveSchema | None) -> Around:
    if live is None:
        return Around([], [], [])
    return around(connection, "pg_namespace", live.oid, live.oid, f"schema {live.name}")


def _cached_types(live: LiveSchema | None) -> list[str]:
    if live is None:
        return []
    return ["clients that have cached this schema's types (enums) or prepared statements on it may have to reconnect"]


def _outcome(
    info: ConnInfo, kept: str | None, began: float, tables: int, rows: int, backup: str | None, notes: Sequence[str]
) -> Outcome:
    return Outcome(
        database=info.dbname or "",
        previous=kept,
        seconds=round(clock.monotonic() - began, 3),
        downtime_seconds=0.0,
        tables=tables,
        rows=rows,
        backup=backup,
        notes=list(notes),
    )
