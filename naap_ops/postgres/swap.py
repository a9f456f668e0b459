"""One database takes another's place by two renames in one transaction, while clients keep connecting.

``ALTER DATABASE live RENAME`` takes an ACCESS EXCLUSIVE lock on the database's entry before it looks for sessions. From then on
new connections wait for that lock, so the sessions seen after it are the last: they are ended, the rename goes through, and
whoever waited is told that the name is gone and finds the new database at the next try. Renames are transactional: a crash at
any instant leaves both names old or both new.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors as server
from psycopg import sql

from naap_ops.errors import Blocked, DatabaseMissing, OpsError, PrivilegeMissing, Refused, ServerUnreachable
from naap_ops.postgres import session

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_POLL_SECONDS = 0.01
_TURN_SECONDS = 0.2
_BETWEEN_SECONDS = 0.3
_LEAVE_SECONDS = 0.5
_LEAVE_POLL_SECONDS = 0.002
_TELL_SECONDS = 1.0
_CANCEL_SECONDS = 5.0
_QUERY_CHARACTERS = 80


@dataclass(frozen=True)
class Session:
    """A session of a database, as pg_stat_activity shows it to us. ``query`` is empty where we may not see it."""

    pid: int
    user: str
    application: str
    state: str
    query: str

    def __str__(self) -> str:
        said = f": {self.query[:_QUERY_CHARACTERS]}" if self.query else ""
        return f"pid {self.pid} (user {self.user}, application {self.application or 'unnamed'}, {self.state or '?'}){said}"


@dataclass
class _Moments:
    """Times of the monotonic clock: the rename of the live database was asked for, had its lock; all was committed.

    ``given_up``: nobody wants it any more, nothing may be committed.
    """

    asked: float = 0.0
    locked: float | None = None
    done: float = 0.0
    given_up: threading.Event = field(default_factory=threading.Event)

    @property
    def down(self) -> float:
        """From when on nobody got in. A lock that was seen only after the commit says nothing about when it was granted."""
        return self.asked if self.locked is None or self.locked > self.done else self.locked


@dataclass(frozen=True)
class _Names:
    live: str | None
    aside: str
    before: str
    live_oid: int | None
    aside_oid: int

    @property
    def target(self) -> str:
        return self.before if self.live is None else self.live

    @property
    def oids(self) -> list[int]:
        return [self.aside_oid, *([self.live_oid] if self.live_oid is not None else [])]


def rename_swap(
    info: ConnInfo,
    *,
    live: str | None,
    aside: str,
    before: str,
    lock_timeout: float = 10.0,
    on_waiting: Callable[[Sequence[Session]], None] | None = None,
    also: Callable[[Connection], None] | None = None,
) -> float:
    """``live`` becomes ``before`` and ``aside`` becomes ``live``; sessions of both are ended. Returns the downtime in seconds.

    Without a ``live`` database only ``aside`` is renamed, to ``before``. ``on_waiting`` is told every second who has not gone.
    ``also`` runs in the same transaction after the renames (comments, for instance), in a database that is none of the three.
    The server waits about five seconds for sessions to end. Every failure leaves the names as they were: DatabaseMissing;
    Refused (prepared transactions, a name taken); PrivilegeMissing; Blocked, naming who stayed or who held the lock.
    """
    avoid = (live, aside, before)
    open_session = session.maintenance
    with (
        closing(open_session(info, avoid=avoid, application_name="naap_ops swap", autocommit=False)) as renamer,
        closing(open_session(info, avoid=avoid, application_name="naap_ops swap watch")) as watcher,
    ):
        names = _checked(watcher, live, aside, before)
        _let_leave(watcher, names.aside_oid)
        moments = _Moments()
        watch = _Watch(watcher, renamer.info.backend_pid, names, moments, on_waiting)
        with ThreadPoolExecutor(max_workers=1) as pool:
            renaming = pool.submit(_rename, renamer, names, moments, lock_timeout, also)
            try:
                watch.until(renaming)
            except psycopg.Error:
                pass  # without the watch the renames may still go through, or fail and say why
            except BaseException:
                moments.given_up.set()
                renamer.cancel_safe(timeout=_CANCEL_SECONDS)
                raise
        try:
            renaming.result()
        except (server.ObjectInUse, server.LockNotAvailable) as error:
            raise _blocked(names, watch.seen, error) from None
        except psycopg.Error as error:
            if not (renamer.broken and _took_effect(info, names)):
                raise _explained(names, error, info) from None
            moments.done = time.monotonic()
        return moments.done - moments.down


# --- before -----------------------------------------------------------------------------------------------------------


def _checked(watcher: Connection, live: str | None, aside: str, before: str) -> _Names:
    """Everything that would make the swap fail half-way, looked for first."""
    rows = watcher.execute(
        "SELECT datname, oid, pg_has_role(datdba, 'USAGE') FROM pg_catalog.pg_database WHERE datname = ANY(%s)",
        [[name for name in (live, aside, before) if name]],
    ).fetchall()
    found = {name: (oid, owned) for name, oid, owned in rows}
    for name in (live, aside):
        if name is not None and name not in found:
            raise DatabaseMissing(database=name, address=f"{watcher.info.host}:{watcher.info.port}")
    if before in found:
        raise Refused(reason=f"database {before!r} exists already")
    server_info = session.server_info(watcher)
    not_owned = [name for name, (_, owned) in found.items() if not owned]
    if not_owned:
        raise PrivilegeMissing(user=server_info.user, action=f"rename database {not_owned[0]!r}: it is not its owner")
    if not server_info.can_createdb:
        raise PrivilegeMissing(user=server_info.user, action="rename databases (CREATEDB)")
    names = _Names(live, aside, before, found[live][0] if live is not None else None, found[aside][0])
    _check_prepared(watcher, names)
    if not server_info.is_superuser:
        _check_sessions(watcher, names, server_info.user)
    return names


def _check_prepared(watcher: Connection, names: _Names) -> None:
    rows = watcher.execute(
        "SELECT gid, database FROM pg_catalog.pg_prepared_xacts WHERE database = ANY(%s) ORDER BY prepared",
        [[name for name in (names.live, names.aside) if name]],
    ).fetchall()
    if rows:
        raise Refused(
            reason=f"database {rows[0][1]!r} has prepared transactions: {', '.join(repr(gid) for gid, _ in rows)}",
            hint="COMMIT PREPARED or ROLLBACK PREPARED them, then try again.",
        )


def _check_sessions(watcher: Connection, names: _Names, user: str) -> None:
    """Sessions that this user may not end. The rule is that of pg_terminate_backend."""
    rows = watcher.execute(
        "SELECT pid, rolname, application_name FROM pg_catalog.pg_stat_activity JOIN pg_catalog.pg_roles r ON r.oid = usesysid"
        " WHERE datid = ANY(%s) AND (rolsuper"
        " OR NOT (pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))) ORDER BY pid",
        [names.oids],
    ).fetchall()
    if rows:
        who = ", ".join(f"pid {pid} of {role} ({application or 'unnamed'})" for pid, role, application in rows)
        raise PrivilegeMissing(
            user=user,
            action=f"end the sessions in the way: {who}",
            hint="End them, or GRANT pg_signal_backend; sessions of superusers only a superuser can end.",
        )


def _let_leave(watcher: Connection, oid: int) -> None:
    """Sessions that have just been closed are still there for a moment, and the rename looks for them every 100 ms only."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    query = "SELECT FROM pg_catalog.pg_stat_activity WHERE datid = %s LIMIT 1"
    while watcher.execute(query, [oid]).fetchone() is not None and time.monotonic() < deadline:
        time.sleep(_LEAVE_POLL_SECONDS)


