"""A digest per table: its exact rows and a hash of their contents that does not depend on their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naap_ops.postgres.catalog.tables import tables

if TYPE_CHECKING:
    from psycopg import Connection


@dataclass(frozen=True)
class Digest:
    """``rows``, and ``value``: the sum over all rows of a 64-bit hash of the row as text, in hexadecimal."""

    rows: int
    value: str


def digests(connection: Connection) -> dict[str, Digest]:
    """One digest per ordinary table, by ``schema.table``. Reads every row of the database."""
    from psycopg import sql

    query = sql.SQL("select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from only {} as t")
    found = {}
    for table in tables(connection):
        if table.kind == "r":
            row = connection.execute(query.format(sql.Identifier(table.schema, table.name))).fetchone()
            assert row is not None
            found[table.qualified] = Digest(int(row[0]), f"{int(row[1]) % (1 << 64):016x}")
    return found
