"""The lease: which of several schedulers looks after a database. An advisory lock in it, held by a session of its own.

It ends with its holder, however that ends, without a clock: nothing expires too early for a slow one, too late for a dead
one. What it cannot do, the journal does: that no due time is served twice holds without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, LiteralString

from naap_ops.errors import OpsError

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

# A holder whose machine has gone is noticed by the server within a minute; a server that has gone, by us within 15 s.
_KEEPALIVE: LiteralString = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
_HOLDER: LiteralString = """
select a.application_name, a.client_addr from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and (l.classid::bigint << 32 | l.objid::bigint) = %s
"""


class State(Enum):
    """Whose it is. UNREACHABLE: the database cannot be asked."""

    HELD = "held"
    OTHER = "other"
    UNREACHABLE = "unreachable"


def lease_key(repository: str) -> int:
    """The lock's number, 63 bits: schedulers that fill different repositories do not hinder each other."""
    digest = hashlib.sha256(f"naap_ops schedule {repository}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


class Lease:
    """The lease of one database. ``detail`` says who holds it, or why that is not known. For one thread."""

    def __init__(self, info: Callable[[], ConnInfo], key: int) -> None:
        self._info = info
        self._key = key
        self._connection: Connection | None = None
        self._held = False
        self.detail = ""

    def tend(self) -> State:
        """Look whether it is still ours; try to get it where it is not."""
        from psycopg import Error

        try:
            connection = self._session()
            if self._held:
                connection.execute("SELECT 1")
            else:
                self._held = bool(self._ask("SELECT pg_try_advisory_lock(%s)"))
            self.detail = "" if self._held else str(self._ask(_HOLDER) or "a session")
        except (OpsError, Error) as error:
            self.detail = error.text if isinstance(error, OpsError) else str(error).strip()
            self.close()
            return State.UNREACHABLE
        return State.HELD if self._held else State.OTHER

    def _session(self) -> Connection:
        from naap_ops.postgres.session import connect

        if self._connection is None:
            self._held = False
            info = self._info().with_params(tcp_user_timeout="15000")
            name = f"naap_ops schedule {os.getpid()}@{socket.gethostname()}"[:63]
            self._connection = connect(info, application_name=name)
            self._connection.execute(_KEEPALIVE)
        return self._connection

    def _ask(self, query: LiteralString) -> Any:
        assert self._connection is not None
        row = self._connection.execute(query, [self._key]).fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        """Let it go."""
        from psycopg import Error

        connection, self._connection, self._held = self._connection, None, False
        if connection is not None:
            with contextlib.suppress(Error):  # it is given up, whatever state it is in
                connection.close()
