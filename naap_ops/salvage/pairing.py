"""Tables of both databases brought together: which columns are moved, by which key, and why a table is left whole."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from naap_ops.salvage.model import Column, Key, Moved, Pair, Table

# An implicit cast that loses nothing, whatever the value, and reads the old one's text.
_WIDER: dict[str, tuple[str, ...]] = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric", "double precision"),
    "bigint": ("numeric",),
    "real": ("double precision",),
    "character varying": ("text",),
    "text": ("character varying",),
    "date": ("timestamp without time zone",),
}
_LENGTHS = ("character varying", "character")
_INTEGERS = {"smallint": 15, "integer": 31, "bigint": 63}
# What is stored of these is an oid, which means another thing in another database.
_OWN_OIDS = frozenset(
    f"reg{what}"
    for what in (
        "class",
        "collation",
        "config",
        "dictionary",
        "namespace",
        "oper",
        "operator",
        "proc",
        "procedure",
        "role",
        "type",
    )
)


def pair(number: int, old: Table, live: Table) -> Pair | str:
    """The pair, or why the table is left."""
    if old.kind != live.kind:
        return "it is partitioned in one of the two databases only"
    if obstacle := old.unreadable or live.unreadable or live.unwritable:
        return obstacle
    theirs = {column.name: column for column in old.columns}
    moved, stays, lost = [], [], []
    for at, column in enumerate(live.columns, 1):
        if column.value is not None:
            continue
        there = theirs.get(column.name)
        fit = _fit(there, column) if there is not None and there.value is None else None
        if fit is None:
            stays.append(Moved(column, f"c{at}"))
            if there is not None:
                lost.append(column.name)
        else:
            moved.append(Moved(column, f"c{at}", fit[0] if fit else None))
    lost += [name for name, column in theirs.items() if column.value is None and name not in {c.name for c in live.columns}]
    names = {each.column.name for each in moved}
    key = next((key for key in live.keys if set(key.columns) <= names and _is_key(key, old)), None)
    if key is None:
        return "no primary key or unique index of NOT NULL columns that both have: its rows cannot be told apart"
    needs = tuple(each.column.name for each in stays if each.column.required and not each.column.has_default)
    return Pair(number, old, live, key, tuple(moved), tuple(stays), tuple(lost), needs)


def same_columns(old: Table, live: Table) -> bool:
    """Whether no migration has changed a column."""
    return _plain(old) == _plain(live) and old.kind == live.kind


def _plain(table: Table) -> dict[str, tuple[object, ...]]:
    return {c.name: (c.spelled, c.shape, c.required, c.identity, c.value) for c in table.columns}


def _is_key(key: Key, table: Table) -> bool:
    """Unique in the old one as well."""
    return any(set(other.columns) == set(key.columns) for other in table.keys)


def _fit(old: Column, live: Column) -> tuple[tuple[sql.Composable, str] | None] | None:
    """None: it cannot be moved. Else what keeps single values from being moved, if anything does."""
    if live.type.removesuffix("[]") in _OWN_OIDS:
        return None
    if old.type in _INTEGERS and _INTEGERS.get(live.type, 64) < _INTEGERS[old.type]:
        return (_too_large(live),)
    if old.type != live.type:
        return (None,) if live.type in _WIDER.get(old.type, ()) and live.modifier == -1 else None
    if old.labels is not None and live.labels is not None and not set(old.labels) <= set(live.labels):
        return (_unknown_label(old, live),) if not live.type.endswith("[]") else None
    if old.labels is None and old.shape != live.shape:
        return None
    if live.modifier in (-1, old.modifier):
        return (None,)
    if live.type in _LENGTHS:
        room = live.modifier - 4
        return ((sql.SQL("pg_catalog.length({}) > {}").format(sql.Identifier(live.name), room), f"longer than {live.spelled}"),)
    return None


def _too_large(live: Column) -> tuple[sql.Composable, str]:
    room = 2 ** _INTEGERS[live.type]
    return sql.SQL("{} not between {} and {}").format(sql.Identifier(live.name), -room, room - 1), f"too large for {live.type}"


def _unknown_label(old: Column, live: Column) -> tuple[sql.Composable, str]:
    new = sorted(set(old.labels or ()) - set(live.labels or ()))
    condition = sql.SQL("{}::pg_catalog.text = any({})").format(sql.Identifier(live.name), new)
    return condition, f"one of {', '.join(new)}, which {live.type} has not got"


def unfit(pair: Pair) -> Iterator[tuple[sql.Composable, str]]:
    """Conditions on the old side, and what is said where one holds."""
    for each in pair.moved:
        if each.unfit is not None:
            yield each.unfit[0], f"{each.column.name} is {each.unfit[1]}"
