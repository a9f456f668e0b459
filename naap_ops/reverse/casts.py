"""The way back of a change of type: the USING expression, and whether a value can be other than it was.

Nothing is claimed that is not proved: the lossless pairs are listed; every other one is a loss that the report names.
"""

from __future__ import annotations

import re
from typing import Any, Final

from naap_ops.reverse.model import Step
from naap_ops.reverse.render import quoted

_INTEGERS: Final = ("smallint", "integer", "bigint")
_TEXTS: Final = ("text", "character varying")
# (old, new): a value of old that becomes new and then old again is what it was, for every value.
_LOSSLESS: Final = frozenset(
    {
        *((a, b) for i, a in enumerate(_INTEGERS) for b in (*_INTEGERS[i + 1 :], "numeric", *_TEXTS)),
        ("smallint", "double precision"),
        ("integer", "double precision"),
        ("smallint", "real"),
        ("real", "double precision"),
        ("date", "text"),
        ("uuid", "text"),
        ("boolean", "text"),
        ("json", "text"),
        ("json", "character varying"),
        ("uuid", "character varying"),
        ("boolean", "character varying"),
        ("text", "character varying"),
        ("character varying", "text"),
        ("jsonb", "text"),
        ("jsonb", "json"),
        ("date", "timestamp without time zone"),
        ("numeric", "text"),
        ("inet", "text"),
        ("bigint", "numeric"),
        ("timestamp without time zone", "text"),
        ("boolean", "integer"),
        ("citext", "text"),
        ("text", "citext"),
    }
)

_MADE_JSON: Final = re.compile(r"to_json|json_build|json_agg|row_to_json", re.IGNORECASE)
_ARRAY_OF: Final = re.compile(r"\barray\s*\[", re.IGNORECASE)


def base(column: Any) -> str:
    """The type without its modifiers: ``character varying(3)`` is ``character varying``."""
    head, _, tail = column.type.partition("(")
    rest = tail.partition(")")[2]
    return str((head.rstrip() + rest).strip())


def using(step: Step, was: Any, now: Any) -> str:
    """What to put behind USING to get from ``now``'s type back to ``was``'s; '' when the server's own assignment cast does
    it."""
    old, new = base(was), base(now)
    column = quoted(was.name)
    if old == new:
        return f"{column}::{was.type}" if was.modifier != now.modifier else ""
    if old.endswith("[]") and not new.endswith("[]"):
        return _to_array(column, was, new)
    if new.endswith("[]") and not old.endswith("[]"):
        if old in _TEXTS and not _ARRAY_OF.search(step.statement.sql):
            return f"{column}::{was.type}"  # it was read as an array's text
        return f"({column})[1]::{was.type}"
    if new in ("json", "jsonb"):
        if old in _TEXTS and not _MADE_JSON.search(step.statement.sql):
            return f"{column}::text::{was.type}"  # it was read as the text of JSON
        return f"({column} #>> '{{}}')::{was.type}" if old not in ("json", "jsonb") else f"{column}::{was.type}"
    if old in ("json", "jsonb"):
        return f"to_{old}({column})" if new not in _TEXTS else f"{column}::{was.type}"
    if _moment(new) and old in (*_INTEGERS, "numeric", "double precision", "real"):
        return f"extract(epoch from {column})::{was.type}"
    if _moment(old) and new in (*_INTEGERS, "numeric", "double precision", "real"):
        return f"to_timestamp({column})::{was.type}"
    if new == "boolean" and old in (*_INTEGERS, "numeric", "double precision", "real"):
        return f"{column}::integer::{was.type}"
    if old == "boolean" and new in (*_INTEGERS, "numeric", "double precision", "real"):
        return f"{column} <> 0"
    if was.type_kind in ("e", "d") or now.type_kind in ("e", "d") or {old, new} & {"bytea"}:
        return f"{column}::text::{was.type}"
    return f"{column}::{was.type}" if _castable(old, new) else f"{column}::text::{was.type}"


def _to_array(column: str, was: Any, new: str) -> str:
    element = was.type.removesuffix("[]")
    if new in ("json", "jsonb"):
        # a subquery is not allowed here, and the server has no cast from json to an array
        return f"string_to_array(trim(both '[]' from {column}::text), ', ')::{was.type}"
    if new in _TEXTS:
        return f"case when {column} like '{{%' then {column}::{was.type} else array[{column}]::{was.type} end"
    return f"array[{column}]::{element}[]"


def _moment(name: str) -> bool:
    return name.startswith(("timestamp", "date"))


def _castable(old: str, new: str) -> bool:
    families = (
        {"smallint", "integer", "bigint", "numeric", "real", "double precision", "money"},
        {"text", "character varying", "character", "citext", "name"},
        {"timestamp without time zone", "timestamp with time zone", "date", "time without time zone", "time with time zone"},
    )
    return any(old in family and new in family for family in families) or old in _TEXTS or new in _TEXTS


def loss(step: Step, was: Any, now: Any) -> str:
    """Why a value may not be what it was, '' when it is for certain."""
    old, new = base(was), base(now)
    if old == new:
        return (
            "" if _widened(was, now) else f"values of {was.type} that did not fit {now.type} were changed or cut, and stay so"
        )
    if (old, new) in _LOSSLESS and _unlimited(now):
        return ""
    if was.type_kind == "e" and now.type_kind == "e":
        return _labels(step, was, now)
    if was.type_kind == "e" and new in _TEXTS:
        return ""
    return f"{was.type} became {now.type}: a value need not survive the way there and back"


def _labels(step: Step, was: Any, now: Any) -> str:
    old, new = _enum(step.before, was), _enum(step.after, now)
    gone = [label for label in old if label not in new]
    return f"rows with {', '.join(gone)} were changed before the enum lost these labels, and stay so" if gone else ""


def _enum(catalog: Any, column: Any) -> list[str]:
    row = catalog.rows["type"].get(column.type_key)
    return list(row.labels) if row is not None else []


def _unlimited(column: Any) -> bool:
    return bool(column.modifier == -1)


def _widened(was: Any, now: Any) -> bool:
    if now.modifier == -1:
        return True
    if was.modifier == -1:
        return False
    if base(was) == "numeric":
        old, new = was.modifier - 4, now.modifier - 4
        old_scale, new_scale = old & 0x7FF, new & 0x7FF
        return bool(new_scale >= old_scale and (new >> 16) - new_scale >= (old >> 16) - old_scale)
    return bool(now.modifier >= was.modifier)
