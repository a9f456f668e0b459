"""Rows for databases of any schema, that a reverse is judged with: not those that its proof makes for itself.

Made from a row's number alone, so the same everywhere: nulls, duplicates where a column is not unique, and values at the edges
of their types. Each row goes in by itself; one that a constraint refuses is tried again with simpler values, then left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from naap_ops.postgres.session import Connection
from naap_ops.reverse.render import literal, quoted

_COLUMNS = """
select c.oid::bigint, a.attnum, a.attname::text, format_type(a.atttypid, a.atttypmod), b.typname::text, b.typtype::text,
  b.typcategory::text, case when t.typbasetype <> 0 then t.typtypmod else a.atttypmod end, a.attnotnull or t.typnotnull,
  a.atthasdef, a.attidentity <> '' or pg_get_serial_sequence(c.oid::regclass::text, a.attname) is not null,
  exists (select from pg_index i where i.indrelid = c.oid and i.indisunique and a.attnum = any(i.indkey)),
  array[coalesce(format_type(e.oid, null), ''), coalesce(e.typname::text, ''), coalesce(e.typtype::text, '')]
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
  join pg_type t on t.oid = a.atttypid
  join pg_type b on b.oid = case when t.typbasetype <> 0 then t.typbasetype else t.oid end
  left join pg_type e on e.oid = b.typelem and b.typcategory = 'A'
where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^(pg_|information_schema|naap_ops)'
  and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and c.relname <> '_prisma_migrations'
  and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e')
order by 1, 2
"""
_TABLES = """
select c.oid::bigint, n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^(pg_|information_schema|naap_ops)'
  and c.relname <> '_prisma_migrations'
  and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e')
order by 2, 3
"""
_KEYS = """
select k.conrelid::bigint, k.confrelid::bigint, k.conkey::int[], k.confkey::int[] from pg_constraint k
where k.contype = 'f' and k.conparentid = 0 order by k.conrelid, array_length(k.conkey, 1) desc, k.conname
"""
_TEXTS = (
    "", " ", "NULL", "null", "\\N", "a\tb\nc\r", "back\\slash", "o'clock \"x\"", "ü 😀 e\u0301", "\u202eright to left",
    '{"a": 1}', "0", "%s $1 {}", "--", "x" * 3000, "Z", "z", "ß", "\u00a0", "1e3",
)  # fmt: skip
_EDGES = {
    "int2": ("0", "-32768", "32767", "1"), "int4": ("0", "-2147483648", "2147483647", "1"),
    "int8": ("0", "-9223372036854775808", "9223372036854775807", "9007199254740993"),
    "float4": ("NaN", "Infinity", "-0", "1e-37", "0.1"), "float8": ("NaN", "-Infinity", "-0", "1e-300", "0.1", "1e308"),
    "bool": ("true", "false"), "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "timestamp": ("infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999",
                  "2024-03-31 02:30:00.000001"),
    "timestamptz": ("infinity", "-infinity", "4713-01-01 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00",
                    "2024-10-27 01:30+00"),
    "date": ("infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "2024-02-29"),
    "time": ("00:00", "24:00:00", "23:59:59.999999"), "timetz": ("00:00+15:59", "24:00:00-15:59"),
    "interval": ("0", "-1 mon 40 days -25:00:00.000001", "178000000 years"),
    "json": ('{"b":1,  "a":2, "b":3}', "null", "[]", '"\\u00e9"', "1.00"),
    "jsonb": ('{"b": {"c": [1.50, null]}, "a": ""}', "null", "[]", '"x"', "1.00", "{}"),
    "bytea": ("", "\\x00", "\\x00ff5c27"), "money": ("-92233720368547758.08", "0"), "inet": ("::1/128", "10.0.0.1/8"),
    "bit": ("0",), "varbit": ("", "101"), "xml": ("<a/>",), "name": ("n",), "char": ("c",),
    "tsvector": ("'a':1 'b'",), "hstore": ("", '"a"=>NULL'), "point": ("(1,-0)",), "oid": ("0",),
    "int4range": ("empty", "[1,5)", "(,)"), "tstzrange": ("empty", "(,)"), "daterange": ("empty",), "ltree": ("a.b",),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """``element``: SQL, name and kind of an array's elements."""

    number: int
    name: str
    type: str
    base: str
    kind: str
    category: str
    modifier: int
    required: bool
    default: bool
    sequence: bool
    unique: bool
    element: list[str]


@dataclass(frozen=True)
class Table:
    oid: int
    name: tuple[str, str]
    columns: dict[int, Column]
    keys: list[tuple[int, list[int], list[int]]]

    @property
    def sql(self) -> str:
        return ".".join(map(quoted, self.name))


def seed(connection: Connection, *, rows: Iterable[int] = range(1, 21), plain: bool = False) -> list[str]:
    """Put a row for each number of ``rows`` into every table, as far as its constraints let it; the tables that stay empty.

    ``plain``: strings are digits, numbers are small, for migrations that turn them into something else.
    """
    tables = tables_of(connection)
    numbers = list(rows)
    for table in _ordered(tables):
        connection.execute(_block(table, tables, numbers, plain=plain).encode())
    for table in tables.values():
        for link in _links(table, tables):
            connection.execute(link.encode())
    return [
        table.sql for table in tables.values() if connection.execute(f"select from {table.sql} limit 1".encode()).rowcount < 1
    ]