# --- the transaction --------------------------------------------------------------------------------------------------


def _rename(
    renamer: Connection, names: _Names, moments: _Moments, lock_timeout: float, also: Callable[[Connection], None] | None
) -> None:
    renamer.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{lock_timeout * 1000:.0f}ms")))
    # The aside database first gets a name that is never committed: its lock, and its autovacuum workers' end, are then waited
    # for while the live database still serves.
    parked = f"naap_ops_swap_{secrets.token_hex(8)}"
    _alter(renamer, names.aside, parked)
    moments.asked = time.monotonic()
    if names.live is not None:
        _alter_live(renamer, names.live, names.before, moments, moments.asked + lock_timeout)
    _alter(renamer, parked, names.target)
    if also is not None:
        also(renamer)
    if not moments.given_up.is_set():  # else it is rolled back when its session is closed
        renamer.commit()
        moments.done = time.monotonic()


def _alter_live(renamer: Connection, live: str, before: str, moments: _Moments, deadline: float) -> None:
    """Rename the live database. Whoever connects queues behind us while we wait for its lock: so we wait in short turns."""
    renamer.execute("SAVEPOINT live")
    renamer.execute(f"SET LOCAL lock_timeout = '{_TURN_SECONDS * 1000:.0f}ms'".encode())
    while True:
        moments.asked = time.monotonic()
        try:
            return _alter(renamer, live, before)
        except server.LockNotAvailable:
            if moments.given_up.wait(_BETWEEN_SECONDS) or time.monotonic() >= deadline:
                raise
            renamer.execute("ROLLBACK TO SAVEPOINT live")
            renamer.execute(f"SET LOCAL lock_timeout = '{_TURN_SECONDS * 1000:.0f}ms'".encode())


