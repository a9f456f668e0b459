"""Which rows an INSERT put into its table: by a unique key that its own text names or computes.

The keys of ``INSERT ... VALUES`` stand in its text. The query of ``INSERT ... SELECT`` is asked again, in the state in which it
ran. Without ON CONFLICT no row with such a key can have been there before: the statement would have failed. A key that comes
from a default or from a function that gives another value each time cannot be asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from postgast import pg_query_pb2 as grammar

from naap_ops.reverse import deparse
from naap_ops.reverse.functions import REPEATABLE
from naap_ops.reverse.model import Step
from naap_ops.reverse.relations import messages
from naap_ops.reverse.render import literal

_INTEGERS: Final = ("smallint", "integer", "bigint", "numeric")


class _Unknown(Exception):
    """Which rows they are cannot be told; the text says why."""


@dataclass(frozen=True)
class Rows:
    """``table`` is its row in the catalog, None if unknown. ``keys``: the key's columns (rows of the catalog); ``values``: the
    key's values as SQL, row by row, or ``source``: the query that gives them again as its ``columns``. ``reason``: why the rows
    are not known. ``updates``: it changed rows as well."""

    table: Any = None
    keys: tuple[Any, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()
    source: str = ""
    reason: str = ""
    updates: bool = False

    @property
    def deletable(self) -> bool:
        """Whether the rows are known."""
        return not self.reason


def rows_of(step: Step) -> Rows:
    """What is known of the rows that the statement inserted."""
    node = step.statement.node
    schema = node.relation.schemaname or step.after.schema
    table = next(
        (row for row in step.after.rows["table"].values() if (row.schema, row.name) == (schema, node.relation.relname)), None
    )
    updates = node.HasField("on_conflict_clause") and node.on_conflict_clause.action == grammar.ONCONFLICT_UPDATE
    try:
        if table is None:
            raise _Unknown("its table is not known")
        return _known(step, node, table, updates)
    except _Unknown as reason:
        return Rows(table, reason=str(reason), updates=updates)


def _known(step: Step, node: Any, table: Any, updates: bool) -> Rows:
    if not node.HasField("select_stmt"):
        raise _Unknown("it gives no values")
    if node.HasField("on_conflict_clause"):
        raise _Unknown("with ON CONFLICT, rows with these keys may have been there before")
    if any(" ON INSERT TO " in row.definition for row in step.after.children("rule", "table_key", table.key)):
        raise _Unknown("a rule of the table says what becomes of them")
    if any(" BEFORE " in row.definition for row in insert_triggers(step, table)):
        raise _Unknown("a trigger of the table may have changed them on their way in")
    select = node.select_stmt.select_stmt
    targets = list(_targets(select))
    width = {len(row) for row in targets}
    columns = _columns(step, node, table)
    if len(width) != 1 or max(width) > len(columns) or any(_star(each) for row in targets for each in row):
        raise _Unknown("its values cannot be told from its text")
    columns = columns[: width.pop()]
    fixed = {
        column.name: all(_constant(row[at]) for row in targets)
        for at, column in enumerate(columns)
        if all(_repeatable(step, row[at]) for row in targets)
        and not (column.identity and node.override == grammar.OVERRIDING_USER_VALUE)
    }
    names = _key(step, table, fixed)
    keys = tuple(column for column in columns if column.name in names)
    if select.values_lists:
        at = [columns.index(column) for column in keys]
        values = tuple(tuple(_value(row[i], columns[i]) for i in at) for row in targets)
        return Rows(table, keys, values=tuple(dict.fromkeys(values)), updates=updates)
    return Rows(table, keys, columns=tuple(column.name for column in columns), source=_source(step, node), updates=updates)


def insert_triggers(step: Step, table: Any) -> list[Any]:
    """The table's own triggers that fire on INSERT and are on."""
    rows = step.after.children("trigger", "table_key", table.key)
    return [row for row in rows if "INSERT" in row.definition.partition(" ON ")[0] and row.enabled in ("O", "A")]


def _columns(step: Step, node: Any, table: Any) -> list[Any]:
    own = sorted(step.after.children("column", "table_key", table.key), key=lambda row: row.number)
    if not node.cols:
        return own
    by_name = {row.name: row for row in own}
    try:
        return [by_name[each.res_target.name] for each in node.cols]
    except KeyError as name:
        raise _Unknown(f"column {name} is not known") from None


