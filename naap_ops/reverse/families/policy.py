"""Row security policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped or changed."""
    for change in step.of("policy"):
        was, now = change.before, change.after
        if change.created:
            if now.table_key not in step.created:
                yield drop(sql, now)
        elif change.dropped:
            yield from create(step, sql, was)
        elif change.fields <= {"name", "comment"}:
            if "name" in change.fields:
                yield Piece(Rank.RENAME_PART, 0, sql("policy/rename", policy=was, now=now.name), relation=sql.table(was))
            yield from belongings(step, _phrase(sql, was), "", was, now)
        elif change.kind.shown(was) != change.kind.shown(now):
            yield drop(sql, now)
            yield from create(step, sql, was)


def drop(sql: Sql, policy: Any) -> Piece:
    """Drop a policy."""
    return Piece(Rank.DROP_POLICY, -policy.key, sql("policy/drop", policy=policy), relation=sql.table(policy))


def create(step: Step, sql: Sql, policy: Any) -> Iterator[Piece]:
    """Make a policy as it was."""
    yield Piece(Rank.CREATE_POLICY, policy.key, sql("policy/create", policy=policy), relation=sql.table(policy))
    yield from belongings(step, _phrase(sql, policy), "", policy, None)


def _phrase(sql: Sql, policy: Any) -> str:
    return f"POLICY {quoted(policy.name)} ON {sql.table(policy)}"


FAMILY = Family("policy", frozenset({"policy"}), ("CREATE POLICY", "DROP POLICY", "ALTER POLICY"), reverse)
