"""Views and materialised views. One that was replaced is dropped and made as it was: columns cannot be taken from a view in
place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.acl import parse_acl, statements
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Loss, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, literal, quoted

_REPLACED = frozenset({"rule_hash", "columns"})


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped or replaced, and with it the views that stand on it."""
    again: set[int] = set()
    for change in step.of("view"):
        if change.created:
            yield drop(sql, change.after, order=-depth(step.after, change.after.key))
        elif change.dropped:
            yield from create(step, sql, change.before)
        elif change.fields & _REPLACED and _differs(change):
            yield from _replaced(step, sql, change, again)
        else:
            yield from _altered(step, sql, change)
    for key in again:
        yield from rebuild(step, sql, step.after.rows["view"][key], step.before.rows["view"][key])


def _differs(change: Change) -> bool:
    kind = change.kind
    return kind.shown(change.before) != kind.shown(change.after)


def _replaced(step: Step, sql: Sql, change: Change, again: set[int]) -> Iterator[Piece]:
    """With the same columns it is replaced in place. Columns that were appended can only go with the view."""
    was, now = change.before, change.after
    if was.columns == now.columns:
        text = sql("view/create", view=was, word=f"OR REPLACE {_word(was)}")
        yield Piece(Rank.CREATE_VIEW, depth(step.before, was.key), text, relation=sql.name(was))
        yield from _altered(step, sql, change)
    elif "rule_hash" not in change.fields and len(was.columns) == len(now.columns):
        for old, new in zip(was.columns, now.columns, strict=True):
            if old != new:
                text = sql("view/rename_column", view=now, word=_word(now), column=new, to=old)
                yield Piece(Rank.RENAME_COLUMN, 0, text, relation=sql.name(was))
    else:
        again |= {was.key} | dependants(step, was.key)


def dependants(step: Step, key: int) -> set[int]:
    """Keys of the views that read a relation, directly or through others, before and after."""
    views = step.after.rows["view"]
    found: set[int] = set()
    todo = [key]
    while todo:
        one = todo.pop()
        for row in views.values():
            if one in row.uses and row.key not in found and row.key in step.before.rows["view"]:
                found.add(row.key)
                todo.append(row.key)
    return found


def depth(catalog: Any, key: int) -> int:
    """On how many views a view stands: those must be made before it and dropped after it."""
    row = catalog.rows["view"].get(key)
    return 0 if row is None else 1 + max((depth(catalog, used) for used in row.uses if used != key), default=0)


def _word(view: Any) -> str:
    return "MATERIALIZED VIEW" if view.relkind == "m" else "VIEW"


def drop(sql: Sql, view: Any, *, order: int = 0) -> Piece:
    """Drop a view."""
    return Piece(Rank.DROP_VIEW, order, sql("view/drop", view=view, word=_word(view)), relation=sql.name(view))


def create(step: Step, sql: Sql, view: Any) -> Iterator[Piece]:
    """Make a view as it was, with what belongs to it."""
    relation = sql.name(view)
    yield Piece(
        Rank.CREATE_VIEW,
        depth(step.before, view.key),
        sql("view/create", view=view, word=_word(view)),
        lock="",
        relation=relation,
    )
    for column, expression in _pairs(view.defaults):
        text = sql("view/default", view=view, column=column, expression=expression)
        yield Piece(Rank.CREATE_VIEW_INDEX, 0, text, relation=relation)
    yield from _columns(sql, view, None)
    yield from _extensions(sql, view, [])
    phrase = f"{_word(view)} {relation}"
    yield from belongings(step, phrase, "table", view, None)


