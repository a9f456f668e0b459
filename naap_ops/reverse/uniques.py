"""What is unique in a table: by constraints and indexes, of whole columns, of expressions, of some rows only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import postgast

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import deparse
from naap_ops.reverse.relations import messages
from naap_ops.reverse.render import quoted


@dataclass(frozen=True)
class Unique:
    """``numbers``: of the columns, () where there is an expression. ``distinct``: nulls are. ``definition``: of an index that
    belongs to no constraint. Of one that is not plain also ``parts``: columns and expressions as SQL, in the names of their
    state; ``names``: the columns that it speaks of; ``predicate``: of which rows, '' of all."""

    name: str
    numbers: tuple[int, ...]
    distinct: bool
    parts: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    predicate: str = ""
    definition: str = ""

    @property
    def plain(self) -> bool:
        """Of whole columns, and of all rows."""
        return bool(self.numbers) and not self.predicate


def uniques(catalog: Catalog, table: int) -> Iterator[Unique]:
    """All that is valid, the primary key first, then constraints, then indexes."""
    indexes = {row.key: row for row in catalog.children("index", "table_key", table)}
    rows = sorted(catalog.children("constraint", "table_key", table), key=lambda row: (row.type != "p", str(row.name)))
    for row in rows:
        if row.type in ("p", "u"):
            index = indexes.get(row.index_key)
            yield Unique(row.name, tuple(row.numbers), index is None or _distinct(index))
    for row in sorted(indexes.values(), key=lambda row: str(row.name)):
        if row.unique and row.valid and not row.constraint:
            yield _of_index(row)


def _distinct(index: Any) -> bool:
    return "NULLS NOT DISTINCT" not in index.definition


def _of_index(row: Any) -> Unique:
    if row.predicate is None and 0 not in row.numbers and " INCLUDE (" not in row.definition:
        return Unique(row.name, tuple(row.numbers), _distinct(row), definition=row.definition)
    node = postgast.parse(row.definition).stmts[0].stmt.index_stmt
    elements = [each.index_elem for each in node.index_params]
    trees = [each.expr for each in elements if not each.name]
    if row.predicate is not None:
        trees.append(node.where_clause)
    names = {each.name for each in elements if each.name}
    for tree in trees:
        names |= {each.fields[-1].string.sval for each in messages(tree) if each.DESCRIPTOR.name == "ColumnRef"}
    return Unique(
        row.name,
        () if any(not each.name for each in elements) else tuple(row.numbers[: len(elements)]),
        _distinct(row),
        tuple(quoted(each.name) if each.name else deparse.expression(each.expr) for each in elements),
        frozenset(names),
        row.predicate or "",
        row.definition,
    )
