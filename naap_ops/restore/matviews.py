"""Materialised views after a restore of rows alone: such a backup does not tell which were filled, so all are."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

# pg_restore makes them in the order of their dependencies, and oids grow.
_EMPTY: LiteralString = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'm' and not c.relispopulated and (%(schema)s::text is null or n.nspname = %(schema)s) order by c.oid
"""


def refresh(connection: Connection, schema: str | None = None) -> None:
    """Fill the empty ones, of one schema or all."""
    for name in connection.execute(_EMPTY, {"schema": schema}).fetchall():
        connection.execute(sql.SQL("refresh materialized view {}").format(sql.Identifier(*name)))
