"""Values that the type of before does not hold: as an SQL condition, for a change of type that is undone.

What the server would cut without a word (a text by an explicit cast, the decimals of a number) counts as not held, as what it
refuses does. Of what is only less exact then (fractions of seconds, the time of day of what was a date, a float's last digits,
the spelling of a text) nobody has to choose, but it can be told, and kept: :func:`cut`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.casts import base
from naap_ops.reverse.render import literal, quoted

_SOFT: Final = 16  # from this major on, the server says whether a text is a value of a type
_RANGES: Final = {
    "smallint": (-32768, 32767),
    "integer": (-2147483648, 2147483647),
    "bigint": (-9223372036854775808, 9223372036854775807),
}
_FLOATS: Final = frozenset({"real", "double precision"})
_NUMBERS: Final = frozenset({*_RANGES, "numeric", *_FLOATS})
_TEXTS: Final = frozenset({"text", "character varying", "character", "citext"})
_TIMES: Final = frozenset({
    "date", "timestamp without time zone", "timestamp with time zone", "time without time zone", "time with time zone",
    "interval",
})  # fmt: skip
_LIMITED: Final = frozenset({"character varying", "character"})
_LIMITED_BY_ONE: Final = (_TIMES - {"interval"}) | _LIMITED  # by one number, the greater the more
_READ: Final = _NUMBERS | {
    "boolean", "uuid", "date", "timestamp without time zone", "timestamp with time zone", "time without time zone",
    "time with time zone", "interval", "inet", "cidr", "json", "jsonb",
}  # fmt: skip
_OF_USERS: Final = 16384  # oids from here on are not the server's own
_WHOLE: Final = r"^\s*[-+]?\d+\s*$"
_NAN: Final = r"^\s*nan\s*$"
_SPECIAL: Final = r"^\s*(nan|[+-]?inf(inity)?)\s*$"  # what a NUMERIC with a limit has not
_DECIMAL: Final = r"^\s*[-+]?(\d+\.?\d*|\.\d+)\s*$"
_SHAPES: Final = {
    "uuid": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    "boolean": r"^\s*([tT](rue)?|TRUE|[fF](alse)?|FALSE|[yY](es)?|[nN]o?|on|off|[01])\s*$",
    "date": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
    "timestamp without time zone": (
        r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])([ T]([01]\d|2[0-3])(:[0-5]\d){1,2}(\.\d+)?)?$"
    ),
}  # of 15, cautiously: what does not look like it is not taken for one


def unheld(was: Any, now: Any, first: Catalog, last: Catalog) -> str | None:
    """SQL, of a row ``r`` of the state ``last``, in which the column is ``now``: its value is none of ``was``'s type; None
    where all are, or that is not known. A null never is one."""
    value = f"r.{quoted(now.name)}"
    labels = _labels(was, now, first, last)
    if labels is not None:
        return f"{value}{_as(now)} {labels}" if labels else None
    if was.type_key >= _OF_USERS:
        return None
    old, new = base(was), base(now)
    if old in _LIMITED and was.modifier > 0:
        return _long(value, was, now, new)
    if new in _TEXTS and old in _READ:
        return _unread(f"{value}::pg_catalog.text", was, old, last.major)
    if old in _NUMBERS and new in _NUMBERS:
        return _number(f"{value}::pg_catalog.numeric", was, now)
    return None


def cut(was: Any, now: Any) -> str:
    """What follows a value of ``now`` on its way to ``was``'s type and back, as SQL; '' where it is the same afterwards for
    certain. Whether there are such casts is for the server to say."""
    old, new = base(was), base(now)
    users = any(row.type_key >= _OF_USERS and row.type_kind != "d" for row in (was, now))
    wider = old == new and old.removesuffix("[]") in _LIMITED_BY_ONE and (was.modifier < 0 or 0 <= now.modifier <= was.modifier)
    if users or wider or was.type == now.type or _exact(was, old, new):
        return ""
    return f"::{was.type}::{now.type}"


def _exact(was: Any, old: str, new: str) -> bool:
    """What is held of it is the same afterwards."""
    if {old, new} <= _NUMBERS:
        return not (old in _FLOATS or (new in _FLOATS and _digits(was) is None and old == "numeric"))
    return old == "character varying" and new in _TEXTS


def _long(value: str, was: Any, now: Any, new: str) -> str | None:
    if new.endswith("[]") or new in ("json", "jsonb") or (new in _LIMITED and 0 < now.modifier <= was.modifier):
        return None
    return f"pg_catalog.char_length({value}::pg_catalog.text) > {was.modifier - 4}"


def _number(value: str, was: Any, now: Any) -> str | None:
    old, new = base(was), base(now)
    if old in _RANGES:
        least, most = _RANGES[old]
        if new in _RANGES:
            return None if _RANGES[new][1] <= most else f"{value} NOT BETWEEN {least} AND {most}"
        return f"({value} NOT BETWEEN {least} AND {most} OR {value} <> pg_catalog.trunc({value}))"
    digits = _digits(was)
    if digits is None or (new == "numeric" and _holds(digits, _digits(now))):
        return None
    return f"({value} <> 'NaN' AND {_beyond(value, *digits)})"


def _digits(column: Any) -> tuple[int, int] | None:
    """Digits before and after the point of a NUMERIC that has a limit; None without one, and for one with a scale below 0."""
    if base(column) != "numeric" or column.modifier < 0:
        return None
    precision, scale = (column.modifier - 4) >> 16, (column.modifier - 4) & 0x7FF
    return (precision - scale, scale) if scale <= precision else None


def _holds(old: tuple[int, int], new: tuple[int, int] | None) -> bool:
    return new is not None and new[0] <= old[0] and new[1] <= old[1]


def _beyond(value: str, whole: int, decimals: int) -> str:
    rounded = f"pg_catalog.round({value}, {decimals})"
    return f"(pg_catalog.abs({rounded}) >= 1{'0' * whole} OR {value} <> {rounded})"


def _unread(text: str, was: Any, old: str, major: int) -> str | None:
    """A text that is not one of a value."""
    if major >= _SOFT:
        return f"NOT pg_catalog.pg_input_is_valid({text}, {literal(was.type)})"
    if old in _RANGES:
        least, most = _RANGES[old]
        return _if_shaped(text, _WHOLE, f"{text}::pg_catalog.numeric NOT BETWEEN {least} AND {most}")
    if old in _NUMBERS:
        digits = _digits(was)
        over = "false" if digits is None else f"{_beyond(f'{text}::pg_catalog.numeric', *digits)}"
        special = _SPECIAL if digits is None else _NAN
        return f"{_if_shaped(text, _DECIMAL, over)} AND {text} !~* {literal(special)}"
    return f"{text} !~ {literal(_SHAPES[old])}" if old in _SHAPES else None


def _if_shaped(text: str, shape: str, otherwise: str) -> str:
    return f"{text} IS NOT NULL AND CASE WHEN {text} ~ {literal(shape)} THEN {otherwise} ELSE true END"


# --- enums ------------------------------------------------------------------------------------------------------------


def _labels(was: Any, now: Any, first: Catalog, last: Catalog) -> str | None:
    """What follows the value as text: it is a label that the enum of before does not have. '' where all of them fit; None where
    it was no enum, or neither an enum nor a text is in its place."""
    old, new = enum_of(was, first), enum_of(now, last)
    if old is None:
        return None
    several = was.type.endswith("[]")
    if several != now.type.endswith("[]"):
        return ""
    if new is not None:
        known = set(old.label_keys) if old.key == new.key else set()
        lacking = [
            label
            for key, label in zip(new.label_keys, new.labels, strict=True)
            if key not in known and (old.key == new.key or label not in old.labels)
        ]
        if not lacking:
            return ""
        listed = ", ".join(map(literal, lacking))
        return f"&& ARRAY[{listed}]" if several else f"IN ({listed})"
    if base(now).removesuffix("[]") in _TEXTS and old.labels:
        listed = ", ".join(map(literal, old.labels))
        return f"<@ ARRAY[{listed}] IS FALSE" if several else f"NOT IN ({listed})"
    return ""


def enum_of(column: Any, catalog: Catalog) -> Any:
    """The enum that a column's type is, or of which it is an array; None where it is none."""
    row = catalog.rows["type"].get(column.type_key)
    if row is None and column.type.endswith("[]"):
        name = re.sub(r"\[\]$", "", column.type)
        row = next((each for each in catalog.rows["type"].values() if name in _spellings(each, catalog)), None)
    return row if row is not None and row.typtype == "e" else None


def _spellings(row: Any, catalog: Catalog) -> set[str]:
    plain = {row.name, quoted(row.name)}
    outside = {f"{schema}.{name}" for schema in (row.schema, quoted(row.schema)) for name in plain}
    return outside | plain if row.schema == catalog.schema else outside


def _as(now: Any) -> str:
    return "::pg_catalog.text[]" if now.type.endswith("[]") else "::pg_catalog.text"
