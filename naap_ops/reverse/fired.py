"""What triggers do when rows are written: which tables their functions write to by their own words, and whether they change the
rows on their way in.

Functions that such a function calls are read as well, and the triggers of the tables that it writes to. What is written in
another language than SQL and PL/pgSQL is not known; it is taken to change the row that it is given, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from naap_ops.postgres.catalog.model import Catalog

Name = tuple[str, str]
ANY: Final = ""

_WRITES: Final = r"\b(?:insert\s+into|update|delete\s+from|truncate(?:\s+table)?|merge\s+into|copy)\s+(?:only\s+)?"
_DYNAMIC: Final = re.compile(r"\bexecute\s+(?!function\b|procedure\b)", re.IGNORECASE)
_ASSIGNS: Final = re.compile(r'\bnew\s*(?:\.\s*(?:\w+|"[^"]+")\s*)?:?=|\binto\s+(?:strict\s+)?new\b', re.IGNORECASE)
_FUNCTION: Final = re.compile(r"\bEXECUTE (?:FUNCTION|PROCEDURE) (.+?)\(")
_ON: Final = ("O", "A")


@dataclass(frozen=True)
class Fired:
    """``tables``: those that are written to; ``rows``: rows may be other than they were written; ``unknown``: SQL is put
    together and run."""

    tables: tuple[Name, ...] = ()
    rows: bool = False
    unknown: bool = False


def fired(catalog: Catalog, table: int, event: str = ANY) -> Fired:
    """What the triggers of a table (its key) do upon ``event``: INSERT, UPDATE, DELETE, TRUNCATE, or any."""
    tables: dict[Name, None] = {}
    unknown = False
    todo, seen = [(table, event)], set[int]()
    while todo:
        key, what = todo.pop()
        if key in seen:
            continue
        seen.add(key)
        found = bodies(catalog, [name for row in _triggers(catalog, key, what) for name in _functions(row)])
        unknown = unknown or any(map(dynamic, found))
        for row in written(catalog, found):
            tables[row.schema, row.name] = None
            todo.append((row.key, ANY))
    before = [row for row in _triggers(catalog, table, event) if " BEFORE " in row.definition.partition(" ON ")[0]]
    return Fired(tuple(tables), any(_changes_rows(catalog, row) for row in before), unknown)


def _triggers(catalog: Catalog, table: int, event: str) -> list[Any]:
    rows = catalog.children("trigger", "table_key", table)
    return [row for row in rows if row.enabled in _ON and event in row.definition.partition(" ON ")[0]]


def _functions(trigger: Any) -> list[str]:
    found = _FUNCTION.search(trigger.definition)
    return [found[1].rpartition(".")[2].strip('"')] if found else []


def _changes_rows(catalog: Catalog, trigger: Any) -> bool:
    own = [row for row in catalog.rows["routine"].values() if row.name in _functions(trigger)]
    return not own or any(_ASSIGNS.search(row.definition) is not None for row in own)


# --- bodies -----------------------------------------------------------------------------------------------------------


def bodies(catalog: Catalog, names: Iterable[str]) -> list[str]:
    """The functions of these names, and those that they call by name."""
    known: dict[str, list[str]] = {}
    for row in catalog.rows["routine"].values():
        known.setdefault(row.name, []).append(row.definition)
    todo, found = list(names), dict[str, None]()
    while todo:
        name = todo.pop()
        if name in known and name not in found:
            found[name] = None
            text = "\n".join(known[name])
            todo += [other for other in known if re.search(rf'(?<!\w){re.escape(other)}"?\s*\(', text)]
    return [text for name in found for text in known[name]]


def dynamic(body: str) -> bool:
    """It runs SQL that it puts together."""
    return _DYNAMIC.search(body) is not None


def written(catalog: Catalog, texts: Iterable[str]) -> Iterator[Any]:
    """Tables that these write to by their own words; where SQL is put together, all that they name."""
    for body in texts:
        for row in catalog.rows["table"].values():
            name = rf'(?<![\w"])(?:"?{re.escape(row.schema)}"?\s*\.\s*)?"?{re.escape(row.name)}"?(?![\w"])'
            if re.search(name if dynamic(body) else _WRITES + name, body, re.IGNORECASE):
                yield row
