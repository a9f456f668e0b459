"""Values for every type, in the type's text form: different in every row, and with what breaks careless copies in them.

Quotes, backslashes, unicode, microseconds, numbers beyond a double's precision, empty strings, duplicate JSON keys: a reverse
that takes data through the wrong type shows. Numbers stay small enough for arithmetic that a migration may do with them.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from enum import Enum

from naap_ops.reverse.seed.facts import Type

_HEADER = 4  # what a type modifier of varchar and numeric counts too much
_SCALE_BITS, _SCALE_SIGN = 0x7FF, 1024
_BIGGER_THAN_DOUBLE = 2**53 + 1
_DIGITS = string.digits + string.ascii_lowercase
_VECTOR = 3


class Text(Enum):
    """What strings are made of, by row, after their number."""

    UNICODE = ("{n} ü'q\"d\\e%s", "{n} a\n\tb $1 {{}}", "{n} \N{GRINNING FACE} é; --")
    ASCII = ("{n} 'q\"d\\e%s", "{n} a\n\tb $1 {{}}", "{n} ; --")
    DIGITS = ("{n}",)


_OBJECTS = ('{{"n": {n}, "a": [1.50, null, true], "q": "\\"\'\\\\"}}', '{{"n": {n}, "b": {{"c": "d"}}}}', '{{"n": {n}}}')
_STAMPS = ("2024-02-29 23:59:59.123456", "1999-12-31 00:00:00.000001", "2038-01-19 03:14:08.5")
_FLOATS = ("0.30000000000000004", "-0", "1.5", "NaN", "-Infinity")
_SINGLES = ("0.25", "-0", "1.5", "NaN", "-Infinity")


def value(types: Mapping[int, Type], oid: int, modifier: int, n: int, row: int, *, text: Text = Text.UNICODE) -> str | None:
    """A value of type ``oid`` in its text form for row ``row`` (from 0); None for a type we know nothing of.

    ``n``: a number of one's own for every row and column, that ends up in the value where there is room for it.
    """
    known = types.get(oid)
    if known is None:
        return None

    def part(oid: int, modifier: int, row: int) -> str | None:
        return value(types, oid, modifier, n, row, text=text)

    if known.kind == "d":
        return part(known.base, known.modifier if known.modifier != -1 else modifier, row)
    if known.kind == "e":
        return str(known.parts[row % len(known.parts)]) if known.parts else None
    if known.kind == "c":
        return _composite([part(oid, modifier, row) for oid, modifier in known.parts])
    if known.kind == "r":
        bound = part(known.parts[0], -1, row)
        return None if bound is None else f"[{_quoted(bound)},{_quoted(bound)}]"
    if known.kind == "m":
        inner = part(known.parts[0], -1, row)
        return None if inner is None else "{" + inner + "}"
    if known.category == "A" and known.element:
        return _array(known.delimiter, [part(known.element, modifier, row + each) for each in range(2 - row % 3)])
    return _scalar(known.name, modifier, n, row, text)


def widths(types: Mapping[int, Type], oid: int, modifier: int) -> int | None:
    """The most characters a value of a string type can have, None without a limit."""
    known = types.get(oid)
    while known is not None and known.kind == "d":
        modifier = known.modifier if known.modifier != -1 else modifier
        known = types.get(known.base)
    return modifier - _HEADER if known is not None and known.name in {"varchar", "bpchar"} and modifier >= _HEADER else None


def _scalar(name: str, modifier: int, n: int, row: int, made_of: Text) -> str | None:
    if name in {"text", "varchar", "bpchar", "citext"}:
        return _string(modifier - _HEADER if modifier >= _HEADER else None, n, row, made_of)
    if name == "numeric":
        return _numeric(modifier, n, row)
    if name in {"bit", "varbit"}:
        width = modifier if modifier > 0 else 1 if name == "bit" else 8
        return format(n % 2**width if width > 2 else (row + 1) % 2**width, f"0{width}b")
    if name in {"vector", "halfvec"}:
        return "[" + ",".join(str(n + each) for each in range(modifier if modifier > 0 else _VECTOR)) + "]"
    maker = _MAKERS.get(name)
    return maker(n, row) if maker is not None else None


def _string(width: int | None, n: int, row: int, made_of: Text) -> str:
    text = str(made_of.value[row % len(made_of.value)]).format(n=n)
    if width is None or len(text) <= width:
        return text
    if width >= len(str(n)) + 1:
        return text[:width].rstrip() or str(n)
    return _DIGITS[row % len(_DIGITS)] if width == 1 else f"{row:0{width}d}"[-width:]


def _numeric(modifier: int, n: int, row: int) -> str:
    if modifier < _HEADER:
        return ("{n}.123456789012345678901", "-{n}.50", "{n}")[row % 3].format(n=n)
    precision = (modifier - _HEADER) >> 16
    scale = ((modifier - _HEADER) & _SCALE_BITS ^ _SCALE_SIGN) - _SCALE_SIGN
    whole = max(precision - max(scale, 0), 0)
    left = str(n if n < 10**whole else (row + 1) % 10**whole if whole else 0)
    if scale <= 0:
        return left
    # The last digit tells the rows apart where there is no room before the point.
    return f"{left}.{str(row + 1).rjust(min(scale, precision), '0')[-scale:].rjust(scale, '0')}"


def _composite(parts: list[str | None]) -> str:
    return "(" + ",".join("" if part is None else _quoted(part) for part in parts) + ")"


def _array(delimiter: str, parts: list[str | None]) -> str | None:
    if any(part is None for part in parts):
        return None
    return "{" + delimiter.join(_quoted(part) for part in parts if part is not None) + "}"


def _quoted(text: str) -> str:
    """An element of an array, a field of a composite, a bound of a range."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _stamp(n: int, row: int) -> str:
    return _STAMPS[row] if row < len(_STAMPS) else f"2001-01-01 00:00:{row % 60:02d}.{n % 10**6:06d}"


