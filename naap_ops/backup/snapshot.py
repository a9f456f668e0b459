"""The two sessions of a backup: the guard that holds its lock, and the reader whose snapshot pg_dump shares."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from naap_ops import clock
from naap_ops.errors import Busy
from naap_ops.postgres.catalog.extensions import extensions
from naap_ops.postgres.catalog.roles import needed_roles
from naap_ops.postgres.catalog.schemas import schemas
from naap_ops.postgres.catalog.tables import Table, belongings, tables
from naap_ops.prisma.books import books

if TYPE_CHECKING:
    from psycopg import Connection

    from naap_ops.postgres.conninfo import ConnInfo

# Advisory locks are per database: the same key guards each database on its own.
_KEY = "hashtextextended('naap_ops backup', 0)"

_HOLDER = f"""
select a.pid, a.usename, a.application_name, coalesce(a.client_addr::text, 'local'), a.backend_start
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.database = (select oid from pg_database where datname = current_database())
  and (l.classid::bigint << 32 | l.objid::bigint) = {_KEY}
"""

_BLOCKERS = """
select distinct b.pid, b.usename, b.application_name, b.state, left(regexp_replace(b.query, '\\s+', ' ', 'g'), 200)
from pg_stat_activity a cross join lateral unnest(pg_blocking_pids(a.pid)) as p(pid) join pg_stat_activity b on b.pid = p.pid
where a.application_name = %s and b.application_name <> %s
"""


def application_name(what: str) -> str:
    """``naap_ops backup 4711@host``, cut to what PostgreSQL keeps (63 bytes)."""
    return f"naap_ops {what} {os.getpid()}@{socket.gethostname()}"[:63]


@dataclass(frozen=True)
class Facts:
    """What the snapshot saw: the parts of the manifest that come from the database."""

    snapshot: str
    snapshot_at: str
    wal_lsn: str
    database: dict[str, Any]
    tables: list[Table]
    belongings: dict[int, list[str]]
    roles: list[str]
    extensions: list[dict[str, str]]
    schemas: list[dict[str, Any]]
    prisma: list[dict[str, Any]]


@dataclass
class Sessions:
    """Context manager. Raises Busy when another backup of this database is running."""

    info: ConnInfo
    guard: Connection = field(init=False)
    reader: Connection = field(init=False)

    def __enter__(self) -> Self:
        from naap_ops.postgres.session import connect

        name = application_name("backup")
        self.guard = connect(self.info, application_name=name)
        try:
            if self.guard.execute(f"select pg_try_advisory_lock({_KEY})").fetchone() != (True,):
                raise Busy(what="a backup of this database", holder=holder(self.guard))
            self.reader = connect(self.info, application_name=name, autocommit=False)
        except BaseException:
            self.guard.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self.reader, self.guard):
            connection.close()

    def facts(self) -> Facts:
        """Open the snapshot and read the catalog in it. The snapshot lives until the sessions close."""
        from naap_ops.postgres.databases import properties

        reader = self.reader
        reader.execute("set transaction isolation level repeatable read, read only")
        row = reader.execute(
            "select pg_export_snapshot(), now(), current_database(), pg_database_size(current_database()),"
            " case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text"
        ).fetchone()
        assert row is not None
        snapshot, moment, database, size, lsn = row
        return Facts(
            snapshot=snapshot,
            snapshot_at=clock.iso(moment),
            wal_lsn=lsn,
            database={"name": database, "bytes": size, **dataclasses.asdict(properties(reader, database))},
            tables=tables(reader),
            belongings=belongings(reader),
            roles=needed_roles(reader),
            extensions=extensions(reader),
            schemas=[dataclasses.asdict(s) for s in schemas(reader)],
            prisma=books(reader),
        )


def holder(connection: Connection) -> str:
    """Who holds the backup lock of the connected database, for the message."""
    row = connection.execute(_HOLDER).fetchone()
    if row is None:
        return "it has just ended"
    pid, user, application, address, since = row
    return f"{application or 'a session'} (server process {pid}, user {user}, from {address}, since {clock.iso(since)})"


class LockWatch:
    """While pg_dump waits for a table lock, remembers who was in the way. Uses the guard session, alone, on a thread."""

    def __init__(self, guard: Connection, waiting: str, *, interval: float = 0.5) -> None:
        self._guard = guard
        self._waiting = waiting
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.blockers: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        from psycopg import Error

        while not self._stop.wait(self._interval):
            try:
                rows = self._guard.execute(_BLOCKERS, (self._waiting, self._waiting)).fetchall()
            except Error:
                return  # the server is gone; pg_dump says so itself
            if rows:
                self.blockers = [
                    f"pid {pid}, user {user}, application {application or '-'} ({state}): {query}"
                    for pid, user, application, state, query in rows
                ]
