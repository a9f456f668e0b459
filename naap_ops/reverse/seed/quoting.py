"""Names and strings as SQL, for statements that are too many and too composed to be built with psycopg's objects."""

from __future__ import annotations

from naap_ops.reverse.seed.facts import Name


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def qualified(name: Name) -> str:
    return f"{identifier(name[0])}.{identifier(name[1])}"


def literal(text: str | None) -> str:
    """A string, whatever standard_conforming_strings says."""
    if text is None:
        return "NULL"
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted
