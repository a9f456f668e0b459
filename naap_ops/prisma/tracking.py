"""``_prisma_migrations``, read and written: the rows of every attempt, and what they mean together.

One table per schema that Prisma was pointed at with ``?schema=``: with a schema per tenant, many. A row is one attempt;
the name is not unique. Sources: schema-engine/ARCHITECTURE.md; flavour/postgres.rs (``create_migrations_table``);
commands/{apply_migrations,diagnose_migration_history,mark_migration_applied}.rs.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, LiteralString

from naap_ops.config.patterns import KEPT
from naap_ops.errors import Blocked, PrismaUnsupported, PrivilegeMissing

if TYPE_CHECKING:
    from psycopg import sql

    from naap_ops.postgres.session import Connection

TABLE = "_prisma_migrations"

_WHERE: LiteralString = """
select n.nspname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relname = %s and c.relkind = 'r' and n.nspname !~ %s
  and (select count(*) from pg_catalog.pg_attribute a where a.attrelid = c.oid
  and a.attname in ('migration_name', 'checksum', 'started_at', 'finished_at', 'rolled_back_at')) = 5
order by n.nspname
"""
_MARKER: LiteralString = """
select 2 = count(*) from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'prisma_contract' and c.relname = 'marker' and c.relkind = 'r' and a.attname in ('space', 'core_hash')
"""


class State(Enum):
    """What the rows of one name mean together, as ``migrate deploy`` sees them."""

    APPLIED = "applied"
    FAILED = "failed"
    """Or running now: the row is the same, only the lock tells."""
    ROLLED_BACK = "rolled_back"
    """Only rows that Prisma ignores: deploy applies the folder, if there is one."""
    ABSENT = "absent"


@dataclass(frozen=True)
class Row:
    """One attempt. ``rolled_back`` and ``finished`` None: not so."""

    name: str
    checksum: str
    started: datetime
    finished: datetime | None
    rolled_back: datetime | None
    logs: str | None
    id: str = ""

    @property
    def live(self) -> bool:
        """Whether Prisma minds it."""
        return self.rolled_back is None


@dataclass(frozen=True)
class Books:
    """One tracking table: the rows in the order in which they were begun."""

    schema: str
    rows: tuple[Row, ...]

    def attempt(self, name: str) -> str:
        """The id of the row by which it counts as applied, '' without one."""
        found = [row.id for row in self.of(name) if row.live and row.finished is not None]
        return found[-1] if found else ""

    @cached_property
    def _by_name(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.name, []).append(row)
        return found

    def of(self, name: str) -> list[Row]:
        return list(self._by_name.get(name, ()))

    def names(self) -> list[str]:
        return list(self._by_name)

    def state(self, name: str) -> State:
        rows = self.of(name)
        live = [row for row in rows if row.live]
        if any(row.finished is None for row in live):
            return State.FAILED
        return State.APPLIED if live else State.ROLLED_BACK if rows else State.ABSENT

    def applied(self) -> list[str]:
        """Names of what is applied, or failed half-way, oldest first."""
        return list(dict.fromkeys(row.name for row in self.rows if row.live))

    def later(self, name: str) -> list[str]:
        """What was begun after ``name``; for a name without a row, what sorts behind it."""
        mine = [row.started for row in self.of(name) if row.live] or [row.started for row in self.of(name)]
        others = [row for row in self.rows if row.live and row.name != name]
        if mine:
            return list(dict.fromkeys(row.name for row in others if (row.started, row.name) > (max(mine), name)))
        return list(dict.fromkeys(row.name for row in others if row.name > name))


def schemas(connection: Connection) -> list[str]:
    """The schemas that hold a tracking table. One that a restore has kept is no longer Prisma's."""
    return [schema for (schema,) in connection.execute(_WHERE, [TABLE, KEPT]).fetchall()]


def is_contract(connection: Connection) -> bool:
    """Whether Prisma 8 keeps books in this database."""
    return connection.execute(_MARKER).fetchone() == (True,)


def refuse_contract(connection: Connection) -> None:
    """Raise PrismaUnsupported where only Prisma 8 keeps books."""
    if is_contract(connection) and not schemas(connection):
        raise PrismaUnsupported(where=f"database {connection.info.dbname!r}")


