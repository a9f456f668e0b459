"""The rows that ``migrate deploy`` writes: one per attempt, begun before the script runs, finished or given its log after it.

Sources: flavour/postgres.rs (``create_migrations_table``, ``table_names``), sql_migration_persistence.rs.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, LiteralString

from naap_ops import clock
from naap_ops.errors import PrivilegeMissing
from naap_ops.prisma.tracking import TABLE, in_books

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_DDL: LiteralString = """CREATE TABLE {} (
    id                      VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum                VARCHAR(64) NOT NULL,
    finished_at             TIMESTAMPTZ,
    migration_name          VARCHAR(255) NOT NULL,
    logs                    TEXT,
    rolled_back_at          TIMESTAMPTZ,
    started_at              TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count     INTEGER NOT NULL DEFAULT 0
)"""
_TABLES: LiteralString = """
select c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname = %s order by c.relname
"""
# PostGIS puts it into the schema that it is created in (sql-schema-connector, POSTGRES_IGNORED_TABLES).
_IGNORED = re.compile("spatial_ref_sys", re.IGNORECASE)


def foreign_tables(connection: Connection, schema: str) -> list[str]:
    """The tables for which Prisma calls a schema without a tracking table "not empty" (P3005)."""
    names = [name for (name,) in connection.execute(_TABLES, [schema]).fetchall()]
    return [name for name in names if name != TABLE and not _IGNORED.fullmatch(name)]


def create(connection: Connection, schema: str) -> None:
    """Make the tracking table, and its schema where there is none. Raises PrivilegeMissing."""
    from psycopg import errors, sql

    try:
        if connection.execute("select to_regnamespace(quote_ident(%s))", [schema]).fetchone() == (None,):
            connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL(_DDL).format(sql.Identifier(schema, TABLE)))
    except errors.InsufficientPrivilege as error:
        action = f"create {schema}.{TABLE}: {error.diag.message_primary}"
        raise PrivilegeMissing(user=connection.info.user, action=action) from None


def begin(connection: Connection, schema: str, name: str, checksum: str) -> str:
    """The row of a new attempt. Its id. Raises PrivilegeMissing."""
    from psycopg import errors

    id = str(uuid.uuid4())
    try:
        _run(
            connection,
            "insert into {} (id, checksum, started_at, migration_name) values (%s, %s, %s, %s)",
            schema,
            [id, checksum, clock.now(), name],
        )
    except errors.InsufficientPrivilege:
        raise PrivilegeMissing(user=connection.info.user, action=f"write to {schema}.{TABLE}") from None
    return id


def finish(connection: Connection, schema: str, id: str) -> None:
    """The attempt succeeded."""
    _run(
        connection,
        "update {} set applied_steps_count = applied_steps_count + 1, finished_at = %s where id = %s",
        schema,
        [clock.now(), id],
    )


def fail(connection: Connection, schema: str, id: str, logs: str) -> None:
    """The attempt failed: ``logs`` say how."""
    _run(connection, "update {} set logs = %s where id = %s", schema, [logs, id])


def _run(connection: Connection, query: LiteralString, schema: str, values: list[object]) -> None:
    connection.execute(in_books(query, schema), values)
