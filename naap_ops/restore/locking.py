"""One restore of a database at a time: an advisory lock keyed by its name, in the maintenance database.

Session level, so that it dies with its holder. The holding session also carries out CREATE DATABASE, which the server finishes
even when its client is killed: the lock then lasts as long as that does, and whoever comes next sees the result.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, LiteralString

import psycopg
import psycopg.errors

from naap_ops import clock
from naap_ops.errors import Busy

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_TARGET: LiteralString = "hashtextextended('naap_ops restore ' || %s, 0)"
_PROCEDURE: LiteralString = "hashtextextended('naap_ops procedure ' || %s, 0)"
_MAKING: LiteralString = "hashtextextended('naap_ops aside', 0)"

MAKING_SECONDS = 60  # it takes as long as CREATE DATABASE or DROP DATABASE, whose checkpoint can take a while
_ATTEMPTS = 3  # when whoever held the lock has gone between two looks

_HOLDER: LiteralString = """
select a.pid, a.usename, a.application_name, coalesce(a.client_addr::text, 'local'), a.backend_start
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and (l.classid::bigint << 32 | l.objid::bigint) = {}
"""


def application_name() -> str:
    """``naap_ops restore 4711@host``, cut to what PostgreSQL keeps (63 bytes)."""
    return f"naap_ops restore {os.getpid()}@{socket.gethostname()}"[:63]


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


@contextmanager
def procedure_lock(info: ConnInfo, target: str, what: str) -> Iterator[None]:
    """Held for the whole of a procedure of several restores' steps, each of which takes the lock above. Raises Busy.

    ``what`` is for the message. Should the session be lost (a server that starts anew), the procedure goes on without it.
    """
    from naap_ops.postgres.session import maintenance

    with closing(maintenance(info, avoid=(target,), application_name=application_name())) as session:
        _acquire(session, target, _PROCEDURE, what)
        yield
        with suppress(psycopg.Error):
            session.execute(f"select pg_advisory_unlock({_PROCEDURE})", [target])


def _acquire(session: Connection, target: str, key: LiteralString = _TARGET, what: str = "a restore") -> None:
    holder = None
    for _ in range(_ATTEMPTS):
        if session.execute(f"select pg_try_advisory_lock({key})", [target]).fetchone() == (True,):
            return
        holder = _holder(session, key, [target])
        if holder is not None:
            break
    raise Busy(what=f"{what} of {target!r}", holder=holder or "it has just ended")


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
