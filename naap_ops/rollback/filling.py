"""Columns of large tables that a migration dropped, filled before its reverse runs: in batches, while others go on writing.

A batch is a range of the image's pages, joined by key, one transaction. A row that somebody else holds is not waited for: its
page is passed over, and the reverse's transaction completes what is lacking. How far it came is in the journal; a batch that
runs twice finds nothing to do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors, sql

from naap_ops import clock
from naap_ops.postgres.session import connect
from naap_ops.procedure.step import Step
from naap_ops.reverse.images import staged
from naap_ops.reverse.images.staged import Staged
from naap_ops.rollback.running import Run
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.rollback.unit import Unit

_LOCK_TIMEOUT: Final = "300ms"  # meanwhile others wait for what the batch has locked already
_TOLD_SECONDS: Final = 2.0
_THERE: Final = (
    "select count(*) from pg_catalog.pg_attribute "
    "where attrelid = pg_catalog.to_regclass(%s) and attname = any(%s) and not attisdropped"
)


@dataclass
class Filling(Step):
    """What has to be there before ``unit``, the reverse of a migration in a schema. ``jobs``: sessions at work at a time."""

    unit: Unit
    several: tuple[Staged, ...]
    jobs: int
    name: str = field(init=False)
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"columns of {self.unit.migration} in {self.unit.schema}"
        tables = ", ".join(each.label for each in self.several)
        self.text = f"filling columns of {tables}, in batches"
        each = self.unit.ground
        self._run = Run(each.connection, each.info, each.journal, self.name, "fill", each.patience, each.events)

    def done(self) -> bool:
        """All is there, as far as the journal knows; or they have their names already."""
        return self.unit.done() or (self._facts.get("end") is True and self._there() == self._wanted)

    def halfway(self) -> bool:
        return self._there() > 0 and not self.done()

    def run(self) -> dict[str, Any]:
        """Raises Blocked, where the lock for adding a column is not to be had, and what running the reverse raises."""
        if self._there() == 0:
            self._note(end=False, at={}, rows={})
        self._run.session(self.unit.schema)
        for each in self.several:
            begun = self._there([each]) == len(each.columns)
            if not begun:
                self._patiently(staged.adding(each))
            _Table(self, each).fill()
            if begun:  # nobody has noted what the batches did that came last
                self._counted(each)
            self._indexed(each)
        self._note(end=True)
        return {"restored": self._facts.get("rows", {})}

    def undo(self) -> dict[str, Any] | None:
        """The table is as it was."""
        self._run.session(self.unit.schema)
        for each in self.several:
            self._patiently(staged.dropping(each))
        return {"restored": {}}

    def _indexed(self, each: Staged) -> None:
        staged.indexes(self._connection, each)

    def _counted(self, each: Staged) -> None:
        row = self._connection.execute(staged.counting(each).encode()).fetchone()
        self._note(rows={**self._facts.get("rows", {}), each.label: row[0] if row else 0})

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def _connection(self) -> Connection:
        return self.unit.ground.connection

    @property
    def _facts(self) -> dict[str, Any]:
        return self.unit.ground.journal.facts(self.name)

    def _note(self, **facts: Any) -> None:
        self.unit.ground.journal.fact(self.name, **facts)

    @property
    def _wanted(self) -> int:
        return sum(len(each.columns) for each in self.several)

    def _there(self, several: Sequence[Staged] | None = None) -> int:
        """How many columns are there under the names that they have meanwhile."""
        found = 0
        for each in self.several if several is None else several:
            row = self._connection.execute(_THERE, [each.table, [column.name for column in each.columns]]).fetchone()
            found += row[0] if row else 0
        return found

    def _patiently(self, statement: str) -> None:
        self._run.patiently(lambda: self._connection.execute(statement.encode()))


@dataclass
class _Table:
    """One table on its way. ``left``: ranges that are still to be given away; ``under_way``: those that are being filled."""

    step: Filling
    staged: Staged
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    under_way: set[int] = field(default_factory=set)
    next: int = 0
    rows: int = 0

    def fill(self) -> None:
        step, key = self.step, f"{self.staged.image}"
        facts = step._facts
        count, size = staged.pages(step._connection, self.staged)
        self.next = int(facts.get("at", {}).get(key, 0))
        self.rows = int(facts.get("rows", {}).get(self.staged.label, 0))
        left = staged.batches(count, size, self.next)
        jobs = max(1, min(step.jobs, -(-count // size)))
        told = clock.monotonic()
        with ThreadPoolExecutor(jobs, "naap_ops fill") as pool:
            workers = {pool.submit(self._work, left) for _ in range(jobs)}
            try:
                while workers:
                    ended, workers = wait(workers, timeout=0.5, return_when=FIRST_COMPLETED)
                    for each in ended:
                        each.result()
                    if workers and clock.monotonic() - told >= _TOLD_SECONDS:
                        told = clock.monotonic()
                        self._tell(count)
            finally:
                self.stop.set()
        self._tell(count)

    def _tell(self, count: int) -> None:
        """How far all of it is done, on the disk; for people."""
        with self.lock:
            at, rows = min([self.next, *self.under_way]), self.rows
        facts = self.step._facts
        self.step._note(
            at={**facts.get("at", {}), self.staged.image: at}, rows={**facts.get("rows", {}), self.staged.label: rows}
        )
        percent = 100 * at // max(count, 1)
        text = f"{self.staged.label}: {percent} %, {count_of(rows, 'row')}"
        self.step.unit.ground.events.emit("rollback.step", name="fill", text=text)

    # --- a session ----------------------------------------------------------------------------------------------------

    def _work(self, left: Iterator[tuple[int, int]]) -> None:
        ground = self.step.unit.ground
        with closing(connect(ground.info, application_name="naap_ops rollback")) as connection:
            path = sql.SQL("set search_path to {}").format(sql.Identifier(self.step.unit.schema))
            connection.execute(path)
            connection.execute(f"set lock_timeout = '{_LOCK_TIMEOUT}'".encode())
            staged.prepare(connection)
            while not self.stop.is_set() and (given := self._next(left)) is not None:
                rows = self._filled(connection, *given)
                with self.lock:
                    self.rows += rows
                    self.under_way.discard(given[0])

    def _next(self, left: Iterator[tuple[int, int]]) -> tuple[int, int] | None:
        with self.lock:
            given = next(left, None)
            if given is not None:
                self.under_way.add(given[0])
                self.next = given[1]
            return given

    def _filled(self, connection: Connection, first: int, last: int) -> int:
        """Rows. Where somebody holds one, the halves by themselves; a single page is left to the reverse."""
        try:
            return connection.execute(staged.filling(self.staged, first, last).encode()).rowcount
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            if last - first <= 1 or self.stop.is_set():
                return 0
            middle = (first + last) // 2
            return self._filled(connection, first, middle) + self._filled(connection, middle, last)