def _pairs(flat: list[str]) -> list[tuple[str, str]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _columns(sql: Sql, view: Any, now: Any) -> Iterator[Piece]:
    """Settings, comments and privileges of its columns; ``now`` is None for a view made anew."""
    relation = sql.name(view)
    have = {clause for clause, _ in _pairs(now.column_settings)} if now is not None else set()
    for clause, special in _pairs(view.column_settings):
        if clause not in have and (now is not None or special == "true"):
            text = sql("view/column_setting", view=view, word=_word(view), clause=clause)
            yield Piece(Rank.CREATE_VIEW_INDEX, 1, text, relation=relation)
    wanted = {clause.partition(" SET (")[0] for clause, _ in _pairs(view.column_settings) if " SET (" in clause}
    for clause in sorted(have):
        column, options, values = clause.partition(" SET (")
        if options and column not in wanted:
            names = ", ".join(value.partition("=")[0] for value in values.rstrip(")").split(", "))
            text = sql("view/column_setting", view=view, word=_word(view), clause=f"{column} RESET ({names})")
            yield Piece(Rank.CREATE_VIEW_INDEX, 1, text, relation=relation)
    old, new = dict(_pairs(now.column_comments)) if now is not None else {}, dict(_pairs(view.column_comments))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            text = literal(new[name]) if name in new else "NULL"
            yield Piece(Rank.COMMENT, 0, f"COMMENT ON COLUMN {relation}.{quoted(name)} IS {text}", lock="", relation=relation)
    acls = [_pairs(each.column_acl) if each is not None else [] for each in (now, view)]
    for name in sorted({name for pairs in acls for name, _ in pairs}):
        items = [parse_acl(item for column, item in pairs if column == name) for pairs in acls]
        for text in statements(f"TABLE {relation}", *items, columns=f" ({quoted(name)})"):
            yield Piece(Rank.PRIVILEGES, 0, text, lock="", relation=relation)


def _extensions(sql: Sql, view: Any, have: list[str]) -> Iterator[Piece]:
    for name in sorted(set(view.extensions) ^ set(have)):
        words = f"{_word(view)} {sql.name(view)}"
        text = sql("routine/extension", words=words, extension=name, on=name in view.extensions)
        yield Piece(Rank.CREATE_VIEW_INDEX, 2, text, lock="", relation=sql.name(view))


def rebuild(step: Step, sql: Sql, now: Any, was: Any) -> Iterator[Piece]:
    """Drop a view as it is now, make it as it was, with its indexes, triggers and rules."""
    from naap_ops.reverse.families import index, rule, trigger

    yield drop(sql, now, order=-depth(step.after, now.key))
    yield from create(step, sql, was)
    for row in step.before.children("index", "table_key", was.key):
        yield from index.create(step, sql, row)
    for row in step.before.children("trigger", "table_key", was.key):
        yield from trigger.create(step, sql, row)
    for row in step.before.children("rule", "table_key", was.key):
        yield from rule.create(step, sql, row)


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    word = _word(was)
    if "schema" in fields:
        yield Piece(Rank.RENAME, 0, sql("view/move", view=now, word=word, to=was.schema), relation=sql.name(now))
    if "name" in fields:
        yield Piece(
            Rank.RENAME, 1, sql("view/rename", schema=was.schema, view=now, word=word, to=was.name), relation=sql.name(now)
        )
    if "options" in fields and not fields & _REPLACED:  # CREATE OR REPLACE sets them as well
        for text in sql("view/options", view=was, word=word, old=was.options or [], new=now.options or []).split(";\n"):
            yield Piece(Rank.ALTER_TABLE, 0, text, relation=sql.name(was))
    for column, expression in _pairs(was.defaults):
        if (column, expression) not in _pairs(now.defaults):
            text = sql("view/default", view=was, column=column, expression=expression)
            yield Piece(Rank.CREATE_VIEW_INDEX, 0, text, relation=sql.name(was))
    for column in sorted(dict(_pairs(now.defaults)).keys() - dict(_pairs(was.defaults)).keys()):
        yield Piece(Rank.ALTER_TABLE, 1, sql("view/drop_default", view=was, column=column), relation=sql.name(was))
    for what in ("access_method", "tablespace"):
        if what in fields:
            text = sql("table/" + what, table=was).replace("ALTER TABLE", f"ALTER {word}", 1)
            yield Piece(Rank.ALTER_TABLE, 2, text, relation=sql.name(was), dangers=frozenset({"rewrites_table"}))
    if "populated" in fields:
        yield Piece(Rank.STATE, 0, sql("view/refresh", view=was), relation=sql.name(was))
    yield from _columns(sql, was, now)
    yield from _extensions(sql, was, now.extensions)
    yield from belongings(step, f"{word} {sql.name(was)}", "table", was, now)


def losses(step: Step, sql: Sql) -> Iterator[Loss]:
    """A materialised view made again holds what its query gives then."""
    rows = {change.before.key: change.before for change in step.of("view") if change.dropped or "populated" in change.fields}
    for change in step.of("view"):
        if change.before is not None and change.after is not None and _differs(change) and _must_go(change):
            rows |= {key: step.before.rows["view"][key] for key in dependants(step, change.before.key)}
    for _, row in sorted(rows.items()):
        if row.relkind == "m" and row.populated:
            reason = f"materialised view {sql.name(row)} is filled anew, by what its query gives then"
            yield Loss("state", reason, (row.schema, row.name))


def _must_go(change: Change) -> bool:
    """It was replaced, and cannot be what it was in place."""
    was, now = change.before, change.after
    return (
        bool(change.fields & _REPLACED)
        and was.columns != now.columns
        and ("rule_hash" in change.fields or len(was.columns) != len(now.columns))
    )


FAMILY = Family(
    "view",
    frozenset({"view"}),
    (
        "CREATE VIEW",
        "DROP VIEW",
        "ALTER VIEW",
        "CREATE MATERIALIZED VIEW",
        "DROP MATERIALIZED VIEW",
        "ALTER MATERIALIZED VIEW",
        "REFRESH",
    ),
    reverse,
    losses=losses,
)
