"""One table restored into the live database, in one transaction.

The live table moves, with its indexes and the sequences it owns, into a schema of its own, and a new one is made in its place.
Who reads it meanwhile waits for the commit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from naap_ops import clock
from naap_ops.backup.manifest import TableFact
from naap_ops.backup.repository import Backup
from naap_ops.errors import PartNotFound, Refused
from naap_ops.events import Events
from naap_ops.restore import fence, keys, lost, marks, publications, rights
from naap_ops.restore.archive import Archive
from naap_ops.restore.dependants import Around, around
from naap_ops.restore.kept_parts import chosen, given_back_lines
from naap_ops.restore.live import (
    analyze,
    comment_on_schema,
    free_schema_name,
    live_transaction,
    schema_oid,
)
from naap_ops.restore.marks import Mark
from naap_ops.restore.outcome import Outcome, Plan, RestoreOptions, described, size_text, totals
from naap_ops.restore.schema import key_lines, taken_off
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset

KIND = "table"

_TABLE: LiteralString = """
select c.oid::bigint, n.oid::bigint, c.relkind::text, c.relispartition,
  array(select x.stxname::text from pg_statistic_ext x where x.stxrelid = c.oid and x.stxnamespace = c.relnamespace)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s
"""


@dataclass(frozen=True)
class LiveTable:
    """``statistics`` are the names of its extended statistics, which do not move with it by themselves."""

    oid: int
    schema_oid: int
    schema: str
    name: str
    statistics: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def restore_table(
    backup: Backup, info: ConnInfo, schema: str, table: str, options: RestoreOptions, tools: Toolset, events: Events
) -> Outcome:
    """Restore ``schema.table`` into the database ``info`` names; the live one is kept in a schema ``naap_ops_before_<time>``.

    Raises as :func:`naap_ops.restore.schema.restore_schema`. ``downtime_seconds`` is how long readers of the table waited.
    """
    began = clock.monotonic()
    archive = Archive(backup, tools, options)
    fact = _fact(archive, schema, table)
    with archive.choose([fact]), live_transaction(info, options, f"restoring table {fact.qualified}") as connection:
        archive.gate(connection)
        live, neighbours = _look(connection, schema, table)
        stages = archive.stages(lambda found: found.of_table(fact), "--verbose")
        gone = lost.find(connection, archive, stages)
        notes = [*publications.all_tables(connection), *gone.notes(info)]
        locked = clock.monotonic()
        live, neighbours = _look_locked(connection, live, neighbours)
        kept = _step_aside(connection, live, marks.BEFORE)
        events.emit("restore.step", name="load", text=f"loading table {fact.qualified}")
        rows = archive.load(connection, stages, events, lambda: rights.reset(connection, schema, table))
        archive.proven()
        lost.put_back(connection, gone)
        notes += _settle(connection, live, neighbours, kept, Mark(marks.BEFORE, fact.qualified, backup.id), schema, table)
        notes += lost.set_defaults(connection, gone)
    waited = clock.monotonic() - locked if live is not None else 0.0
    return _outcome(info, kept, began, waited, 1, rows, backup.id, notes)


def plan_table(backup: Backup, info: ConnInfo, schema: str, table: str, options: RestoreOptions, tools: Toolset) -> Plan:
    """What :func:`restore_table` would do."""
    archive = Archive(backup, tools, options)
    fact = _fact(archive, schema, table)
    with archive.choose([fact]), live_transaction(info, options, "planning") as connection:
        archive.gate(connection)
        live, neighbours = _look(connection, schema, table)
        gone = lost.find(connection, archive, archive.stages(lambda found: found.of_table(fact), "--verbose"))
        lines = [f"restore table {fact.qualified} from {described(archive.manifest)}: {totals([fact])}"]
        if live is None:
            lines.append(f"create table {fact.qualified}, which does not exist")
        else:
            kept = free_schema_name(connection, None, marks.BEFORE)
            row = connection.execute("select pg_total_relation_size(%s::oid)", [live.oid]).fetchone()
            size = size_text(row[0]) if row else "?"
            lines.append(f"move the live table {live} ({size}) to schema {kept}; who uses it waits until the new one is there")
            lines += key_lines(neighbours)
        lines += gone.planned()
        notes = [*publications.planned(neighbours.publications), *publications.all_tables(connection), *gone.notes(info)]
        return Plan(info.dbname or "", lines + [f"note: {note}" for note in notes], notes)


def plan_undo_table(info: ConnInfo, schema: str, table: str, options: RestoreOptions, *, name: str | None = None) -> Plan:
    """What :func:`undo_table` would do."""
    of = f"{schema}.{table}"
    with live_transaction(info, options, "planning") as connection:
        part, mark = chosen(connection, of, KIND, name)
        live, neighbours = _look(connection, schema, table)
        lines = [f"move {part.name}.{table} ({size_text(part.bytes)}), live until {part.at}, back to {of}"]
        if live is not None:
            undone = free_schema_name(connection, None, marks.UNDONE)
            lines.insert(0, f"move the live table {of} to schema {undone}; what was written since {part.at} stays there")
            lines += key_lines(neighbours)
        return Plan(info.dbname or "", lines + given_back_lines(mark))


def undo_table(
    info: ConnInfo, schema: str, table: str, options: RestoreOptions, events: Events, *, name: str | None = None
) -> Outcome:
    """Bring the newest kept copy of the table (or that in schema ``name``) back; what is live now is kept in its turn."""
    began = clock.monotonic()
    of = f"{schema}.{table}"
    with live_transaction(info, options, f"undoing the restore of table {of}") as connection:
        part, mark = chosen(connection, of, KIND, name)
        events.emit("restore.step", name="swap", text=f"putting {part.name}.{table} back in place as {of}")
        live, neighbours = _look(connection, schema, table)
        locked = clock.monotonic()
        live, neighbours = _look_locked(connection, live, neighbours)
        undone = _step_aside(connection, live, marks.UNDONE)
        back = _live(connection, part.name, table)
        if back is None:
            raise Refused(reason=f"schema {part.name} does not hold table {table} any more")
        _move(connection, back, schema)
        connection.execute(sql.SQL("drop schema {}").format(sql.Identifier(part.name)))
        for key in taken_off(mark):
            keys.add(connection, key)
        notes = _settle(connection, live, neighbours, undone, Mark(marks.UNDONE, of, part.backup), schema, table)
    waited = clock.monotonic() - locked
    return _outcome(info, undone, began, waited, 0, 0, part.backup, notes)


# --- looking --------------------------------------------------------------------------------------------------------


def _fact(archive: Archive, schema: str, table: str) -> TableFact:
    """The table in the backup. Raises PartNotFound."""
    fact = archive.manifest.table(schema, table)
    if fact is not None:
        return fact
    import difflib

    names = [each.qualified for each in archive.manifest.tables]
    near = difflib.get_close_matches(f"{schema}.{table}", names, n=3)
    raise PartNotFound(
        id=archive.backup.id,
        part=f"table {schema}.{table}",
        hint=f"It holds {', '.join(near)}." if near else f"It holds {count_of(len(names), 'other table')}.",
    )


def _look(connection: Connection, schema: str, table: str) -> tuple[LiveTable | None, Around]:
    """The live table, and what is around it. Raises Refused for what cannot be replaced alone."""
    if schema_oid(connection, schema) is None:
        raise Refused(reason=f"schema {schema} does not exist", hint=f"Restore all of it with --schema {schema}.")
    live = _live(connection, schema, table)
    if live is None:
        return None, Around([], [], [])
    return live, around(connection, "pg_class", live.oid, live.schema_oid, f"table {live}")


def _look_locked(connection: Connection, live: LiveTable | None, first: Around) -> tuple[LiveTable | None, Around]:
    """Lock the live table and look again: what was not committed at the first look is, or is waiting for us."""
    if live is None:
        return None, first
    fence.lock_table(connection, live.schema, live.name)
    return _look(connection, live.schema, live.name)


def _live(connection: Connection, schema: str, table: str) -> LiveTable | None:
    row = connection.execute(_TABLE, [schema, table]).fetchone()
    if row is None:
        return None
    oid, nsp, kind, partition, statistics = row
    if kind != "r" or partition:
        what = "a partition" if partition else {"p": "partitioned", "v": "a view", "m": "a view"}.get(kind, "no ordinary table")
        raise Refused(
            reason=f"{schema}.{table} is {what}: it cannot be replaced alone",
            hint=f"Restore its schema with --schema {schema}.",
        )
    return LiveTable(oid, nsp, schema, table, tuple(statistics))


# --- the steps ------------------------------------------------------------------------------------------------------


def _step_aside(connection: Connection, live: LiveTable | None, role: str) -> str | None:
    """Move the live table into a new schema of ours. The schema's name."""
    if live is None:
        return None
    kept = free_schema_name(connection, None, role)
    connection.execute(sql.SQL("create schema {}").format(sql.Identifier(kept)))
    _move(connection, live, kept)
    return kept


