"""Rows that the state before a migration cannot hold: found when its reverse is made, counted and chosen for when it is run.

The first and the last state are compared, by keys that stay the same over all statements in between: a column that was NOT NULL
and is not any more, a type that was smaller, a constraint that is gone. What only a state in the middle would not hold is left
to the checks of the reverse. Names are those of the last state, in which the live database is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import fill
from naap_ops.reverse.images.model import Image, Name
from naap_ops.reverse.images.parks import Park
from naap_ops.reverse.images.statements import unchanged_since
from naap_ops.reverse.images.taking import changed_by, differ, relation, value_after
from naap_ops.reverse.model import Plan, Step
from naap_ops.reverse.narrowing import cut, unheld
from naap_ops.reverse.render import Sql, quoted
from naap_ops.reverse.uniques import Unique, uniques

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_ALL: Final = "true"


@dataclass(frozen=True)
class Unfit:
    """Rows of ``relation`` for which ``condition`` holds: SQL of a row ``r``, in which names of the migration's own schema have
    no schema. ``column``: the one whose value is at fault, '' where no other value would help. ``type``: its type now.

    ``cut``: nobody has to choose, for the value is only less exact then: what follows it on its way there and back.
    ``absent``: the column is not there now, and comes back; ``filled``: with a harmless value, so that nobody has to choose.
    ``columns``, ``parent``, ``parent_columns``: of orphans, what refers to what. ``key``: columns by which a row is told now
    and in the state before, () without any; None: not known.
    """

    relation: Name
    column: str
    type: str
    condition: str
    reason: str
    cut: str = ""
    absent: bool = False
    filled: bool = False
    columns: tuple[str, ...] = ()
    parent: Name | None = None
    parent_columns: tuple[str, ...] = ()
    key: tuple[str, ...] | None = None

    @property
    def table(self) -> str:
        """As people name it."""
        return ".".join(self.relation)

    @property
    def where(self) -> str:
        """Table, and column if there is one."""
        return f"{self.table}.{self.column}" if self.column else self.table

    def moved(self, own: str, schema: str) -> Unfit:
        """The same of another tenant: what lies in schema ``own`` is meant in ``schema``."""
        relation, parent = (
            (schema, name[1]) if name is not None and name[0] == own else name for name in (self.relation, self.parent)
        )
        assert relation is not None
        return replace(self, relation=relation, parent=parent)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Unfit:
        """What :meth:`as_dict` gave."""
        parent = (data["parent"][0], data["parent"][1]) if data["parent"] else None
        lists = {name: tuple(data[name]) for name in ("columns", "parent_columns")}
        lists |= {"key": tuple(data["key"])} if data.get("key") is not None else {}
        return cls(**{**data, **lists, "relation": (data["relation"][0], data["relation"][1]), "parent": parent})


def unfits(plan: Plan, steps: Sequence[Step], first: Catalog, last: Catalog, sql: Sql) -> tuple[Unfit, ...]:
    """What there may be. ``first`` and ``last``: the states before and after the migration."""
    if not plan.reversals or not steps:
        return ()
    found: list[Unfit] = []
    for key in sorted(_touched(steps, last)):
        was, now = first.rows["table"].get(key), last.rows["table"].get(key)
        if was is not None and now is not None and _told(now, last):
            table = _Table(steps, first, last, sql, was, now)
            found += [*table.columns(), *table.checks(), *table.duplicates(), *table.orphans()]
    return tuple(found)


def _touched(steps: Iterable[Step], last: Catalog) -> set[int]:
    """Keys of the tables to which something was done, or to an enum of theirs."""
    found: set[int] = set()
    enums = False
    for step in steps:
        for change in step.changes:
            row = change.before or change.after
            found |= {row.table_key} if change.kind.name in ("column", "constraint", "index") else set()
            enums = enums or change.kind.name == "type"
    if enums:
        plain = {row.table_key for row in last.rows["column"].values() if row.type_kind == "e" or row.type.endswith("[]")}
        found |= plain
    return found


def _told(table: Any, last: Catalog) -> bool:
    """A table of its own, or a partitioned one as a whole: its rows are where they are looked for."""
    parts = any(table.key in row.parent_keys for row in last.rows["table"].values())
    return not table.parent_keys and (table.relkind == "p" or (table.relkind == "r" and not parts))


@dataclass(frozen=True)
class _Table:
    steps: Sequence[Step]
    first: Catalog
    last: Catalog
    sql: Sql
    was: Any
    now: Any

    @property
    def name(self) -> Name:
        return self.now.schema, self.now.name

    def _unfit(self, column: Any, condition: str, reason: str, **more: Any) -> Unfit:
        names = column.name if column else "", column.type if column else ""
        return Unfit(self.name, *names, condition, reason, **more, key=self._key())

    def _key(self) -> tuple[str, ...]:
        before = {frozenset(each.numbers) for each in uniques(self.first, self.was.key) if each.plain}
        for each in uniques(self.last, self.now.key):
            columns = self._now(each.numbers) if each.plain and frozenset(each.numbers) in before else None
            if columns and all(row.not_null and not cut(self.first.rows["column"][row.key], row) for row in columns):
                return tuple(row.name for row in columns)
        return ()

    def columns(self) -> Iterator[Unfit]:
        """Nulls, values of a greater type, and columns that nobody has given a value."""
        for was in sorted(self.first.children("column", "table_key", self.was.key), key=lambda row: int(row.number)):
            now = self.last.rows["column"].get(was.key)
            if was.generated or (now is not None and now.generated):
                continue
            if now is None:
                yield from self._absent(was)
                continue
            if was.not_null and was.not_null_valid and not now.not_null:
                yield self._unfit(now, f"r.{quoted(now.name)} IS NULL", "it is null, and was NOT NULL")
            if (was.type_key, was.modifier) != (now.type_key, now.modifier) or was.type_kind == "e" or was.type.endswith("[]"):
                yield from self._retyped(was, now)

    def _retyped(self, was: Any, now: Any) -> Iterator[Unfit]:
        condition = unheld(was, now, self.first, self.last)
        if condition is not None:
            yield self._unfit(now, condition, f"it does not fit {was.type}, which it was")
        if way := cut(was, now):
            value = f"r.{quoted(now.name)}"
            less = differ(f"{value}{way}", value)
            less = less if condition is None else f"CASE WHEN {condition} THEN false ELSE {less} END"
            yield self._unfit(now, less, f"{was.type}, which it was, holds less of it", cut=way)

    def _absent(self, was: Any) -> Iterator[Unfit]:
        if not was.not_null or was.default is not None or was.identity or not was.local:
            return
        step = Step(self.steps[0].statement, self.first, self.last)
        filled = fill.placeholder(step, was) is not None
        reason = "it comes back, must not be null, and nothing is known to put into it"
        yield self._unfit(was, _ALL, reason, absent=True, filled=filled)

    # --- constraints --------------------------------------------------------------------------------------------------

    def _returning(self, types: str) -> Iterator[Any]:
        """Constraints that are there again after the reverse, and are not now."""
        there = list(self.last.children("constraint", "table_key", self.now.key))
        for was in sorted(self.first.children("constraint", "table_key", self.was.key), key=lambda row: str(row.name)):
            if was.type not in types or was.key in self.last.rows["constraint"] or not (was.validated and was.enforced):
                continue
            if not any((row.type, row.numbers, row.definition) == (was.type, was.numbers, was.definition) for row in there):
                yield was

    def _now(self, numbers: Iterable[int], table: int | None = None) -> list[Any] | None:
        """The columns as they are now; None where one is gone."""
        keys = [((table or self.now.key) << 16) | number for number in numbers]
        found = [self.last.rows["column"].get(key) for key in keys]
        return None if not found or any(row is None for row in found) else found

    def _as_it_was(self, row: str, names: Iterable[str]) -> str:
        """A query that gives these columns of a row by the names that they had, so that an expression of before can be asked of
        it; '' where one is gone, or of another type."""
        known = {column.name: column for column in self.first.children("column", "table_key", self.was.key)}
        found = []
        for name in sorted(names):
            was = known.get(name)
            now = None if was is None else self.last.rows["column"].get(was.key)
            if was is None or now is None or was.type_key != now.type_key:
                return ""
            found.append(f"{row}.{quoted(now.name)} AS {quoted(name)}")
        return f"SELECT {', '.join(found)}"

    def checks(self) -> Iterator[Unfit]:
        for was in self._returning("c"):
            columns = self._now(was.numbers)
            row = self._as_it_was("r", was.columns)
            if columns is None or not row:
                continue
            expression = was.definition.removeprefix("CHECK ").removesuffix(" NO INHERIT")
            condition = f"(SELECT {expression} FROM ({row}) q) IS FALSE"
            yield self._unfit(columns[0] if len(columns) == 1 else None, condition, f"it fails {was.name}, which returns")

    def duplicates(self) -> Iterator[Unfit]:
        """All rows but the first of each value, in the order of the key."""
        there = list(uniques(self.last, self.now.key))
        known = {frozenset(each.numbers) for each in there if each.plain}
        definitions = {each.definition for each in there if not each.plain}
        for each in uniques(self.first, self.was.key):
            if frozenset(each.numbers) not in known and each.definition not in definitions:
                yield from self._duplicates(each)

    def _duplicates(self, unique: Unique) -> Iterator[Unfit]:
        columns, source = self._now(unique.numbers), f"FROM {self.sql.name(self.now)} d"
        if unique.plain and columns is not None:
            names, values, of = [row.name for row in columns], [f"d.{quoted(row.name)}" for row in columns], ["true"]
        elif not unique.plain and (row := self._as_it_was("d", unique.names)):
            names, values = list(unique.parts), [f"v.v{at}" for at, _ in enumerate(unique.parts)]
            listed = ", ".join(f"{part} AS v{at}" for at, part in enumerate(unique.parts))
            source += f" CROSS JOIN LATERAL (SELECT {listed}, {unique.predicate or 'true'} AS meant FROM ({row}) q) v"
            of = ["v.meant"]
        else:
            return
        where = " AND ".join([*of, *(f"({value}) IS NOT NULL" for value in values if unique.distinct)])
        condition = (
            f"(r.tableoid, r.ctid) IN (SELECT n.part, n.at FROM (SELECT d.tableoid AS part, d.ctid AS at, row_number() "
            f"OVER (PARTITION BY {', '.join(values)} ORDER BY {', '.join(self._order())}) AS nth "
            f"{source} WHERE {where}) n WHERE n.nth > 1)"
        )
        some = f" among those where {unique.predicate}" if unique.predicate else ""
        yield self._unfit(
            None, condition, f"another row{some} has the same {', '.join(names)}, which {unique.name} makes unique again"
        )

    def _order(self) -> list[str]:
        for each in uniques(self.last, self.now.key):
            columns = self._now(each.numbers)
            if each.plain and columns is not None and all(row.not_null for row in columns):
                return [f"d.{quoted(row.name)}" for row in columns]
        return ["d.ctid"]

    def orphans(self) -> Iterator[Unfit]:
        for was in self._returning("f"):
            parent = self.last.rows["table"].get(was.referenced_key)
            columns = self._now(was.numbers)
            referenced = self._referenced(was)
            if parent is None or columns is None or referenced is None:
                continue
            pairs = list(zip(columns, referenced, strict=True))
            every = " OR " if " MATCH FULL" in was.definition else " AND "  # that wants all of them to be null, or none
            filled = every.join(f"r.{quoted(one.name)} IS NOT NULL" for one, _ in pairs)
            same = " AND ".join(f"o.{quoted(other.name)} = r.{quoted(one.name)}" for one, other in pairs)
            condition = f"({filled}) AND NOT EXISTS (SELECT FROM {self.sql.name(parent)} o WHERE {same})"
            yield self._unfit(
                columns[0] if len(columns) == 1 else None,
                condition,
                f"there is no such row in {parent.schema}.{parent.name}, to which {was.name} refers again",
                columns=tuple(row.name for row in columns),
                parent=(parent.schema, parent.name),
                parent_columns=tuple(row.name for row in referenced),
            )

    def _referenced(self, was: Any) -> list[Any] | None:
        """The columns that a foreign key of before refers to, as they are now."""
        names = was.definition.partition(" REFERENCES ")[2].partition("(")[2].partition(")")[0]
        wanted = [part.strip().strip('"').replace('""', '"') for part in names.split(",")]
        rows = {row.name: row for row in self.first.children("column", "table_key", was.referenced_key)}
        if not set(wanted) <= rows.keys() or len(wanted) != len(was.numbers):
            return None
        return self._now([rows[name].number for name in wanted], was.referenced_key)


def askable(connection: Connection, several: Iterable[Unfit]) -> tuple[Unfit, ...]:
    """Those that can be asked in the session's state, which is the last one: what a condition names may be gone with the
    migration, a function say, or there may be no such cast."""
    import psycopg

    found = []
    for each in several:
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(f"EXPLAIN SELECT FROM {relation(each.relation)} r WHERE {each.condition}".encode())
        except psycopg.Error:
            if connection.broken:
                raise
        else:
            found.append(each)
    return tuple(found)


# --- images -------------------------------------------------------------------------------------------------------------


def besides(unfit: Unfit, images: Sequence[Image], parks: Iterable[Park], *, force: bool) -> Unfit:
    """Without the rows that the migration put there out of a query and nobody has changed, which go before anything tighter
    returns, and those that get an older value out of an image. ``parks``: what is parked of it, and need not be kept again when
    it is cut. ``force``: also where a newer value is in its place."""
    goes = [park.put for park in parks if unfit.cut and park.put and park.relation == unfit.relation]
    goes += [unchanged_since(image) for image in images if image.tells_queried and image.keep.after == unfit.relation]
    for each in goes if not unfit.absent else ():
        unfit = replace(unfit, condition=f"({unfit.condition}) AND NOT EXISTS (SELECT FROM (SELECT r.*) t WHERE {each})")
    for image in images:
        keep = image.keep
        if keep.after != unfit.relation or not keep.key or not unfit.column:
            continue
        same = " AND ".join(f"{value_after(column, of='r')} = i.k{at}" for at, column in enumerate(keep.key, 1))
        held = _held(unfit, image, force=force)
        if held is not None:
            condition = f"({unfit.condition}) AND NOT EXISTS (SELECT FROM {image.name} i WHERE {same} AND {held})"
            return replace(unfit, condition=condition)
    return unfit


def _held(unfit: Unfit, image: Image, *, force: bool) -> str | None:
    for at, column in enumerate(image.keep.columns, 1):
        if unfit.absent and column.after is None and column.name == unfit.column:
            return "i.was"
        if not unfit.absent and column.after == unfit.column:
            newer = differ(value_after(column, of="r"), f"i.q{at}")
            return f"i.was AND i.stays AND {changed_by(at, column, 'i', 'i')}{'' if force else f' AND NOT ({newer})'}"
    return None
