"""One schema (or tenant) restored into the live database, in one transaction.

The live schema is renamed and a new one made under its name: who reads meanwhile keeps seeing the old tables until the commit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from naap_ops import clock
from naap_ops.backup.manifest import Manifest, TableFact, counted
from naap_ops.backup.repository import Backup
from naap_ops.backup.toc import Entry
from naap_ops.errors import PartNotFound, Refused
from naap_ops.events import Events
from naap_ops.restore import contents, fence, keys, lost, marks, matviews, publications, rights, schema_facts
from naap_ops.restore.archive import Archive
from naap_ops.restore.contents import Contents
from naap_ops.restore.dependants import Around, ForeignKey, around
from naap_ops.restore.live import (
    analyze,
    comment_on_schema,
    free_schema_name,
    live_transaction,
)
from naap_ops.restore.marks import Mark
from naap_ops.restore.outcome import Outcome, Plan, RestoreOptions, described, size_text, totals
from naap_ops.restore.schema_facts import LiveSchema, live_schema
from naap_ops.wording import count_of

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

    Raises Refused (something outside depends on it and cannot be put back, rows are missing), PartNotFound when the backup
    does not hold it, BackupDamaged, Busy, Blocked, PrivilegeMissing. After any of them the database is as it was.
    """
    began = clock.monotonic()
    archive = Archive(backup, tools, options)
    tables = _tables(archive.manifest, backup, schema)
    with archive.choose(tables), live_transaction(info, options, f"restoring schema {schema}") as connection:
        archive.gate(connection)
        live = live_schema(connection, schema)
        neighbours = _around(connection, live)
        made = live or _recorded(archive.manifest, schema, options)
        stages = archive.stages(lambda found: _entries(found, anew=live is None), f"--schema={schema}")
        fence.room_for_locks(connection, contents.relations(stages), made.oid)
        gone = lost.find(connection, archive, stages)
        notes = [*_cached_types(connection, live), *publications.all_tables(connection), *gone.notes(info)]
        kept = step_aside(connection, live, marks.BEFORE)
        schema_facts.create(connection, made)
        schema_facts.move_extensions(connection, made.extensions, schema)
        _add_extensions(connection, archive.manifest, schema)
        events.emit("restore.step", name="load", text=f"loading schema {schema}")
        rows = archive.load(connection, stages, events, lambda: rights.reset(connection, schema))
        archive.proven()
        events.emit("restore.step", name="check", text="statistics, rights, foreign keys")
        if archive.manifest.kind == "data":
            matviews.refresh(connection, schema)
        schema_facts.grant(connection, made)
        lost.put_back(connection, gone)
        settled = settle(connection, live, neighbours, kept, Mark(marks.BEFORE, schema, backup.id), schema)
        notes += lost.set_defaults(connection, gone)
    return Outcome(
        database=info.dbname or "",
        previous=kept,
        seconds=round(clock.monotonic() - began, 3),
        downtime_seconds=settled.waited(),
        tables=counted(tables),
        rows=rows,
        backup=backup.id,
        notes=notes + settled.notes,
    )


def plan_schema(backup: Backup, info: ConnInfo, schema: str, options: RestoreOptions, tools: Toolset) -> Plan:
    """What :func:`restore_schema` would do."""
    archive = Archive(backup, tools, options)
    tables = _tables(archive.manifest, backup, schema)
    with archive.choose(tables), live_transaction(info, options, "planning") as connection:
        archive.gate(connection)
        live = live_schema(connection, schema)
        neighbours = _around(connection, live)
        stages = archive.stages(lambda found: _entries(found, anew=live is None), f"--schema={schema}")
        fence.room_for_locks(connection, contents.relations(stages), live.oid if live else None)
        gone = lost.find(connection, archive, stages)
        lines = [f"restore schema {schema} from {described(archive.manifest)}: {totals(tables)}"]
        if live is None:
            lines.append(f"create schema {schema}, which does not exist")
        else:
            kept = free_schema_name(connection, schema, marks.BEFORE)
            size = size_text(schema_facts.total_bytes(connection, live.oid))
            lines.append(f"rename the live schema {schema} ({count_of(live.tables, 'table')}, {size}) to {kept}")
            lines.append(f"what is written to {schema} before the restore is through goes into {kept} and stays there")
            lines += key_lines(neighbours)
        lines += gone.planned()
        notes = [*publications.planned(neighbours.publications), *_cached_types(connection, live)]
        notes += [*publications.all_tables(connection), *gone.notes(info)]
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