def tables_of(connection: Connection) -> dict[int, Table]:
    """The tables of all schemas that are not the server's, by oid."""
    found = {oid: Table(oid, (schema, name), {}, []) for oid, schema, name in connection.execute(_TABLES.encode()).fetchall()}
    row: Any
    for row in connection.execute(_COLUMNS.encode()).fetchall():
        if row[0] in found:
            found[row[0]].columns[row[1]] = Column(*row[1:])
    for oid, other, own, theirs in connection.execute(_KEYS.encode()).fetchall():
        if oid in found and other in found:
            found[oid].keys.append((other, own, theirs))
    return found


def _ordered(tables: dict[int, Table]) -> Iterator[Table]:
    """Those first that others refer to; in circles, those with the fewest references that must be there."""
    left, done = dict(tables), set[int]()

    def missing(table: Table, *, required: bool) -> int:
        return sum(
            1
            for other, own, _ in table.keys
            if other not in done | {table.oid}
            and (not required or any(n in table.columns and table.columns[n].required for n in own))
        )

    while left:
        one = min(left.values(), key=lambda table: (missing(table, required=True), missing(table, required=False), table.name))
        yield one
        done.add(one.oid)
        del left[one.oid]


# --- a table's rows -------------------------------------------------------------------------------------------------


def _block(table: Table, tables: dict[int, Table], numbers: list[int], *, plain: bool) -> str:
    tries = [(plain, False, 0), (True, False, 0), (True, False, 31), (True, True, 0), (True, True, 57)]
    attempts = [
        f"IF NOT done THEN BEGIN EXECUTE {literal(_insert(table, tables, plain=simple, bare=bare))} USING n + {salt};"
        " done := true; EXCEPTION WHEN OTHERS THEN NULL; END; END IF;"
        for simple, bare, salt in tries
    ]
    listed = ",".join(map(str, numbers))
    body = (
        "DECLARE n int; done bool; BEGIN FOREACH n IN ARRAY ARRAY["
        f"{listed}]::int[] LOOP done := false; {' '.join(attempts)} END LOOP; END"
    )
    return f"DO {literal(body)}"


def _insert(table: Table, tables: dict[int, Table], *, plain: bool, bare: bool) -> str:
    values: dict[int, str] = {}
    joins = []
    for at, (other, own, theirs) in enumerate(table.keys):
        new = [(n, there) for n, there in zip(own, theirs, strict=True) if n not in values and n in table.columns]
        if len(new) < len(own):  # a column of two keys: the wider one has chosen, the other has to fit, or the row is refused
            continue
        parent, name = tables[other], f"r{at}"
        single = any(table.columns[n].unique for n, _ in new)
        offset = "$1 - 1" if single else f"$1 * $1 / {2 + at}"
        count = f"greatest((SELECT count(*) FROM {parent.sql}), 1)"
        joins.append(
            f"LEFT JOIN LATERAL (SELECT * FROM {parent.sql} ORDER BY tableoid, ctid OFFSET ({offset}) % {count} LIMIT 1) {name}"
            " ON true"
        )
        for n, there in new:
            column, target = table.columns[n], parent.columns.get(there)
            found = f"{name}.{quoted(target.name)}" if target else "NULL"
            values[n] = found if column.required else f"CASE WHEN $1 % 6 = {at % 5} THEN NULL ELSE {found} END"
    for n, column in table.columns.items():
        if n in values or column.sequence or (bare and column.default):
            continue
        made = "NULL" if bare and not column.required else value(column, plain=plain)
        if made is not None:
            values[n] = made
    if not values:
        return f"INSERT INTO {table.sql} DEFAULT VALUES"
    names = ", ".join(quoted(table.columns[n].name) for n in values)
    return f"INSERT INTO {table.sql} ({names}) SELECT {', '.join(values.values())} FROM (SELECT 1) one {' '.join(joins)}"


def value(column: Column, *, plain: bool) -> str | None:
    """A value as SQL over ``$1``; None where the default has to do, or nothing is known of the type."""
    made = _of_type(column, plain=plain)
    if made is None:
        return None if column.default or column.required else "NULL"
    return made if column.required else f"CASE WHEN ($1 * 3 + {column.number}) % 5 = 0 THEN NULL ELSE {made} END"


def _of_type(column: Column, *, plain: bool) -> str | None:
    if column.category == "A":
        sql, name, kind = column.element
        one = _scalar(sql, name, kind, -1, column.number, unique=column.unique, plain=plain)
        if one is None:
            return f"'{{}}'::{column.type}"
        empty, nulls = f"'{{}}'::{column.type}", "ARRAY[NULL]"
        odd = "" if plain or column.unique else f" WHEN 0 THEN {empty} WHEN 1 THEN {nulls}::{column.type}"
        whole = f"ARRAY[{one}, {one}]::{column.type}"
        return f"CASE ($1 + {column.number}) % 4{odd} ELSE {whole} END" if odd else whole
    return _scalar(column.type, column.base, column.kind, column.modifier, column.number, unique=column.unique, plain=plain)


