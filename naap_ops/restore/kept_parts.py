"""The schemas and tables that restores have left behind in a live database: listed, swapped back, dropped by typed name.

A kept schema is ``<schema>__before_<time>``; a kept table stands in a schema of its own, ``naap_ops_before_<time>``.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from naap_ops import clock
from naap_ops.errors import Refused
from naap_ops.events import Events
from naap_ops.postgres.session import connect
from naap_ops.restore import fence, keys, marks, schema_facts
from naap_ops.restore.dependants import Around, around
from naap_ops.restore.failures import server_errors
from naap_ops.restore.live import comment_on_schema, free_schema_name, live_transaction, schema_oid
from naap_ops.restore.marks import Mark
from naap_ops.restore.outcome import Outcome, Plan, RestoreOptions, size_text
from naap_ops.restore.schema import KIND, key_lines, settle, step_aside, taken_off
from naap_ops.restore.schema_facts import live_schema

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_MARKED: LiteralString = """
select nspname, oid::bigint, obj_description(oid, 'pg_namespace') from pg_namespace
where obj_description(oid, 'pg_namespace') like '{%'
"""


@dataclass(frozen=True)
class KeptPart:
    """``name`` is the schema that holds it; ``of`` what it was: a schema, or ``schema.table``; ``kind`` which of them.

    ``role`` is ``before`` or ``undone``, ``at`` when it stepped aside, ``backup`` what replaced it, ``bytes`` its size.
    """

    name: str
    of: str
    kind: str
    role: str
    at: str
    backup: str | None
    bytes: int


def kept_parts(info: ConnInfo, of: str | None = None) -> list[KeptPart]:
    """What is kept in the database of ``info``, newest first; ``of`` limits it to one schema or one ``schema.table``."""
    with server_errors(info, "looking for kept schemas"), closing(connect(info)) as connection:
        return [part for part, _ in _kept(connection, of)]


def table_names(info: ConnInfo, of: str) -> tuple[str, str]:
    """Schema and table of the kept table ``of``: names may hold dots, and the mark knows them apart."""
    with server_errors(info, "looking for kept tables"), closing(connect(info)) as connection:
        data = next((mark.data for part, mark in _kept(connection, of) if part.kind == "table"), {})
    schema, _, table = of.partition(".")
    return str(data.get("schema", schema)), str(data.get("table", table))


def _kept(connection: Connection, of: str | None) -> list[tuple[KeptPart, Mark]]:
    found = []
    for name, oid, comment in connection.execute(_MARKED).fetchall():
        mark = marks.read(comment)
        if mark is None or mark.role not in (marks.BEFORE, marks.UNDONE) or of not in (None, mark.of) or name == mark.of:
            continue
        size = schema_facts.total_bytes(connection, oid)
        kind = str(mark.data.get("kind", KIND))
        found.append((KeptPart(name, mark.of, kind, mark.role, mark.at, mark.backup, size), mark))
    return sorted(found, key=lambda each: (each[0].at, each[0].name), reverse=True)


def chosen(connection: Connection, of: str, kind: str, name: str | None) -> tuple[KeptPart, Mark]:
    """What to bring back: the kept one of that name, else the newest that was live before a restore. Raises Refused."""
    found = [each for each in _kept(connection, of) if each[0].kind == kind]
    wanted = [each for each in found if (each[0].name == name if name else each[0].role == marks.BEFORE)]
    if not wanted:
        there = ", ".join(part.name for part, _ in found) or "none"
        nothing = "the last restore has been undone already" if found else "no restore has kept one"
        what = f"{name} is not kept by a restore" if name else nothing
        raise Refused(reason=f"{what} of {kind} {of}: nothing to undo", hint=f"Kept of it, for --kept NAME: {there}.")
    return wanted[0]


def plan_undo_schema(info: ConnInfo, schema: str, options: RestoreOptions, *, name: str | None = None) -> Plan:
    """What :func:`undo_schema` would do."""
    with live_transaction(info, options, "planning") as connection:
        part, mark = chosen(connection, schema, KIND, name)
        live = live_schema(connection, schema)
        lines = [f"rename schema {part.name} ({size_text(part.bytes)}), live until {part.at}, back to {schema}"]
        if live is not None:
            neighbours = around(connection, "pg_namespace", live.oid, live.oid, f"schema {schema}")
            undone = free_schema_name(connection, schema, marks.UNDONE)
            lines.insert(0, f"rename the live schema {schema} to {undone}; what was written since {part.at} stays there")
            lines += key_lines(neighbours)
        return Plan(info.dbname or "", lines + given_back_lines(mark))


def given_back_lines(mark: Mark) -> list[str]:
    """The keys that would be given back, for people."""
    return [f"give foreign key {key} back, and check it" for key in taken_off(mark)]


def undo_schema(info: ConnInfo, schema: str, options: RestoreOptions, events: Events, *, name: str | None = None) -> Outcome:
    """Bring the newest kept schema (or the kept one ``name``) back; what is live now is kept as ``<schema>__undone_<time>``.

    Raises Refused when nothing is kept or a foreign key cannot be put back, Busy, Blocked, PrivilegeMissing.
    """
    began = clock.monotonic()
    with live_transaction(info, options, f"undoing the restore of schema {schema}") as connection:
        part, mark = chosen(connection, schema, KIND, name)
        events.emit("restore.step", name="swap", text=f"putting {part.name} back in place as {schema}")
        live = live_schema(connection, schema)
        neighbours = Around([], [], [])
        if live is not None:
            neighbours = around(connection, "pg_namespace", live.oid, live.oid, f"schema {schema}")
        undone = step_aside(connection, live, marks.UNDONE)
        rename = sql.SQL("alter schema {} rename to {}")
        connection.execute(rename.format(sql.Identifier(part.name), sql.Identifier(schema)))
        schema_facts.move_extensions(connection, live.extensions if live else (), schema)
        comment_on_schema(connection, schema, mark.comment)
        for key in taken_off(mark):
            keys.add(connection, key)
        settled = settle(connection, live, neighbours, undone, Mark(marks.UNDONE, schema, part.backup), schema)
    return Outcome(
        database=info.dbname or "",
        previous=undone,
        seconds=round(clock.monotonic() - began, 3),
        downtime_seconds=settled.waited(),
        tables=0,
        rows=0,
        backup=part.backup,
        notes=settled.notes,
    )


def drop_old_part(info: ConnInfo, name: str, typed: str, options: RestoreOptions) -> KeptPart:
    """Drop the kept schema ``name``, or the one that holds a kept table; ``typed`` must be that name exactly.

    Raises Refused for anything that bears no mark of a restore, and when something outside has come to depend on it.
    """
    if typed != name:
        raise Refused(reason=f"{typed!r} was typed, not {name!r}: nothing is dropped")
    with live_transaction(info, options, f"dropping kept schema {name}") as connection:
        found = [part for part, _ in _kept(connection, None) if part.name == name]
        if not found:
            raise Refused(
                reason=f"{name!r} is not a schema that a restore has kept: it bears no mark of one, and is not dropped"
            )
        oid = schema_oid(connection, name)
        assert oid is not None
        fence.lock_schema(connection, oid)
        _nothing_else(connection, oid, name)
        connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(name)))
    return found[0]


def _nothing_else(connection: Connection, oid: int, name: str) -> None:
    """CASCADE must not reach anything outside the schema."""
    neighbours = around(connection, "pg_namespace", oid, oid, f"schema {name}")
    extensions = [each for (each,) in connection.execute("select extname from pg_extension where extnamespace = %s", [oid])]
    held = [*(f"foreign key {key}" for key in neighbours.inbound), *(f"extension {each}" for each in extensions)]
    if held:
        raise Refused(reason=f"schema {name} cannot be dropped: it is needed by {', '.join(held)}")
