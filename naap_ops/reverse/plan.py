"""From what each statement did to what undoes it: every family says its part, the parts are put in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.families import families, family_of
from naap_ops.reverse.model import Irreversible, Plan, Refusal, Reversal, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql
from naap_ops.reverse.script import Script


def plan(script: Script, steps: Iterable[Step], sql: Sql) -> Plan:
    """The reverse of the steps, last first. A statement that no family can undo is a refusal with its reason."""
    reversals, refusals = [], []
    start = None
    for step in steps:
        start = step.before if start is None else start
        try:
            reversals.append(_without_own(step, start, reverse(step, sql), sql))
        except Irreversible as reason:
            refusals.append(Refusal(step.statement, str(reason)))
    return Plan(script, sql.schema, tuple(reversed(reversals)), tuple(refusals))


def _without_own(step: Step, start: Catalog, found: Reversal, sql: Sql) -> Reversal:
    """Without what is done, lost or to be kept of rows and values that were not there before the migration: they go with their
    table or column, which a statement before this one made."""

    def own(relation: tuple[str, str] | None, column: str | None) -> bool:
        table = next((row for row in step.before.rows["table"].values() if (row.schema, row.name) == relation), None)
        if table is None:
            return False
        if table.key not in start.rows["table"]:
            return True
        key = next((row.key for row in step.before.children("column", "table_key", table.key) if row.name == column), None)
        return key is not None and key not in start.rows["column"]

    if start is step.before or not (found.losses or found.captures):
        return found
    made = {sql.name(row) for key, row in step.before.rows["table"].items() if key not in start.rows["table"]}
    pieces = tuple(piece for piece in found.pieces if piece.rank != Rank.ROWS or piece.relation not in made)
    return replace(
        found,
        pieces=pieces,
        checks=found.checks if pieces == found.pieces else (),
        losses=tuple(loss for loss in found.losses if not own(loss.relation, loss.column)),
        captures=tuple(
            each
            for each in found.captures
            if not own(each.relation, None) and not all(own(each.relation, column) for column in each.columns or ("",))
        ),
    )


def reverse(step: Step, sql: Sql) -> Reversal:
    """What undoes one statement. Raises Irreversible."""
    found, names = [], []
    for family in families():
        pieces = list(family.reverse(step, sql))
        found += pieces
        if pieces:
            names.append(family.name)
    own = [family_of(kind) for kind in step.statement.kinds]
    return Reversal(
        step.statement,
        pieces=tuple(dict.fromkeys(sorted(found))),
        losses=tuple(dict.fromkeys(loss for family in families() for loss in family.losses(step, sql))),
        checks=tuple(dict.fromkeys(check for family in families() for check in family.checks(step, sql))),
        captures=tuple(dict.fromkeys(capture for family in families() for capture in family.captures(step, sql))),
        families=tuple(dict.fromkeys([*names, *filter(None, own)])),
    )
