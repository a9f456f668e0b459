"""A script sent as one simple query, and which of its statements failed.

The server answers each statement of it in turn: the failed one is the one after as many as were answered before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from naap_ops.postgres.session import Connection

_LEFT_OPEN = "the script ends inside of a transaction that it began and did not end: nothing since its BEGIN is kept"


@dataclass(frozen=True)
class Failure:
    """What the server said. ``statement`` from 1, None where it did not begin; ``position`` in characters, from 1.

    ``text`` is message, detail and hint as they are printed after the severity.
    """

    text: str
    sqlstate: str
    severity: str = "ERROR"
    statement: int | None = None
    position: int | None = None

    def line(self, script: str) -> int | None:
        """The line of the error, from 1, where the server names a place."""
        return None if self.position is None else script.count("\n", 0, self.position - 1) + 1


def send(connection: Connection, script: str, *, within: bool = False) -> Failure | None:
    """Run the script; None when all of it succeeded. Afterwards the session, if it lives, is in no transaction.

    ``within``: in the transaction that is open, which is still open after a success.
    """
    import psycopg
    from psycopg.pq import TransactionStatus

    try:
        failure = _sent(connection, script)
        if within and failure is None:
            return None
        if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            connection.execute("rollback")
            failure = failure or Failure(_LEFT_OPEN, "25001")
    except psycopg.Error as error:  # the server is gone
        return Failure(str(error), error.sqlstate or "", severity="FATAL")
    return failure


def _sent(connection: Connection, script: str) -> Failure | None:
    from psycopg import generators
    from psycopg.pq import ExecStatus

    connection.pgconn.send_query(script.encode())
    results = connection.wait(generators.execute(connection.pgconn))
    last = results[-1] if results else None
    if last is not None and last.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH):
        # Prisma's driver stops on it as well. The session is of no more use.
        connection.close()
        return Failure("COPY from or to the client does not work in a migration", "0A000", statement=len(results))
    if last is None or last.status != ExecStatus.FATAL_ERROR:
        return None
    # A script that cannot be read fails as a whole, before its first statement.
    number = None if len(results) == 1 and _is_syntax(last) else len(results)
    return _failure(last, number)


def _is_syntax(result: PGresult) -> bool:
    from psycopg.pq import DiagnosticField

    return (result.error_field(DiagnosticField.SQLSTATE) or b"") == b"42601"


def _failure(result: PGresult, number: int | None) -> Failure:
    from psycopg.pq import DiagnosticField as Field

    def told(field: Field) -> str:
        return (result.error_field(field) or b"").decode("utf-8", "replace")

    message = told(Field.MESSAGE_PRIMARY) or result.error_message.decode("utf-8", "replace").strip()
    more = [
        f"{name}: {text}"
        for name, field in (("DETAIL", Field.MESSAGE_DETAIL), ("HINT", Field.MESSAGE_HINT))
        if (text := told(field))
    ]
    position = told(Field.STATEMENT_POSITION)
    return Failure(
        "\n".join([message, *more]),
        told(Field.SQLSTATE),
        told(Field.SEVERITY_NONLOCALIZED) or "ERROR",
        number,
        int(position) if position else None,
    )
