"""What stands on columns of an enum and must step aside while the enum is replaced: it is dropped before, and made again after.

Rather one too many than one too few: whatever names the type in its definition, and every view that reads such a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from naap_ops.reverse.model import Irreversible, Piece, Step
from naap_ops.reverse.render import Sql, quoted


def step_aside(step: Step, sql: Sql, enum: Any, columns: list[Any]) -> Iterator[Piece]:
    """Pieces that drop and remake. Raises Irreversible for what cannot be moved (a domain, a composite type over the enum)."""
    from naap_ops.reverse.families import type as types

    names = types.spellings(step, enum)
    mention = re.compile(
        '(?<![\\w"])(' + "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) + ')(?![\\w"])'
    )
    tables = {column.table_key for column in columns}
    _refuse_fixed(step, sql, enum, columns, mention)
    # the state in which the reverse runs is `after`: what steps aside is read there, and made again as it is there
    here = Step(step.statement, step.after, step.after)
    yield from _views(here, sql, tables, mention)
    yield from _parts(here, sql, tables, mention)
    yield from _foreign_keys(here, sql, {column.key for column in columns})
    yield from _routines(here, sql, mention)
    for kind in ("domain", "type"):
        for row in step.after.rows[kind].values():
            text = row.base if kind == "domain" else " ".join(row.attributes)
            if row.key != enum.key and mention.search(text):
                raise Irreversible(
                    f"{kind} {sql.name(row)} is made of enum {sql.name(enum)}, whose labels cannot be taken away under it"
                )


def _refuse_fixed(step: Step, sql: Sql, enum: Any, columns: list[Any], mention: re.Pattern[str]) -> None:
    """What cannot step aside: a partition key, a generated column."""
    for column in columns:
        names = _named(column.name)
        key = step.after.rows["table"][column.table_key].partition_key
        if key and names.search(key):
            raise Irreversible(
                f"enum {sql.name(enum)} is in the partition key of {sql.table(column)}, whose type cannot be changed"
            )
        for other in step.after.children("column", "table_key", column.table_key):
            if other.generated and (other.key == column.key or names.search(other.default) or mention.search(other.default)):
                raise Irreversible(
                    f"generated column {quoted(other.name)} of {sql.table(other)} depends on enum {sql.name(enum)}"
                )


def _named(name: str) -> re.Pattern[str]:
    return re.compile(r'(?<![\w"])(' + "|".join(map(re.escape, (quoted(name), name))) + r')(?![\w"])')


def _foreign_keys(step: Step, sql: Sql, columns: set[int]) -> Iterator[Piece]:
    from naap_ops.reverse.families import constraint

    for row in step.after.rows["constraint"].values():
        if row.type == "f" and not row.parent_key and any((row.table_key << 16) | number in columns for number in row.numbers):
            yield constraint.drop(sql, row)
            yield from constraint.create(step, sql, row)


def around_column(step: Step, sql: Sql, column: Any) -> Iterator[Piece]:
    """Pieces that drop and remake what stands on a column that is itself dropped and made again."""
    from naap_ops.reverse.families import constraint

    here = Step(step.statement, step.after, step.after)
    mention = _named(column.name)
    yield from _views(here, sql, {column.table_key}, mention)
    yield from _parts(here, sql, {column.table_key}, mention)
    for row in step.after.children("constraint", "table_key", column.table_key):
        if row.type in ("p", "u", "f") and column.number in row.numbers:
            yield constraint.drop(sql, row)
            yield from constraint.create(here, sql, row)


def _views(step: Step, sql: Sql, tables: set[int], mention: re.Pattern[str]) -> Iterator[Piece]:
    from naap_ops.reverse.families import view

    found: set[int] = set()
    for row in step.after.rows["view"].values():
        if tables & set(row.uses) or mention.search(row.definition):
            found |= {row.key} | view.dependants(step, row.key)
    for key in found:
        row = step.after.rows["view"][key]
        yield from view.rebuild(step, sql, row, row)


def _parts(step: Step, sql: Sql, tables: set[int], mention: re.Pattern[str]) -> Iterator[Piece]:
    from naap_ops.reverse.families import constraint, index, policy, trigger

    for row in step.after.rows["index"].values():
        if row.table_key in tables and not row.constraint and not row.parent_key and mention.search(row.definition):
            yield index.drop(sql, row)
            yield from index.create(step, sql, row)
    for row in step.after.rows["constraint"].values():
        if row.table_key in tables and row.type in ("c", "x") and mention.search(row.definition):
            yield constraint.drop(sql, row)
            yield from constraint.create(step, sql, row)
    for row in step.after.rows["policy"].values():
        if row.table_key in tables or mention.search(f"{row.using} {row.check}"):
            yield policy.drop(sql, row)
            yield from policy.create(step, sql, row)
    for row in step.after.rows["trigger"].values():
        if row.table_key in tables and not row.parent_key and (" OF " in row.definition or " WHEN " in row.definition):
            yield trigger.drop(sql, row)
            yield from trigger.create(step, sql, row)


def _routines(step: Step, sql: Sql, mention: re.Pattern[str]) -> Iterator[Piece]:
    from naap_ops.reverse.families import routine, trigger

    for row in step.after.rows["routine"].values():
        if mention.search(row.definition.partition("\nAS ")[0]):
            used = [
                each
                for each in step.after.rows["trigger"].values()
                if not each.parent_key and f"{row.name}(" in each.definition
            ]
            for each in used:
                yield trigger.drop(sql, each)
                yield from trigger.create(step, sql, each)
            yield routine.drop(sql, row)
            yield from routine.create(step, sql, row)
