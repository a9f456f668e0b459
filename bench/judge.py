"""What is in two databases, row by row as text, and in what they differ: a judge that knows nothing of how rows come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from naap_ops.postgres.session import Connection
from naap_ops.reverse.render import quoted

Name = tuple[str, str]
Row = dict[str, str | None]
Key = tuple[str | None, ...]

_RELATIONS = """
select c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text,
  array(select a.attname::text || ':' || a.attnum from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attname),
  coalesce((select array(select a.attname::text from unnest(k.conkey) u
                         join pg_attribute a on a.attrelid = c.oid and a.attnum = u)
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

    def by_key(self, key: tuple[str, ...]) -> dict[Key, Row]:
        """Rows by the values of these columns."""
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
            one = min(other, key=str)
            told = f"{len(other)} other values, of {one}: {old[one][column]!r:.80} is {new[one][column]!r:.80}"
            yield Difference(name, column, told)


def _counted(held: Held, columns: list[str]) -> Counter[Key]:
    return Counter(tuple(row[column] for column in columns) for row in held.rows)
