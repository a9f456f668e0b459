"""Domains and their constraints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, put back default, NOT NULL and constraints."""
    for change in step.of("domain"):
        if change.created:
            yield Piece(Rank.DROP_TYPE, -change.after.key, sql("domain/drop", domain=change.after), lock="")
            continue
        was = change.before
        if change.dropped:
            yield Piece(Rank.CREATE_DOMAIN, was.key, sql("domain/create", domain=was), lock="")
        else:
            yield from _altered(sql, change)
        yield from belongings(step, f"DOMAIN {sql.name(was)}", "type", was, change.after)


def _altered(sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    if "schema" in fields:
        yield Piece(Rank.RENAME, 0, sql("domain/move", domain=now, to=was.schema), lock="")
    if "name" in fields:
        yield Piece(Rank.RENAME, 1, sql("domain/rename", schema=was.schema, domain=now, to=was.name), lock="")
    if "default" in fields:
        yield Piece(Rank.ALTER_TYPE, 0, sql("domain/default", domain=was), lock="")
    if "not_null" in fields:
        yield Piece(Rank.ALTER_TYPE, 1, sql("domain/not_null", domain=was), lock="", dangers=frozenset({"may_fail_on_data"}))
    for text in _constraints(sql, was, now):
        yield Piece(Rank.ALTER_TYPE, 2, text, lock="", dangers=frozenset({"may_fail_on_data"}))


def _constraints(sql: Sql, was: Any, now: Any) -> Iterator[str]:
    for each in now.constraints:
        if each not in was.constraints:
            yield sql("domain/drop_constraint", domain=was, constraint=each.partition(" CHECK ")[0])
    for each in was.constraints:
        if each not in now.constraints:
            yield sql("domain/add_constraint", domain=was, constraint=each)


FAMILY = Family("domain", frozenset({"domain"}), ("CREATE DOMAIN", "DROP DOMAIN", "ALTER DOMAIN"), reverse)
