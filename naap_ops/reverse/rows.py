"""The rows of tables as they were and as they are: what is lost, new or changed between two moments, by table and column.

Values are compared in the server's text form under fixed settings, rows by primary key where there is one, else as a multiset.
A table of more rows than are kept is compared by its number of rows and a digest of every column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg.pq import TransactionStatus

from naap_ops.reverse.seed.quoting import identifier, literal, qualified

if TYPE_CHECKING:
    from psycopg import Cursor

    from naap_ops.postgres.session import Connection

Name = tuple[str, str]
Row = tuple[str | None, ...]

_MOST_ROWS = 1000

# What a value's text, and a type's name, depend on.
_SETTINGS: Mapping[str, str] = {
    "search_path": "",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
}
_TABLES: LiteralString = """
select n.nspname, c.relname, c.relkind::text,
  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attname),
  array(select format_type(a.atttypid, a.atttypmod) from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attname),
  array(select a.attname::text from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
        where i.indrelid = c.oid and i.indisprimary order by a.attname)
from unnest(%s::name[], %s::name[]) as w(schema, name)
join pg_namespace n on n.nspname = w.schema join pg_class c on c.relnamespace = n.oid and c.relname = w.name
where c.relkind in ('r', 'p', 'm') and c.relispopulated
"""


@dataclass(frozen=True)
class TableRows:
    """One table: ``types`` by column, the columns of its primary ``key``, the ``count`` of rows, and ``rows`` or ``digests``.

    ``rows``: values in the order of ``types``. ``digests``: one per column, where there are too many rows to keep.
    """

    types: Mapping[str, str]
    key: tuple[str, ...]
    count: int
    rows: tuple[Row, ...] = ()
    digests: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Image:
    """The rows of tables at one moment. A table that was not there is not in it."""

    tables: Mapping[Name, TableRows]


@dataclass(frozen=True)
class RowDifference:
    """``kind``: "rows lost", "rows added", "values changed", "type changed", "column missing", "column added", "table missing"
    or "table added". ``count``: rows concerned. ``column`` is None where the whole row is."""

    table: Name
    column: str | None
    kind: str
    count: int


# --- taking an image ----------------------------------------------------------------------------------------------


def image(connection: Connection, tables: Iterable[Name], *, most: int = _MOST_ROWS) -> Image:
    """The rows of those of ``tables`` (schema, name) that exist: tables and materialised views, not views and foreign tables.

    Of a table with more than ``most`` rows only digests are kept. Three round trips, whatever their number.
    """
    wanted = list(dict.fromkeys(tables))
    found: dict[Name, TableRows] = {}
    with _settled(connection):
        facts = connection.execute(_TABLES, [[name[0] for name in wanted], [name[1] for name in wanted]]).fetchall()
        with connection.pipeline():
            asked = [connection.execute(_rows_query(fact, most), prepare=False) for fact in facts]
        large = [fact for fact, cursor in zip(facts, asked, strict=True) if cursor.rowcount > most]
        with connection.pipeline():
            digested = [connection.execute(_digest_query(fact), prepare=False) for fact in large]
    for (schema, name, _, columns, types, key), cursor in zip(facts, asked, strict=True):
        rows = tuple(_texts(cursor))
        found[schema, name] = TableRows(dict(zip(columns, types, strict=True)), tuple(key), len(rows), rows)
    for (schema, name, *_), cursor in zip(large, digested, strict=True):
        ((count, *sums),) = _texts(cursor)
        plain = found[schema, name]
        digests = {column: str(total) for column, total in zip(plain.types, sums, strict=True)}
        found[schema, name] = TableRows(plain.types, plain.key, int(count or 0), digests=digests)
    return Image(found)


@contextmanager
def _settled(connection: Connection) -> Iterator[None]:
    """Our settings, and afterwards those that were."""
    before = ", ".join(f"current_setting({literal(name)})" for name in _SETTINGS)
    row = connection.execute(f"SELECT {before}, {_set(_SETTINGS)}".encode(), prepare=False).fetchone()
    assert row is not None
    try:
        yield
    finally:
        # A transaction that failed takes our settings back itself.
        if connection.info.transaction_status != TransactionStatus.INERROR and not connection.broken:
            connection.execute(f"SELECT {_set(dict(zip(_SETTINGS, row, strict=False)))}".encode(), prepare=False)


def _set(settings: Mapping[str, str]) -> str:
    return ", ".join(f"pg_catalog.set_config({literal(name)}, {literal(text)}, false)" for name, text in settings.items())


def _source(fact: Sequence[Any]) -> str:
    return f"{'ONLY ' if fact[2] == 'r' else ''}{qualified((fact[0], fact[1]))}"


def _rows_query(fact: Sequence[Any], most: int) -> bytes:
    return f"SELECT {', '.join(identifier(column) for column in fact[3])} FROM {_source(fact)} LIMIT {most + 1}".encode()


def _digest_query(fact: Sequence[Any]) -> bytes:
    sums = (f"sum(hashtextextended(format('%L', {identifier(column)}), 0)::numeric)" for column in fact[3])
    return f"SELECT {', '.join(('count(*)', *sums))} FROM {_source(fact)}".encode()


def _texts(cursor: Cursor[Any]) -> Iterator[Row]:
    """The values as the server wrote them, not as Python would have them."""
    result = cursor.pgresult
    assert result is not None
    for row in range(result.ntuples):
        cells = (result.get_value(row, column) for column in range(result.nfields))
        yield tuple(None if cell is None else cell.decode() for cell in cells)


# --- comparing ----------------------------------------------------------------------------------------------------


def differences(before: Image, after: Image) -> list[RowDifference]:
    """What is not the same, by table; [] when all is. The order of rows and columns does not count.

    Without a primary key in common, as many rows lost as added are values changed: which row became which cannot be known.
    """
    found: list[RowDifference] = []
    for name in sorted(before.tables.keys() | after.tables.keys()):
        old, new = before.tables.get(name), after.tables.get(name)
        if old is None or new is None:
            found += [RowDifference(name, None, "table missing", old.count)] if old else []
            found += [RowDifference(name, None, "table added", new.count)] if new else []
        else:
            found += _of_columns(name, old, new)
            found += _of_rows(name, old, new)
    return found


def _of_columns(name: Name, old: TableRows, new: TableRows) -> Iterator[RowDifference]:
    for column in sorted(old.types.keys() | new.types.keys()):
        if column not in new.types:
            yield RowDifference(name, column, "column missing", old.count)
        elif column not in old.types:
            yield RowDifference(name, column, "column added", new.count)
        elif old.types[column] != new.types[column]:
            yield RowDifference(name, column, "type changed", min(old.count, new.count))


def _of_rows(name: Name, old: TableRows, new: TableRows) -> Iterator[RowDifference]:
    """Lost and added rows, and changed values in the columns that both have with the same type."""
    same = [column for column, of_type in old.types.items() if new.types.get(column) == of_type]
    if old.digests is not None or new.digests is not None:
        yield from _digested(name, old, new, same)
    elif old.key and old.key == new.key and all(column in same for column in old.key):
        yield from _keyed(name, old, new, same)
    else:
        yield from _unkeyed(name, old, new, same)


def _keyed(name: Name, old: TableRows, new: TableRows, same: Sequence[str]) -> Iterator[RowDifference]:
    was, now = _by_key(old, same), _by_key(new, same)
    yield from _counted(name, len(was.keys() - now.keys()), len(now.keys() - was.keys()))
    common = was.keys() & now.keys()
    for position, column in enumerate(same):
        changed = sum(was[key][position] != now[key][position] for key in common)
        if changed:
            yield RowDifference(name, column, "values changed", changed)


def _unkeyed(name: Name, old: TableRows, new: TableRows, same: Sequence[str]) -> Iterator[RowDifference]:
    was, now = _parts(old, same), _parts(new, same)
    lost, added = (Counter(was) - Counter(now)).total(), (Counter(now) - Counter(was)).total()
    if lost != added:
        yield from _counted(name, lost, added)
        return
    if not lost:
        return
    changes = [
        RowDifference(name, column, "values changed", count)
        for position, column in enumerate(same)
        if (count := (Counter(row[position] for row in was) - Counter(row[position] for row in now)).total())
    ]
    # Values that only changed rows leave every column's set of values as it was.
    yield from changes or [RowDifference(name, None, "values changed", lost)]


def _digested(name: Name, old: TableRows, new: TableRows, same: Sequence[str]) -> Iterator[RowDifference]:
    if old.count != new.count or old.digests is None or new.digests is None:
        yield from _counted(name, max(old.count - new.count, 0), max(new.count - old.count, 0))
        return
    for column in same:
        if old.digests[column] != new.digests[column]:
            yield RowDifference(name, column, "values changed", old.count)


def _counted(name: Name, lost: int, added: int) -> Iterator[RowDifference]:
    if lost:
        yield RowDifference(name, None, "rows lost", lost)
    if added:
        yield RowDifference(name, None, "rows added", added)


def _by_key(table: TableRows, same: Sequence[str]) -> dict[Row, Row]:
    return dict(zip(_parts(table, table.key), _parts(table, same), strict=True))


def _parts(table: TableRows, columns: Sequence[str]) -> list[Row]:
    places = {column: place for place, column in enumerate(table.types)}
    wanted = [places[column] for column in columns]
    return [tuple(row[place] for place in wanted) for row in table.rows]
