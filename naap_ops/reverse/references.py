"""Foreign keys as pairs of columns, in whatever state their tables are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import postgast

from naap_ops.postgres.catalog.model import Catalog


@dataclass(frozen=True)
class Reference:
    """``columns`` of table ``child`` refer to ``referenced`` of table ``parent``: rows of one state's catalog. ``action``: what
    becomes of rows whose parent goes: CASCADE, SET NULL, SET DEFAULT, or '' where it does not go then. ``key``, ``name``: of
    the constraint."""

    child: Any
    parent: Any
    columns: tuple[Any, ...]
    referenced: tuple[Any, ...]
    action: str
    key: int = 0
    name: str = ""


def references(first: Catalog, catalog: Catalog) -> Iterator[Reference]:
    """The foreign keys of state ``first``, by the names of state ``catalog``; those of which all is there."""
    tables, columns = catalog.rows["table"], catalog.rows["column"]
    for row in first.rows["constraint"].values():
        child, parent = tables.get(row.table_key), tables.get(row.referenced_key)
        if row.type != "f" or row.parent_key or child is None or parent is None:
            continue
        by_name = {each.name: each.key for each in first.children("column", "table_key", row.referenced_key)}
        own = [columns.get((row.table_key << 16) | number) for number in row.numbers]
        theirs = [columns.get(by_name.get(name, 0)) for name in _referenced(row.definition)]
        if None not in own and None not in theirs and len(own) == len(theirs):
            actions = ("CASCADE", "SET NULL", "SET DEFAULT")
            action = next((each for each in actions if f"ON DELETE {each}" in row.definition), "")
            yield Reference(child, parent, tuple(own), tuple(theirs), action, row.key, row.name)


def _referenced(definition: str) -> list[str]:
    """Names of the columns that are referred to."""
    command = postgast.parse(f"ALTER TABLE t ADD {definition}").stmts[0].stmt.alter_table_stmt.cmds[0].alter_table_cmd
    return [each.string.sval for each in getattr(command, "def").constraint.pk_attrs]
