"""Make rows fit that the state before a migration cannot hold, as somebody has chosen: give them a value, or park them whole
with all that refers to them.

In the reverse's own transaction, before its first statement. What goes, and values in whose place others are put, is parked, so
that rolling forward brings it back. In the end nothing unfit may be left: it is asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg import DataError, sql

from naap_ops.errors import Refused
from naap_ops.reverse.casts import base
from naap_ops.reverse.images import parked
from naap_ops.reverse.images.keeps import EXACT
from naap_ops.reverse.images.marking import Marked, Marking
from naap_ops.reverse.images.model import Name
from naap_ops.reverse.images.parked import Entry
from naap_ops.reverse.images.parking import kept, settings
from naap_ops.reverse.images.parks import NULL, Park, ParkedColumn
from naap_ops.reverse.images.taking import relation
from naap_ops.reverse.images.targets import switched_off, switched_on, triggers_of
from naap_ops.reverse.render import literal, quoted
from naap_ops.reverse.unfit import Unfit

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

DEFAULT: Final = "default"
PARK: Final = "park"
CUT: Final = "cut"
_COLUMNS: Final = """
select a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid < 16384 and a.attcollation = t.typcollation,
  a.attgenerated <> '', a.attnum::int
from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
_KEY: Final = """
select i.indkey::int2[]::int[] from pg_catalog.pg_index i where i.indrelid = %s and i.indisunique and i.indisvalid
  and i.indpred is null and i.indexprs is null and i.indnkeyatts = i.indnatts and not exists (select
    from pg_catalog.pg_attribute a where a.attrelid = i.indrelid and a.attnum = any (i.indkey) and not a.attnotnull)
order by i.indisprimary desc, i.indexrelid
"""
_OID: Final = "select pg_catalog.to_regclass(%s)::oid::int8"


@dataclass(frozen=True)
class Chosen:
    """What becomes of rows that do not fit: ``choice`` is default, with a ``value`` (None: a null), park, or cut, by the
    reverse itself."""

    unfit: Unfit
    choice: str
    value: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "unfit": self.unfit.as_dict()}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Chosen:
        """What :meth:`as_dict` gave."""
        return cls(Unfit.of(data["unfit"]), data["choice"], data["value"])


@dataclass(frozen=True)
class Attempt:
    """Whose rows are parked: ``attempt`` is the id of the migration's row in Prisma's books. ``lasting``: how long."""

    migration: str
    schema: str
    attempt: str
    lasting: timedelta


@dataclass
class Fitted:
    """What was done: rows that were ``parked``, and rows that were given a value, by table."""

    parked: dict[str, int] = field(default_factory=dict)
    defaulted: dict[str, int] = field(default_factory=dict)


def fit(
    connection: Connection, chosen: Sequence[Chosen], of: Attempt, *, before: Iterable[Park] = (), keep: bool = True
) -> Fitted:
    """Do it, in the transaction that is open. ``before``: what is parked already, tables that go and rows that the migration
    put there. ``keep``: values in whose place others are put are parked.

    Raises Refused when something does not fit all the same; psycopg.Error, also where row-level security would hide rows.
    """
    work = _Work(connection, of, list(before), keep, Fitted())
    if chosen:
        with settings(connection):
            meant(connection, of.schema)
            work.park([each.unfit for each in chosen if each.choice == PARK])
            if keep:
                work.keep_whole([each.unfit for each in chosen if each.choice == CUT])
            work.give([each for each in chosen if each.choice == DEFAULT and not each.unfit.absent])
            work.look(
                [each.unfit for each in chosen if each.choice != CUT and not (each.choice == DEFAULT and each.unfit.absent)]
            )
    return work.done


def meant(connection: Connection, schema: str) -> None:
    """Names without a schema are of this one."""
    connection.execute(sql.SQL("set local search_path to {}").format(sql.Identifier(schema)))


