"""Publications that list what is replaced: turned to the new tables, with their column lists and row filters.

They hold their members by oid, so after the renames they list what is kept. Adding a table takes the owner of the publication,
adding a schema a superuser; who is neither gets the statements to be typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_TABLES: LiteralString = """
select p.pubname, c.relname,
  array(select a.attname::text from unnest(r.prattrs) with ordinality u(n, i)
    join pg_attribute a on a.attrelid = r.prrelid and a.attnum = u.n order by i),
  pg_get_expr(r.prqual, r.prrelid),
  exists (select from pg_class t join pg_namespace s on s.oid = t.relnamespace
    where s.nspname = %(schema)s and t.relname = c.relname and t.relkind in ('r', 'p'))
from pg_publication_rel r
join pg_publication p on p.oid = r.prpubid join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(kept)s order by p.pubname, c.relname
"""

_SCHEMAS: LiteralString = """
select p.pubname from pg_publication_namespace m join pg_publication p on p.oid = m.pnpubid
join pg_namespace n on n.oid = m.pnnspid where n.nspname = %s order by 1
"""

_ALL: LiteralString = "select pubname from pg_publication where puballtables order by 1"

_COPY_ANEW = "its subscribers have the rows from before: truncate and copy these tables there anew"


@dataclass(frozen=True)
class _Change:
    """One member: ``out`` takes the kept one out, ``in_`` puts the new one in."""

    publication: str
    out: sql.Composed
    in_: sql.Composed

    def text(self, connection: Connection) -> str:
        return "; ".join(each.as_string(connection) for each in (self.out, self.in_)) + ";"


def turn(connection: Connection, kept: str, schema: str) -> list[str]:
    """Put the tables of ``schema`` into publications in place of those of the same names in ``kept``. What people must know."""
    notes: list[str] = []
    turned: dict[str, None] = {}
    for change in _changes(connection, kept, schema, notes):
        try:
            with connection.transaction():
                connection.execute(change.out)
                connection.execute(change.in_)
            turned[change.publication] = None
        except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.DataError) as error:
            notes.append(
                f"publication {change.publication} still holds what is kept ({error.diag.message_primary}); as its owner or a"
                f" superuser, type: {change.text(connection)}"
            )
    return [
        f"publication {name} holds the tables that are live now, not the kept ones; {_COPY_ANEW}" for name in turned
    ] + notes


def _changes(connection: Connection, kept: str, schema: str, notes: list[str]) -> Iterator[_Change]:
    for publication, table, columns, condition, is_there in connection.execute(
        _TABLES, {"kept": kept, "schema": schema}
    ).fetchall():
        old, new = sql.Identifier(kept, table), sql.Identifier(schema, table)
        if not is_there:
            notes.append(f"publication {publication} still holds {kept}.{table}: there is no table {schema}.{table} any more")
            continue
        only = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))) if columns else sql.SQL("")
        where = sql.SQL(" where ({})").format(sql.SQL(condition)) if condition else sql.SQL("")
        yield _change(publication, sql.SQL("table {}").format(old), sql.SQL("table {}{}{}").format(new, only, where))
    for (publication,) in connection.execute(_SCHEMAS, [kept]).fetchall():
        in_schema = sql.SQL("tables in schema {}")
        yield _change(publication, in_schema.format(sql.Identifier(kept)), in_schema.format(sql.Identifier(schema)))


def _change(publication: str, old: sql.Composed, new: sql.Composed) -> _Change:
    alter = sql.SQL("alter publication {} {} {}")
    name = sql.Identifier(publication)
    return _Change(publication, alter.format(name, sql.SQL("drop"), old), alter.format(name, sql.SQL("add"), new))


def all_tables(connection: Connection) -> list[str]:
    """What people must know about publications of all tables, which publish the load itself."""
    return [
        f"publication {name} is of all tables: its subscribers are sent the restored rows as new ones, beside those they have"
        for (name,) in connection.execute(_ALL).fetchall()
    ]


def planned(names: Iterable[str]) -> list[str]:
    """The same for a plan, where ``names`` are the publications that hold what would be replaced."""
    return [f"publication {name} will hold the restored tables in place of the kept ones; {_COPY_ANEW}" for name in names]
