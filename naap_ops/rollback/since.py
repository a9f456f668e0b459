"""How much has been written since a backup: what going back to it would lose, table by table.

A row carries the transaction that wrote it (``xmin``), and the manifest knows which transactions its snapshot saw. So rows
inserted or changed since are counted exactly, as long as the table is the one that was backed up (its oid; a restore makes
tables anew). What was deleted since comes back and is no loss. Counting reads the tables: where the time is up, the difference
in rows, as the server's statistics have it, stands in.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from naap_ops.backup.manifest import Manifest, TableFact
from naap_ops.backup.transactions import horizon, unseen
from naap_ops.postgres.session import server_info
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

# Rows written by a transaction that the snapshot did not see: begun after it, or still under way then. And those of whatever
# was begun after the oldest that was under way: which of it subtransactions of these wrote cannot be told.
_WRITTEN: Final = """
select count(*) filter (where age(xmin) <= age(%(first)s::text::xid) or xmin::text = any(%(under_way)s)),
       count(*) filter (where age(xmin) <= age(%(horizon)s::text::xid)) from only {}
"""
_TABLES: Final = """
select n.nspname, c.relname, c.oid::bigint, coalesce(s.n_live_tup, greatest(c.reltuples, 0))::bigint
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_stat_user_tables s on s.relid = c.oid
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_'
  and n.nspname not in ('information_schema', 'naap_ops')
order by pg_catalog.pg_relation_size(c.oid)
"""


@dataclass(frozen=True)
class Written:
    """Rows of one table inserted or changed since. ``exact`` False: an estimate."""

    table: str
    rows: int
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.table}: {'' if self.exact else 'about '}{self.rows:,}"


def written_since(
    connection: Connection, manifest: Manifest, *, schemas: Collection[str] | None = None, seconds: float = 60.0
) -> list[Written]:
    """Tables with rows that the backup does not have, of ``schemas`` or all; most rows first. Takes ``seconds`` at most, and
    what is left over then is estimated. Prisma's books are left out."""
    from naap_ops.prisma.tracking import TABLE

    deadline = time.monotonic() + seconds
    known = {(table.schema, table.name): table for table in manifest.tables}
    identifier = server_info(connection).system_identifier
    same = identifier is not None and str(identifier) == str(manifest.server.get("system_identifier"))
    found = []
    for schema, name, oid, live in connection.execute(_TABLES).fetchall():
        if name == TABLE or (schemas is not None and schema not in schemas):
            continue
        was = known.get((schema, name))
        traceable = same and was is not None and was.oid == oid and manifest.transactions is not None
        found.append(_one(connection, (schema, name), live, was, manifest.transactions if traceable else None, deadline))
    return sorted((each for each in found if each.rows), key=lambda each: (-each.rows, each.table))


def _one(
    connection: Connection, name: tuple[str, str], live: int, was: TableFact | None, transactions: str | None, deadline: float
) -> Written:
    table = ".".join(name)
    left = int((deadline - time.monotonic()) * 1000)
    if left > 0:
        try:
            with connection.transaction():
                connection.execute(f"set local statement_timeout = {left}".encode())
                if transactions is not None:
                    first, under_way = unseen(transactions)
                    query = sql.SQL(_WRITTEN).format(sql.Identifier(*name))
                    names = {"first": first, "under_way": under_way, "horizon": horizon(transactions)}
                    row = connection.execute(query, names).fetchone()
                    assert row is not None
                    known, most = row
                    return Written(table, most if under_way else known, exact=not under_way or known == most)
                row = connection.execute(sql.SQL("select count(*) from only {}").format(sql.Identifier(*name))).fetchone()
                assert row is not None
                return Written(table, max(0, row[0] - (was.rows or 0 if was else 0)), exact=was is None)
        except (psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege):
            pass
    return Written(table, max(0, live - (was.rows or 0 if was else 0)), exact=False)


def as_json(written: Iterable[Written]) -> dict[str, int]:
    """``{table: rows}``."""
    return {each.table: each.rows for each in written}


def told(written: Iterable[Written]) -> Iterator[str]:
    """A line each, for people."""
    for each in written:
        yield f"{each.table}: {'' if each.exact else 'about '}{count_of(each.rows, 'row')} written since"