@dataclass(frozen=True)
class Settled:
    """``notes``: what people must know. ``locked``: since when readers wait, by the monotonic clock; None: nobody does."""

    notes: list[str]
    locked: float | None

    def waited(self) -> float:
        """Seconds until now, which is after the commit."""
        return 0.0 if self.locked is None else round(clock.monotonic() - self.locked, 3)


def settle(
    connection: Connection, live: LiveSchema | None, neighbours: Around, kept: str | None, mark: Mark, schema: str
) -> Settled:
    """Statistics; keys turned to the new tables and taken off the kept ones; publications; the mark.

    What takes long comes first. Then the kept tables are locked, and what has come to lean on them since the first look counts:
    keys are turned too, anything else is refused.
    """
    analyze(connection, [(nsp, name) for nsp, name in connection.execute(_RELATIONS, [schema])])
    keys.point(connection, neighbours.inbound)
    if live is None or kept is None:
        return Settled([], None)
    fence.lock_schema(connection, live.oid)
    locked = clock.monotonic()
    now = _look_again(connection, live, kept)
    known, there = ({key.oid for key in each.inbound} for each in (neighbours, now))
    keys.forget(connection, [key for key in neighbours.inbound if key.oid not in there])
    keys.point(connection, [key for key in now.inbound if key.oid not in known])
    keys.replace(connection, now.inbound)
    keys.drop(connection, now.outbound, kept)
    notes = publications.turn(connection, kept, schema)
    dropped = [asdict(key) for key in now.outbound]
    marked = replace(mark, comment=live.comment, data={"kind": KIND, "foreign_keys": dropped})
    comment_on_schema(connection, kept, marked.text())
    return Settled(notes, locked)


def _look_again(connection: Connection, live: LiveSchema, kept: str) -> Around:
    """Around the kept schema, under the name it had: the definitions of keys tell the names of tables."""
    name, rename = sql.Identifier(live.name), sql.SQL("alter schema {} rename to {}")
    out_of_the_way = sql.Identifier(free_schema_name(connection, live.name, marks.RESTORE))
    with connection.transaction(force_rollback=True):
        connection.execute(rename.format(name, out_of_the_way))
        connection.execute(rename.format(sql.Identifier(kept), name))
        return _around(connection, live)


def taken_off(mark: Mark) -> list[ForeignKey]:
    """The keys that were taken off what ``mark`` is on."""
    return [ForeignKey.from_json(raw) for raw in mark.data.get("foreign_keys", [])]


# --- from the backup ------------------------------------------------------------------------------------------------


def _tables(manifest: Manifest, backup: Backup, schema: str) -> list[TableFact]:
    """The schema's tables in the backup. Raises PartNotFound, Refused when the backup holds a part of the schema only."""
    scope = manifest.scope
    tables = [table for table in manifest.tables if table.schema == schema]
    known = {each["name"] for each in manifest.schemas}
    if (scope.schemas and schema not in scope.schemas) or (not tables and schema not in known):
        there = ", ".join(scope.schemas or sorted(known)) or "none"
        raise PartNotFound(id=backup.id, part=f"schema {schema}", hint=f"Its schemas: {there}.")
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


def _cached_types(connection: Connection, live: LiveSchema | None) -> list[str]:
    """Types that get new oids: enums, domains, ranges, composite ones. Those of tables are asked for by nobody."""
    query = """
    select typname from pg_type t left join pg_class c on c.oid = typrelid
    where typnamespace = %s and typtype in ('e', 'd', 'r', 'c') and coalesce(relkind, 'c') = 'c' order by typname
    """
    names = [] if live is None else [name for (name,) in connection.execute(query, [live.oid])]
    if not names:
        return []
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [f"clients that have cached this schema's types ({listed}) may have to reconnect"]