def _json(n: int, row: int) -> str:
    return _OBJECTS[row % len(_OBJECTS)].format(n=n)


_MAKERS: dict[str, Callable[[int, int], str]] = {
    "int2": lambda n, _: str(n % 2**15),
    "int4": lambda n, _: str(n),
    "int8": lambda n, row: str(_BIGGER_THAN_DOUBLE + n if row == 1 else n),
    "float4": lambda n, row: _SINGLES[row] if row < len(_SINGLES) else f"{n}.5",
    "float8": lambda n, row: _FLOATS[row] if row < len(_FLOATS) else f"{n}.5",
    "money": lambda n, row: f"{n}.{row % 100:02d}",
    "bool": lambda _, row: "ft"[(row + 1) % 2],
    "uuid": lambda n, row: f"{n:08x}-5eed-4000-8000-{row:012x}",
    "timestamp": _stamp,
    "timestamptz": lambda n, row: _stamp(n, row) + "+00",
    "date": lambda n, row: _stamp(n, row)[:8] + f"{row % 28 + 1:02d}",
    "time": lambda n, row: f"{row % 24:02d}:59:59.{n % 10**6:06d}",
    "timetz": lambda n, row: f"{row % 24:02d}:59:59.{n % 10**6:06d}+05:30",
    "interval": lambda n, row: f"{row} mons {n} days 03:04:05.678901",
    "json": lambda n, row: _json(n, row).replace('"n": ', '"n": 0,  "n":  '),
    "jsonb": _json,
    "jsonpath": lambda n, _: f"$.a[{n}]",
    "bytea": lambda n, row: f"\\x00ff{n % 2**32:08x}{row % 256:02x}",
    "xml": lambda n, _: f"<a n=\"{n}\">b &amp; 'c'</a>",
    "inet": lambda n, row: f"10.0.{n // 256 % 256}.{n % 256}" if row % 2 == 0 else f"2001:db8::{n % 2**16:x}/64",
    "cidr": lambda n, _: f"10.{n // 256 % 256}.{n % 256}.0/24",
    "macaddr": lambda n, row: f"08:00:2b:{n // 256 % 256:02x}:{n % 256:02x}:{row % 256:02x}",
    "macaddr8": lambda n, row: f"08:00:2b:01:02:{n // 256 % 256:02x}:{n % 256:02x}:{row % 256:02x}",
    "tsvector": lambda n, row: f"'a{n}':1 'b':{row + 2}A",
    "tsquery": lambda n, _: f"'a{n}' & !'b'",
    "oid": lambda n, _: str(n),
    "xid": lambda n, _: str(n),
    "xid8": lambda n, _: str(n),
    "cid": lambda n, _: str(n),
    "tid": lambda n, row: f"({n},{row + 1})",
    "pg_lsn": lambda n, row: f"{row:X}/{n:X}",
    "name": lambda n, _: f"name {n}",
    "char": lambda _, row: _DIGITS[row % len(_DIGITS)],
    "regclass": lambda _, row: ("pg_class", "pg_type", "pg_attribute")[row % 3],
    "regtype": lambda _, row: ("int4", "text", "bool")[row % 3],
    "point": lambda n, row: f"({n},{row})",
    "line": lambda n, row: f"{{1,{n},{row}}}",
    "lseg": lambda n, row: f"[({n},{row}),(0,0)]",
    "box": lambda n, row: f"({n},{row + 1}),(0,0)",
    "path": lambda n, row: f"[({n},{row}),(0,0)]",
    "polygon": lambda n, row: f"(({n},{row}),(0,0),(1,1))",
    "circle": lambda n, row: f"<({n},{row}),1>",
    "hstore": lambda n, _: f'"n"=>"{n}", "a b"=>NULL',
    "ltree": lambda n, _: f"a.b{n}",
    "geometry": lambda n, row: f"POINT({n} {row})",
    "geography": lambda n, row: f"POINT({n % 180} {row % 90})",
}
