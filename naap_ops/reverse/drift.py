"""Drift: how the live schema differs from what its history says, object by object, as people read it.

What goes without saying is not said: an extra table's columns, keys and indexes, the index behind a constraint, the sequence
of a serial column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from naap_ops.postgres.catalog.difference import Difference, differences
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import KINDS

What = Literal["missing", "extra", "changed"]

_WORDS: Final = {"routine": "function", "event_trigger": "event trigger", "default_privileges": "default privileges"}
_SHOWN: Final = 120
_COLUMNS_SHOWN: Final = 8


@dataclass(frozen=True)
class Drift:
    """One object. ``missing``: the migrations make it, the database lacks it; ``extra``: only the database has it; ``changed``:
    ``detail`` says in what."""

    kind: str
    name: str
    what: What
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.what}" + (f": {self.detail}" if self.detail else "")

    def as_dict(self) -> dict[str, str]:
        """The JSON form."""
        return asdict(self)


def drift(live: Catalog, expected: Catalog) -> list[Drift]:
    """How ``live`` differs from ``expected``; empty where it does not."""
    found = differences(expected, live)
    absent = {(each.kind, each.identity, each.missing_in) for each in found if each.missing_in}
    kept = []
    for each in found:
        kind = KINDS[each.kind]
        have, want = live.find(kind, *each.identity), expected.find(kind, *each.identity)
        row = want if have is None else have
        if _follows(each):
            continue
        if each.missing_in and any((*parent, each.missing_in) in absent for parent in _parents(each.kind, row)):
            continue
        what: What = "changed" if not each.missing_in else "missing" if each.missing_in == "other" else "extra"
        detail = _changed(each) if what == "changed" else _shape(each.kind, row, expected if what == "missing" else live)
        kept.append(Drift(_word(each.kind, row), _name(each.kind, row), what, detail))
    return kept


def _follows(difference: Difference) -> bool:
    """Whether a table differs only in that foreign keys, which are told themselves, are upheld at it."""
    return set(difference.fields) == {"key_triggers"} and "" in difference.fields["key_triggers"]


def _parents(kind: str, row: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The objects with which this one comes and goes."""
    if KINDS[kind].identity[0] == "schema" and kind != "default_privileges":
        yield "schema", (row.schema,)
    if hasattr(row, "table"):
        yield "table", (row.schema, row.table)
        yield "view", (row.schema, row.table)
    if kind == "index" and row.constraint:
        yield "constraint", (row.schema, row.table, row.name)
    if kind == "sequence" and row.owned_by:
        schema, table, column = row.owned_by
        yield "table", (schema, table)
        yield "column", (schema, table, column)


def _word(kind: str, row: Any) -> str:
    if kind == "other":
        return str(row.type)
    if kind == "type" and row.typtype == "e":
        return "enum"
    if kind == "view" and row.relkind == "m":
        return "materialized view"
    return _WORDS.get(kind, kind)


def _name(kind: str, row: Any) -> str:
    if kind == "other":
        return str(row.identity)
    if kind == "routine":
        return f"{row.schema}.{row.name}({row.arguments})"
    return ".".join(word for word in KINDS[kind].identify(row) if word)


def _shape(kind: str, row: Any, there: Catalog) -> str:
    """What an object is, of which only one side has it."""
    if kind == "table":
        names = [each.name for each in sorted(there.children("column", "table_key", row.key), key=lambda each: each.number)]
        more = f" and {len(names) - _COLUMNS_SHOWN} more" if len(names) > _COLUMNS_SHOWN else ""
        return f"columns {', '.join(names[:_COLUMNS_SHOWN])}{more}" if names else "no columns"
    if kind == "column":
        default = f" default {row.default}" if row.default is not None else ""
        return _short(f"{row.type}{' not null' if row.not_null else ''}{default}")
    if kind == "type" and row.typtype == "e":
        return _short(", ".join(row.labels))
    if kind == "policy":
        return _short(f"for {row.command} to {', '.join(row.roles)}" + (f" using {row.using}" if row.using else ""))
    if kind in ("constraint", "index", "trigger", "rule", "statistics"):
        return _short(row.definition)
    return ""


def _changed(difference: Difference) -> str:
    parts = []
    for field, (want, have) in difference.fields.items():
        word = field.replace("_", " ")
        if all(isinstance(side, str) and len(side) > _SHOWN for side in (want, have)):
            parts.append(f"{word}: another text")
        else:
            parts.append(f"{word}: {_value(have)} in the database, {_value(want)} by the migrations")
    return "; ".join(parts)


def _value(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _short(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 4] + " ..."
