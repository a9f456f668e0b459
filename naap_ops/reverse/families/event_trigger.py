"""Event triggers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """What was made goes first, before it can veto anything; what was dropped comes last."""
    for change in step.of("event_trigger"):
        was, now = change.before, change.after
        if change.created:
            yield Piece(Rank.DROP_EVENT_TRIGGER, 0, sql("event_trigger/drop", trigger=now), lock="")
            continue
        if change.dropped:
            yield Piece(Rank.CREATE_EVENT_TRIGGER, 0, sql("event_trigger/create", trigger=was), lock="")
        elif "name" in change.fields:
            yield Piece(Rank.RENAME_PART, 0, sql("event_trigger/rename", trigger=was, now=now.name), lock="")
        if was.enabled != (now.enabled if now is not None else "O"):
            yield Piece(Rank.CREATE_EVENT_TRIGGER, 1, sql("event_trigger/enable", trigger=was), lock="")
        for piece in belongings(step, f"EVENT TRIGGER {quoted(was.name)}", "", was, now):
            yield replace(piece, rank=Rank.CREATE_EVENT_TRIGGER, order=2)


FAMILY = Family(
    "event_trigger",
    frozenset({"event_trigger"}),
    ("CREATE EVENT TRIGGER", "DROP EVENT TRIGGER", "ALTER EVENT TRIGGER"),
    reverse,
)
