"""What is in two databases, row by row as text, and in what they differ: a judge that knows nothing of how rows were brought back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from naap_ops.postgres.session import Connection
from naap_ops.reverse.render import literal, quoted

Name = tuple[str, str]
Row = dict[str, str | None]

_RELATIONS = """
select c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text,
  array(select a.attname::text || ':' || a.attnum from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attname),
  coalesce((select array(select a.attname::text from unnest(k.conkey) u join pg_attribute a on a.attrelid = c.oid and a.attnum = u)
    from pg_constraint k where k.conrelid = c.oid and k.contype = 'p'), '{}')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where (c.relkind in ('r', 'p', 'S') and not c.relispartition) and n.nspname !~ '^(pg_|information_schema|naap_ops)'
  and c.relname <> '_prisma_migrations'
  and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e')
order by 2, 3
"""


@dataclass(frozen=True)
class Held:
    """A table: ``columns`` and their numbers, the primary ``key``, and every row, as text by the names of its columns."""

    oid: int
    columns: dict[str, int]
    key: tuple[str, ...]
    rows: list[Row]

    def by_key(self, key: tuple[str, ...]) -> dict[tuple[str | None, ...], Row]:
        return {tuple(row[name] for name in key): row for row in self.rows}


@dataclass(frozen=True)
class Contents:
    """Everything that a database holds; of sequences the next value."""

    tables: dict[Name, Held]
    sequences: dict[Name, int]


@dataclass(frozen=True)
class Difference:
    """``column`` None: whole rows."""

    table: Name
    column: str | None
    what: str

    def __str__(self) -> str:
        return f"{'.'.join(self.table)}{f'.{self.column}' if self.column else ''}: {self.what}"


def contents(connection: Connection) -> Contents:
    """Read all of it."""
    tables: dict[Name, Held] = {}
    sequences: dict[Name, int] = {}
    for oid, schema, name, kind, listed, key in connection.execute(_RELATIONS.encode()).fetchall():
        sql = f"{quoted(schema)}.{quoted(name)}"
        if kind == "S":
            query = f"select last_value + case when is_called then 1 else 0 end from {sql}"
            (sequences[schema, name],) = connection.execute(query.encode()).fetchone() or (0,)
            continue
        columns = {each.rpartition(":")[0]: int(each.rpartition(":")[2]) for each in listed}
        found = connection.execute(
            f"select {', '.join(f't.{quoted(c)}::text' for c in columns)} from {sql} t".encode()
        ).fetchall()
        rows = [dict(zip(columns, row, strict=True)) for row in found]
        tables[schema, name] = Held(oid, columns, tuple(key), rows)
    return Contents(tables, sequences)


def differences(before: Contents, now: Contents) -> Iterator[Difference]:
    """In what ``now`` is not ``before``; what there is in addition, tables or columns, is not looked at."""
    for name, was in before.tables.items():
        if name not in now.tables:
            yield Difference(name, None, "the table is gone")
        else:
            yield from _table(name, was, now.tables[name])
    for name, at in before.sequences.items():
        if name in now.sequences and now.sequences[name] < at:
            yield Difference(name, None, f"the sequence stands at {now.sequences[name]}, before {at}")


def _table(name: Name, was: Held, now: Held) -> Iterator[Difference]:
    common = [column for column in was.columns if column in now.columns]
    yield from (Difference(name, column, "the column is gone") for column in was.columns if column not in now.columns)
    if _counted(was, common) == _counted(now, common):
        return
    key = was.key if set(was.key) <= set(common) else ()
    if not key:
        wrong = [column for column in common if _counted(was, [column]) != _counted(now, [column])]
        yield from (Difference(name, column, "other values, in a table without a key") for column in wrong)
        if not wrong:
            yield Difference(name, None, "other rows, in a table without a key")
        return
    old, new = was.by_key(key), now.by_key(key)
    if old.keys() != new.keys():
        yield Difference(name, None, f"{len(old.keys() - new.keys())} rows lack, {len(new.keys() - old.keys())} are too many")
    for column in common:
        other = [each for each in old.keys() & new.keys() if old[each][column] != new[each][column]]
        if other:
            one = sorted(other, key=str)[0]
            told = f"{len(other)} other values, of {one}: {old[one][column]!r:.80} is {new[one][column]!r:.80}"
            yield Difference(name, column, told)


def _counted(held: Held, columns: list[str]) -> Counter[tuple[str | None, ...]]:
    return Counter(tuple(row[column] for column in columns) for row in held.rows)


# --- with writes in between -------------------------------------------------------------------------------------------


@dataclass
class Since:
    """What somebody wrote between ``left``, the state that the migration left, and ``written``; looked for in ``now``, after the
    rollback, and everything else in ``before``. ``conflicts``: tables and keys that were listed."""

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
            old = self._old(written, self.now)
            left = self.left.tables.get(name)
            if left is None or old is None or not written.key:
                self.by_nature += left is not None and old is None and left.rows != written.rows
                done |= {old[0]} if old else set()
                continue
            done.add(old[0])
            yield from self._table(old[0], old[1], left, written)
        for name, was in self.before.tables.items():
            if name not in done:
                yield from (
                    _table(name, was, self.now.tables[name]) if name in self.now.tables else [Difference(name, None, "gone")]
                )

    @staticmethod
    def _old(written: Held, now: Contents) -> tuple[Name, Held] | None:
        return next(((name, held) for name, held in now.tables.items() if held.oid == written.oid), None)

    def _table(self, name: Name, now: Held, left: Held, written: Held) -> Iterator[Difference]:
        columns = _same_columns(written, now)
        if not set(written.key) <= columns.keys():
            return
        key = tuple(columns[each] for each in written.key)
        a, b, c = left.by_key(written.key), written.by_key(written.key), now.by_key(key)
        was = (
            self.before.tables[name].by_key(key)
            if name in self.before.tables and set(key) <= self.before.tables[name].columns.keys()
            else {}
        )
        own = set(was) | set(a)
        touched: set[tuple[Any, str]] = set()
        for each, row in b.items():
            changed = [column for column in row if each not in a or a[each][column] != row[column]]
            self.writes += bool(changed)
            self.by_nature += bool(changed) and not any(column in columns for column in changed)
            for column in changed:
                if column not in columns:
                    continue
                touched.add((each, columns[column]))
                if each not in c:
                    yield from self._unless_listed(name, each, None, "a row written since is not there")
                    break
                got, wanted = c[each][columns[column]], row[column]
                if got != wanted and not self._cast(name, columns[column], now, wanted, got):
                    yield from self._unless_listed(name, each, columns[column], f"written {wanted!r:.60}, is {got!r:.60}")
        gone = a.keys() - b.keys()
        self.writes += len(gone)
        for each in gone & c.keys():
            yield from self._unless_listed(name, each, None, "a row deleted since is there")
        for each, row in was.items():
            if each in gone:
                continue
            if each not in c:
                yield from self._unless_listed(name, each, None, "a row of before is not there")
                continue
            for column, value in row.items():
                if (
                    (each, column) not in touched
                    and column in now.columns
                    and c[each][column] != value
                    and self._own(name, column)
                ):
                    yield from self._unless_listed(name, each, column, f"before {value!r:.60}, is {c[each][column]!r:.60}")
        for each in c.keys() - own - b.keys():
            yield from self._unless_listed(name, each, None, "a row too many")
        for each in (c.keys() & a.keys()) - was.keys() - {row for row, _ in touched}:
            yield from self._unless_listed(name, each, None, "a row that the migration put there is still there")

    def _own(self, name: Name, column: str) -> bool:
        """Not computed from others, which somebody may have written to."""
        query = "select attgenerated = '' from pg_attribute where attrelid = to_regclass(%s) and attname = %s"
        row = self.connection.execute(query, [".".join(map(quoted, name)), column]).fetchone()
        return row == (True,)

    def _unless_listed(self, name: Name, key: tuple[str | None, ...], column: str | None, what: str) -> Iterator[Difference]:
        if (".".join(name), ", ".join(str(each) for each in key)) in self.conflicts:
            self.listed += 1
        else:
            yield Difference(name, column, f"{key}: {what}")

    def _cast(self, name: Name, column: str, now: Held, wanted: str | None, got: str | None) -> bool:
        """The value in the type that the column has again."""
        assert column in now.columns
        if wanted is None:
            return False
        query = f"select {literal(wanted)}::{self._type(name, column)}::text"
        try:
            return self.connection.execute(query.encode()).fetchone() == (got,)
        except psycopg.Error:
            return False

    def _type(self, name: Name, column: str) -> str:
        query = "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = to_regclass(%s) and attname = %s"
        row = self.connection.execute(query, [".".join(map(quoted, name)), column]).fetchone()
        assert row is not None
        return str(row[0])


def _same_columns(written: Held, now: Held) -> Mapping[str, str]:
    """Names before the rollback -> after it: of the same number, else (dropped, and made again) of the same name."""
    numbers = {number: name for name, number in now.columns.items()}
    return {name: numbers[number] for name, number in written.columns.items() if number in numbers}
