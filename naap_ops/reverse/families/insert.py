"""INSERT: the rows that it put there are taken out again, where it can be known which they are."""

from __future__ import annotations

from collections.abc import Iterator

from naap_ops.reverse import inserted
from naap_ops.reverse.fired import ANY, Fired, fired
from naap_ops.reverse.model import INSERTED, QUERIED, Capture, Check, Family, Loss, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.references import Reference, references
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """DELETE by the key that the statement itself names or computes."""
    if step.statement.tag != "INSERT":
        return
    rows = inserted.rows_of(step)
    if rows.deletable:
        text = sql(
            "insert/delete_values" if rows.values else "insert/delete",
            table=rows.table,
            keys=rows.keys,
            values=rows.values,
            source=rows.source,
            columns=rows.columns,
        )
        yield Piece(
            Rank.ROWS, 0, text, lock="ROW EXCLUSIVE", relation=sql.name(rows.table), dangers=frozenset({"deletes_data"})
        )


def checks(step: Step, sql: Sql) -> Iterator[Check]:
    """Nobody refers to those rows who would go along with them, or lose what it refers to."""
    if step.statement.tag != "INSERT":
        return
    rows = inserted.rows_of(step)
    if rows.deletable:
        for each in references(step.after, step.after):
            if each.parent.key == rows.table.key and each.action:
                what = "go with them" if each.action == "CASCADE" else "lose what they refer to"
                who = f"rows of {sql.name(each.child)} refer to rows of {sql.name(each.parent)} that it inserted"
                reason = f"{who}, and would {what}: let them refer to others, or take them out, first"
                yield Check(_referring(rows, each, sql), reason)


def _referring(rows: inserted.Rows, each: Reference, sql: Sql) -> str:
    """A query for rows that refer to those that were inserted; these may refer to one another."""
    pairs = zip(each.columns, each.referenced, strict=True)
    on = " AND ".join(f"naap_child.{quoted(own.name)} = naap_row.{quoted(theirs.name)}" for own, theirs in pairs)
    own = f" AND NOT ({_is_one(rows, 'naap_child')})" if each.child.key == rows.table.key else ""
    return (
        f"SELECT 1 FROM {sql.name(each.child)} naap_child JOIN {sql.name(rows.table)} naap_row ON {on} "
        f"WHERE {_is_one(rows, 'naap_row')}{own}"
    )


def _is_one(rows: inserted.Rows, alias: str) -> str:
    """SQL: the row is one that was inserted."""
    names = [f"{alias}.{quoted(key.name)}" for key in rows.keys]
    if rows.values:
        listed = ", ".join(f"({', '.join(values)})" for values in rows.values)
        return f"({', '.join(names)}) IN ({listed})"
    same = " AND ".join(f"{name} = naap_key.{quoted(key.name)}::{key.type}" for name, key in zip(names, rows.keys, strict=True))
    columns = ", ".join(map(quoted, rows.columns))
    return f"EXISTS (SELECT FROM (\n{rows.source}\n) naap_key ({columns}) WHERE {same})"


def losses(step: Step, _sql: Sql) -> Iterator[Loss]:
    """Rows that stay, as nothing tells them from others; rows changed by ON CONFLICT DO UPDATE; what triggers did."""
    if step.statement.tag != "INSERT":
        return
    rows = inserted.rows_of(step)
    relation = (rows.table.schema, rows.table.name) if rows.table is not None else None
    if not rows.deletable:
        yield Loss("residue", f"the rows that it inserted stay: {rows.reason}", relation)
    elif rows.values:
        yield Loss("rows", "the rows that it inserted go, with what was changed in them since", relation, since=True)
    else:
        reason = "the rows that its query gives go, with what was changed in them since, and rows written since with such a key"
        yield Loss("rows", reason, relation, since=True)
    if rows.updates:
        yield Loss("values", "rows that were there and were changed by ON CONFLICT DO UPDATE stay changed", relation)
    if rows.table is not None:
        yield from _by_triggers(step, rows)


def _by_triggers(step: Step, rows: inserted.Rows) -> Iterator[Loss]:
    known = _fired(step, rows)
    for trigger in inserted.insert_triggers(step, rows.table):
        yield Loss(
            "residue", f"what trigger {trigger.name} did when rows were inserted stays", (rows.table.schema, rows.table.name)
        )
    for relation in known.tables:
        yield Loss("residue", "what a trigger did to rows of this table stays", relation)
    if known.unknown:
        yield Loss("rows", "what a trigger did to rows of any table is not known")


def _fired(step: Step, rows: inserted.Rows) -> Fired:
    """Of ON CONFLICT DO UPDATE those triggers fire, too."""
    return fired(step.after, rows.table.key, ANY if rows.updates else "INSERT")


def captures(step: Step, _sql: Sql) -> Iterator[Capture]:
    """Keys before, so that keys after minus keys before are known."""
    if step.statement.tag == "INSERT":
        rows = inserted.rows_of(step)
        if rows.table is not None:
            yield Capture((rows.table.schema, rows.table.name), None, QUERIED if rows.source else INSERTED)
            for relation in _fired(step, rows).tables:
                yield Capture(relation, None, "written to by a trigger")


FAMILY = Family("insert", frozenset(), ("INSERT",), reverse, captures=captures, checks=checks, losses=losses)
