"""How numbers are told to people: one table, two tables."""

from __future__ import annotations


def count_of(number: int, noun: str) -> str:
    """``1 table``, ``0 tables``, ``1,234 tables``. ``noun`` in the singular, of which an ``s`` makes more."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
