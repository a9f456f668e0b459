"""Columns: added, dropped, renamed, retyped, and their defaults, NOT NULL, identity, storage and statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse import aside, casts, fill, rewrites
from naap_ops.reverse.acl import parse_acl, statements
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.families import sequence
from naap_ops.reverse.model import Capture, Check, Family, Irreversible, Loss, Piece, Step
from naap_ops.reverse.narrowing import unheld
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, literal, quoted

_SET_EXPRESSION = 17  # from this major on, a generated column's expression can be replaced
_NAME_BYTES = 63
_AFTER_PARENT = Rank.CREATE_COLUMN + 1  # what is done to a parent's column is done to its children's, and would undo this


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was added, add what was dropped, change back what was changed."""
    for change in step.of("column"):
        if change.created:
            if change.after.table_key not in step.created and change.after.local:
                yield Piece(
                    Rank.DROP_COLUMN,
                    -change.after.number,
                    sql("column/drop", column=change.after),
                    relation=sql.table(change.after),
                    dangers=frozenset({"deletes_data"}),
                )
        elif change.dropped:
            if change.before.table_key in step.dropped:
                continue
            if change.before.local:
                yield from _dropped(step, sql, change.before)
            else:
                yield from _inherited(step, sql, change.before, None)
        else:
            yield from _altered(step, sql, change)


# --- definitions ---------------------------------------------------------------------------------------------------


def definition(step: Step, sql: Sql, column: Any, *, not_null: bool = True, of_type: bool = False) -> str:
    """The column as CREATE TABLE and ADD COLUMN spell it."""
    identity = next(iter(step.before.children("sequence", "column_key", column.key)), None) if column.identity else None
    name = column.not_null_name
    if name is not None and name == default_not_null_name(column.table, column.name):
        name = None
    not_null = not_null and column.not_null
    return sql("column/definition", column=column, identity=identity, not_null=not_null, not_null_name=name, of_type=of_type)


def default_not_null_name(table: str, column: str) -> str | None:
    """The name that the server gives a NOT NULL constraint, None where it would have to be cut."""
    name = f"{table}_{column}_not_null"
    return name if len(name.encode()) <= _NAME_BYTES else None


