"""Extended statistics objects. Their numbers come with the next ANALYZE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, put back name, schema and target."""
    for change in step.of("statistics"):
        was, now = change.before, change.after
        if change.created:
            if now.table_key not in step.created:
                yield drop(sql, now)
        elif change.dropped:
            yield from create(step, sql, was)
        else:
            if "schema" in change.fields:
                yield Piece(
                    Rank.RENAME_PART, 0, sql("statistics/move", statistics=now, to=was.schema), lock="SHARE UPDATE EXCLUSIVE"
                )
            if "name" in change.fields:
                text = sql("statistics/rename", schema=was.schema, statistics=now, to=was.name)
                yield Piece(Rank.RENAME_PART, 1, text, lock="SHARE UPDATE EXCLUSIVE")
            if "target" in change.fields:
                yield _target(sql, was)
            yield from belongings(step, f"STATISTICS {sql.name(was)}", "", was, now)


def drop(sql: Sql, statistics: Any) -> Piece:
    """Drop a statistics object."""
    return Piece(
        Rank.DROP_STATISTICS, -statistics.key, sql("statistics/drop", statistics=statistics), lock="SHARE UPDATE EXCLUSIVE"
    )


def create(step: Step, sql: Sql, statistics: Any) -> Iterator[Piece]:
    """Make a statistics object as it was."""
    text = sql("statistics/create", definition=sql.unqualified(statistics.definition, "CREATE STATISTICS ", statistics))
    yield Piece(Rank.CREATE_STATISTICS, statistics.key, text, lock="SHARE UPDATE EXCLUSIVE")
    if statistics.target is not None:
        yield _target(sql, statistics)
    yield from belongings(step, f"STATISTICS {sql.name(statistics)}", "", statistics, None)


def _target(sql: Sql, statistics: Any) -> Piece:
    return Piece(Rank.CREATE_STATISTICS + 1, 0, sql("statistics/target", statistics=statistics), lock="SHARE UPDATE EXCLUSIVE")


FAMILY = Family("statistics", frozenset({"statistics"}), ("CREATE STATISTICS", "DROP STATISTICS", "ALTER STATISTICS"), reverse)
