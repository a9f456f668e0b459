"""Sequences: serial columns' own, and free ones. Those of identity columns come and go with the column.

Where a sequence stands is data. One that is made again continues after the greatest value of its column, never below it; a
free one starts anew, which is a loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Loss, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql

_SHAPE = frozenset({"type", "start", "increment", "minimum", "maximum", "cache", "cycle"})


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, put back options and ownership."""
    for change in step.of("sequence"):
        if change.created:
            yield from _created(step, sql, change)
        elif change.dropped:
            yield from _dropped(step, sql, change)
        else:
            yield from _altered(step, sql, change)


def _created(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    now = change.after
    if now.of_identity or now.column_key in step.created_columns:
        return
    yield Piece(Rank.DROP_SEQUENCE, -now.key, sql("sequence/drop", sequence=now))


def _dropped(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was = change.before
    if was.of_identity:
        return
    yield Piece(Rank.CREATE_SEQUENCE, was.key, sql("sequence/create", sequence=was))
    if was.owned_by:
        yield Piece(Rank.OWN_SEQUENCE, was.key, sql("sequence/own", sequence=was))
        yield from carry_on(step, sql, was)
    yield from belongings(step, f"SEQUENCE {sql.name(was)}", "sequence", was, None)


def carry_on(step: Step, sql: Sql, sequence: Any) -> Iterator[Piece]:
    """Have a sequence continue after the greatest value of its column, where that holds integers (yet)."""
    column = step.before.get("column", sequence.column_key)
    if column is not None and column.type in ("smallint", "integer", "bigint", "numeric"):
        yield Piece(Rank.STATE, sequence.key, sql("sequence/continue", sequence=sequence), lock="")


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now = change.before, change.after
    if now.column_key in step.created_columns and was.column_key is None and "schema" not in change.fields:
        # it would go with the column that owns it now
        yield Piece(Rank.UNLINK_DEFAULT, 0, sql("sequence/disown", sequence=now))
    if "schema" in change.fields and not _moves_along(step, was):
        yield Piece(Rank.RENAME, 0, sql("sequence/move", sequence=now, to=was.schema))
    if "name" in change.fields:
        yield Piece(Rank.RENAME, 1, sql("sequence/rename", schema=was.schema, sequence=now, to=was.name))
    if "persistence" in change.fields and not was.owned_by:
        yield Piece(Rank.ALTER_SEQUENCE, 1, sql("sequence/persistence", sequence=was))
    if change.fields & _SHAPE:
        yield Piece(Rank.ALTER_SEQUENCE, 0, sql("sequence/alter", sequence=was, now=now))
    if "column_key" in change.fields and not was.of_identity:
        rank = Rank.OWN_SEQUENCE if was.owned_by else Rank.UNLINK_DEFAULT
        template = "sequence/own" if was.owned_by else "sequence/disown"
        if now.column_key not in step.created_columns or was.owned_by:
            yield Piece(rank, 1, sql(template, sequence=was))
    if was.owned_by and now.owned_by:
        was = was._replace(owner=now.owner)  # its table's owner is its own
    yield from belongings(step, f"SEQUENCE {sql.name(was)}", "sequence", was, now)


def _moves_along(step: Step, was: object) -> bool:
    key = getattr(was, "column_key", None)
    table = step.before.get("column", key)
    return table is not None and any(
        c.before.key == table.table_key for c in step.of("table") if c.before and c.after and "schema" in c.fields
    )


def losses(step: Step, sql: Sql) -> Iterator[Loss]:
    """Positions of sequences that went."""
    for change in step.of("sequence"):
        if change.dropped and not change.before.owned_by:
            yield Loss("state", f"sequence {sql.name(change.before)} starts anew: where it stood is not known")
    if step.statement.tag in ("ALTER SEQUENCE", "ALTER TABLE") and 'defname: "restart"' in str(step.statement.node):
        yield Loss("state", "a sequence was restarted: where it stood is not known, and it goes on from where it is")


FAMILY = Family(
    "sequence", frozenset({"sequence"}), ("CREATE SEQUENCE", "ALTER SEQUENCE", "DROP SEQUENCE"), reverse, losses=losses
)