def refer(connection: Connection, several: Sequence[Unfit], schema: str) -> dict[Name, Marked]:
    """What parking them would take now, in a transaction that is rolled back afterwards. Nothing is locked."""
    meant(connection, schema)
    marking = Marking(connection, lock=False)
    marking.mark(several)
    return {table.name: table for table in marking.tables.values() if table.rows}


def key_of(connection: Connection, table: Name, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of the columns by which its rows are told, () without any. ``names``: only by these."""
    row = connection.execute(_OID, [relation(table)]).fetchone()
    return () if row is None or row[0] is None else tuple(column.name for column in _columns(connection, row[0], names)[0])


def keyed(connection: Connection, unfit: Unfit) -> tuple[str, ...]:
    """The columns by which values that are kept come back to their rows, () without any."""
    return key_of(connection, unfit.relation, unfit.key)


def _columns(
    connection: Connection, oid: int, names: Sequence[str] | None = None
) -> tuple[tuple[ParkedColumn, ...], tuple[ParkedColumn, ...]]:
    """The key, or just that of ``names``, where it is there; and everything but what is generated."""
    rows = connection.execute(_COLUMNS, [oid]).fetchall()
    columns = {number: _column(name, spelled, plain=plain) for name, spelled, plain, _, number in rows}
    keys = [tuple(columns[number] for number in numbers) for (numbers,) in connection.execute(_KEY, [oid]).fetchall()]
    key = next((each for each in keys if names is None or {column.name for column in each} == set(names)), ())
    return key, tuple(columns[number] for _, _, _, generated, number in rows if not generated)


def _column(name: str, spelled: str, *, plain: bool) -> ParkedColumn:
    column = ParkedColumn(name, spelled, plain, "text")
    return replace(column, equal="native") if plain and base(column) in EXACT else column


@dataclass
class _Work:
    connection: Connection
    of: Attempt
    before: list[Park]
    keep: bool
    done: Fitted

    def _parked(self, table: Name) -> str:
        """SQL: the row ``t`` is parked already."""
        found = ["true" if park.goes else park.put for park in self.before if park.relation == table]
        return " OR ".join(found) or "false"

    def _do(self, text: str) -> int:
        return self.connection.execute(text.encode()).rowcount

    # --- parked -------------------------------------------------------------------------------------------------------

    def park(self, several: Sequence[Unfit]) -> None:
        """Rows go with what refers to them: kept first, then deleted in one statement."""
        marking = Marking(self.connection, lock=True)
        marking.mark(several)
        tables = [table for table in marking.tables.values() if table.rows]
        for table in tables:
            key, columns = _columns(self.connection, table.oid)
            park = Park(table.name, key, columns, whole=True, some=True)
            self._kept(park, f"{table.joined} WHERE NOT ({self._parked(table.name)})")
        if tables:
            self._quietly(tables, lambda: self._delete(tables))

    def _kept(self, park: Park, rows: str) -> None:
        own = self.of
        entry = Entry(parked.table_of(own.migration, park, own.attempt), own.migration, own.schema, own.attempt, park, {})
        count = kept(self.connection, entry, rows, own.lasting)
        if count:
            table = ".".join(park.relation)
            self.done.parked[table] = self.done.parked.get(table, 0) + count

    def _delete(self, tables: Sequence[Marked]) -> None:
        parts = ", ".join(
            f"part{at} AS (DELETE FROM {relation(table.name)} d USING {table.places} w "
            "WHERE w.part = d.tableoid AND w.at = d.ctid RETURNING 1)"
            for at, table in enumerate(tables)
        )
        total = " + ".join(f"(SELECT count(*) FROM part{at})" for at, _ in enumerate(tables))
        row = self.connection.execute(f"WITH {parts} SELECT {total}".encode()).fetchone()
        if row is None or row[0] != sum(table.rows for table in tables):
            raise Refused(reason="rows that are to be parked cannot be deleted: something keeps them", hint="A rule, perhaps.")

    def _quietly(self, tables: Iterable[Marked], act: Any) -> None:
        """Without the user's triggers."""
        pairs = [(relation(table.name), triggers_of(self.connection, table.oid)) for table in tables]
        self._do("SET CONSTRAINTS ALL IMMEDIATE")  # what is still to be checked would stand in the way of ALTER TABLE
        for name, triggers in pairs:
            for text in switched_off(name, triggers):
                self._do(text)
        act()
        self._do("SET CONSTRAINTS ALL IMMEDIATE")
        for name, triggers in pairs:
            for text in switched_on(name, triggers):
                self._do(text)

    # --- given a value ------------------------------------------------------------------------------------------------

    def give(self, several: Sequence[Chosen]) -> None:
        by_column: dict[tuple[Name, str], list[Chosen]] = {}
        for each in several:
            by_column.setdefault((each.unfit.relation, each.unfit.column), []).append(each)
        for same in by_column.values():
            self._give(same)

    def _give(self, several: Sequence[Chosen]) -> None:
        one = several[0].unfit
        where = " OR ".join(f"({each.unfit.condition})" for each in several)
        name = relation(one.relation)
        self._do(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
        row = self.connection.execute(_OID, [name]).fetchone()
        assert row is not None
        value = NULL if several[0].value is None else literal(several[0].value)
        if self.keep:
            self._keep_values(row[0], one, where, value)
        changed: list[int] = []
        update = f"UPDATE {name} r SET {quoted(one.column)} = {value} WHERE {where}"
        self._quietly([Marked(row[0], one.relation)], lambda: changed.append(self._do(update)))
        if changed[0]:
            self.done.defaulted[one.table] = self.done.defaulted.get(one.table, 0) + changed[0]

    def _keep_values(self, oid: int, one: Unfit, where: str, value: str) -> None:
        key, columns = _columns(self.connection, oid, one.key)
        if not key:
            raise Refused(reason=NO_KEY.format(table=one.table), hint=NO_KEY_HINT)
        column = _named(columns, one.column)
        given = self.connection.execute(f"SELECT ({value}::{column.type})::pg_catalog.text".encode()).fetchone()
        assert given is not None
        text = NULL if given[0] is None else literal(given[0])
        column = replace(column, given=text if text == NULL or not column.plain else f"{text}::{column.type}")
        inner = f"(SELECT r.* FROM {relation(one.relation)} r WHERE {where}) t WHERE NOT ({self._parked(one.relation)})"
        self._kept(Park(one.relation, key, (column,), whole=False, some=True), inner)

    # --- cut ----------------------------------------------------------------------------------------------------------

    def keep_whole(self, several: Iterable[Unfit]) -> None:
        """Values of which the reverse leaves less; rolling forward gives what is left of them by itself."""
        for each in several:
            name = relation(each.relation)
            self._do(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
            row = self.connection.execute(_OID, [name]).fetchone()
            assert row is not None
            key, columns = _columns(self.connection, row[0], each.key)
            if key:
                column = replace(_named(columns, each.column), given=f"i.p1{each.cut}")
                inner = f"(SELECT r.* FROM {name} r WHERE {each.condition}) t WHERE NOT ({self._parked(each.relation)})"
                # a value that does not even get there stops the reverse itself, which says so
                with suppress(DataError), self.connection.transaction():
                    self._kept(Park(each.relation, key, (column,), whole=False, some=True, cut=True), inner)

    # --- in the end ---------------------------------------------------------------------------------------------------

    def look(self, several: Iterable[Unfit]) -> None:
        """Raises Refused when there are rows that do not fit after all."""
        for each in several:
            query = f"SELECT count(*) FROM {relation(each.relation)} r WHERE {each.condition}"
            row = self.connection.execute(query.encode()).fetchone()
            if row is not None and row[0]:
                raise Refused(
                    reason=f"rows of {each.where} still do not fit: {each.reason}",
                    hint="Its transaction was rolled back. Choose another value, or --park-rows.",
                )


def _named(columns: Iterable[ParkedColumn], name: str) -> ParkedColumn:
    return next(column for column in columns if column.name == name)


NO_KEY: Final = "{table} has no key by which the values could be put back that a default replaces"
NO_KEY_HINT: Final = "--no-park does without them; --park-rows parks the rows whole."
