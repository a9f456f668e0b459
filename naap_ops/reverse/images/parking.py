"""Park what a reverse takes away, in the reverse's own transaction, just before it runs.

So what is parked is exactly what went, whatever others write, and it is there if and only if the reverse was committed. Rows in
which nothing was written since the migration gave them their value are left out: a column that nobody uses costs one scan.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from naap_ops.reverse.images import parked
from naap_ops.reverse.images.model import SCHEMA, Name
from naap_ops.reverse.images.parked import Entry
from naap_ops.reverse.images.parks import NULL, Park, ParkedColumn
from naap_ops.reverse.images.taking import TEXT, differ, relation
from naap_ops.reverse.render import literal, quoted

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_ABLE: Final = f"""
select case when pg_catalog.to_regnamespace('{SCHEMA}') is null
  then pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create')
  else pg_catalog.has_schema_privilege('{SCHEMA}', 'create')
    and (pg_catalog.to_regclass('{SCHEMA}.images') is null
         or pg_catalog.has_table_privilege('{SCHEMA}.images', 'select, insert, update, delete')) end
"""
_GRANTEES: Final = """
select distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end
from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a where c.oid = {}::regclass and a.grantee <> c.relowner
"""
SEQUENCES: Final = """
select a.attname, s.oid::regclass::text from pg_catalog.pg_depend d
  join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'
  join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
where d.classid = 'pg_catalog.pg_class'::regclass and d.refobjid = {}::regclass and d.deptype in ('a', 'i')
"""
_FACTS: Final = """
select greatest(c.reltuples, 0)::float8, c.reltuples < 0, pg_catalog.pg_table_size(c.oid)::float8
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where (n.nspname, c.relname) = (%s, %s)
"""
_STATISTICS: Final = """
select s.attname, coalesce(s.null_frac, 0)::float8, coalesce(s.avg_width, 0)::float8, (select coalesce(max(f), 0)::float8
  from unnest(s.most_common_vals::text::text[], s.most_common_freqs) v (value, f) where v.value = g.given)
from pg_catalog.pg_stats s left join unnest(%s::text[], %s::text[]) g (name, given) on g.name = s.attname
where (s.schemaname, s.tablename) = (%s, %s) and not s.inherited
"""
_COUNTED_ROWS: Final = 1_000_000  # of larger tables the server's statistics have to do for a plan
_ROW_BYTES: Final = 32  # a row's own header and pointer
_VALUE_BYTES: Final = 32  # of a column that no statistics know


@dataclass(frozen=True)
class Expected:
    """What is to be parked of a table, about so much."""

    migration: str
    park: Park
    rows: int
    bytes: int


# --- before ---------------------------------------------------------------------------------------------------------


def trouble(connection: Connection) -> str:
    """Why nothing can be parked, '' where it can be."""
    row = connection.execute(_ABLE.encode()).fetchone()
    return "" if row == (True,) else f"{connection.info.user} may not write into schema {SCHEMA}"


def expected(connection: Connection, migration: str, parks: Iterable[Park], until: float) -> list[Expected]:
    """What there is now, counted as far as that is done by ``until`` (time.monotonic()), else by the server's statistics."""
    found = []
    for park in parks:
        row = connection.execute(_FACTS, park.relation).fetchone()
        if row is None:
            continue
        rows, unknown, size = row
        counted = None
        if rows <= _COUNTED_ROWS or park.put:  # by key
            counted = _counted(connection, park, until)
        share, width = _statistics(connection, park)
        number = rows * share if counted is None else counted
        bytes = min(number * (width + _ROW_BYTES), 2 * size + _ROW_BYTES)
        found.append(Expected(migration, park, int(number), int(size if unknown and counted is None else bytes)))
    return found


def weight(connection: Connection, table: Name, rows: int) -> int:
    """So many rows of a table whole, in bytes, about."""
    row = connection.execute(_FACTS, table).fetchone()
    known, _, size = row or (0, True, 0)
    return int(size * rows / max(known, rows, 1))


def _counted(connection: Connection, park: Park, until: float) -> int | None:
    left = max(1, int((until - time.monotonic()) * 1000))
    with suppress(psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedColumn,
                  psycopg.errors.UndefinedObject), connection.transaction():  # fmt: skip
        connection.execute(f"set local statement_timeout = {left}".encode())
        _meant(connection, park)
        row = connection.execute(f"SELECT count(*) FROM {_from(park)} WHERE {_written(park)}".encode()).fetchone()
        return int(row[0]) if row else None
    return None


def _statistics(connection: Connection, park: Park) -> tuple[float, float]:
    """Which share of the rows is parked, and how wide they are in bytes, about."""
    columns = {column.name: column for column in (*park.key, *park.columns)}
    given = [list(columns), [_text(each.given) for each in columns.values()]]
    rows = connection.execute(_STATISTICS, [*given, *park.relation]).fetchall()
    known = {name: (nulls, width, common) for name, nulls, width, common in rows}
    width = sum(known[name][1] if name in known else _VALUE_BYTES for name in columns)
    shares = [1.0 if park.whole else 0.0]
    for column in park.columns if not park.whole else ():
        nulls, _, common = known.get(column.name, (0.0, 0.0, 0.0))
        shares.append(1.0 if column.given is None else 1 - (nulls if column.given == NULL else common))
    return max(shares), width


