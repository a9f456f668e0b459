"""Values for columns which come back and must not be null: those that somebody has chosen, else the placeholder that fits the
state before the migration.

A statement before the one that drops the column may have dropped the index that makes its values unique: the placeholder that
was found by that one statement would then stand in every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import fill
from naap_ops.reverse.images.model import Name
from naap_ops.reverse.model import Loss, Piece, Plan, Reversal, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, literal

Values = Mapping[tuple[Name, str], str]
"""By table, as the migration leaves it, and column, as it was: the value's text."""


def given(plan: Plan, steps: Sequence[Step], first: Catalog, last: Catalog, values: Values, sql: Sql) -> Plan:
    """The plan with these values. ``first`` and ``last``: the states before and after the migration."""
    by_statement = {step.statement.index: step for step in steps if step.dropped_columns}
    reversals = tuple(
        _given(each, by_statement[each.statement.index], first, last, values, sql)
        if each.statement.index in by_statement
        else each
        for each in plan.reversals
    )
    return replace(plan, reversals=reversals)


def _given(reversal: Reversal, step: Step, first: Catalog, last: Catalog, values: Values, sql: Sql) -> Reversal:
    for row, value, what in (*_placeholders(step, first), *_chosen(step, first, last, values)):
        table = sql.table(row)
        text = sql("column/fill", column=row, value=value)
        piece = Piece(Rank.FILL_COLUMN, row.number, text, lock="ROW EXCLUSIVE", relation=table)
        place = piece.rank, piece.order, piece.relation
        others = [each for each in reversal.pieces if (each.rank, each.order, each.relation) != place]
        stops = sql("column/any_row", column=row)
        reversal = replace(
            reversal,
            pieces=tuple(sorted([*others, piece])),
            checks=tuple(check for check in reversal.checks if check.query != stops),
            losses=tuple(_told(loss, row, f"{what} {value}") for loss in reversal.losses),
        )
    return reversal


def _told(loss: Loss, row: Any, value: str) -> Loss:
    if loss.since or (loss.relation, loss.column) != ((row.schema, row.table), row.name):
        return loss
    reason = f"the column is added again; its values went with it, and as it must not be null, rows get {value}"
    return replace(loss, reason=reason)


def _chosen(step: Step, first: Catalog, last: Catalog, values: Values) -> Iterator[tuple[Any, str, str]]:
    """The columns that this statement dropped, and that are given a value."""
    for key in sorted(step.dropped_columns & first.rows["column"].keys()) if values else ():
        row, was = step.before.rows["column"][key], first.rows["column"][key]
        table = last.rows["table"].get(row.table_key)
        value = values.get(((table.schema, table.name), was.name)) if table is not None else None
        if value is not None:
            yield row, literal(value), "the value"


def _placeholders(step: Step, first: Catalog) -> Iterator[tuple[Any, str, str]]:
    """Those that are others by the state before the migration."""
    for key in sorted(step.dropped_columns & first.rows["column"].keys()):
        row, was = step.before.rows["column"][key], first.rows["column"][key]
        if was.table_key in step.dropped or not was.not_null or not row.not_null or row.default is not None:
            continue
        value = fill.placeholder(replace(step, before=first), was)
        if value is not None and fill.placeholder(step, row) not in (None, value):
            yield row, value, "the placeholder"
