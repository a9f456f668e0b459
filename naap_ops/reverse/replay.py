"""Run a migration on a shadow statement by statement, with a snapshot of the catalog after each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql as composed
from psycopg.pq import TransactionStatus

from naap_ops.errors import ForwardFailed
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.reverse.model import Step
from naap_ops.reverse.script import Script, Statement

if TYPE_CHECKING:
    from psycopg import Connection

# They change nothing that a snapshot shows: no need to look after each.
_NO_DDL = frozenset(
    {
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "SET",
        "RESET",
        "SHOW",
        "VACUUM",
        "ANALYZE",
        "MERGE",
        "TRUNCATE TABLE",
        "LOCK TABLE",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "START TRANSACTION",
        "SAVEPOINT",
        "RELEASE",
        "CHECKPOINT",
        "VALUES",
    }
)


@dataclass(frozen=True)
class Replay:
    """What a migration did: ``steps`` in order, ``committed`` transactions it took, ``seconds``."""

    steps: tuple[Step, ...]
    after: Catalog
    seconds: float


def search_path(connection: Connection, schema: str) -> None:
    """What unqualified names mean, as Prisma's engine sets it: exactly the URL's schema, nothing else."""
    connection.execute(composed.SQL("set search_path to {}").format(composed.Identifier(schema)))


def replay(connection: Connection, script: Script, before: Catalog, *, steps: bool = True, look: bool = True) -> Replay:
    """Run the script as Prisma's engine does: one transaction, which the script's own BEGIN and COMMIT divide.

    ``connection`` in autocommit. With ``steps`` a snapshot is taken after every statement that can change the catalog, else
    only at the end, and without ``look`` not at all. Raises ForwardFailed with the statement and what had been applied for
    good before it.
    """
    began = time.monotonic()
    runner = _Runner(connection, script, before, steps, look)
    for segment in script.segments:
        runner.run(segment.statements, transactional=segment.transactional)
    return Replay(tuple(runner.steps), runner.catalog, time.monotonic() - began)


def states(connection: Connection, script: Script, before: Catalog) -> tuple[list[Catalog], ForwardFailed | None]:
    """Run the script as far as it runs: the catalog before it and after each of its statements, and what stopped it, if it
    was stopped."""
    runner, failure = _Runner(connection, script, before, True, True), None
    found = [before]
    for segment in script.segments:
        start, known = runner.catalog, len(runner.steps)
        try:
            runner.run(segment.statements, transactional=segment.transactional)
        except ForwardFailed as error:
            failure = error
        after = iter(runner.steps[known:])
        for statement in segment.statements:
            step = next(after, None) if statement.control is None else None
            if statement.control is None and step is None:
                return found, failure  # the one that failed
            undone = statement.control == "rollback"
            found.append(step.after if step is not None else start if undone else found[-1])
        if failure is not None:
            return found, failure
    return found, None


class _Runner:
    def __init__(self, connection: Connection, script: Script, before: Catalog, steps: bool, look: bool) -> None:
        self.connection, self.script, self.catalog = connection, script, before
        self.stepwise, self.looking = steps, look
        self.steps: list[Step] = []
        self.durable = 0  # statements whose effect is committed

    def run(self, statements: tuple[Statement, ...], *, transactional: bool) -> None:
        if transactional:
            self.connection.execute("begin")
        for statement in statements:
            if statement.control is None:
                self._one(statement)
        if not self.stepwise:
            self.catalog = self._look()
        if self.connection.info.transaction_status != TransactionStatus.IDLE:
            undone = statements[-1].control == "rollback"
            self._end("rollback" if undone else "commit", statements[-1])
            if undone:
                self.catalog = self._look()
        self.durable += len(statements)

    def _one(self, statement: Statement) -> None:
        before = self.catalog
        try:
            self.connection.execute(statement.sql.encode())
        except psycopg.Error as error:
            raise self._failed(statement, error) from error
        if self.stepwise:
            if statement.tag not in _NO_DDL or statement.opaque:
                self.catalog = self._look()
            self.steps.append(Step(statement, before, self.catalog))

    def _end(self, command: str, statement: Statement) -> None:
        try:
            self.connection.execute(command.encode())
        except psycopg.Error as error:  # deferred constraints speak up here
            raise self._failed(statement, error) from error

    def _failed(self, statement: Statement, error: psycopg.Error) -> ForwardFailed:
        if self.connection.info.transaction_status != TransactionStatus.IDLE:
            self.connection.execute("rollback")
        return ForwardFailed(
            self.script.name,
            statement.index,
            statement.line,
            statement.sql,
            str(error.diag.message_primary or error),
            error.sqlstate or "",
            self.durable,
            _relation(error, self.catalog.schema),
        )

    def _look(self) -> Catalog:
        if not self.looking:
            return self.catalog
        return snapshot(self.connection, schema=self.catalog.schema)


def _relation(error: psycopg.Error, schema: str) -> tuple[str, str] | None:
    name = error.diag.table_name
    return (error.diag.schema_name or schema, name) if name else None
