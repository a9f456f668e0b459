"""What of a migration has to be kept: its plan's losses, put together by table, by the names of the state before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.casts import base
from naap_ops.reverse.images.model import Cannot, Keep, KeptColumn, Name
from naap_ops.reverse.model import INSERTED, QUERIED, Capture, Plan, Reversal, Step
from naap_ops.reverse.uniques import uniques

_OF_USERS: Final = 16384  # oids from here on are not the server's own
_INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})
_TEXTS: Final = frozenset({"text", "character varying"})
# Types whose `=` holds for the very same value only.
EXACT: Final = _INTEGERS | {
    "boolean", "date", "uuid", "bytea", "oid", "timestamp without time zone", "timestamp with time zone",
    "time without time zone",
}  # fmt: skip
_REMOVALS: Final = frozenset({"deleted", "truncated", "deleted by cascade", "truncated by cascade"})
OPAQUE: Final = "touched"


@dataclass(frozen=True)
class Touch:
    """What one statement (its index) does to one table: to these ``columns`` (keys), None: to its rows. ``what`` in a word."""

    statement: int
    columns: frozenset[int] | None
    what: str


def touches(plan: Plan, steps: Iterable[Step], first: Catalog) -> dict[int, list[Touch]]:
    """By key of table what is lost, statement by statement; of tables and columns that were there in the state ``first``."""
    by_statement = {step.statement.index: step for step in steps}
    found: dict[int, list[Touch]] = {}
    for reversal in reversed(plan.reversals):
        step = by_statement[reversal.statement.index]
        for capture in _captures(reversal):
            key = key_of(step.before, capture.relation)
            if key is None or key not in first.rows["table"]:
                continue
            columns = None
            if capture.columns is not None:
                columns = frozenset(_column_keys(step.before, key, capture.columns) & first.rows["column"].keys())
                if not columns:
                    continue
            touch = Touch(step.statement.index, columns, capture.reason)
            if touch not in found.setdefault(key, []):
                found[key].append(touch)
    return found


def _captures(reversal: Reversal) -> Iterator[Capture]:
    lost = {loss.relation for loss in reversal.losses if not loss.since and loss.kind in ("rows", "values", "residue")}
    for capture in reversal.captures:
        if capture.reason != INSERTED or capture.relation in lost:
            yield capture
    if reversal.statement.opaque:
        for loss in reversal.losses:
            if loss.relation is not None and loss.kind == "rows" and not loss.since:
                yield Capture(loss.relation, None, OPAQUE)


def key_of(catalog: Catalog, name: Name) -> int | None:
    """The key of the table with that name."""
    return next((row.key for row in catalog.rows["table"].values() if (row.schema, row.name) == name), None)


def _column_keys(catalog: Catalog, table: int, names: Iterable[str]) -> set[int]:
    wanted = set(names)
    return {row.key for row in catalog.children("column", "table_key", table) if row.name in wanted}


def keeps(plan: Plan, steps: Iterable[Step], first: Catalog, last: Catalog) -> tuple[tuple[Keep, ...], tuple[Cannot, ...]]:
    """What to keep, and what no keeping would bring back. ``first`` and ``last``: the states before and after the migration."""
    found: list[Keep] = []
    cannot = [
        Cannot(None, None, loss.reason)
        for reversal in plan.reversals
        for loss in reversal.losses
        if loss.relation is None and loss.kind == "rows" and not loss.since
    ]
    for key, each in touches(plan, steps, first).items():
        one = _Table(first, last, first.rows["table"][key], each)
        reason = one.unfit()
        kept, lost = (None, [Cannot(one.name, None, reason)]) if reason else one.kept()
        found += [kept] if kept is not None else []
        cannot += [] if one.queried else lost
    return tuple(found), tuple(cannot)


@dataclass(frozen=True)
class _Table:
    first: Catalog
    last: Catalog
    row: Any
    touches: list[Touch]

    @property
    def name(self) -> Name:
        return self.row.schema, self.row.name

    @property
    def queried(self) -> bool:
        return all(touch.what == QUERIED for touch in self.touches)

    @property
    def by_query(self) -> bool:
        """Rows that came, if any, came out of queries."""
        adding = [touch for touch in self.touches if touch.columns is None and touch.what not in _REMOVALS]
        return bool(adding) and all(touch.what == QUERIED for touch in adding)

    @property
    def after(self) -> Any:
        return self.last.rows["table"].get(self.row.key)

    def unfit(self) -> str:
        """Why rows of this table are not kept at all, '' when they are."""
        if self.row.relkind == "f":
            return "it is a foreign table"
        if self.row.relkind == "r" and any(self.row.key in table.parent_keys for table in self.first.rows["table"].values()):
            return "other tables inherit from it"
        if any(rule.table_key == self.row.key for rule in self.first.rows["rule"].values()):
            return "it has rules, which turn statements into others"
        return ""

    def kept(self) -> tuple[Keep | None, list[Cannot]]:
        columns = sorted(self.first.children("column", "table_key", self.row.key), key=lambda row: row.number)
        now = {row.key: row for row in self.last.children("column", "table_key", self.row.key)} if self.after else {}
        whole = any(touch.columns is None for touch in self.touches)
        touched = frozenset().union(*(touch.columns or () for touch in self.touches))
        chosen = [row for row in columns if not row.generated and (whole or self.after is None or row.key in touched)]
        key = self._key({row.key: row for row in columns}, now, touched)
        after = (self.after.schema, self.after.name) if self.after else None
        statements = tuple(dict.fromkeys(touch.statement for touch in self.touches))
        if after is not None and not key and not self._only_removed(chosen, now):
            reason = "it has no key (primary, or unique and not null) by which its rows can be told, before and after"
            return None, [Cannot(self.name, None if whole else row.name, reason) for row in (chosen[:1] if whole else chosen)]
        kept = tuple(_kept(row, now.get(row.key)) for row in chosen)
        return Keep(self.name, after, key, kept, whole or after is None, statements, self.queried, self.by_query), []

    def _only_removed(self, chosen: list[Any], now: Mapping[int, Any]) -> bool:
        """Rows went, and nothing else happened: then they are told by their whole content."""
        same = all(row.key in now and _type(row) == _type(now[row.key]) for row in chosen)
        return same and all(touch.columns is None and touch.what in _REMOVALS for touch in self.touches)

    def _key(self, was: Mapping[int, Any], now: Mapping[int, Any], touched: frozenset[int]) -> tuple[KeptColumn, ...]:
        before = list(unique(self.first, self.row.key))
        there = {frozenset(each) for each in unique(self.last, self.row.key)} if self.after else set()
        for numbers in before:
            keys = [(self.row.key << 16) | number for number in numbers]
            if touched & set(keys) or not all(key in was and was[key].not_null for key in keys):
                continue
            if not self.after:
                return tuple(_kept(was[key], None) for key in keys)
            if frozenset(numbers) in there and all(key in now and _same_key(was[key], now[key]) for key in keys):
                return tuple(_key_column(was[key], now[key]) for key in keys)
        return self._key_made(was, now, touched)

    def _key_made(self, was: Mapping[int, Any], now: Mapping[int, Any], touched: frozenset[int]) -> tuple[KeptColumn, ...]:
        """A key that the migration makes of columns that it leaves as they are: where no rows go or come, it told the rows of
        before, too."""
        if not self.after or any(touch.columns is None for touch in self.touches):
            return ()
        for numbers in unique(self.last, self.row.key):
            keys = [(self.row.key << 16) | number for number in numbers]
            if not touched & set(keys) and all(
                key in was and key in now and now[key].not_null and _same_key(was[key], now[key]) for key in keys
            ):
                return tuple(_key_column(was[key], now[key]) for key in keys)
        return ()


def unique(catalog: Catalog, table: int) -> Iterator[tuple[int, ...]]:
    """Numbers of columns that are unique together, primary keys first."""
    yield from (each.numbers for each in uniques(catalog, table) if each.plain)


def _type(row: Any) -> tuple[int, int]:
    return row.type_key, row.modifier


def _same_key(was: Any, now: Any) -> bool:
    """The key's value can be told from its text, before and after."""
    return was.type_key == now.type_key or any({base(was), base(now)} <= family for family in (_INTEGERS, _TEXTS))


def plain(row: Any) -> bool:
    return bool(row.type_key < _OF_USERS and row.collation is None)


def _key_column(was: Any, now: Any) -> KeptColumn:
    same = plain(was) and plain(now) and was.type_key == now.type_key
    return KeptColumn(was.name, now.name, same, same)


def _kept(was: Any, now: Any) -> KeptColumn:
    if now is None:
        return KeptColumn(was.name, None, plain(was))
    equal = "native" if base(now) in EXACT and plain(now) else "text"
    return KeptColumn(was.name, now.name, plain(was), plain(now), equal, _type(was) != _type(now))
