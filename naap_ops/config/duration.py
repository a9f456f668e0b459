"""Spans of time as operators write them: ``30s``, ``5min``, ``48h``, ``1h30min``, or plain seconds.

pydantic reads ISO 8601 (``PT48H``) and ``hh:mm:ss`` but none of these. The units are PostgreSQL's, plus weeks; a lone ``m`` is
refused because it is minutes to some tools and months to others (restic).
"""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "sec": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PIECE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)
_LARGEST_FIRST = ("d", "h", "min", "s", "ms")


def parse(value: object) -> timedelta:
    """The span ``value`` says; a number is seconds. Raises ValueError."""
    if isinstance(value, timedelta):
        if value < timedelta():
            raise ValueError("a duration cannot be negative")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("a duration is a text such as '30s', '5min' or '48h', or a number of seconds")
    text = str(value).strip()
    pieces = list(_PIECE.finditer(text))
    if not pieces or "".join(piece[0] for piece in pieces) != text:
        raise ValueError(f"{text!r} is not a duration: write '30s', '5min' or '48h', or a number of seconds")
    if len(pieces) > 1 and not all(piece[2] for piece in pieces):
        raise ValueError(f"{text!r} is not a duration: every number needs its unit")
    try:
        return sum((float(piece[1]) * _unit(piece[2]) for piece in pieces), timedelta())
    except OverflowError:
        raise ValueError(f"{text!r} is too long a duration") from None


def _unit(name: str) -> timedelta:
    if name == "m":
        raise ValueError("'m' could be minutes or months: write 'min'")
    try:
        return _UNITS[name or "s"]
    except KeyError:
        raise ValueError(f"unknown unit {name!r}: there are {', '.join(_UNITS)}") from None


def text(span: timedelta) -> str:
    """``span`` in the largest unit that leaves a whole number, up to two days in hours; the inverse of :func:`parse`."""
    for name in _LARGEST_FIRST:
        whole = span and span % _UNITS[name] == timedelta()
        if whole and (name != "d" or span > timedelta(days=2)):
            return f"{span // _UNITS[name]}{name}"
    return f"{span.total_seconds():g}s"
