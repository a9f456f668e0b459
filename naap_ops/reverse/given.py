"""Values that somebody has chosen for columns which come back and must not be null: in place of the placeholder, or where none
is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.images.model import Name
from naap_ops.reverse.model import Piece, Plan, Reversal, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, literal

Values = Mapping[tuple[Name, str], str]
"""By table, as the migration leaves it, and column, as it was: the value's text."""


def given(plan: Plan, steps: Sequence[Step], last: Catalog, values: Values, sql: Sql) -> Plan:
    """The plan with these values. ``last``: the state after the migration."""
    if not values:
        return plan
    by_statement = {step.statement.index: step for step in steps}
    reversals = tuple(_given(each, by_statement[each.statement.index], last, values, sql) for each in plan.reversals)
    return replace(plan, reversals=reversals)


def _given(reversal: Reversal, step: Step, last: Catalog, values: Values, sql: Sql) -> Reversal:
    for row, value in _of(step, last, values):
        table = sql.table(row)
        text = sql("column/fill", column=row, value=literal(value))
        fill = Piece(Rank.FILL_COLUMN, row.number, text, lock="ROW EXCLUSIVE", relation=table)
        others = [
            piece
            for piece in reversal.pieces
            if (piece.rank, piece.order, piece.relation) != (Rank.FILL_COLUMN, row.number, table)
        ]
        stops = sql("column/any_row", column=row)
        checks = tuple(check for check in reversal.checks if check.query != stops)
        reversal = replace(reversal, pieces=tuple(sorted([*others, fill])), checks=checks)
    return reversal


def _of(step: Step, last: Catalog, values: Values) -> Iterator[tuple[Any, str]]:
    """The columns that this statement dropped, and that are given a value."""
    for key in sorted(step.dropped_columns):
        row = step.before.rows["column"][key]
        table = last.rows["table"].get(row.table_key)
        value = values.get(((table.schema, table.name), row.name)) if table is not None else None
        if value is not None:
            yield row, value
