"""Rewrite rules."""

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
    for change in step.of("rule"):
        if change.created:
            if change.after.table_key not in step.created:
                yield drop(sql, change.after)
        elif change.dropped:
            yield from create(step, sql, change.before)
        else:
            yield from _altered(step, sql, change)


def drop(sql: Sql, rule: Any) -> Piece:
    """Drop a rule."""
    return Piece(Rank.DROP_RULE, -rule.key, sql("rule/drop", rule=rule), relation=sql.table(rule))


def create(step: Step, sql: Sql, rule: Any) -> Iterator[Piece]:
    """Make a rule as it was, and as far on as it was."""
    table = sql.table(rule)
    yield Piece(Rank.CREATE_RULE, rule.key, sql("rule/create", rule=rule), lock="SHARE ROW EXCLUSIVE", relation=table)
    if rule.enabled != "O":
        yield _enable(sql, rule)
    yield from belongings(step, _phrase(sql, rule), "", rule, None)


def _phrase(sql: Sql, rule: Any) -> str:
    return f"RULE {quoted(rule.name)} ON {sql.table(rule)}"


def _enable(sql: Sql, rule: Any) -> Piece:
    return Piece(Rank.CREATE_RULE + 1, 0, sql("rule/enable", rule=rule), lock="SHARE ROW EXCLUSIVE", relation=sql.table(rule))


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    if "rule_hash" in fields and was.definition != now.definition:
        yield drop(sql, now)
        yield from create(step, sql, was)
        return
    if "name" in fields:
        yield Piece(Rank.RENAME_PART, 0, sql("rule/rename", rule=was, now=now.name), relation=sql.table(was))
    if "enabled" in fields:
        yield _enable(sql, was)
    yield from belongings(step, _phrase(sql, was), "", was, now)


FAMILY = Family(
    "rule",
    frozenset({"rule"}),
    ("CREATE RULE", "DROP RULE", "ALTER RULE", "ALTER TABLE ENABLE RULE", "ALTER TABLE DISABLE RULE"),
    reverse,
)
