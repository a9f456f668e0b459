"""Constraints: keys, checks, foreign keys, exclusions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Check, Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was added, add what was dropped, put back names and deferrability."""
    for change in step.of("constraint"):
        if change.created:
            now = change.after
            # those of a table that was attached in this statement stay when it is detached
            own = now.table_key in step.relinked if now.parent_key else now.local
            if now.table_key not in step.created and own:
                yield drop(sql, now)
        elif change.dropped:
            if _is_made(step, change.before):
                yield from create(step, sql, change.before)
        else:
            yield from _altered(step, sql, change)


def _is_made(step: Step, constraint: Any) -> bool:
    """Whether it must be made by its own statement, not by its parent's."""
    if constraint.parent_key:
        return bool(constraint.type != "f")
    table = step.before.get("table", constraint.table_key)
    return bool(constraint.local or (constraint.table_key in step.dropped and table.bound is not None))


def drop(sql: Sql, constraint: Any) -> Piece:
    """Drop a constraint."""
    rank = Rank.DROP_FOREIGN_KEY if constraint.type == "f" else Rank.DROP_CONSTRAINT
    return Piece(rank, -constraint.key, sql("constraint/drop", constraint=constraint), relation=sql.table(constraint))


def create(step: Step, sql: Sql, constraint: Any) -> Iterator[Piece]:
    """Add a constraint again as the server defines it. Checks and foreign keys scan the table: they are validated apart."""
    foreign = constraint.type == "f"
    rank, order = int(Rank.CREATE_FOREIGN_KEY if foreign else Rank.CREATE_CONSTRAINT), constraint.key
    if constraint.parent_key:
        # a partition's first: its parent's then takes it for its own, and it keeps its name
        rank, order = rank - 1, -_depth(step, constraint)
    yield Piece(
        rank,
        order,
        sql("constraint/add", constraint=constraint),
        lock="SHARE ROW EXCLUSIVE" if foreign else "ACCESS EXCLUSIVE",
        relation=sql.table(constraint),
        dangers=frozenset({"may_fail_on_data"} | ({"index_build"} if constraint.index_key else set())),
    )
    yield from belongings(step, _phrase(sql, constraint), "", constraint, None)


def _depth(step: Step, constraint: Any) -> int:
    parent = step.before.get("constraint", constraint.parent_key)
    return 1 + _depth(step, parent) if parent is not None else 0


def _phrase(sql: Sql, constraint: Any) -> str:
    return f"CONSTRAINT {quoted(constraint.name)} ON {sql.table(constraint)}"


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    table = sql.table(was)
    if "parent_key" in fields and now.parent_key and was.type != "f" and now.table_key not in step.relinked:
        yield from create(step, sql, was)  # it goes with the parent that took it
        return
    if not was.parent_key:
        if "name" in fields:
            text = sql("constraint/rename", constraint=was, now=now.name, to=was.name)
            yield Piece(Rank.RENAME_PART, 0, text, relation=table)
        if fields & {"deferrable", "deferred"} and was.type == "f":
            yield Piece(Rank.ALTER_TABLE, 0, sql("constraint/alter", constraint=was), relation=table)
        elif fields & {"enforced", "no_inherit"} or ("validated" in fields and not was.validated):
            # there is no un-validate, nor the like for the others: it is made anew
            yield drop(sql, was._replace(key=now.key))
            yield from create(step, sql, was)
    yield from belongings(step, _phrase(sql, was), "", was, now)


def checks(step: Step, sql: Sql) -> Iterator[Check]:
    """Data written since may not fit: duplicates, orphans, rows that fail a check."""
    for change in step.of("constraint"):
        was = change.before
        if (
            not change.dropped
            or was.parent_key
            or not was.local
            or was.table_key in step.dropped
            or not was.validated
            or not was.enforced
        ):
            continue
        have = {row.name for row in step.after.rows["column"].values() if row.table_key == was.table_key}
        if not set(was.columns) <= have:
            continue
        where = f"{sql.table(was)}: constraint {quoted(was.name)} cannot be put back"
        if was.type in ("p", "u"):
            index = step.before.get("index", was.index_key)
            query = sql(
                "index/duplicates",
                index=was,
                columns=was.columns,
                nulls_distinct="NULLS NOT DISTINCT" not in (index.definition if index else ""),
            )
            yield Check(query, f"duplicates in {where}")
        elif was.type == "c":
            expression = was.definition.removeprefix("CHECK ").removesuffix(" NO INHERIT")
            yield Check(sql("constraint/violations", constraint=was, expression=expression), f"rows that fail it in {where}")
        elif was.type == "f" and was.referenced_key not in step.dropped and not was.definition.upper().count("MATCH FULL"):
            yield from orphans(step, sql, was)


def orphans(step: Step, sql: Sql, was: Any) -> Iterator[Check]:
    """Rows that refer to nothing, of a foreign key that comes back."""
    where = f"{sql.table(was)}: constraint {quoted(was.name)} cannot be put back"
    referenced = step.after.get("table", was.referenced_key)
    if referenced is None:
        return
    names = was.definition.partition(" REFERENCES ")[2].partition("(")[2].partition(")")[0]
    keys = [part.strip().strip('"').replace('""', '"') for part in names.split(",")]
    have = {row.name for row in step.after.rows["column"].values() if row.table_key == was.referenced_key}
    if set(keys) <= have and len(keys) == len(was.columns):
        pairs = list(zip(was.columns, keys, strict=True))
        yield Check(sql("constraint/orphans", constraint=was, referenced=referenced, pairs=pairs), f"orphans in {where}")


FAMILY = Family(
    "constraint",
    frozenset({"constraint"}),
    (
        "ALTER TABLE ADD CONSTRAINT",
        "ALTER TABLE DROP CONSTRAINT",
        "ALTER TABLE ALTER CONSTRAINT",
        "ALTER TABLE RENAME CONSTRAINT",
        "ALTER TABLE VALIDATE",
    ),
    reverse,
    checks=checks,
)
