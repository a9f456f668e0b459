"""Which differences of rows the losses of a plan account for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.model import Plan, Step
from naap_ops.reverse.rows import Image, RowDifference, TableRows, differences

Name = tuple[str, str]


@dataclass(frozen=True)
class Explained:
    """``tables``: whole tables whose rows may differ; ``columns``: columns whose values may. By the names of the starting
    state."""

    tables: frozenset[Name]
    columns: frozenset[tuple[Name, str]]

    def unexplained(self, before: Image, after: Image) -> list[RowDifference]:
        """Differences that no loss accounts for: columns and tables that may differ are left out before anything is
        compared."""
        return differences(self._rest(before), self._rest(after))

    def _rest(self, image: Image) -> Image:
        kept = {name: table for name, table in image.tables.items() if name not in self.tables}
        return Image(
            {name: _without(table, {column for of, column in self.columns if of == name}) for name, table in kept.items()}
        )


def _without(table: TableRows, columns: set[str]) -> TableRows:
    if not columns & table.types.keys():
        return table
    places = [at for at, column in enumerate(table.types) if column not in columns]
    return TableRows(
        {column: of for column, of in table.types.items() if column not in columns},
        () if columns & set(table.key) else table.key,
        table.count,
        tuple(tuple(row[at] for at in places) for row in table.rows),
        None
        if table.digests is None
        else {column: digest for column, digest in table.digests.items() if column not in columns},
    )


def explain(plan: Plan, steps: Iterable[Step], first: Catalog) -> Explained:
    """Losses by the names that tables and columns had before the migration: they may have been renamed on the way."""
    by_statement = {step.statement.index: step for step in steps}
    tables: set[Name] = set()
    columns: set[tuple[Name, str]] = set()
    for reversal in plan.reversals:
        step = by_statement[reversal.statement.index]
        for loss in reversal.losses:
            if loss.relation is None or loss.comes_back:
                continue
            name = _first_name(step, loss.relation, first)
            if name is None:
                continue
            if loss.column is None:
                tables.add(name)
            else:
                columns.add((name, _first_column(step, loss.relation, loss.column, first)))
    tables |= {other for name in tables for other in _along(name, first)}
    columns |= {(other, column) for name, column in columns for other in _along(name, first)}
    return Explained(frozenset(tables), frozenset(columns | set(_computed_from(columns, first))))


def _along(name: Name, first: Catalog) -> Iterator[Name]:
    """Tables that show the same rows: those that it is a part of, and its parts."""
    tables = first.rows["table"]
    for up in (True, False):
        todo = [key for key in (_key(first, name),) if key is not None]
        while todo:
            one = todo.pop()
            found = tables[one].parent_keys if up else [row.key for row in tables.values() if one in row.parent_keys]
            for key in found:
                if key in tables:
                    todo.append(key)
                    yield tables[key].schema, tables[key].name


def _computed_from(columns: Iterable[tuple[Name, str]], first: Catalog) -> Iterator[tuple[Name, str]]:
    """Generated columns, where a column that they are made of may differ."""
    generated = [row for row in first.rows["column"].values() if row.generated and row.default]
    for name, column in columns:
        word = re.compile(rf"(?<!\w){re.escape(column)}(?!\w)")
        for row in generated:
            if (row.schema, row.table) == name and word.search(row.default):
                yield name, row.name


def _key(catalog: Catalog, name: Name) -> int | None:
    return next((row.key for row in catalog.rows["table"].values() if (row.schema, row.name) == name), None)


def _first_name(step: Step, relation: Name, first: Catalog) -> Name | None:
    key = _key(step.before, relation)
    row = first.get("table", key)
    return (row.schema, row.name) if row is not None else None


def _first_column(step: Step, relation: Name, column: str, first: Catalog) -> str:
    key = _key(step.before, relation)
    for row in step.before.rows["column"].values():
        if row.table_key == key and row.name == column:
            was = first.rows["column"].get(row.key)
            return str(was.name) if was is not None else column
    return column