def _alter(renamer: Connection, old: str, new: str) -> None:
    renamer.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


class _Watch:
    """The second session: sees the lock granted, ends the sessions that are left, remembers who was in the way."""

    def __init__(
        self,
        watcher: Connection,
        renamer_pid: int,
        names: _Names,
        moments: _Moments,
        on_waiting: Callable[[Sequence[Session]], None] | None,
    ) -> None:
        self.seen: list[Session] = []
        self._watcher = watcher
        self._renamer_pid = renamer_pid
        self._names = names
        self._moments = moments
        self._on_waiting = on_waiting

    def until(self, renaming: Future[None]) -> None:
        """Clear the way until the renames are through or have failed."""
        told = time.monotonic()
        while not wait([renaming], timeout=_POLL_SECONDS).done:
            locked = self._locked()
            if self._names.live_oid in locked and self._moments.locked is None:
                self._moments.locked = time.monotonic()
            sessions = self._sessions(locked) if locked else []
            for each in sessions:
                self._end(each.pid)
            # The last look before the server gives up is what a failure is explained with.
            self.seen = sessions or self._holders() or self.seen
            if self._on_waiting and self.seen and time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                self._on_waiting(self.seen)

    def _locked(self) -> list[int]:
        rows = self._watcher.execute(
            "SELECT objid FROM pg_catalog.pg_locks WHERE pid = %s AND granted AND mode = 'AccessExclusiveLock'"
            " AND locktype = 'object' AND classid = 'pg_catalog.pg_database'::regclass AND objid = ANY(%s)",
            [self._renamer_pid, self._names.oids],
        )
        return [row[0] for row in rows]

    def _sessions(self, oids: Iterable[int]) -> list[Session]:
        """Sessions of databases. Autovacuum workers, which belong to no user, are ended by the rename itself."""
        return self._activity("datid = ANY(%s) AND usesysid IS NOT NULL", list(oids))

    def _holders(self) -> list[Session]:
        return self._activity("pid = ANY(pg_blocking_pids(%s))", self._renamer_pid)

    def _activity(self, condition: str, value: object) -> list[Session]:
        rows = self._watcher.execute(
            "SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, ''), coalesce(query, '')"
            f" FROM pg_catalog.pg_stat_activity WHERE {condition} ORDER BY pid".encode(),
            [value],
        )
        return [Session(*row) for row in rows]

    def _end(self, pid: int) -> None:
        # Denied: it came after the check; if it stays, the rename fails and names it.
        with suppress(server.InsufficientPrivilege):
            self._watcher.execute("SELECT pg_terminate_backend(%s)", [pid])


def _took_effect(info: ConnInfo, names: _Names) -> bool:
    """Whether the renames were committed although the connection broke before it could say so."""
    with closing(session.maintenance(info, avoid=(names.live, names.aside, names.before))) as connection:
        row = connection.execute("SELECT datname FROM pg_catalog.pg_database WHERE oid = %s", [names.aside_oid]).fetchone()
    return row is not None and row[0] == names.target


# --- failures ---------------------------------------------------------------------------------------------------------


def _blocked(names: _Names, seen: Sequence[Session], error: psycopg.Error) -> Blocked:
    who = "; ".join(str(each) for each in seen) or error.diag.message_detail or error.diag.message_primary or str(error)
    return Blocked(what=f"the swap of database {names.target!r}", blockers=who)


def _explained(names: _Names, error: psycopg.Error, info: ConnInfo) -> OpsError:
    message = error.diag.message_primary or str(error)
    if error.sqlstate is None or isinstance(error, server.AdminShutdown | server.CrashShutdown):
        return ServerUnreachable(address=info.address, reason=message)
    if isinstance(error, server.DuplicateDatabase):
        return Refused(reason=f"{message}; it was made meanwhile")
    if isinstance(error, server.InsufficientPrivilege):
        return PrivilegeMissing(user=info.user, action=f"swap database {names.target!r}: {message}")
    return Refused(reason=f"the swap of database {names.target!r} failed: {message}", hint="Nothing was renamed.")
