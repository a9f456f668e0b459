"""What the reverse of a migration itself takes away, and what of it has to be kept so that rolling forward brings it back.

Names are those of the state that the migration leaves: the reverse starts from it, and rolling forward comes back to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import inserted
from naap_ops.reverse.casts import base
from naap_ops.reverse.images.keeps import EXACT, key_of, plain, unique
from naap_ops.reverse.images.model import Image, Name
from naap_ops.reverse.images.statements import changed_since
from naap_ops.reverse.model import Loss, Plan, Reversal, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import quoted

PARKED: Final = "parked"
"""The source of a loss that is parked."""
NULL: Final = "NULL"
_CONSTANT: Final = re.compile(r"(-?\d+(?:\.\d+)?|'(?:[^']|'')*'|true|false|NULL)(::[\w\s\".,()\[\]]+)?")
_WRITES: Final = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"})


@dataclass(frozen=True)
class ParkedColumn:
    """``type``: as SQL spells it. ``plain``: the server's own type, kept as it is, else as text. ``equal``: how values are
    compared, ``native`` or as ``text``. ``given``: as SQL, the value that the migration gives every row by itself, which may be
    made of the parked one, ``i.p1``; None: not known."""

    name: str
    type: str
    plain: bool
    equal: str
    given: str | None = None


@dataclass(frozen=True)
class Park:
    """What is parked of one table: all its rows (``whole``), or values of ``columns`` by ``key``. Without a key only whole.

    ``some``: only those rows which the state before cannot hold, or values in whose place others were put; the table lives on
    meanwhile, and what is written into it stays. ``put``: SQL over ``t``, only the rows that the migration itself put there.
    ``cut``: values of which the state before holds less.
    """

    relation: Name
    key: tuple[ParkedColumn, ...]
    columns: tuple[ParkedColumn, ...]
    whole: bool
    some: bool = False
    put: str = ""
    cut: bool = False

    @property
    def part(self) -> tuple[Any, ...]:
        """What tells it from others of the same table that are parked with it."""
        values = (column.name for column in self.columns) if self.some and not self.whole else ()
        return (self.whole, self.some, *values, *(["put"] if self.put else []), *(["cut"] if self.cut else []))

    @property
    def goes(self) -> bool:
        """The table goes itself."""
        return self.whole and not self.some

    def moved(self, own: str, schema: str) -> Park:
        """The same of another tenant: what lies in schema ``own`` is meant in ``schema``."""
        return replace(self, relation=(schema, self.relation[1])) if self.relation[0] == own else self

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Park:
        """What :meth:`as_dict` gave."""
        key, columns = (tuple(ParkedColumn(**each) for each in data[part]) for part in ("key", "columns"))
        relation = data["relation"][0], data["relation"][1]
        return cls(relation, key, columns, data["whole"], data.get("some", False), data.get("put", ""), data.get("cut", False))


def parks(plan: Plan, steps: Sequence[Step], first: Catalog, last: Catalog, images: Iterable[Image] = ()) -> tuple[Park, ...]:
    """What the reverse takes away. ``first`` and ``last``: the states before and after the migration. ``images``: what it
    brings rows back from."""
    if not plan.reversals:
        return ()
    told = {key_of(first, image.keep.relation): changed_since(image) for image in images if image.tells_queried}
    found = []
    for key, table in sorted(last.rows["table"].items()):
        if key not in first.rows["table"]:
            park = _created(table, last) if table.relkind == "r" else None
        else:
            park = _grown(plan, steps, table, first, last)
            puts = [where for of, where in _inserted(plan, steps, first, last).values() if of == key]
            found += _put(key, [*puts, *([told[key]] if key in told else [])], last)
        found += [park] if park is not None else []
    return tuple(found)


def _created(table: Any, last: Catalog) -> Park | None:
    columns = _columns(last, table.key)
    kept = tuple(_column(row) for row in columns if not row.generated)
    return Park((table.schema, table.name), _key(table.key, last, None), kept, whole=True) if kept else None


def _grown(plan: Plan, steps: Sequence[Step], table: Any, first: Catalog, last: Catalog) -> Park | None:
    """Columns that a table got, and those that are no longer generated."""
    if table.relkind not in ("r", "p") or (table.relkind == "r" and _has_children(last, table.key)):
        return None
    kept = []
    for row in _columns(last, table.key):
        was = first.rows["column"].get(row.key)
        if row.generated or not row.local or (was is not None and not was.generated):
            continue
        given = _given(plan, steps, table, row) if was is None else None
        kept.append(_column(row, given))
    key = _key(table.key, last, first)
    return Park((table.schema, table.name), key, tuple(kept), whole=False) if kept and key else None


def _put(key: int, conditions: Sequence[str], last: Catalog) -> list[Park]:
    """Rows that the migration put into a table that was there, as they may be changed since."""
    table = last.rows["table"][key]
    told = _key(key, last, None)
    if not conditions or not told or table.relkind not in ("r", "p") or (table.relkind == "r" and _has_children(last, key)):
        return []
    columns = tuple(_column(row) for row in _columns(last, key) if not row.generated)
    return [Park((table.schema, table.name), told, columns, whole=True, some=True, put=" OR ".join(conditions))]


def _inserted(plan: Plan, steps: Iterable[Step], first: Catalog, last: Catalog) -> dict[int, tuple[int, str]]:
    """By statement the table, and which rows of it an INSERT put there whose text names their keys: the reverse takes them."""
    taken = {reversal.statement.index for reversal in plan.reversals if any(p.rank == Rank.ROWS for p in reversal.pieces)}
    found: dict[int, tuple[int, str]] = {}
    for step in steps:
        rows = inserted.rows_of(step) if step.statement.tag == "INSERT" and step.statement.index in taken else None
        if rows is None or not rows.values or rows.table.key not in first.rows["table"].keys() & last.rows["table"].keys():
            continue
        now = [last.rows["column"].get(row.key) for row in rows.keys]
        if all(row is not None and row.type_key == was.type_key for row, was in zip(now, rows.keys, strict=True)):
            names = ", ".join(f"t.{quoted(row.name)}" for row in now if row is not None)
            listed = ", ".join(f"({', '.join(values)})" for values in rows.values)
            found[step.statement.index] = rows.table.key, f"({names}) IN ({listed})"
    return found


def _has_children(catalog: Catalog, key: int) -> bool:
    return any(key in table.parent_keys for table in catalog.rows["table"].values())


def _columns(catalog: Catalog, table: int) -> list[Any]:
    return sorted(catalog.children("column", "table_key", table), key=lambda row: int(row.number))


def _column(row: Any, given: str | None = None) -> ParkedColumn:
    equal = "native" if base(row) in EXACT and plain(row) else "text"
    return ParkedColumn(row.name, row.type, plain(row), equal, given)


def _key(table: int, last: Catalog, first: Catalog | None) -> tuple[ParkedColumn, ...]:
    """By which rows are told; ``first``: also in that state, where the rows live on meanwhile."""
    rows = {row.key: row for row in last.children("column", "table_key", table)}
    before = None if first is None else {frozenset(each) for each in unique(first, table)}
    for numbers in unique(last, table):
        columns = [rows.get((table << 16) | number) for number in numbers]
        if any(row is None or not row.not_null for row in columns):
            continue
        if before is None or frozenset(numbers) in before:
            return tuple(_column(row) for row in columns)
    return ()


# --- what a migration gives by itself -------------------------------------------------------------------------------


def _given(plan: Plan, steps: Sequence[Step], table: Any, row: Any) -> str | None:
    """The value that rows have in a column right after the migration, where that is one and known."""
    added = next((step.after.rows["column"][row.key] for step in steps if row.key in step.created_columns), None)
    if added is None or (added.type_key, added.modifier) != (row.type_key, row.modifier) or added.identity:
        return None
    if any(_writes(statement, table.name) for statement in plan.script.statements):
        return None
    if added.default is None:
        return None if any(row.type_key in step.after.rows["domain"] for step in steps) else NULL
    constant = _CONSTANT.fullmatch(added.default)
    if constant is None:
        return None
    return str(added.default) if plain(row) else constant[1]


def _writes(statement: Any, name: str) -> bool:
    return bool(statement.opaque) or (statement.tag in _WRITES and any(each == name for _, each in statement.relations))


# --- losses ---------------------------------------------------------------------------------------------------------


def marked(plan: Plan, steps: Iterable[Step], first: Catalog, last: Catalog, kept: Sequence[Park]) -> Plan:
    """The plan whose losses say that they are parked."""
    rows = {key_of(last, park.relation) for park in kept if park.goes}
    put = {key_of(last, park.relation) for park in kept if park.put}
    values = {(key_of(last, park.relation), column.name) for park in kept if not park.whole for column in park.columns}
    by_statement = {step.statement.index: step for step in steps}
    known = _inserted(plan, by_statement.values(), first, last)

    def one(reversal: Reversal) -> Reversal:
        step = by_statement[reversal.statement.index]
        of = rows | ({known[step.statement.index][0]} & put if step.statement.index in known else set())
        losses = tuple(_marked(loss, step, last, of, values) for loss in reversal.losses)
        return replace(reversal, losses=losses)

    return replace(plan, reversals=tuple(map(one, plan.reversals)))


def _marked(loss: Loss, step: Step, last: Catalog, rows: set[int | None], values: set[tuple[int | None, str]]) -> Loss:
    if not loss.since or loss.relation is None or loss.kind not in ("rows", "values"):
        return loss
    key = key_of(step.after, loss.relation)
    if key is None:
        return loss
    names = (now.name for now in _now(step, last, key, loss.column))
    parked = key in rows if loss.column is None else key in rows or any((key, name) in values for name in names)
    return replace(loss, source=PARKED) if parked else loss


def _now(step: Step, last: Catalog, table: int, column: str | None) -> Iterator[Any]:
    """The column as the migration leaves it: it may have been renamed on the way."""
    for row in step.after.children("column", "table_key", table):
        if row.name == column and row.key in last.rows["column"]:
            yield last.rows["column"][row.key]
