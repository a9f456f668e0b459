"""Schemas. A schema with something in it that is not the migration's is never dropped: RESTRICT says so."""

from __future__ import annotations

from collections.abc import Iterator

from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, undo a rename."""
    for change in step.of("schema"):
        if change.created:
            yield Piece(Rank.DROP_SCHEMA, 0, sql("schema/drop", schema=change.after), lock="")
            continue
        was = change.before
        if change.dropped:
            yield Piece(Rank.CREATE_SCHEMA, 0, sql("schema/create", schema=was), lock="")
        elif "name" in change.fields:
            yield Piece(Rank.RENAME_SCHEMA, 0, sql("schema/rename", schema=change.after, to=was.name), lock="")
        yield from belongings(step, f"SCHEMA {quoted(was.name)}", "schema", was, change.after)


FAMILY = Family("schema", frozenset({"schema"}), ("CREATE SCHEMA", "DROP SCHEMA", "ALTER SCHEMA"), reverse)