def _text(given: str | None) -> str | None:
    """A constant's text: between its quotes, or as it stands."""
    if given is None or given == NULL:
        return None
    if given.startswith("'"):
        return given[1 : given.rindex("'")].replace("''", "'")
    return given.partition("::")[0]


# --- doing it -------------------------------------------------------------------------------------------------------


def park(
    connection: Connection, parks: Sequence[Park], *, migration: str, schema: str, attempt: str, lasting: timedelta
) -> dict[str, int]:
    """Park what is there, in the transaction that is open; rows by table, of those that had any.

    The register must be there. The tables are locked against writers. Raises psycopg.Error, also where row-level security
    would hide rows.
    """
    if not parks:
        return {}
    with settings(connection):
        return _park(connection, parks, migration, schema, attempt, lasting)


def _park(
    connection: Connection, parks: Sequence[Park], migration: str, schema: str, attempt: str, lasting: timedelta
) -> dict[str, int]:
    tables = ", ".join(relation(each.relation) for each in parks)
    connection.execute(f"lock table {tables} in share row exclusive mode".encode())
    done: dict[str, int] = {}
    for each in parks:
        _meant(connection, each)
        sequences = _sequences(connection, each) if each.goes else {}
        entry = parked.Entry(parked.table_of(migration, each, attempt), migration, schema, attempt, each, sequences)
        rows = kept(connection, entry, f"{_from(each)} WHERE {_written(each)}", lasting)
        if rows:
            table = ".".join(each.relation)
            done[table] = done.get(table, 0) + rows
    return done


def kept(connection: Connection, entry: Entry, rows: str, lasting: timedelta) -> int:
    """Park what stands behind FROM, which is SQL with the table as ``t``; how many rows that are. Without any, and without a
    sequence's position, there is no table."""
    name = f"{SCHEMA}.{quoted(entry.table)}"
    connection.execute(f"drop table if exists {name}".encode())
    count = connection.execute(f"CREATE TABLE {name} AS SELECT {_listed(entry.park)} FROM {rows}".encode()).rowcount
    if count <= 0 and not entry.sequences:
        connection.execute(f"drop table {name}".encode())
        return 0
    _private(connection, name)
    size = connection.execute(f"select pg_catalog.pg_total_relation_size({literal(name)}::regclass)".encode()).fetchone()
    assert size is not None
    parked.register(connection, entry, rows=count, bytes=size[0], lasting=lasting)
    return count


@contextmanager
def settings(connection: Connection) -> Iterator[None]:
    """Row-level security must not hide rows: an error instead. What runs afterwards must not find settings changed."""
    names = "row_security", "search_path"
    were = [connection.execute("select current_setting(%s)", [name]).fetchone() for name in names]
    connection.execute(b"set local row_security = off")
    yield
    for name, was in zip(names, were, strict=True):
        connection.execute("select set_config(%s, %s, true)", [name, was[0] if was else ""])


def _meant(connection: Connection, park: Park) -> None:
    """Constants name types of the migration's own schema without it."""
    connection.execute(sql.SQL("set local search_path to {}").format(sql.Identifier(park.relation[0])))


def _from(park: Park) -> str:
    """Of a table that goes the children, if any, are tables of their own."""
    return f"{'ONLY ' if park.goes else ''}{relation(park.relation)} t"


def _listed(park: Park) -> str:
    listed = [f"{stored(column)} AS k{at}" for at, column in enumerate(park.key, 1)]
    return ", ".join([*listed, *(f"{stored(column)} AS p{at}" for at, column in enumerate(park.columns, 1))])


def stored(column: ParkedColumn, *, of: str = "t") -> str:
    """A value as it is parked: types of users as text, as they may go with the migration."""
    return f"{of}.{quoted(column.name)}{'' if column.plain else TEXT}"


def _written(park: Park) -> str:
    """SQL: somebody has written into the row since the migration, or that is not known."""
    if park.put or park.whole or any(column.given is None for column in park.columns):
        return park.put or "true"
    return " OR ".join(_differs(column) for column in park.columns)


def _differs(column: ParkedColumn) -> str:
    assert column.given is not None
    value = f"t.{quoted(column.name)}"
    if column.given == NULL:
        return f"{value} IS DISTINCT FROM NULL"  # IS NOT NULL minds the fields of a composite type
    return differ(stored(column), column.given, column.equal)


def _sequences(connection: Connection, park: Park) -> dict[str, int]:
    """How far the sequences of a table have come that goes, those that were used."""
    found: dict[str, int] = {}
    columns = {column.name for column in park.columns}
    for column, name in connection.execute(SEQUENCES.format(literal(relation(park.relation))).encode()).fetchall():
        if column in columns:
            row = connection.execute(f"select last_value from {name} where is_called".encode()).fetchone()
            found |= {column: int(row[0])} if row else {}
    return found


def _private(connection: Connection, name: str) -> None:
    """Nobody but its owner reads it, whatever default privileges have given: it holds what others may not see."""
    for (grantee,) in connection.execute(_GRANTEES.format(literal(name)).encode()).fetchall():
        connection.execute(f"revoke all on {name} from {grantee}".encode())
