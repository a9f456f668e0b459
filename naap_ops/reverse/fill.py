"""What a column that must not be null gets when it is added again and its values are gone: a value that is plainly a
placeholder.

Only for types where one is harmless, and never where a wrong value would point at something (a foreign key). Values of a unique
column differ from row to row.
"""

from __future__ import annotations

from typing import Any, Final

from naap_ops.reverse.casts import base
from naap_ops.reverse.model import Step
from naap_ops.reverse.render import literal

_VALUES: Final = {
    "text": "''",
    "character varying": "''",
    "character": "''",
    "citext": "''",
    "boolean": "false",
    "smallint": "0",
    "integer": "0",
    "bigint": "0",
    "numeric": "0",
    "real": "0",
    "double precision": "0",
    "money": "0",
    "json": "'null'",
    "jsonb": "'null'",
    "uuid": "gen_random_uuid()",
    "bytea": "''",
    "date": "'epoch'",
    "timestamp without time zone": "'epoch'",
    "timestamp with time zone": "'epoch'",
    "time without time zone": "'00:00'",
    "time with time zone": "'00:00Z'",
    "interval": "'0'",
    "inet": "'0.0.0.0'",
    "cidr": "'0.0.0.0/32'",
    "xml": "''",
    "tsvector": "''",
    "bit varying": "''",
}
_DISTINCT: Final = {
    "text": "ctid::text",
    "character varying": "ctid::text",
    "citext": "ctid::text",
    "integer": "-{n}",
    "bigint": "-{n}",
    "numeric": "-{n}",
    "double precision": "-{n}",
    "uuid": "gen_random_uuid()",
}
_ROW_NUMBER: Final = "((ctid::text::point)[0] * 2048 + (ctid::text::point)[1])::integer"


def placeholder(step: Step, column: Any) -> str | None:
    """An SQL expression for ``UPDATE ... SET column =``, None where nothing harmless is known."""
    foreign, unique = False, False
    for row in step.before.children("constraint", "table_key", column.table_key):
        foreign = foreign or (row.type == "f" and column.name in row.columns)
        unique = unique or (row.type in ("p", "u") and column.name in row.columns)
    marked = f'"{column.name}"', f"({column.name}", f" {column.name}"
    for row in step.before.children("index", "table_key", column.table_key):
        unique = unique or (row.unique and any(mark in row.definition for mark in marked))
    if foreign:
        return None
    name = base(column)
    if unique:
        return distinct(column)
    if name.endswith("[]"):
        return "'{}'"
    enum = step.before.rows["type"].get(column.type_key)
    if enum is not None and enum.labels:
        return literal(enum.labels[0])
    return _VALUES.get(name)


def distinct(column: Any, *, of: str = "") -> str | None:
    """An SQL expression that is another value in each row, None where none is known. ``of``: alias and dot."""
    value = _DISTINCT.get(base(column))
    return value.format(n=_ROW_NUMBER).replace("ctid", f"{of}ctid") if value else None


def harmless(column: Any) -> str | None:
    """An SQL expression that is a value of the column's type, for a while; None where none is known."""
    return _VALUES.get(base(column))
