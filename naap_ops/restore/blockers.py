"""Who is in the way of a session of ours: asked by a second one while the first waits, because afterwards nobody can tell."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from naap_ops.background import Background
from naap_ops.errors import OpsError

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo

_BLOCKERS = """
select b.pid, coalesce(b.usename, ''), coalesce(nullif(b.application_name, ''), 'unnamed'), coalesce(b.state, ''),
  left(regexp_replace(coalesce(b.query, ''), '\\s+', ' ', 'g'), 120)
from unnest(pg_blocking_pids(%s)) p(pid) join pg_stat_activity b on b.pid = p.pid order by b.pid
"""


class BlockerWatch(Background):
    """``seen`` is what the last look found: who blocked session ``pid``. Nothing is asked before ``interval`` has passed."""

    def __init__(self, info: ConnInfo, pid: int, *, interval: float = 0.5) -> None:
        super().__init__()
        self._info = info
        self._pid = pid
        self._interval = interval
        self.seen: list[str] = []

    def work(self) -> None:
        from psycopg import Error

        from naap_ops.postgres.session import connect

        if self.stop.wait(self._interval):
            return
        try:
            with closing(connect(self._info)) as connection:
                while not self.stop.wait(self._interval):
                    rows = connection.execute(_BLOCKERS, [self._pid]).fetchall()
                    if rows:
                        self.seen = [f"pid {p}, user {u}, application {a} ({s}): {q}" for p, u, a, s, q in rows]
        except (Error, OpsError):
            return  # the server is gone, or full; the session itself will say so
