"""Who is in the way: of a backup's lock, and of the table locks that pg_dump and the snapshot's reader wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from naap_ops import clock
from naap_ops.background import Background

if TYPE_CHECKING:
    from psycopg import Connection

# Advisory locks are per database: the same key guards each database on its own.
LOCK_KEY: LiteralString = "hashtextextended('naap_ops backup', 0)"

_HOLDER: LiteralString = f"""
select a.pid, a.usename, a.application_name, coalesce(a.client_addr::text, 'local'), a.backend_start
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and (l.classid::bigint << 32 | l.objid::bigint) = {LOCK_KEY}
"""

_WHO: LiteralString = (
    "select distinct p.pid, s.usename, s.application_name, s.state, left(regexp_replace(s.query, '\\s+', ' ', 'g'), 200)"
)

# In the way of the sessions that bear a name. A prepared transaction has process id 0 and no session.
_BLOCKERS: LiteralString = f"""
{_WHO} from pg_stat_activity a cross join lateral unnest(pg_blocking_pids(a.pid)) as p(pid)
left join pg_stat_activity s on s.pid = p.pid
where a.application_name = %(name)s and s.application_name is distinct from %(name)s
"""

# Queued behind them: pg_dump's workers do not wait where the queue holds somebody who wants a table for himself.
_QUEUED: LiteralString = f"""
{_WHO} from pg_stat_activity s, lateral (select s.pid) as p(pid)
where s.application_name <> %(name)s and s.wait_event_type = 'Lock' and exists (
  select from pg_stat_activity a where a.application_name = %(name)s and a.pid = any(pg_blocking_pids(s.pid)))
"""

# The last resort: whoever has a table of this database for himself.
_EXCLUSIVE: LiteralString = f"""
{_WHO} from (select coalesce(pid, 0) from pg_locks where locktype = 'relation' and granted and mode = 'AccessExclusiveLock'
  and database = (select oid from pg_database where datname = current_database())
  and pid is distinct from pg_backend_pid()) as p(pid)
left join pg_stat_activity s on s.pid = p.pid
"""

_LONGEST_PAUSE = 0.5


def holder(connection: Connection) -> str:
    """Who holds the backup lock of the connected database, for the message. Some of it is hidden from ordinary users."""
    row = connection.execute(_HOLDER).fetchone()
    if row is None:
        return "it has just ended"
    pid, user, application, address, since = row
    began = f", since {clock.iso(since)}" if since else ""
    return f"{application or 'a session'} (server process {pid}, user {user}, from {address}{began})"


class LockWatch(Background):
    """While the sessions named ``waiting`` may wait for locks, remembers who was in the way.

    Asks by the guard session, alone, on a thread, often enough for ``patience`` (seconds, 0: no end).
    """

    def __init__(self, guard: Connection, waiting: str, patience: float) -> None:
        super().__init__()
        self._guard = guard
        self._name = {"name": waiting}
        self._interval = min(_LONGEST_PAUSE, patience / 4 or _LONGEST_PAUSE)
        self._blockers: list[str] = []
        self._queued: list[str] = []

    def culprits(self, *, waited: bool = True) -> str:
        """Who it was, for the message, once the block has ended; ``waited`` False: no lock was waited for, a queue was met."""
        found = self._blockers if waited else self._queued
        return "; ".join(found or self._ask(_EXCLUSIVE))

    @property
    def lost(self) -> bool:
        """Whether the guard's own connection has gone, as far as it has been used."""
        return self._guard.closed

    def work(self) -> None:
        while not self.stop.wait(self._interval):
            self._blockers = self._ask(_BLOCKERS) or self._blockers
            self._queued = self._ask(_QUEUED) or self._queued

    def _ask(self, query: LiteralString) -> list[str]:
        from psycopg import Error

        try:
            return [_described(row) for row in self._guard.execute(query, self._name)]
        except Error:
            return []  # the server is gone; whoever waits for it says so


def _described(row: tuple[Any, ...]) -> str:
    pid, user, application, state, query = row
    if user is None:
        return f"pid {pid}" if pid else "a prepared transaction (see pg_prepared_xacts)"
    return f"pid {pid}, user {user}, application {application or '-'} ({state or 'state hidden'}): {query}"
