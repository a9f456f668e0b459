"""What a backup keeps of Prisma's books in its manifest: per schema with a tracking table the migrations and their states.

Sources: Prisma's schema engine, ``flavour/postgres.rs`` (``create_migrations_table``) and ``diagnose_migration_history.rs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naap_ops.prisma.tracking import TABLE, is_contract, schemas

if TYPE_CHECKING:
    from psycopg import Connection

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
    for schema in schemas(connection):
        rows = connection.execute(sql.SQL(_ROWS).format(sql.Identifier(schema, TABLE))).fetchall()
        migrations = [{"name": n, "checksum": c, "state": s, "finished_at": f} for n, c, s, f in rows]
        applied = [m["name"] for m in migrations if m["state"] == "applied"]
        found.append({"schema": schema, "generation": 7, "head": applied[-1] if applied else None, "migrations": migrations})
    return found + _contract(connection)


def _contract(connection: Connection) -> list[dict[str, Any]]:
    if not is_contract(connection):
        return []
    rows = connection.execute("select space, core_hash from prisma_contract.marker order by space").fetchall()
    return [
        {"schema": "prisma_contract", "generation": 8, "space": space, "head": core_hash, "migrations": []}
        for space, core_hash in rows
    ]
