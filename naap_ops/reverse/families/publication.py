"""Publications and what they publish."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, put back members and options."""
    for change in step.of("publication"):
        was, now = change.before, change.after
        if change.created:
            yield Piece(Rank.DROP_PUBLICATION, 0, sql("publication/drop", publication=now), lock="")
            continue
        if change.dropped:
            yield Piece(Rank.CREATE_PUBLICATION, 0, sql("publication/create", publication=was), lock="")
        else:
            if "name" in change.fields:
                yield Piece(Rank.RENAME_PART, 0, sql("publication/rename", publication=was, now=now.name), lock="")
            if change.fields & {"operations", "via_root", "generated"}:
                yield Piece(Rank.CREATE_PUBLICATION, 0, sql("publication/options", publication=was), lock="")
            yield from _members(step, sql, was, now)
        yield from belongings(step, f"PUBLICATION {quoted(was.name)}", "", was, now)


def _members(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    """What was taken in goes, unless it is dropped anyway; what was taken out comes back."""
    for bare, key, mark in zip(now.bare, now.member_keys, now.member_hashes, strict=True):
        if mark not in was.member_hashes and key not in step.created:
            text = sql("publication/member", publication=now, verb="DROP", member=bare)
            yield Piece(Rank.DROP_PUBLICATION, 0, text, lock="")
    for member, mark in zip(was.members, was.member_hashes, strict=True):
        if mark not in now.member_hashes:
            text = sql("publication/member", publication=was, verb="ADD", member=member)
            yield Piece(Rank.CREATE_PUBLICATION, 1, text, lock="")


FAMILY = Family(
    "publication", frozenset({"publication"}), ("CREATE PUBLICATION", "DROP PUBLICATION", "ALTER PUBLICATION"), reverse
)
