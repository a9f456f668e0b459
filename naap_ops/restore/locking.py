"""One restore of a database at a time: an advisory lock keyed by its name, in the maintenance database.

Session level, so that it dies with its holder. The holding session also carries out CREATE DATABASE, which the server finishes
even when its client is killed: the lock then lasts as long as that does, and whoever comes next sees the result.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, LiteralString

import psycopg
import psycopg.errors

from naap_ops import clock
from naap_ops.errors import AuthenticationFailed, Busy, DatabaseMissing, PrivilegeMissing
from naap_ops.restore.failures import server_errors

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_TARGET: LiteralString = "hashtextextended('naap_ops restore ' || %s, 0)"
_PROCEDURE: LiteralString = "hashtextextended('naap_ops procedure ' || %s, 0)"
_MAKING: LiteralString = "hashtextextended('naap_ops aside', 0)"

MAKING_SECONDS = 60  # it takes as long as CREATE DATABASE or DROP DATABASE, whose checkpoint can take a while
PASSING_SECONDS = 2.0  # whoever was killed: until the server has noticed
_LOOK_SECONDS = 0.1
_ATTEMPTS = 3  # when whoever held the lock has gone between two looks

_HOLDER: LiteralString = """
select a.pid, a.usename, a.application_name, coalesce(a.client_addr::text, 'local'), a.backend_start
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and (l.classid::bigint << 32 | l.objid::bigint) = {}
"""


def application_name(what: str = "restore") -> str:
    """``naap_ops restore 4711@host``, cut to what PostgreSQL keeps (63 bytes)."""
    return f"naap_ops {what} {os.getpid()}@{socket.gethostname()}"[:63]


@contextmanager
def target_lock(info: ConnInfo, target: str) -> Iterator[Connection]:
    """The maintenance session that holds the lock of database ``target``. Raises Busy, naming the holder."""
    from naap_ops.postgres.session import maintenance

    with closing(maintenance(info, avoid=(target,), application_name=application_name())) as session:
        _acquire(session, target)
        try:
            yield session
        finally:
            # The server ends a session a moment after its client has gone: the next command must not meet the lock still.
            with suppress(psycopg.Error):
                session.execute(f"select pg_advisory_unlock({_TARGET})", [target])


class ProcedureLock:
    """Held by a session of its own. Without a database that this user may hold it in (``needed`` False) it is none."""

    def __init__(self, info: ConnInfo, target: str, what: str, *, needed: bool) -> None:
        self._info, self._target, self._what, self._needed = info, target, what, needed
        self._session: Connection | None = None

    def take(self) -> None:
        """Raises Busy, naming the holder. Whoever was killed a moment ago is waited for: the server ends its session soon."""
        from naap_ops.postgres.session import maintenance

        try:
            self._session = maintenance(self._info, avoid=(self._target,), application_name=application_name(self._what))
        except (PrivilegeMissing, AuthenticationFailed, DatabaseMissing):
            if self._needed:
                raise
            return
        with server_errors(self._info, "asking who else is at work"):
            self._wait(self._session)

    def _wait(self, session: Connection) -> None:
        deadline = clock.monotonic() + PASSING_SECONDS
        while True:
            try:
                _acquire(session, self._target, _PROCEDURE, "a procedure")
            except Busy:
                if clock.monotonic() >= deadline:
                    session.close()
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def keep(self) -> None:
        """Take it again where its session was lost, with a server that was started anew. Raises as :meth:`take`."""
        if self._session is None:
            return
        try:
            self._session.execute("select 1")
        except psycopg.OperationalError:
            self._session.close()
            self.take()

    def release(self) -> None:
        """Give it back; with its session, if that is lost."""
        if self._session is None:
            return
        with closing(self._session) as session, suppress(psycopg.Error):
            session.execute(f"select pg_advisory_unlock({_PROCEDURE})", [self._target])


@contextmanager
def procedure_lock(info: ConnInfo, target: str, what: str, *, needed: bool = True) -> Iterator[ProcedureLock]:
    """Held for the whole of a procedure, ``what`` to others; of its steps each restore takes the lock above. Raises Busy.

    ``needed`` False: a user who may connect to no other database than this one does without. Such a user restores nothing.
    """
    lock = ProcedureLock(info, target, what, needed=needed)
    lock.take()
    try:
        yield lock
    finally:
        lock.release()


def _acquire(session: Connection, target: str, key: LiteralString = _TARGET, what: str = "a restore") -> None:
    holder = None
    for _ in range(_ATTEMPTS):
        if session.execute(f"select pg_try_advisory_lock({key})", [target]).fetchone() == (True,):
            return
        holder = _holder(session, key, [target])
        if holder is not None:
            break
    raise Busy(what=f"{what} {'of' if what == 'a restore' else 'on'} {target!r}", holder=holder or "it has just ended")


@contextmanager
def making(session: Connection) -> Iterator[None]:
    """Held between the creation of an aside database and its mark: nobody takes an unmarked one for a leftover meanwhile.

    Raises Busy when another restore, stopped perhaps, has not given it back in :data:`MAKING_SECONDS`.
    """
    _acquire_making(session)
    try:
        yield
    finally:
        if not session.broken:
            session.execute(f"select pg_advisory_unlock({_MAKING})")


def _acquire_making(session: Connection) -> None:
    session.execute(f"set lock_timeout = '{MAKING_SECONDS}s'")
    try:
        session.execute(f"select pg_advisory_lock({_MAKING})")
    except psycopg.errors.LockNotAvailable:
        holder = _holder(session, _MAKING, []) or "it has just ended"
        raise Busy(
            what="another restore's work on its new database",
            holder=f"{holder}; it has not moved on for {MAKING_SECONDS} s",
            hint="Is that process stopped? Let it go on, or end it: the lock goes with its session.",
        ) from None
    finally:
        if not session.broken:
            session.execute("set lock_timeout = 0")


def _holder(session: Connection, key: LiteralString, values: Sequence[str]) -> str | None:
    """Who holds the lock of that key; None when it has been given back meanwhile."""
    row = session.execute(_HOLDER.format(key), values).fetchone()
    if row is None:
        return None
    pid, user, application, address, since = row
    return f"{application or 'a session'} (server process {pid}, user {user}, from {address}, since {clock.iso(since)})"
