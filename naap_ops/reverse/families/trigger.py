"""Triggers, and which of them are on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped or replaced, switch back on and off."""
    for change in step.of("trigger"):
        row = change.before or change.after
        if row.parent_key:
            yield from _clone(step, sql, change)
        elif change.created:
            if change.after.table_key not in step.created:
                yield drop(sql, change.after)
        elif change.dropped:
            yield from create(step, sql, change.before)
        else:
            yield from _altered(step, sql, change)


def _clone(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    """A partition's trigger comes, goes and is switched with its parent's; only where it was not as its parent it is switched
    alone."""
    was, now = change.before, change.after
    if was is None:
        return
    parent = step.before.get("trigger", was.parent_key)
    followed = parent is not None and parent.enabled == was.enabled
    after = step.after.get("trigger", was.parent_key)
    switched = now is None or (parent is not None and after is not None and parent.enabled != after.enabled)
    if (switched and not followed) or (not switched and "enabled" in change.fields):
        yield switch(sql, was, order=1)


def drop(sql: Sql, trigger: Any) -> Piece:
    """Drop a trigger."""
    return Piece(Rank.DROP_TRIGGER, -trigger.key, sql("trigger/drop", trigger=trigger), relation=sql.table(trigger))


def create(step: Step, sql: Sql, trigger: Any) -> Iterator[Piece]:
    """Make a trigger as it was, and as far on as it was."""
    table = sql.table(trigger)
    yield Piece(
        Rank.CREATE_TRIGGER, trigger.key, sql("trigger/create", trigger=trigger), lock="SHARE ROW EXCLUSIVE", relation=table
    )
    if trigger.enabled != "O":
        yield switch(sql, trigger)
    yield from _extensions(sql, trigger, [])
    yield from belongings(step, _phrase(sql, trigger), "", trigger, None)


def _extensions(sql: Sql, trigger: Any, have: list[str]) -> Iterator[Piece]:
    for name in sorted(set(trigger.extensions) ^ set(have)):
        text = sql("routine/extension", words=_phrase(sql, trigger), extension=name, on=name in trigger.extensions)
        yield Piece(Rank.CREATE_TRIGGER + 1, 2, text, lock="", relation=sql.table(trigger))


def _phrase(sql: Sql, trigger: Any) -> str:
    return f"TRIGGER {quoted(trigger.name)} ON {sql.table(trigger)}"


def switch(sql: Sql, trigger: Any, *, order: int = 0) -> Piece:
    """Switch a trigger on or off, as it was."""
    return Piece(
        Rank.CREATE_TRIGGER + 1,
        order,
        sql("trigger/enable", trigger=trigger),
        lock="SHARE ROW EXCLUSIVE",
        relation=sql.table(trigger),
    )


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    if "row_hash" in fields and was.definition != now.definition:
        yield drop(sql, now)
        yield from create(step, sql, was)
        return
    if "name" in fields:
        yield Piece(Rank.RENAME_PART, 0, sql("trigger/rename", trigger=was, now=now.name), relation=sql.table(was))
    if "enabled" in fields:
        yield switch(sql, was)
    yield from _extensions(sql, was, now.extensions)
    yield from belongings(step, _phrase(sql, was), "", was, now)


FAMILY = Family(
    "trigger",
    frozenset({"trigger"}),
    ("CREATE TRIGGER", "DROP TRIGGER", "ALTER TRIGGER", "ALTER TABLE ENABLE TRIGGER", "ALTER TABLE DISABLE TRIGGER"),
    reverse,
)
