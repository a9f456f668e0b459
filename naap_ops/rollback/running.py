"""Run a script on the live database so that it can be gone on with after a crash at any instant.

Parts in a transaction are known by their transaction id, which is on the disk before the commit: afterwards the server says
whether it was committed (``txid_status``). What cannot run in a transaction is a statement each; the concurrent building and
dropping of indexes, which leaves an invalid index when it stops, is looked at in the catalog and tidied up.

A lock that is not to be had within ``lock_timeout`` is not waited for longer, as whoever comes after us would wait as well: the
part is rolled back and tried again a little later.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors as server
from psycopg import sql
from psycopg.pq import TransactionStatus

from naap_ops.errors import Blocked, OpsError, PrivilegeMissing, Refused, ServerUnreachable
from naap_ops.postgres.session import connect
from naap_ops.restore.blockers import BlockerWatch
from naap_ops.reverse.document import LOCK_TIMEOUT, segments
from naap_ops.reverse.render import quoted
from naap_ops.reverse.script import Script, Statement, parse

if TYPE_CHECKING:
    from naap_ops.events import Events
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.procedure.journal import Journal

_SEARCH_PATH: Final = re.compile(r'^(SET (?:LOCAL )?search_path = )"(?:[^"]|"")*";$', re.MULTILINE)
_LOCK_TIMEOUT: Final = re.compile(rf"^(SET (?:LOCAL )?lock_timeout = )'{LOCK_TIMEOUT}';$", re.MULTILINE)
_PAUSE_SECONDS: Final = (0.2, 2.0)  # between attempts, at random, so that two who wait for each other do not meet again
# What another attempt can mend: lock_timeout, deadlock.
_AGAIN: Final = (server.LockNotAvailable, server.DeadlockDetected)

Hook = Callable[["Connection"], None]


@dataclass(frozen=True)
class Part:
    """Statements that run in one transaction, or one after the other outside of any."""

    transactional: bool
    sql: str
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Patience:
    """How long one attempt waits for a lock, in seconds, and how many attempts there are."""

    lock_timeout: float
    attempts: int


def reverse_parts(text: str, schema: str, patience: Patience) -> list[Part]:
    """The parts of a ``down.sql``, meant for ``schema``: what lies in it is written without its name."""
    aimed = _SEARCH_PATH.sub(lambda found: f"{found[1]}{quoted(schema)};", text)
    timed = _LOCK_TIMEOUT.sub(lambda found: f"{found[1]}'{patience.lock_timeout * 1000:.0f}ms';", aimed)
    return [
        Part(each.transactional, each.sql, () if each.transactional else parse(each.sql.encode(), name="down.sql").statements)
        for each in segments(timed)
    ]


def forward_parts(script: Script) -> list[Part]:
    """The parts of a migration, as Prisma's engine runs them. What the file itself rolls back is left out."""
    found = []
    for each in script.segments:
        statements = tuple(one for one in each.statements if one.control is None)
        if statements and not each.rolled_back:
            found.append(Part(each.transactional, ";\n".join(one.sql for one in statements) + ";", statements))
    return found


