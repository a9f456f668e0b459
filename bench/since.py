"""What was written between a deploy and a rollback, looked for after it: the judge of writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg

from bench.judge import Contents, Difference, Held, Key, Name, Row
from naap_ops.postgres.session import Connection
from naap_ops.reverse.render import literal, quoted

_OF_COLUMN = """
select format_type(atttypid, atttypmod), attgenerated <> '' from pg_attribute
where attrelid = to_regclass(%s) and attname = %s
"""


@dataclass
class Since:
    """What somebody wrote between ``left``, the state that the migration left, and ``written``; looked for in ``now``, after
    the rollback, and everything else in ``before``. ``conflicts``: tables and keys that were listed.

    Afterwards: ``writes`` to rows that there were, ``by_nature``: those to what only the migration had made, ``listed``: those
    that are not there as they were written, and are listed.
    """

    before: Contents
    left: Contents
    written: Contents
    now: Contents
    conflicts: set[tuple[str, str]]
    connection: Connection
    writes: int = 0
    by_nature: int = 0
    listed: int = 0

    def wrong(self) -> Iterator[Difference]:
        """Writes that are neither there nor listed, and rows of before that are not there though nobody wrote to them."""
        done: set[Name] = set()
        for name, written in self.written.tables.items():
            old = next((each for each, held in self.now.tables.items() if held.oid == written.oid), None)
            left = self.left.tables[name]
            if old is None:
                self.by_nature += _changes(left, written)
            elif written.key:
                done.add(old)
                yield from self._unless_listed(_Table(self, old, left, written, self.now.tables[old]))
            else:
                done.add(old)  # no telling which row became which
        for name, was in self.before.tables.items():
            if name not in self.now.tables:
                yield Difference(name, None, "the table is gone")
            elif name not in done and not was.key:
                yield from self._without_key(name, was, self.now.tables[name])
            elif name not in done:  # dropped by the migration, and made again: nobody could write to it
                yield from self._unless_listed(_Table(self, name, was, was, self.now.tables[name], other=True))

    def _without_key(self, name: Name, was: Held, now: Held) -> Iterator[Difference]:
        """As many rows may be others as conflicts are listed; which, nothing tells."""
        old, new = (Counter(tuple(row.get(column) for column in was.columns) for row in held.rows) for held in (was, now))
        other, listed = (old - new).total(), sum(1 for table, _ in self.conflicts if table == ".".join(name))
        if other > listed:
            yield Difference(name, None, f"{other} rows are not there or are others, {listed} are listed")
        self.listed += other

    def _unless_listed(self, table: _Table) -> Iterator[Difference]:
        for key, column, what in table.wrong():
            if (".".join(table.name), ", ".join(str(each) for each in key)) in self.conflicts:
                self.listed += 1
            else:
                yield Difference(table.name, column, f"{key}: {what}")


_Wrong = tuple[Key, str | None, str]


@dataclass
class _Table:
    """One table, ``name`` before the migration and after the rollback. ``other``: it is not the one that was written to."""

    since: Since
    name: Name
    left: Held
    written: Held
    now: Held
    other: bool = False
    touched: set[tuple[Key, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        numbers = {number: column for column, number in self.now.columns.items()}
        same = {column: numbers[number] for column, number in self.written.columns.items() if number in numbers}
        self.names = {column: column for column in self.written.columns} if self.other else same

    def wrong(self) -> Iterator[_Wrong]:
        if not set(self.written.key) <= self.names.keys():
            return  # another key: no telling which row became which
        key = tuple(self.names[column] for column in self.written.key)
        before = self.since.before.tables.get(self.name)
        was = before.by_key(key) if before is not None and set(key) <= before.columns.keys() else {}
        left, written, now = self.left.by_key(self.written.key), self.written.by_key(self.written.key), self.now.by_key(key)
        yield from self._survived(left, written, now)
        deleted = left.keys() - written.keys()
        self.since.writes += len(deleted)
        yield from ((each, None, "a row deleted since is there") for each in deleted & now.keys())
        yield from self._as_before({each: row for each, row in was.items() if each not in deleted}, now)
        changed = {each for each, _ in self.touched}
        yield from ((each, None, "a row too many") for each in now.keys() - was.keys() - changed)

    def _survived(self, left: dict[Key, Row], written: dict[Key, Row], now: dict[Key, Row]) -> Iterator[_Wrong]:
        for each, row in written.items():
            changed = [column for column in row if each not in left or left[each][column] != row[column]]
            mapped = [column for column in changed if column in self.names]
            self.since.writes += bool(changed)
            self.since.by_nature += bool(changed) and not mapped
            self.touched |= {(each, self.names[column]) for column in mapped}
            if each not in now:
                if mapped:
                    yield each, None, "a row written since is not there"
                continue
            for column in mapped:
                got, wanted = now[each][self.names[column]], row[column]
                if got != wanted and not self._the_same(self.names[column], wanted, got):
                    yield each, self.names[column], f"written {wanted!r:.60}, is {got!r:.60}"

    def _as_before(self, was: dict[Key, Row], now: dict[Key, Row]) -> Iterator[_Wrong]:
        for each, row in was.items():
            if each not in now:
                yield each, None, "a row of before is not there"
                continue
            for column, value in row.items():
                got = now[each].get(column)
                if got != value and (each, column) not in self.touched and not self._computed(column):
                    yield each, column, f"before {value!r:.60}, is {got!r:.60}"

    # --- columns --------------------------------------------------------------------------------------------------------

    def _of_column(self, column: str) -> tuple[str, bool]:
        row = self.since.connection.execute(_OF_COLUMN, [".".join(map(quoted, self.name)), column]).fetchone()
        assert row is not None
        return row[0], row[1]

    def _computed(self, column: str) -> bool:
        """From others, which somebody may have written to."""
        return column in self.now.columns and self._of_column(column)[1]

    def _the_same(self, column: str, wanted: str | None, got: str | None) -> bool:
        """The value, in the type that the column has again."""
        if wanted is None:
            return False
        query = f"select {literal(wanted)}::{self._of_column(column)[0]}::text"
        try:
            return self.since.connection.execute(query.encode()).fetchone() == (got,)
        except psycopg.Error:
            return False


def _changes(left: Held, written: Held) -> int:
    one, other = ({tuple(sorted(row.items())) for row in held.rows} for held in (left, written))
    return len(other - one) + max(len(one) - len(other), 0)