def _move(connection: Connection, table: LiveTable, schema: str) -> None:
    """Move a table with what does not move by itself."""
    move = sql.SQL("alter {} {} set schema {}")
    connection.execute(move.format(sql.SQL("table"), sql.Identifier(table.schema, table.name), sql.Identifier(schema)))
    for name in table.statistics:
        connection.execute(move.format(sql.SQL("statistics"), sql.Identifier(table.schema, name), sql.Identifier(schema)))


def _settle(
    connection: Connection,
    live: LiveTable | None,
    neighbours: Around,
    kept: str | None,
    mark: Mark,
    schema: str,
    table: str,
) -> list[str]:
    """Statistics; keys turned to the new table and taken off the kept one; publications; the mark. What people must know."""
    analyze(connection, [(schema, table)])
    keys.turn(connection, neighbours.inbound)
    if live is None or kept is None:
        return []
    keys.drop(connection, neighbours.outbound, kept)
    notes = publications.turn(connection, kept, schema)
    dropped = [asdict(key) for key in neighbours.outbound]
    marked = replace(mark, data={"kind": KIND, "schema": schema, "table": table, "foreign_keys": dropped})
    comment_on_schema(connection, kept, marked.text())
    return notes


def _outcome(
    info: ConnInfo, kept: str | None, began: float, waited: float, tables: int, rows: int, backup: str | None, notes: list[str]
) -> Outcome:
    return Outcome(
        database=info.dbname or "",
        previous=kept,
        seconds=round(clock.monotonic() - began, 3),
        downtime_seconds=round(waited, 3),
        tables=tables,
        rows=rows,
        backup=backup,
        notes=notes,
    )