@dataclass
class Run:
    """One script on its way through. ``step`` is the journal's name for it, ``kind`` (down, up) that of the script.

    ``connection`` in autocommit, holding Prisma's lock. ``retries`` counts attempts that met a lock.
    """

    connection: Connection
    info: ConnInfo
    journal: Journal
    step: str
    kind: str
    patience: Patience
    events: Events
    retries: int = field(default=0)

    def committed(self) -> bool:
        """Whether all of it is done, as the server knows."""
        return self._settled("end")

    def begun(self) -> bool:
        """Whether any of it is done, all or not."""
        return any(
            key.startswith(f"{self.kind}.") and (value in ("begun", "done") or self._committed(value))
            for key, value in self.journal.facts(self.step).items()
        )

    def through(self, parts: Sequence[Part], schema: str, finish: Hook, start: Hook | None = None) -> None:
        """Every part that is not done; ``finish`` runs in the last transaction, with the last part if that has one. ``start``
        runs in the first part that is a transaction, before it.

        Raises Blocked, naming who held the lock; Refused when a statement fails, which then has changed nothing but what
        parts outside of transactions have done; PrivilegeMissing; ServerUnreachable.
        """
        self.session(schema)
        lead = list(parts)
        last = lead.pop() if lead and lead[-1].transactional else None
        for at, part in enumerate(lead):
            if part.transactional:
                self._transaction(str(at), part, None, start)
                start = None
            else:
                self._outside(str(at), part)
        self._transaction("end", last, finish, start)

    def session(self, schema: str) -> None:
        """Settings under which its statements run."""
        self.connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
        self.connection.execute(f"set lock_timeout = '{self.patience.lock_timeout * 1000:.0f}ms'".encode())
        with suppress(server.UndefinedObject, server.InvalidParameterValue):  # since 14, and not on every system
            self.connection.execute("set client_connection_check_interval = '1s'")  # should we die, the server notices

    # --- in a transaction ---------------------------------------------------------------------------------------------

    def _transaction(self, key: str, part: Part | None, finish: Hook | None, start: Hook | None) -> None:
        if self._settled(key):
            return

        def attempt() -> None:
            with self.connection.transaction():
                if start is not None:
                    start(self.connection)
                if part is not None:
                    self.connection.execute(part.sql.encode())
                if finish is not None:
                    finish(self.connection)
                row = self.connection.execute("select pg_catalog.txid_current()").fetchone()
                assert row is not None
                _keep_number(self.connection, self.info)
                self.journal.fact(self.step, **{f"{self.kind}.{key}": row[0]})

        self.patiently(attempt)

    def _settled(self, key: str) -> bool:
        return self._committed(self.journal.facts(self.step).get(f"{self.kind}.{key}"))

    def _committed(self, xid: Any) -> bool:
        """Whether the transaction was committed. One that is still under way is waited for: its session is ours, and dead."""
        if not isinstance(xid, int):
            return False
        try:
            while True:
                row = self.connection.execute("select pg_catalog.txid_status(%s)", [xid]).fetchone()
                if row != ("in progress",):
                    return row == ("committed",)
                time.sleep(_PAUSE_SECONDS[0])
        except server.InvalidParameterValue:  # of the future: this is another server, or one that was put back
            return False

    # --- outside of transactions ------------------------------------------------------------------------------------

    def _outside(self, key: str, part: Part) -> None:
        for statement in part.statements:
            place = f"{self.kind}.{key}.{statement.index}"
            known = self.journal.facts(self.step).get(place)
            if statement.tag == "SET":
                self.connection.execute(statement.sql.encode())
                continue
            if known == "done" or (known == "begun" and _has_happened(self.connection, statement)):
                continue
            self.journal.fact(self.step, **{place: "begun"})

            def attempt(statement: Statement = statement) -> None:
                _tidied(self.connection, statement)
                try:
                    self.connection.execute(statement.sql.encode())
                except psycopg.Error:
                    if not self.connection.broken:
                        _tidied(self.connection, statement)
                    raise

            self.patiently(attempt)
            self.journal.fact(self.step, **{place: "done"})

    # --- patience -----------------------------------------------------------------------------------------------------

    def patiently(self, attempt: Callable[[], object]) -> None:
        """Until the locks that it needs were to be had, as often as the settings say. Raises Blocked, and what :meth:`through`
        raises."""
        for number in range(1, self.patience.attempts + 1):
            with BlockerWatch(self.info, self.connection.info.backend_pid, interval=0.3) as watch:
                try:
                    attempt()
                except _AGAIN as error:
                    self._idle()
                    reason = "; ".join(watch.seen) or str(error.diag.message_primary or error)
                except psycopg.Error as error:
                    self._idle()
                    raise _explained(self.connection, error) from error
                else:
                    return
            if number == self.patience.attempts:
                raise Blocked(
                    what=f"{self.step}, after {number} attempts of {self.patience.lock_timeout:g} s,",
                    blockers=reason,
                    hint="End the session in the way (select pg_terminate_backend(pid)), or wait longer:"
                    " settings rollback.lock_timeout and rollback.attempts.",
                )
            self.retries += 1
            self.events.emit("rollback.waiting", name="wait", text=f"waiting for a lock, attempt {number}: {reason}")
            time.sleep(random.uniform(*_PAUSE_SECONDS))

    def _idle(self) -> None:
        if not self.connection.broken and self.connection.info.transaction_status != TransactionStatus.IDLE:
            self.connection.rollback()


def _explained(connection: Connection, error: psycopg.Error) -> Exception:
    message = str(error.diag.message_primary or error).strip()
    if connection.broken or error.sqlstate is None:
        return ServerUnreachable(address=f"{connection.info.host}:{connection.info.port}", reason=message)
    if isinstance(error, server.InsufficientPrivilege):
        return PrivilegeMissing(user=connection.info.user, action=f"run the reverse: {message}")
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    return Refused(
        reason=f"the database refuses it: {message}{detail}",
        hint="Its transaction was rolled back. `invoke rollback --strategy restore` goes back by the backup instead.",
    )


def _keep_number(connection: Connection, info: ConnInfo) -> None:
    """Have the server remember on its disk that the transaction ids up to now are given away.

    After a crash it would give the id of a transaction that was not committed to somebody else, whose commit would then be
    taken for ours. A committed write of another session, which is after ours in the log, is enough. Where there is no session
    to be had it goes on without, as long as the server itself is there: the last look at the books tells such a mistake.
    """
    try:
        with connect(info, application_name="naap_ops rollback") as other:
            other.execute("select pg_catalog.pg_logical_emit_message(true, 'naap_ops', '')")
    except (psycopg.Error, OpsError):
        connection.execute("select 1")


# --- indexes ------------------------------------------------------------------------------------------------------------


def _has_happened(connection: Connection, statement: Statement) -> bool:
    """Whether a statement that was begun and perhaps cut off has done what it does. Only of indexes can that be seen."""
    index = _index(statement)
    if index is None:
        return False
    valid = _validity(connection, index)
    return valid is None if statement.tag.startswith("DROP") else valid is True


def _tidied(connection: Connection, statement: Statement) -> None:
    """Drop the invalid index that an earlier attempt to build it has left."""
    index = _index(statement)
    if index is not None and statement.tag.startswith("CREATE") and _validity(connection, index) is False:
        connection.execute(sql.SQL("drop index concurrently if exists {}").format(sql.SQL(index)))


def _validity(connection: Connection, index: str) -> bool | None:
    """Whether the index of that quoted name is valid; None without one."""
    row = connection.execute(
        "select indisvalid from pg_catalog.pg_index where indexrelid = pg_catalog.to_regclass(%s)", [index]
    ).fetchone()
    return None if row is None else bool(row[0])


def _index(statement: Statement) -> str | None:
    """The quoted name of the index that a CREATE or DROP INDEX CONCURRENTLY is about."""
    node = statement.node
    kind = node.DESCRIPTOR.name
    if kind == "IndexStmt" and node.concurrent and node.idxname:
        return ".".join(quoted(word) for word in (node.relation.schemaname, node.idxname) if word)
    if kind == "DropStmt" and node.concurrent and len(node.objects) == 1:
        return ".".join(quoted(item.string.sval) for item in node.objects[0].list.items)
    return None