def read(connection: Connection, schema: str) -> Books:
    """The books of one schema; empty without a table. Raises PrivilegeMissing."""
    if schema not in schemas(connection):
        return Books(schema, ())
    with _privileged(connection, f"read {schema}.{TABLE}"):
        rows = connection.execute(in_books(
            "select migration_name, checksum, started_at, finished_at, rolled_back_at, logs, id::text from {}"
            " order by started_at, migration_name, id", schema,
        ), []).fetchall()  # fmt: skip
    return Books(schema, tuple(Row(*row) for row in rows))


def lock_rows(connection: Connection, schema: str, name: str, timeout_ms: int) -> list[dict[str, Any]]:
    """Every row of ``name`` whole, as JSON, locked until the transaction ends. Raises Blocked, PrivilegeMissing."""
    from psycopg import errors

    connection.execute("select set_config('lock_timeout', %s, true)", [str(timeout_ms)])
    query = in_books("select to_jsonb(t) from {} t where migration_name = %s order by started_at, id for update", schema)
    try:
        with _privileged(connection, f"change {schema}.{TABLE}"):
            return [row for (row,) in connection.execute(query, [name]).fetchall()]
    except errors.LockNotAvailable:
        raise Blocked(
            what=f"changing {schema}.{TABLE}",
            blockers="another session has locked its rows",
            hint="Who? select pid, query from pg_stat_activity where wait_event_type is distinct from 'Client'.",
        ) from None


def delete(connection: Connection, schema: str, name: str) -> int:
    """Delete every row of ``name``; how many there were."""
    with _privileged(connection, f"delete from {schema}.{TABLE}"):
        return connection.execute(in_books("delete from {} where migration_name = %s", schema), [name]).rowcount


def mark_rolled_back(connection: Connection, schema: str, name: str) -> int:
    """Have Prisma mind no row of ``name`` any more: the next deploy applies its folder. How many rows that were."""
    with _privileged(connection, f"write to {schema}.{TABLE}"):
        query = in_books("update {} set rolled_back_at = now() where migration_name = %s and rolled_back_at is null", schema)
        return connection.execute(query, [name]).rowcount


def put_back(connection: Connection, schema: str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Have exactly ``rows``, as :func:`lock_rows` gave them, be those of ``name``."""
    from psycopg.types.json import Jsonb

    delete(connection, schema, name)
    with _privileged(connection, f"write to {schema}.{TABLE}"):
        for row in rows:
            query = in_books("insert into {table} select * from jsonb_populate_record(null::{table}, %s)", schema)
            connection.execute(query, [Jsonb(dict(row))])


def mark_applied(connection: Connection, schema: str, name: str, checksum: str) -> None:
    """Have ``name`` be applied, as ``migrate resolve --applied`` does: failed rows rolled back, one finished row added."""
    mark_failed_rolled_back(connection, schema, name)
    with _privileged(connection, f"write to {schema}.{TABLE}"):
        connection.execute(
            in_books("insert into {} (id, checksum, finished_at, migration_name, logs, started_at, applied_steps_count)"
                      " values (%s, %s, now(), %s, '', now(), 0)", schema), [str(uuid.uuid4()), checksum, name],
        )  # fmt: skip


def mark_failed_rolled_back(connection: Connection, schema: str, name: str) -> int:
    """Have the failed attempts of ``name`` be rolled back, as ``migrate resolve --rolled-back`` does; how many there were."""
    with _privileged(connection, f"write to {schema}.{TABLE}"):
        return connection.execute(
            in_books("update {} set rolled_back_at = now() where migration_name = %s and finished_at is null"
                      " and rolled_back_at is null", schema), [name],
        ).rowcount  # fmt: skip


def in_books(query: LiteralString, schema: str) -> sql.Composed:
    """A query about the books of a schema, ``{}`` or ``{table}`` in it, to be run with parameters, or an empty list of them."""
    from psycopg import sql

    name = sql.Identifier(schema.replace("%", "%%"), TABLE)  # psycopg looks for parameters in names, too
    return sql.SQL(query).format(name, table=name)


@contextlib.contextmanager
def _privileged(connection: Connection, action: str) -> Iterator[None]:
    from psycopg import errors

    try:
        yield
    except errors.InsufficientPrivilege:
        raise PrivilegeMissing(user=connection.info.user, action=action) from None


def names_of(all_books: Iterable[Books]) -> list[str]:
    """Every name in any of them, in the order of first attempts."""
    return list(dict.fromkeys(name for books in all_books for name in books.names()))
