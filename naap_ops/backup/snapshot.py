"""The two sessions of a backup: the guard that holds its lock, and the reader whose snapshot pg_dump shares."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from naap_ops import clock
from naap_ops.backup.inway import LOCK_KEY, LockWatch, holder
from naap_ops.errors import Blocked, Busy, CommandFailed, PrivilegeMissing, ServerUnreachable
from naap_ops.postgres.catalog.extensions import extensions
from naap_ops.postgres.catalog.roles import needed_roles
from naap_ops.postgres.catalog.schemas import schemas
from naap_ops.postgres.catalog.tables import Table, belongings, tables
from naap_ops.prisma.books import books

if TYPE_CHECKING:
    from psycopg import Connection

    from naap_ops.postgres.conninfo import ConnInfo


def application_name(what: str) -> str:
    """``naap_ops backup 4711@host``, cut to what PostgreSQL keeps (63 bytes)."""
    return f"naap_ops {what} {os.getpid()}@{socket.gethostname()}"[:63]


@dataclass(frozen=True)
class Facts:
    """What the snapshot saw: the parts of the manifest that come from the database."""

    snapshot: str
    snapshot_at: str
    wal_lsn: str
    transactions: str
    database: dict[str, Any]
    tables: list[Table]
    belongings: dict[int, list[str]]
    roles: list[str]
    extensions: list[dict[str, str]]
    schemas: list[dict[str, Any]]
    prisma: list[dict[str, Any]]


@dataclass
class Sessions:
    """Context manager. Raises Busy when another backup of this database is running.

    ``lock_wait_timeout``: seconds the reader waits for a lock, 0 without end.
    """

    info: ConnInfo
    lock_wait_timeout: float = 0.0
    guard: Connection = field(init=False)
    reader: Connection = field(init=False)

    def __enter__(self) -> Self:
        from naap_ops.postgres.session import connect

        self.guard = connect(self.info, application_name=application_name("backup"))
        try:
            if self.guard.execute(f"select pg_try_advisory_lock({LOCK_KEY})").fetchone() != (True,):
                raise Busy(what="a backup of this database", holder=holder(self.guard))
            self.reader = connect(self.info, application_name=application_name("snapshot"), autocommit=False)
        except BaseException:
            self.guard.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        from psycopg import Error

        # The server ends a session a moment after its client has gone: the next backup must not meet the lock still.
        with contextlib.suppress(Error):
            self.guard.execute(f"select pg_advisory_unlock({LOCK_KEY})")
        for connection in (self.reader, self.guard):
            connection.close()

    @property
    def lost(self) -> bool:
        """Whether the server has ended the session that holds the snapshot, or cannot be asked."""
        from psycopg import Error

        try:
            self.reader.execute("select 1")
        except Error:
            return True
        return False

    def watch(self, waiting: str) -> LockWatch:
        """Watches who is in the way of the sessions of that name."""
        return LockWatch(self.guard, waiting, self.lock_wait_timeout)

    def facts(self) -> Facts:
        """Open the snapshot and read the catalog in it. The snapshot lives until the sessions close.

        Raises Blocked, PrivilegeMissing, ServerUnreachable, CommandFailed.
        """
        with self._failures_named():
            self.reader.execute("set transaction isolation level repeatable read, read only")
            self.reader.execute(f"set local lock_timeout = {int(self.lock_wait_timeout * 1000)}")
            return _read(self.reader)

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        from psycopg import Error, errors

        watch = self.watch(application_name("snapshot"))
        try:
            with watch:
                yield
        except errors.LockNotAvailable:
            raise Blocked(what="reading the catalog", blockers=watch.culprits()) from None
        except errors.InsufficientPrivilege as error:
            raise PrivilegeMissing(user=self.info.user, action=f"read everything: {error.diag.message_primary}") from None
        except Error as error:
            text = " ".join(str(error).split())
            if self.reader.closed:
                raise ServerUnreachable(address=self.info.address, reason=text) from None
            raise CommandFailed(tool="the server", status=error.sqlstate, stderr=text, argv="reading the catalog") from None


def _read(reader: Connection) -> Facts:
    from naap_ops.postgres.databases import properties

    row = reader.execute(
        "select pg_export_snapshot(), now(), current_database(), pg_database_size(current_database()),"
        " case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text,"
        " txid_current_snapshot()::text"
    ).fetchone()
    assert row is not None
    snapshot, moment, database, size, lsn, transactions = row
    return Facts(
        snapshot=snapshot,
        snapshot_at=clock.iso(moment),
        wal_lsn=lsn,
        transactions=transactions,
        database={"name": database, "bytes": size, **dataclasses.asdict(properties(reader, database))},
        tables=tables(reader),
        belongings=belongings(reader),
        roles=needed_roles(reader),
        extensions=extensions(reader),
        schemas=[dataclasses.asdict(s) for s in schemas(reader)],
        prisma=books(reader),
    )
