"""Functions, procedures, aggregates: from the server's own definition, never from the text of an older migration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql


def _words(sql: Sql, routine: Any, *, schema: str | None = None) -> str:
    kind = {"p": "PROCEDURE", "a": "AGGREGATE"}.get(routine.prokind, "FUNCTION")
    arguments = routine.arguments or ("*" if routine.prokind == "a" else "")
    return f"{kind} {sql.qualified(schema or routine.schema, routine.name)}({arguments})"


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, replace what was replaced."""
    for change in step.of("routine"):
        if change.created:
            yield drop(sql, change.after)
        elif change.dropped:
            yield from create(step, sql, change.before)
        else:
            yield from _altered(step, sql, change)


def drop(sql: Sql, routine: Any) -> Piece:
    """Drop a routine by its identity arguments."""
    return Piece(Rank.DROP_ROUTINE, -routine.key, sql("routine/drop", words=_words(sql, routine)), lock="")


def create(step: Step, sql: Sql, routine: Any) -> Iterator[Piece]:
    """Make a routine as it was."""
    late = any(row.name in routine.definition for key in step.dropped if (row := step.before.get("table", key)) is not None)
    rank = Rank.CREATE_LATE_ROUTINE if late else Rank.CREATE_ROUTINE
    yield Piece(rank, routine.key, sql("routine/create", definition=unqualified(sql, routine)), lock="")
    yield from _extensions(sql, routine, [])
    yield from belongings(step, _words(sql, routine), "routine", routine, None)


def unqualified(sql: Sql, routine: Any) -> str:
    """The definition without the schema that unqualified names mean: the server always writes it."""
    kind = {"p": "PROCEDURE", "a": "AGGREGATE"}.get(routine.prokind, "FUNCTION")
    return sql.unqualified(routine.definition, f"CREATE OR REPLACE {kind} ", routine).rstrip()


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    if "body_hash" in fields and was.signature != now.signature:
        # names and defaults of arguments cannot be taken away in place
        yield drop(sql, now)
        yield from create(step, sql, was)
        return
    if "schema" in fields:
        yield Piece(Rank.RENAME, 0, sql("routine/move", words=_words(sql, now), to=was.schema), lock="")
    if "name" in fields:
        yield Piece(Rank.RENAME, 1, sql("routine/rename", words=_words(sql, now, schema=was.schema), to=was.name), lock="")
    if "body_hash" in fields and was.definition != now.definition:
        yield Piece(Rank.CREATE_ROUTINE, was.key, sql("routine/create", definition=unqualified(sql, was)), lock="")
    yield from _extensions(sql, was, now.extensions)
    yield from belongings(step, _words(sql, was), "routine", was, now)


def _extensions(sql: Sql, routine: Any, have: list[str]) -> Iterator[Piece]:
    for name in sorted(set(routine.extensions) ^ set(have)):
        text = sql("routine/extension", words=_words(sql, routine), extension=name, on=name in routine.extensions)
        yield Piece(Rank.ALTER_TABLE, 0, text, lock="")


FAMILY = Family(
    "routine",
    frozenset({"routine"}),
    (
        "CREATE FUNCTION",
        "DROP FUNCTION",
        "ALTER FUNCTION",
        "CREATE PROCEDURE",
        "DROP PROCEDURE",
        "ALTER PROCEDURE",
        "CREATE AGGREGATE",
        "DROP AGGREGATE",
        "ALTER AGGREGATE",
        "DROP ROUTINE",
        "ALTER ROUTINE",
    ),
    reverse,
)
