"""One module per family of statements; see :class:`naap_ops.reverse.model.Family` for what each must say."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from naap_ops.reverse.model import Family

NAMES = (
    "schema",
    "extension",
    "type",
    "domain",
    "sequence",
    "table",
    "column",
    "constraint",
    "index",
    "view",
    "routine",
    "trigger",
    "rule",
    "policy",
    "statistics",
    "publication",
    "event_trigger",
    "default_privileges",
    "other",
    "insert",
    "change_rows",
)


@cache
def families() -> tuple[Family, ...]:
    """All of them."""
    return tuple(import_module(f"{__name__}.{name}").FAMILY for name in NAMES)


@cache
def family_of(kind: str) -> str:
    """The family to which a statement of a (finer) kind belongs; '' for those that change nothing (SET, BEGIN)."""
    found = [(len(start), family.name) for family in families() for start in family.statements if kind.startswith(start)]
    return max(found)[1] if found else ""