def _key(step: Step, table: Any, fixed: dict[str, bool]) -> tuple[str, ...]:
    """A unique key among the columns whose values are known (True: constants, so never null), the primary key first."""
    columns = {row.number: row for row in step.after.children("column", "table_key", table.key)}
    certain = {row.name for row in columns.values() if row.name in fixed and (row.not_null or fixed[row.name])}
    found = [
        (row.type != "p", tuple(row.columns))
        for row in step.after.children("constraint", "table_key", table.key)
        if row.type in ("p", "u")
    ]
    for row in step.after.children("index", "table_key", table.key):
        whole = row.definition.endswith(")") and " WHERE " not in row.definition and " INCLUDE (" not in row.definition
        if row.unique and row.valid and whole and all(number in columns for number in row.numbers):
            found.append((True, tuple(columns[number].name for number in row.numbers)))
    usable = sorted((later, len(names), names) for later, names in found if set(names) <= certain)
    if not usable:
        raise _Unknown("no unique key is among the values that it names")
    return usable[0][2]


# --- values and queries --------------------------------------------------------------------------------------------


def _targets(select: Any) -> Iterator[list[Any]]:
    if select.values_lists:
        yield from (list(each.list.items) for each in select.values_lists)
    elif select.HasField("larg"):
        yield from _targets(select.larg)
        yield from _targets(select.rarg)
    else:
        yield [each.res_target.val for each in select.target_list]


def _star(node: Any) -> bool:
    return node.HasField("column_ref") and any(each.HasField("a_star") for each in node.column_ref.fields)


def _constant(node: Any) -> bool:
    """A literal, cast or not, that is not NULL."""
    if node.HasField("type_cast"):
        return _constant(node.type_cast.arg)
    return node.HasField("a_const") and not node.a_const.isnull


def _value(node: Any, column: Any) -> str:
    if node.HasField("a_const"):
        const = node.a_const
        if const.HasField("sval"):
            return literal(const.sval.sval)
        if const.HasField("ival") and column.type.startswith(_INTEGERS):
            return str(const.ival.ival)
    text = deparse.expression(node)
    return text if text.startswith("CAST(") else f"CAST({text} AS {column.type})"


def _repeatable(step: Step, node: Any) -> bool:
    """Asked again, it gives the same value."""
    for each in messages(node):
        kind = each.DESCRIPTOR.name
        if kind in ("SetToDefault", "SQLValueFunction", "RangeTableSample"):
            return False
        if kind == "FuncCall" and not _known_function(step, each):
            return False
        if kind == "SelectStmt" and (
            each.HasField("limit_count")
            or each.HasField("limit_offset")
            or any(x.WhichOneof("node") for x in each.distinct_clause)
        ):
            return False
    return True


def _known_function(step: Step, call: Any) -> bool:
    parts = [each.string.sval for each in call.funcname]
    own = [row for row in step.after.rows["routine"].values() if row.name == parts[-1]]
    if own:
        return all(" IMMUTABLE" in row.definition.partition("\nAS ")[0] for row in own)
    return parts[-1] in REPEATABLE


def _source(step: Step, node: Any) -> str:
    """The text of the SELECT, its WITH included, by the grammar's own words."""
    select = grammar.SelectStmt()
    select.CopyFrom(node.select_stmt.select_stmt)
    if node.HasField("with_clause"):
        if select.HasField("with_clause"):
            raise _Unknown("its values cannot be told from its text")
        select.with_clause.CopyFrom(node.with_clause)
    rest = grammar.SelectStmt()
    rest.CopyFrom(select)
    for arm in _arms(rest):
        del arm.target_list[:]
    if not _repeatable(step, rest):
        raise _Unknown("its query may give other rows when it is asked again")
    for each in messages(select):
        if each.DESCRIPTOR.name in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"):
            raise _Unknown("its query changes rows itself")
        if each.DESCRIPTOR.name == "RangeVar" and each.relname == node.relation.relname:
            raise _Unknown("its query reads the table that it fills")
    return deparse.query(select)


def _arms(select: Any) -> Iterator[Any]:
    if select.HasField("larg"):
        yield from _arms(select.larg)
        yield from _arms(select.rarg)
    else:
        yield select
