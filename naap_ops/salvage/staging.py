"""From the old database into temporary tables of our session in the live one: unsettled rows, keys of settled ones.

COPY, as text: what a type prints it reads, in any database. The two sessions agree on how they print. Nothing is held here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from naap_ops.backup.transactions import horizon
from naap_ops.salvage.model import Moved, Pair, Table, text
from naap_ops.salvage.pairing import unfit

if TYPE_CHECKING:
    from naap_ops.backup.manifest import Manifest, TableFact
    from naap_ops.postgres.session import Connection

# row_security off: an error instead of rows that are silently missing.
_SETTINGS: Final = (
    "set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set extra_float_digits = 3; set bytea_output = 'hex';"
    " set timezone = 'UTC'; set work_mem = '64MB'; set temp_buffers = '64MB';"
    " set lc_monetary = 'C'; set xmloption = 'content'; set row_security = off;"
    " set client_min_messages = 'warning'; set search_path to default;"
)
_META: Final = (
    "n bigint generated always as identity, what \"char\" not null default 'n', why text, misfit text,"
    " settled boolean not null default false, clash boolean not null default false,"
    " late boolean not null default false, wait boolean not null default false"
)


@dataclass(frozen=True)
class Sources:
    """Both sessions, and what tells a settled row on each side. ``swap``: the transaction that put the live one in place."""

    old: Connection
    live: Connection
    manifest: Manifest
    swap: str
    traceable: bool

    def settled_old(self, table: Table, alias: str) -> sql.Composable:
        """Written by a transaction that the backup's snapshot saw, in a table that it saw."""
        known = {(each.schema, each.name): each for each in self.manifest.tables}
        parts = [oid for oid, schema, name in table.parts if _seen(known.get((schema, name)), oid)]
        if not (parts and self.traceable and self.manifest.transactions):
            return sql.SQL("false")
        return sql.SQL("({a}.tableoid = any({parts}::pg_catalog.oid[]) and {older})").format(
            a=sql.Identifier(alias), parts=parts, older=_older(alias, horizon(self.manifest.transactions))
        )

    def settled_live(self, alias: str) -> sql.Composable:
        """Written before the swap."""
        return _older(alias, self.swap)

    def base_rows(self, pair: Pair) -> int:
        """The table's rows in the backup."""
        names = {(schema, name) for _, schema, name in (*pair.old.parts, *pair.live.parts)}
        return sum(each.rows or 0 for each in self.manifest.tables if (each.schema, each.name) in names)


def _seen(fact: TableFact | None, oid: int) -> bool:
    return fact is not None and fact.oid == oid and fact.rows is not None


def _older(alias: str, transaction: str) -> sql.Composable:
    age = sql.SQL("pg_catalog.age({}.xmin) > pg_catalog.age({}::pg_catalog.xid)")
    return age.format(sql.Identifier(alias), transaction)


def agree(connection: Connection) -> None:
    """Have the session print and read values as the other one does."""
    connection.execute(_SETTINGS)


def counted(sources: Sources, table: Table) -> tuple[int, int]:
    """Settled and unsettled rows of the old table, by one scan."""
    query = sql.SQL("select count(*) filter (where {s}), count(*) from {t} as o")
    row = sources.old.execute(query.format(s=sources.settled_old(table, "o"), t=table.rows_of)).fetchone()
    assert row is not None
    return row[0], row[1] - row[0]


def stage(sources: Sources, pair: Pair) -> int:
    """Fill the staging table with the unsettled rows; their number."""
    why = [sql.SQL("case when {} then {} end").format(condition, said) for condition, said in unfit(pair)]
    misfit = sql.SQL("nullif(concat_ws('; ', {}), '')").format(sql.SQL(", ").join(why)) if why else sql.SQL("null::text")
    query = sql.SQL("copy (select {} from {} as o where not {}) to stdout").format(
        sql.SQL(", ").join([misfit, *(_taken(each) for each in pair.moved)]),
        pair.old.rows_of,
        sources.settled_old(pair.old, "o"),
    )
    names = [sql.Identifier("misfit"), *(sql.Identifier(each.staged) for each in pair.moved)]
    rows = _piped(sources, query, pair.staging, names)
    sources.live.execute(sql.SQL("analyze {}").format(pair.staging))
    return rows


def make(sources: Sources, pair: Pair) -> None:
    """The staging table, empty."""
    columns = [sql.SQL(_META), *(_defined(each) for each in (*pair.moved, *pair.stays))]
    sources.live.execute(sql.SQL("create temp table {} ({})").format(pair.staging, sql.SQL(", ").join(columns)))


def stage_keys(sources: Sources, pair: Pair) -> int:
    """The keys of the settled rows; their number."""
    every = {each.column.name: each for each in pair.moved}
    key = [every[name] for name in pair.key.columns]
    columns = sql.SQL(", ").join(_defined(each) for each in key)
    sources.live.execute(sql.SQL("create temp table {} ({}) on commit drop").format(pair.keys_seen, columns))
    query = sql.SQL("copy (select {} from {} as o where {}) to stdout").format(
        sql.SQL(", ").join(sql.Identifier(each.column.name) for each in key),
        pair.old.rows_of,
        sources.settled_old(pair.old, "o"),
    )
    rows = _piped(sources, query, pair.keys_seen, [sql.Identifier(each.staged) for each in key])
    sources.live.execute(sql.SQL("analyze {}").format(pair.keys_seen))
    return rows


def _piped(sources: Sources, query: sql.Composed, into: sql.Composable, names: list[sql.Identifier]) -> int:
    target = sql.SQL("copy {} ({}) from stdin").format(into, sql.SQL(", ").join(names))
    cursor = sources.live.cursor()
    with sources.old.cursor().copy(query) as reading, cursor.copy(target) as writing:
        for piece in reading:
            writing.write(piece)
    return cursor.rowcount


def _defined(each: Moved) -> sql.Composable:
    column = each.column
    collation = sql.SQL("" if column.collation is None else f" collate {column.collation}")
    return sql.SQL("{} {}{}").format(sql.Identifier(each.staged), text(column.stored), collation)


def _taken(each: Moved) -> sql.Composable:
    name = sql.Identifier(each.column.name)
    return name if each.unfit is None else sql.SQL("case when {} then null else {} end").format(each.unfit[0], name)