def settings(sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    """Storage, compression, statistics target and options, where they differ from what the column has (None: a new one)."""
    have = (now.storage, now.compression, now.statistics, now.options) if now is not None else (None, "", None, None)
    want = (was.storage, was.compression, was.statistics, was.options)
    for what, old, new in zip(("storage", "compression", "statistics", "options"), want, have, strict=True):
        if old != new:
            lock = "SHARE UPDATE EXCLUSIVE" if what in ("statistics", "options") else "ACCESS EXCLUSIVE"
            rank, order = (Rank.CREATE_COLUMN, 20_000 + was.number) if now is None else (Rank.ALTER_COLUMN, was.number)
            for text in sql(f"column/{what}", column=was, now=now).split(";\n"):
                yield Piece(rank, order, text, lock=lock, relation=sql.table(was))


def belongings_of(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    """Comment and privileges of a column."""
    phrase = f"COLUMN {sql.table(was)}.{quoted(was.name)}"
    yield from belongings(step, phrase, "", was, now, order=was.number)
    have, want = parse_acl(now.acl or []) if now is not None else {}, parse_acl(was.acl or [])
    for text in statements(f"TABLE {sql.table(was)}", have, want, columns=f" ({quoted(was.name)})"):
        yield Piece(Rank.PRIVILEGES, was.number, text, lock="", relation=sql.table(was))
    old, new = was.not_null_comment, now.not_null_comment if now is not None else None
    if was.not_null_name is not None and old != new:
        on = f"CONSTRAINT {quoted(was.not_null_name)} ON {sql.table(was)}"
        text = f"COMMENT ON {on} IS {literal(old) if old is not None else 'NULL'}"
        yield Piece(Rank.COMMENT, was.number, text, lock="SHARE UPDATE EXCLUSIVE", relation=sql.table(was))


# --- dropped -------------------------------------------------------------------------------------------------------


def _dropped(step: Step, sql: Sql, column: Any) -> Iterator[Piece]:
    table = sql.table(column)
    later = column.not_null and column.default is None and not column.identity and not column.generated
    text = sql("column/add", column=column, definition=definition(step, sql, column, not_null=not later))
    yield Piece(Rank.CREATE_COLUMN, column.number, text, relation=table, dangers=frozenset({"column_order"}))
    if later:
        value = fill.placeholder(step, column)
        if value is not None:
            yield Piece(
                Rank.FILL_COLUMN,
                column.number,
                sql("column/fill", column=column, value=value),
                lock="ROW EXCLUSIVE",
                relation=table,
            )
        yield set_not_null(sql, column)
    yield from settings(sql, column, None)
    yield from belongings_of(step, sql, column, None)


def set_not_null(sql: Sql, column: Any) -> Piece:
    """As it was, under its name."""
    name = column.not_null_name
    plain = name is None or name == default_not_null_name(column.table, column.name)
    named = None if plain and column.not_null_valid and not column.not_null_no_inherit else name
    text = sql("column/set_not_null", column=column, constraint=named)
    return Piece(Rank.COLUMN_NOT_NULL, column.number, text, relation=sql.table(column), dangers=frozenset({"may_fail_on_data"}))


# --- altered -------------------------------------------------------------------------------------------------------


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    if was.table_key in step.relinked and was.local != now.local:
        return  # attaching and detaching do that
    if not was.local:
        yield from _inherited(step, sql, was, now)
        return
    table = sql.table(was)
    if "name" in fields:
        yield Piece(Rank.RENAME_COLUMN, 0, sql("column/rename", column=was, now=now.name), relation=table)
    if fields & {"generated"} or (was.generated and "default_hash" in fields and was.default != now.default):
        yield from _expression(step, sql, was, now)
        return
    retyped = bool(fields & {"type_key", "modifier", "collation"})
    default = ("default_hash" in fields and was.default != now.default) or (retyped and (was.default or now.default))
    default = default and not was.generated
    if now.identity and not was.identity:
        yield Piece(Rank.UNLINK_DEFAULT, 0, sql("column/drop_identity", column=now), relation=table)
    if default and now.default is not None and (retyped or was.default is None):
        yield Piece(
            Rank.AFTER_TYPE - 6 if retyped else Rank.UNLINK_DEFAULT,
            1,
            sql("column/drop_default", column=was if retyped else now),
            relation=table,
        )
    if retyped:
        using = casts.using(step, was, now) if not was.generated else ""
        yield Piece(
            Rank.COLUMN_TYPE,
            was.number,
            sql("column/type", column=was, using=using),
            relation=table,
            dangers=frozenset({"rewrites_table", "may_fail_on_data"}),
        )
    if default and was.default is not None:
        yield _set_default(sql, was)
        for own in step.before.children("sequence", "column_key", was.key):
            yield from sequence.carry_on(step, sql, own)
    if fields & {"not_null", "not_null_name", "not_null_valid", "not_null_no_inherit"}:
        yield from _nullability(sql, was, now)
    if "identity" in fields and was.identity:
        identity = next(iter(step.before.children("sequence", "column_key", was.key)), None)
        template = "column/set_identity" if now.identity else "column/add_identity"
        yield Piece(Rank.OWN_SEQUENCE, 9, sql(template, column=was, identity=identity), relation=table)
        if not now.identity:
            yield from sequence.carry_on(step, sql, identity)
    yield from settings(sql, was, now)
    yield from belongings_of(step, sql, was, now)


def _nullability(sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    table = sql.table(was)
    if was.not_null and not now.not_null:
        yield set_not_null(sql, was)
    elif now.not_null and not was.not_null:
        yield Piece(Rank.AFTER_TYPE, was.number, sql("column/drop_not_null", column=was), relation=table)
    elif was.not_null and not was.not_null_valid and now.not_null_valid:
        # there is no un-validate
        text = sql("constraint/drop", constraint=now._replace(name=now.not_null_name))
        yield Piece(Rank.DROP_CONSTRAINT, was.number, text, relation=table)
        yield set_not_null(sql, was)
    elif was.not_null and was.not_null_no_inherit != now.not_null_no_inherit:
        yield Piece(Rank.ALTER_COLUMN, was.number, sql("column/not_null_inherit", column=was), relation=table)
    if was.not_null_name and now.not_null_name and was.not_null_name != now.not_null_name:
        text = sql("constraint/rename", constraint=was, now=now.not_null_name, to=was.not_null_name)
        yield Piece(Rank.RENAME_PART, 0, text, relation=table)


def _expression(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    table = sql.table(was)
    if was.generated and now.generated and step.before.major >= _SET_EXPRESSION:
        yield Piece(
            Rank.COLUMN_TYPE, 0, sql("column/set_expression", column=was), relation=table, dangers=frozenset({"rewrites_table"})
        )
    elif not was.generated:
        raise Irreversible(f"column {was.name} of {table} cannot become a generated one in place")
    else:
        yield from aside.around_column(step, sql, now)
        yield Piece(Rank.DROP_COLUMN, 0, sql("column/drop", column=was), relation=table)
        yield Piece(
            Rank.CREATE_COLUMN,
            0,
            sql("column/add", column=was, definition=definition(step, sql, was)),
            relation=table,
            dangers=frozenset({"rewrites_table", "column_order"}),
        )
        yield from settings(sql, was, None)
        yield from belongings_of(step, sql, was, None)


# --- inherited -----------------------------------------------------------------------------------------------------


def _parent(step: Step, column: Any) -> Any:
    table = step.before.get("table", column.table_key)
    rows = (row for key in table.parent_keys for row in step.before.children("column", "table_key", key))
    return next((row for row in rows if row.name == column.name), None)


def _inherited(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    """A child's column follows its parent's, also on the way back; this is what it has of its own."""
    parent = _parent(step, was)
    if parent is None:
        return
    fields = next((c.fields for c in step.of("column") if c.before is not None and c.before.key == parent.key), frozenset())
    have = parent._replace(options=None, compression="") if now is None else now
    if now is not None and fields & {"default_hash", "type_key", "modifier", "collation"}:
        have = have._replace(default=parent.default)
    if now is not None and "not_null" in fields:
        have = have._replace(not_null=parent.not_null)
    if now is not None and fields & {"storage", "statistics"}:
        have = have._replace(storage=parent.storage, statistics=parent.statistics)
    table = sql.table(was)
    if was.default != have.default and not was.generated:
        drop = Piece(_AFTER_PARENT, was.number, sql("column/drop_default", column=was), relation=table)
        yield _set_default(sql, was) if was.default is not None else drop
    if was.not_null and not have.not_null:
        yield set_not_null(sql, was)
    elif have.not_null and not was.not_null:
        yield Piece(_AFTER_PARENT, was.number, sql("column/drop_not_null", column=was), relation=table)
    for piece in settings(sql, was, have):
        yield replace(piece, rank=_AFTER_PARENT)
    yield from belongings_of(step, sql, was, now)


def _set_default(sql: Sql, column: Any) -> Piece:
    rank, order = (_AFTER_PARENT, column.number) if column.inherited else (Rank.CREATE_COLUMN, 9000 + column.number)
    return Piece(rank, order, sql("column/set_default", column=column), relation=sql.table(column))


# --- losses, captures, checks --------------------------------------------------------------------------------------


def losses(step: Step, _sql: Sql) -> Iterator[Loss]:
    """Values that went, values written since, values that a change of type may have changed."""
    for change in step.of("column"):
        was, now = change.before, change.after
        if change.dropped and was.table_key not in step.dropped and was.local and not was.generated:
            yield Loss("values", _gone(step, was), (was.schema, was.table), was.name)
        elif change.created and now.table_key not in step.created and now.local and not now.generated:
            yield Loss(
                "values",
                "the column goes, and with it every value written into it since",
                (now.schema, now.table),
                now.name,
                since=True,
            )
        elif was is not None and now is not None and was.generated and not now.generated:
            reason = "the column is made again from its expression: what was written into it since goes"
            yield Loss("values", reason, (was.schema, was.table), was.name, since=True)
        elif was is not None and now is not None and change.fields & {"type_key", "modifier"}:
            reason = casts.loss(step, was, now)
            if reason:
                yield Loss("values", reason, (was.schema, was.table), was.name)
    for table, column in rewrites.computed(step):
        reason = "behind USING stands more than a cast: the values that it replaced are not known any more"
        yield Loss("values", reason, (table.schema, table.name), column.name)


def _gone(step: Step, column: Any) -> str:
    if column.default is not None:
        return "the column is added again with its default: its values went with it"
    if not column.not_null:
        return "the column is added again, empty: its values went with it"
    value = fill.placeholder(step, column)
    if value is None:
        return (
            "the column is added again; it must not be null, and nothing is known to put into it: "
            "this works on an empty table only"
        )
    return f"the column is added again; its values went with it, and as it must not be null, rows get the placeholder {value}"


def captures(step: Step, _sql: Sql) -> Iterator[Capture]:
    """Values of dropped columns, and of those whose type changes with loss."""
    for change in step.of("column"):
        was, now = change.before, change.after
        if change.dropped and was.table_key not in step.dropped and was.local and not was.generated:
            yield Capture((was.schema, was.table), (was.name,), "dropped")
        elif was is not None and now is not None and change.fields & {"type_key", "modifier"} and casts.loss(step, was, now):
            yield Capture((was.schema, was.table), (was.name,), "type changed")
    for table, column in rewrites.computed(step):
        yield Capture((table.schema, table.name), (column.name,), "computed anew")


def checks(step: Step, sql: Sql) -> Iterator[Check]:
    """NOT NULL comes back only where no null was written; a column without a value only onto an empty table."""
    for change in step.of("column"):
        was, now = change.before, change.after
        if was is None:
            continue
        if now is not None and was.not_null and was.not_null_valid and not now.not_null:
            yield Check(
                sql("column/nulls", column=was, name=now.name),
                f"{sql.table(was)}.{quoted(was.name)} holds nulls, and was NOT NULL before",
            )
        elif (
            change.dropped
            and was.table_key not in step.dropped
            and was.local
            and was.not_null
            and was.default is None
            and not was.identity
            and not was.generated
            and fill.placeholder(step, was) is None
        ):
            reason = f"{sql.table(was)} holds rows, and {quoted(was.name)} must not be null: give it values by hand first"
            yield Check(sql("column/any_row", column=was), reason)
    yield from _unheld(step, sql)


def _unheld(step: Step, sql: Sql) -> Iterator[Check]:
    """Values written since that the type of before would cut, or refuse. Where the migration itself has changed values, losses
    name them."""
    computed = {column.key for _, column in rewrites.computed(step)}
    for change in step.of("column"):
        was, now = change.before, change.after
        if was is None or now is None or was.generated or not was.local or not change.fields & {"type_key", "modifier"}:
            continue
        if was.type_kind == "e" or now.key in computed or casts.loss(step, was, now):
            continue
        condition = unheld(was, now, step.before, step.after)
        if condition is not None:
            reason = f"{sql.table(now)}.{quoted(now.name)} holds values that {was.type} does not hold, which it was before"
            yield Check(sql("column/unheld", column=now, condition=condition), reason)


FAMILY = Family(
    "column",
    frozenset({"column"}),
    ("ALTER TABLE ADD COLUMN", "ALTER TABLE DROP COLUMN", "ALTER TABLE ALTER COLUMN", "ALTER TABLE RENAME COLUMN"),
    reverse,
    captures=captures,
    checks=checks,
    losses=losses,
)
