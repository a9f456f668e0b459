"""A drill: the backup is fetched, decrypted, loaded into a scratch server, counted and questioned, as in an emergency."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import psycopg

from naap_ops.backup.repository import Backup
from naap_ops.backup.verify import Scratch, verify
from naap_ops.postgres.session import connect

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.tools import Toolset

RECORD = "drilled"


class Question(Protocol):
    """``expect`` is the first column of the first row, as psql shows it; ``name`` what people call it."""

    @property
    def query(self) -> str: ...
    @property
    def expect(self) -> str: ...
    @property
    def name(self) -> str | None: ...


@dataclass(frozen=True)
class Drill:
    """What a drill came to. ``seconds`` from the first byte fetched to the last question: the measured recovery time."""

    id: str
    ok: bool
    seconds: float
    tables: int
    rows: int
    questions: int
    problems: list[str]


def drill(backup: Backup, tools: Toolset | None, scratch: Scratch, questions: Sequence[Question], *, jobs: int) -> Drill:
    """Carry it out and add a record ``drilled`` to the backup, good or bad; what could not be done at all is raised.

    Raises what :func:`naap_ops.backup.verify.verify` raises, IdentityMissing for a backup that cannot be opened here.
    """
    report = verify(backup, "restore", tools, scratch, jobs=jobs, ask=lambda info: answers(info, questions), record=False)
    found = Drill(report.id, report.sound, report.seconds, report.tables, report.rows, len(questions), report.problems)
    facts = {"seconds": found.seconds, "tables": found.tables, "rows": found.rows, "problems": found.problems}
    backup.add_record("verified" if found.ok else "failed", grade="restore", **facts)
    backup.add_record(RECORD, ok=found.ok, questions=found.questions, **facts)
    return found


def answers(info: ConnInfo, questions: Iterable[Question]) -> Iterator[str]:
    """Ask each question, and yield those that are not answered as expected."""
    with closing(connect(info)) as connection:
        connection.execute("set default_transaction_read_only = on")
        for question in questions:
            answer = _answer(connection, question)
            if answer != question.expect:
                yield f"{question.name or question.query} gave {answer!r}, not {question.expect!r}"


def _answer(connection: psycopg.Connection, question: Question) -> str:
    try:
        with psycopg.RawCursor(connection) as cursor:
            cursor.execute(question.query.encode())
            if not cursor.description:
                return "no rows"
            result = cursor.pgresult
            assert result is not None
            value = result.get_value(0, 0) if result.ntuples else b"no rows"
    except psycopg.Error as error:
        return f"the error: {error.diag.message_primary or error}"
    return "NULL" if value is None else bytes(value).decode("utf-8", "replace")
