"""UPDATE, DELETE, TRUNCATE, MERGE and statements whose text does not say what they do: the catalog is put back, rows are not.

What rows were is data, to be captured before the forward runs; the verb ``captures`` says what that would take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from postgast import pg_query_pb2 as grammar

from naap_ops.reverse.fired import ANY, Fired, bodies, dynamic, fired, written
from naap_ops.reverse.model import Capture, Family, Loss, Step
from naap_ops.reverse.relations import messages
from naap_ops.reverse.render import Sql

Touched = tuple[tuple[str, str], tuple[str, ...] | None, str]
"""(relation, columns or None for whole rows, what became of them)."""

# Statements that can change rows by a WITH inside.
_QUERIES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE TABLE AS", "SELECT INTO", "EXPLAIN", "COPY")
_WITH: Final = re.compile(r"\bwith\b|\bexplain\b|\bcopy\b", re.IGNORECASE)
# Words of a body that may change rows; without any of them only the catalog can have been changed.
_CHANGES: Final = re.compile(
    r"\b(insert\s+into|update(?!\s+of\b)|delete\s+from|truncate|merge\s+into|copy|perform|call|setval|nextval|execute(?!\s+(function|procedure)\b))\b",
    re.IGNORECASE,
)
_FIRES: Final = {"updated": "UPDATE", "deleted": "DELETE", "deleted by cascade": "DELETE", "inserted inside": "INSERT"}
_POSITIONS: Final = frozenset({"setval", "nextval"})


def _relation(step: Step, node: Any) -> tuple[str, str]:
    return node.schemaname or step.before.schema, node.relname


def _table(step: Step, relation: tuple[str, str]) -> Any:
    return next((row for row in step.before.rows["table"].values() if (row.schema, row.name) == relation), None)


def _changing(step: Step) -> Iterator[Any]:
    """The nodes of the statement that change rows: itself, and what stands in its WITH."""
    node = step.statement.node
    if not step.statement.tag.startswith(_QUERIES):
        return
    if _WITH.search(step.statement.sql) is None:
        yield node
    else:
        yield from messages(node)


def _touched(step: Step) -> Iterator[Touched]:
    found = list(_by_itself(step))
    yield from found
    for relation, _, what in found:
        yield from _by_triggers(step, relation, what)


def _by_triggers(step: Step, relation: tuple[str, str], what: str) -> Iterator[Touched]:
    """What the triggers of a table do when its rows are written."""
    for other in fired_by(step, relation, _event(what)).tables:
        yield other, None, _TRIGGER
    if fired_by(step, relation, _event(what)).rows:
        yield relation, None, _TRIGGER


def _event(what: str) -> str:
    return "TRUNCATE" if what.startswith("truncated") else _FIRES.get(what, ANY)


def fired_by(step: Step, relation: tuple[str, str], event: str) -> Fired:
    """What the triggers of a relation do; nothing, where it is not known as a table."""
    table = _table(step, relation)
    return fired(step.before, table.key, event) if table is not None else Fired()


def _by_itself(step: Step) -> Iterator[Touched]:
    if step.statement.tag == "TRUNCATE TABLE":
        yield from _truncated(step)
        return
    for node in _changing(step):
        kind = node.DESCRIPTOR.name
        if kind == "UpdateStmt":
            columns = tuple(dict.fromkeys(each.res_target.name for each in node.target_list))
            yield _relation(step, node.relation), columns, "updated"
            yield from _updated_along(step, _relation(step, node.relation), columns)
        elif kind == "DeleteStmt":
            yield _relation(step, node.relation), None, "deleted"
            yield from _deleted_along(step, _relation(step, node.relation))
        elif kind == "MergeStmt":
            yield _relation(step, node.relation), None, "merged into"
            yield from _deleted_along(step, _relation(step, node.relation))
        elif kind == "InsertStmt" and node is not step.statement.node:
            yield _relation(step, node.relation), None, "inserted inside"


def _truncated(step: Step) -> Iterator[Touched]:
    node = step.statement.node
    todo = [_relation(step, each.range_var) for each in node.relations]
    for relation in todo:
        yield relation, None, "truncated"
    if node.behavior != grammar.DROP_CASCADE:
        return
    seen = set(todo)
    while todo:
        table = _table(step, todo.pop(0))
        for row in _referring(step, table):
            if (row.schema, row.table) not in seen:
                seen.add((row.schema, row.table))
                todo.append((row.schema, row.table))
                yield (row.schema, row.table), None, "truncated by cascade"


def _referring(step: Step, table: Any) -> list[Any]:
    """Foreign keys that point at a table."""
    if table is None:
        return []
    found = [row for row in step.before.rows["constraint"].values() if row.type == "f" and row.referenced_key == table.key]
    return sorted(found, key=lambda row: (row.schema, row.table, row.name))


def _deleted_along(step: Step, relation: tuple[str, str]) -> Iterator[Touched]:
    """Rows that go, or lose their reference, with rows of this one."""
    todo, seen = [relation], {relation}
    while todo:
        for row in _referring(step, _table(step, todo.pop(0))):
            other = (row.schema, row.table)
            if "ON DELETE SET" in row.definition:
                yield other, tuple(row.columns), "updated"
            elif "ON DELETE CASCADE" in row.definition and other not in seen:
                seen.add(other)
                todo.append(other)
                yield other, None, "deleted by cascade"


def _updated_along(step: Step, relation: tuple[str, str], columns: tuple[str, ...]) -> Iterator[Touched]:
    """Foreign keys that follow a key which was changed."""
    todo = [(relation, columns)]
    seen: set[tuple[tuple[str, str], tuple[str, ...]]] = set()
    while todo:
        where, names = todo.pop(0)
        for row in _referring(step, _table(step, where)):
            other, keys = (row.schema, row.table), tuple(row.columns)
            referenced = row.definition.partition(" REFERENCES ")[2].partition("(")[2].partition(")")[0]
            touches = any(name in referenced for name in names)
            if (
                touches
                and "ON UPDATE " in row.definition
                and "ON UPDATE RESTRICT" not in row.definition
                and (other, keys) not in seen
            ):
                seen.add((other, keys))
                todo.append((other, keys))
                yield other, keys, "updated"


_TRIGGER: Final = "written to by a trigger"
_REASONS: Final = {
    _TRIGGER: "what a trigger did to rows of this table is not known",
    "merged into": "rows that it changed or removed stay so",
    "inserted inside": "rows that its WITH inserted stay",
}


def losses(step: Step, _sql: Sql) -> Iterator[Loss]:
    """Each relation whose rows or values are not what they were."""
    for relation, columns, what in _touched(step):
        if columns is None:
            reason = _REASONS.get(what, f"rows that it {what} are not known any more")
            yield Loss(
                "residue" if what == "inserted inside" else "rows", reason.replace("it truncated", "it took away"), relation
            )
        for column in columns or ():
            yield Loss("values", "values that it replaced are not known any more", relation, column)
    if step.statement.tag == "TRUNCATE TABLE" and step.statement.node.restart_seqs:
        yield Loss("state", "sequences of the truncated tables stay where they were set to: at their start")
    if any(fired_by(step, relation, _event(what)).unknown for relation, _, what in _by_itself(step)):
        yield Loss("rows", "what a trigger did to rows of any table is not known")
    if step.statement.opaque:
        yield from _opaque(step)


def _opaque(step: Step) -> Iterator[Loss]:
    """DO, CALL, SELECT of a function: the tables that it names, else that it may have touched any."""
    if step.statement.tag == "DO" and _CHANGES.search(step.statement.sql) is None:
        return
    calls = [each.funcname[-1].string.sval for each in messages(step.statement.node) if each.DESCRIPTOR.name == "FuncCall"]
    if step.statement.tag == "SELECT" and _POSITIONS & set(calls):
        yield Loss("state", "the sequence stays where it was set to")
        return
    named = [(relation[0] or step.before.schema, relation[1]) for relation in step.statement.relations]
    texts = [step.statement.sql, *bodies(step.before, [*calls, *_called(step)])]
    by_words = [(row.schema, row.name) for row in sorted(written(step.before, texts), key=lambda row: int(row.key))]
    fires = [fired_by(step, relation, ANY) for relation in by_words]
    by_triggers = [other for each in fires for other in each.tables]
    every = dict.fromkeys([*named, *by_words, *by_triggers])
    known = [relation for relation in every if _table(step, relation) is not None]
    for relation in known:
        yield Loss("rows", "what it did to rows of this table is not known", relation)
    if not known or any(map(dynamic, texts)) or any(each.unknown for each in fires):
        yield Loss("rows", "what it did to rows of any table is not known")


def _called(step: Step) -> list[str]:
    """Functions that the body of a DO calls."""
    return [row.name for row in step.before.rows["routine"].values() if f"{row.name}(" in step.statement.sql.replace('"', "")]


def captures(step: Step, _sql: Sql) -> Iterator[Capture]:
    """What to keep before the statement runs."""
    for relation, columns, what in _touched(step):
        yield Capture(relation, columns, what)


def no_change(_step: Step, _sql: Sql) -> Iterator[Any]:
    """The catalog is as it was: there is nothing to reverse."""
    return iter(())


FAMILY = Family(
    "change_rows",
    frozenset(),
    ("UPDATE", "DELETE", "TRUNCATE", "MERGE", "DO", "CALL", "SELECT", "COPY"),
    no_change,
    captures=captures,
    losses=losses,
)
