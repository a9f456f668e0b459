"""Foreign keys across the border of what is restored: turned to the new tables, and taken off the copy that is kept.

A kept copy must not hold its keys: deletes in live tables would be refused for its sake, or cascade into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, LiteralString

from psycopg import errors as server
from psycopg import sql

from naap_ops.errors import Refused
from naap_ops.restore.dependants import ForeignKey

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection


# A key of a partitioned table, or to one, has a copy for each partition, with a name of its own.
_COPIES: LiteralString = """
with recursive copies(oid) as (
  select k.oid from pg_constraint k where k.conrelid = %s::regclass and k.conname = %s and k.contype = 'f'
  union all select k.oid from copies c join pg_constraint k on k.conparentid = c.oid
)
select n.nspname, c.relname, k.confrelid::regclass::text, k.conname
from copies join pg_constraint k using (oid)
join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace where k.conparentid <> 0
"""


def turn(connection: Connection, keys: Sequence[ForeignKey]) -> None:
    """Let keys that live tables hold point at the new tables of the same names, validated; then drop the old ones.

    Readers are only kept out for the last step. Raises Refused, naming the key and the rows that have lost what they point at.
    """
    point(connection, keys)
    replace(connection, keys)


def point(connection: Connection, keys: Iterable[ForeignKey]) -> None:
    """The first half: a second key beside each, which points at the new table, under a provisional name. Raises Refused."""
    for key in keys:
        _add(connection, key, _provisional(key))


def replace(connection: Connection, keys: Iterable[ForeignKey]) -> None:
    """The second half: the old keys go, the new ones take their names."""
    for key in keys:
        _drop(connection, key.schema, key.table, key.name)
        _rename(connection, key.schema, key.table, _provisional(key), key.name)
        _finish(connection, key)


def forget(connection: Connection, keys: Iterable[ForeignKey]) -> None:
    """Instead of the second half, for keys that are not there any more."""
    for key in keys:
        _drop(connection, key.schema, key.table, _provisional(key))


def add(connection: Connection, key: ForeignKey) -> None:
    """Give a table back a key that was taken off it, validated unless it was not before. Raises Refused."""
    _add(connection, key, key.name)
    _finish(connection, key)


def _provisional(key: ForeignKey) -> str:
    return f"naap_ops_{key.oid}"


def _rename(connection: Connection, schema: str, table: str, old: str, new: str) -> None:
    rename = sql.SQL("alter table {} rename constraint {} to {}")
    connection.execute(rename.format(sql.Identifier(schema, table), sql.Identifier(old), sql.Identifier(new)))


def _finish(connection: Connection, key: ForeignKey) -> None:
    """The names of the key's copies, and its comment."""
    wanted = {copy[:-1]: copy[-1] for copy in key.copies}
    table = sql.Identifier(key.schema, key.table).as_string(connection)
    for schema, name, refers_to, now in connection.execute(_COPIES, [table, key.name]).fetchall():
        then = wanted.get((schema, name, refers_to))
        if then not in (None, now):
            _rename(connection, schema, name, now, then)
    _comment(connection, key)


def _comment(connection: Connection, key: ForeignKey) -> None:
    if key.comment is not None:
        comment = sql.SQL("comment on constraint {} on {} is {}")
        table = sql.Identifier(key.schema, key.table)
        connection.execute(comment.format(sql.Identifier(key.name), table, sql.Literal(key.comment)))


def _add(connection: Connection, key: ForeignKey, name: str) -> None:
    statement = sql.SQL("alter table {} add constraint {} {}").format(
        sql.Identifier(key.schema, key.table),
        sql.Identifier(name),
        sql.SQL(key.definition),  # the server's own text
    )
    try:
        with connection.transaction():
            connection.execute(statement)
    except server.ForeignKeyViolation as error:
        count = _lost(connection, key)
        raise Refused(
            reason=f"foreign key {key} cannot be put back: {count:,} of its rows point at rows of {'.'.join(key.refers_to)}"
            " that are not there",
            hint=f"{error.diag.message_detail} Nothing has been changed.",
        ) from error
    except (server.UndefinedTable, server.UndefinedColumn, server.InvalidForeignKey, server.DatatypeMismatch) as error:
        raise Refused(
            reason=f"foreign key {key} cannot be put back: {error.diag.message_primary}",
            hint="The backup is of another structure. Drop the key first, or restore the whole database (--swap).",
        ) from error


def drop(connection: Connection, keys: Iterable[ForeignKey], schema: str) -> None:
    """Take keys off tables that are now in ``schema``."""
    for key in keys:
        _drop(connection, schema, key.table, key.name)


def _drop(connection: Connection, schema: str, table: str, name: str) -> None:
    statement = sql.SQL("alter table {} drop constraint {}")
    connection.execute(statement.format(sql.Identifier(schema, table), sql.Identifier(name)))


def _lost(connection: Connection, key: ForeignKey) -> int:
    """Rows that point at nothing, by the key's MATCH rule (documentation of CREATE TABLE, REFERENCES)."""
    filled = [sql.SQL("f.{} is not null").format(sql.Identifier(column)) for column in key.columns]
    joined = [
        sql.SQL("r.{} = f.{}").format(sql.Identifier(there), sql.Identifier(here))
        for here, there in zip(key.columns, key.referred, strict=True)
    ]
    row = connection.execute(
        sql.SQL("select count(*) from {} f where ({}) and not exists (select from {} r where {})").format(
            sql.Identifier(key.schema, key.table),
            sql.SQL(" or " if key.match == "f" else " and ").join(filled),
            sql.Identifier(*key.refers_to),
            sql.SQL(" and ").join(joined),
        )
    ).fetchone()
    assert row is not None
    return int(row[0])
