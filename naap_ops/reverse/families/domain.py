"""Domains and their constraints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, literal, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, put back default, NOT NULL and constraints."""
    for change in step.of("domain"):
        if change.created:
            yield Piece(Rank.DROP_TYPE, -change.after.key, sql("domain/drop", domain=change.after), lock="")
            continue
        was = change.before
        if change.dropped:
            yield from _made(sql, was)
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
    elif was.not_null_name != now.not_null_name:
        names = (now.not_null_name, was.not_null_name)
        new, old = [quoted(name or f"{was.name}_not_null") for name in names]
        yield Piece(Rank.ALTER_TYPE, 1, sql("domain/rename_constraint", domain=was, constraint=new, to=old), lock="")
    yield from _constraints(sql, was, now)


def _constraints(sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    old, new = _by_key(was), _by_key(now)
    for key in new:
        (name, text, _), before = new[key], old.get(key)
        if before is not None and before[0] != name and text == before[1]:
            renamed = sql("domain/rename_constraint", domain=was, constraint=name, to=before[0])
            yield Piece(Rank.ALTER_TYPE, 1, renamed, lock="")
        elif before is None or before[1] != text:
            yield Piece(Rank.ALTER_TYPE, 2, sql("domain/drop_constraint", domain=was, constraint=name), lock="")
    for key in old:
        (name, text, comment), after = old[key], new.get(key)
        made = after is None or after[1] != text
        if made:
            yield _add(sql, was, f"{name} {text}", Rank.ALTER_TYPE)
        if comment != (None if made or after is None else after[2]):
            yield _comment(sql, was, name, comment)


def _by_key(domain: Any) -> dict[int, tuple[str, str, str | None]]:
    rows = zip(domain.constraint_keys, domain.constraint_names, domain.constraints, domain.constraint_comments, strict=True)
    return {key: (name, text.removeprefix(name).strip(), comment) for key, name, text, comment in rows}


def _add(sql: Sql, domain: Any, constraint: str, rank: int) -> Piece:
    text = sql("domain/add_constraint", domain=domain, constraint=constraint)
    return Piece(rank, 3, text, lock="", dangers=frozenset({"may_fail_on_data"}))


def _comment(sql: Sql, domain: Any, name: str, comment: str | None) -> Piece:
    text = literal(comment) if comment is not None else "NULL"
    return Piece(Rank.COMMENT, 1, f"COMMENT ON CONSTRAINT {name} ON DOMAIN {sql.name(domain)} IS {text}", lock="")


def _made(sql: Sql, domain: Any) -> Iterator[Piece]:
    """A domain, and what CREATE DOMAIN cannot say of it."""
    loose = [text for text in domain.constraints if text.endswith(" NOT VALID")]
    whole = domain._replace(constraints=[text for text in domain.constraints if text not in loose])
    yield Piece(Rank.CREATE_DOMAIN, domain.key, sql("domain/create", domain=whole), lock="")
    for text in loose:
        yield _add(sql, domain, text, Rank.CREATE_DOMAIN + 1)
    for name, comment in zip(domain.constraint_names, domain.constraint_comments, strict=True):
        if comment is not None:
            yield _comment(sql, domain, name, comment)


FAMILY = Family("domain", frozenset({"domain"}), ("CREATE DOMAIN", "DROP DOMAIN", "ALTER DOMAIN"), reverse)