def _scalar(type: str, base: str, kind: str, modifier: int, salt: int, *, unique: bool, plain: bool) -> str | None:
    if kind == "e":
        every = f"enum_range(NULL::{type})"
        return f"({every})[1 + ($1 + {salt}) % array_length({every}, 1)]"
    if base in ("text", "varchar", "bpchar", "citext"):
        return _text(type, modifier, salt, unique=unique, plain=plain)
    if base == "vector":
        return f"('[' || array_to_string(array_fill($1 / 8.0, ARRAY[{max(modifier, 1)}]), ',') || ']')::{type}"
    if unique or plain:
        return _distinct(type, base, modifier, salt)
    if base == "numeric":
        return _pick(_numerics(modifier), type, salt)
    return _pick(_EDGES[base], type, salt) if base in _EDGES else None


def _text(type: str, modifier: int, salt: int, *, unique: bool, plain: bool) -> str:
    width = modifier - 4 if modifier >= 4 else 0
    if plain:
        made = "($1 % 1000)::text" if unique else f"(($1 + {salt}) % 7)::text"
    else:
        made = _pick(_TEXTS, "text", salt)
        made = f"($1 || '|' || left({made}, 40))" if unique else made
    return f"left({made}, {width})::{type}" if width else f"({made})::{type}"


def _distinct(type: str, base: str, modifier: int, salt: int) -> str | None:
    """Small values, each row another where the type has so many."""
    made = {
        "bool": "($1 % 2 = 0)", "uuid": f"md5($1 || ':{salt}')", "bytea": "('\\x' || lpad(to_hex($1), 8, '0'))",
        "json": "('{\"n\": ' || $1 || '}')", "jsonb": "('{\"n\": ' || $1 || '}')", "inet": "('10.0.0.' || $1 % 250)",
        "date": "(date '2024-01-01' + $1)", "interval": "($1 || ' hours')", "time": "(time '00:00' + $1 * interval '7 min')",
        "timestamp": "(timestamp '2024-01-01' + $1 * interval '1 hour 1 microsecond')",
        "timestamptz": "(timestamptz '2024-01-01 00:00+00' + $1 * interval '1 hour 1 microsecond')",
    }.get(base)  # fmt: skip
    if base in ("int2", "int4", "int8", "float4", "float8", "money", "oid"):
        made = f"($1 + {salt})"
    if base == "numeric":
        made = f"(($1 + {salt}) % {_room(modifier)})"
    if made is None:
        return _pick(_EDGES[base], type, salt) if base in _EDGES else None
    return f"{made}::{type}"


def _room(modifier: int) -> int:
    whole = ((modifier - 4) >> 16) - ((modifier - 4) & 0x7FF) if modifier >= 4 else 9
    return int(10 ** max(min(whole, 9), 0))


def _numerics(modifier: int) -> tuple[str, ...]:
    if modifier < 4:
        return ("NaN", "Infinity", "-Infinity", "1.50", "1.5", "0.000000000000000000000000000001", "1" + "0" * 200)
    precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
    nines = "9" * (precision - scale) + (f".{'9' * scale}" if scale else "")
    return ("NaN", nines, f"-{nines}", "0")


def _pick(values: Iterable[str], type: str, salt: int) -> str:
    listed = list(values)
    return f"(ARRAY[{', '.join(map(literal, listed))}]::text[])[1 + ($1 + {salt}) % {len(listed)}]::{type}"


def _links(table: Table, tables: dict[int, Table]) -> Iterator[str]:
    """References that were not there yet when a row went in: set in every other row, as far as that is allowed."""
    for at, (other, own, theirs) in enumerate(table.keys):
        if len(own) > 1 or own[0] not in table.columns or table.columns[own[0]].required:
            continue
        name, parent = quoted(table.columns[own[0]].name), tables[other]
        target = parent.columns[theirs[0]]
        at_row, source = "(t.ctid::text::point)[1]::int", f"{parent.sql} p ORDER BY p.tableoid, p.ctid"
        offset = f"{at_row} % greatest((SELECT count(*) FROM {parent.sql}), 1)"
        query = (
            f"UPDATE {table.sql} t SET {name} = (SELECT p.{quoted(target.name)} FROM {source} OFFSET {offset} LIMIT 1) "
            f"WHERE {name} IS NULL AND {at_row} % 2 = {at % 2} "
            f"AND NOT EXISTS (SELECT FROM {table.sql} WHERE {name} IS NOT NULL)"
        )
        yield f"DO {literal(f'BEGIN {query}; EXCEPTION WHEN OTHERS THEN NULL; END')}"


def facts(connection: Connection) -> dict[str, Any]:
    """How many tables hold rows, how many rows there are: for the record of what was judged."""
    counts = [
        connection.execute(f"select count(*) from {table.sql}".encode()).fetchone() for table in tables_of(connection).values()
    ]
    found = [count for (count,) in filter(None, counts)]
    return {"tables": len(found), "empty": found.count(0), "rows": sum(found)}
