"""Prisma's migrate lock: the session-level advisory lock that every ``prisma migrate`` takes and we take as well.

Prisma waits 10 s for it and gives up with P1002, so while it is held nobody deploys. Prisma leaves it out when
PRISMA_SCHEMA_DISABLE_ADVISORY_LOCK is set. It is a lock of the session: through a pooler that shares sessions it would hold
nothing, hence :func:`still_held` before what must not be done without it.
Source: schema-engine/connectors/sql-schema-connector/src/flavour/postgres.rs (``ADVISORY_LOCK_KEY``).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from naap_ops.errors import Busy, ConfigurationError

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

KEY = 72707369
DISABLING = "PRISMA_SCHEMA_DISABLE_ADVISORY_LOCK"
_LOOK_SECONDS = 0.2

_OURS: LiteralString = """
from pg_catalog.pg_locks l where l.locktype = 'advisory' and l.granted and l.classid = 0 and l.objid = %s and l.objsubid = 1
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
"""
_HOLDER: LiteralString = "select l.pid, a.usename, a.application_name, host(a.client_addr), a.query, a.state " + _OURS.replace(
    "pg_locks l where", "pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid where"
)


@dataclass(frozen=True)
class Holder:
    """Who holds the lock. What this user may not see of other users' sessions is None or ``<insufficient privilege>``."""

    pid: int
    user: str | None
    application: str | None
    address: str | None
    query: str | None
    state: str | None

    def __str__(self) -> str:
        where = f" from {self.address}" if self.address else ""
        application = f" ({self.application})" if self.application else ""
        query = f", {self.state}: {' '.join(self.query.split())[:120]}" if self.query else ""
        return f"pid {self.pid}, user {self.user or '?'}{application}{where}{query}"


def holder(connection: Connection) -> Holder | None:
    """Who holds the lock in this database, this session included; None when it is free."""
    row = connection.execute(_HOLDER, [KEY]).fetchone()
    return Holder(*row) if row is not None else None


@contextlib.contextmanager
def migrate_lock(connection: Connection, seconds: float) -> Iterator[None]:
    """Hold the lock for the length of the block; the session must be in autocommit. Waits up to ``seconds``.

    Raises Busy, which names the holder.
    """
    deadline = time.monotonic() + seconds
    while not _taken(connection):
        who = holder(connection)
        if time.monotonic() >= deadline:
            raise Busy(
                what="a Prisma migrate command",
                holder=str(who or "it has just let go"),
                hint="Wait for it, or end it if it hangs: select pg_terminate_backend(pid). The lock goes with its session.",
            )
        time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        _let_go(connection)


def _taken(connection: Connection) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s)", [KEY]).fetchone()
    return row == (True,)


def _let_go(connection: Connection) -> None:
    from psycopg import Error

    with contextlib.suppress(Error):  # with the session, if that is broken
        if connection.info.transaction_status:
            connection.rollback()
        connection.execute("select pg_advisory_unlock(%s)", [KEY])


def still_held(connection: Connection) -> None:
    """Raise ConfigurationError unless the session that answers now is the one that holds the lock."""
    query: LiteralString = "select exists (select " + _OURS + " and l.pid = pg_backend_pid())"
    if connection.execute(query, [KEY]).fetchone() != (True,):
        raise ConfigurationError(
            detail="Prisma's advisory lock is not held by this session: a pooler between here and the server shares sessions",
            hint="Set DIRECT_URL to the server's own address.",
        )


def disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a Prisma started from this environment would do without the lock."""
    return (os.environ if environ is None else environ).get(DISABLING, "").lower() in ("1", "true")
