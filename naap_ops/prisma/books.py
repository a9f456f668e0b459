"""Reads ``_prisma_migrations``. One table per schema that Prisma was pointed at with ``?schema=``; states as Prisma sees them.

Sources: Prisma's schema engine, ``flavour/postgres.rs`` (``create_migrations_table``) and ``diagnose_migration_history.rs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

TABLE = "_prisma_migrations"

_WHERE = """
select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relname = %s and c.relkind = 'r' and (select count(*) from pg_attribute a where a.attrelid = c.oid
  and a.attname in ('migration_name', 'checksum', 'started_at', 'finished_at', 'rolled_back_at')) = 5
order by n.nspname
"""

_ROWS = """
select migration_name, checksum,
  case when rolled_back_at is not null then 'rolled_back' when finished_at is not null then 'applied' else 'failed' end,
  to_char(finished_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
from {} order by started_at, migration_name
"""


def books(connection: Connection) -> list[dict[str, Any]]:
    """Per schema that has a tracking table: ``{schema, generation, head, migrations: [{name, checksum, state, finished_at}]}``.

    ``head`` is the newest applied migration's name, or None. ``failed`` also means "running now": the rows are the same.
    Prisma 8 keeps its books in schema ``prisma_contract``: reported with generation 8 and the marker's hash as head.
    """
    from psycopg import sql

    found = []
    for (schema,) in connection.execute(_WHERE, (TABLE,)).fetchall():
        rows = connection.execute(sql.SQL(_ROWS).format(sql.Identifier(schema, TABLE))).fetchall()
        migrations = [{"name": n, "checksum": c, "state": s, "finished_at": f} for n, c, s, f in rows]
        applied = [m["name"] for m in migrations if m["state"] == "applied"]
        found.append({"schema": schema, "generation": 7, "head": applied[-1] if applied else None, "migrations": migrations})
    return found + _contract(connection)


_MARKER = """
select 2 = count(*) from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'prisma_contract' and c.relname = 'marker' and c.relkind = 'r' and a.attname in ('space', 'core_hash')
"""


def _contract(connection: Connection) -> list[dict[str, Any]]:
    if connection.execute(_MARKER).fetchone() != (True,):
        return []
    rows = connection.execute("select space, core_hash from prisma_contract.marker order by space").fetchall()
    return [
        {"schema": "prisma_contract", "generation": 8, "space": space, "head": core_hash, "migrations": []}
        for space, core_hash in rows
    ]
