"""Columns that an ALTER TYPE computes anew: behind USING may stand any expression, so it can be an UPDATE in disguise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from postgast import pg_query_pb2 as grammar

from naap_ops.reverse.model import Step

_FAITHFUL: Final = ("text", "varchar")  # a value's text, and back: nothing is lost on this way


def computed(step: Step) -> Iterator[tuple[Any, Any]]:
    """(table, column) as they were before, of the columns whose new value is more than a cast of the old one."""
    statement = step.statement
    if not any(kind.endswith("ALTER COLUMN TYPE") for kind in statement.kinds):
        return
    node = statement.node
    where = (node.relation.schemaname or step.before.schema, node.relation.relname)
    table = next((row for row in step.before.rows["table"].values() if (row.schema, row.name) == where), None)
    if table is None:
        return
    columns = {row.name: row for row in step.before.children("column", "table_key", table.key)}
    for each in node.cmds:
        command = each.alter_table_cmd
        definition = getattr(command, "def").column_def
        if (
            command.subtype == grammar.AT_AlterColumnType
            and definition.HasField("raw_default")
            and command.name in columns
            and not _only_casts(definition.raw_default, command.name, outermost=True)
        ):
            yield table, columns[command.name]


def _only_casts(node: Any, name: str, *, outermost: bool) -> bool:
    if node.HasField("type_cast"):
        kind = node.type_cast.type_name
        faithful = kind.names[-1].string.sval in _FAITHFUL and not kind.typmods
        return (outermost or faithful) and _only_casts(node.type_cast.arg, name, outermost=False)
    if not node.HasField("column_ref"):
        return False
    fields = node.column_ref.fields
    return bool(fields and fields[-1].HasField("string") and fields[-1].string.sval == name)
