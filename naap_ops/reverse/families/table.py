"""Tables: made, dropped, renamed, moved, attached, and their options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.families import column as columns
from naap_ops.reverse.families import trigger
from naap_ops.reverse.model import Capture, Family, Irreversible, Loss, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, change back what was changed."""
    for change in step.of("table"):
        if change.created:
            yield Piece(
                Rank.DROP_TABLE,
                -change.after.key,
                sql("table/drop", table=change.after),
                relation=sql.name(change.after),
                dangers=frozenset({"deletes_data"}),
            )
        elif change.dropped:
            yield from _dropped(step, sql, change.before)
        else:
            yield from _altered(step, sql, change)


def phrase(sql: Sql, table: Any) -> str:
    """SQL's words for it."""
    return ("FOREIGN TABLE " if table.relkind == "f" else "TABLE ") + sql.name(table)


def _dropped(step: Step, sql: Sql, table: Any) -> Iterator[Piece]:
    if table.relkind == "f":
        raise Irreversible(f"foreign table {sql.name(table)} was dropped: its options are not read")
    own = sorted(step.before.children("column", "table_key", table.key), key=lambda row: row.number)
    text = sql("table/create", table=table, columns=list(_body(step, sql, table, own)))
    yield Piece(Rank.CREATE_TABLE, table.key, text, relation=sql.name(table))
    if table.bound is not None:
        text = sql("table/attach", table=table, parent=table.parents[0], bound=table.bound)
        yield Piece(Rank.ALTER_TABLE - 1, table.key, text, relation=sql.name(table))
    for row in own:
        yield from columns.settings(sql, row, None)
        yield from columns.belongings_of(step, sql, row, None)
    yield from _options(sql, table, None)
    yield from belongings(step, phrase(sql, table), "table", table, None, order=table.key)


def _body(step: Step, sql: Sql, table: Any, own: list[Any]) -> Iterator[str]:
    """What stands in the parentheses: what the table has from a type or a parent is not said, but what differs is."""
    for row in own:
        if table.bound is not None:
            # attaching gives it its parent's identity
            yield columns.definition(step, sql, row if row.local else row._replace(identity=""))
        elif row.local and not table.of_type:
            yield columns.definition(step, sql, row)
        elif table.of_type:
            if row.not_null or row.default is not None:
                yield columns.definition(step, sql, row, of_type=True)
        elif row.not_null_name is not None and row.not_null_local:
            yield sql("column/not_null", column=row)


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    if "schema" in fields:
        yield Piece(Rank.RENAME, 0, sql("table/move", table=now, to=was.schema), relation=sql.name(now))
    if "name" in fields:
        yield Piece(Rank.RENAME, 1, sql("table/rename", schema=was.schema, table=now, to=was.name), relation=sql.name(now))
    if "parent_keys" in fields or "bound" in fields:
        yield from _parents(step, sql, was, now)
    if "key_triggers" in fields and was.key_triggers and now.key_triggers:
        yield from _key_triggers(step, sql, was)
    if "of_type" in fields:
        yield Piece(Rank.ALTER_TABLE, 1, sql("table/of", table=was), relation=sql.name(was))
    yield from _options(sql, was, now)
    yield from belongings(step, phrase(sql, was), "table", was, now)


def _key_triggers(step: Step, sql: Sql, was: Any) -> Iterator[Piece]:
    """Only ALL reaches them, so that the others are put back one by one afterwards."""
    if was.key_triggers not in ("O", "D"):
        raise Irreversible(f"some of the triggers of foreign keys of {sql.name(was)} were off: which cannot be said by name")
    yield Piece(
        Rank.CREATE_TRIGGER, 0, sql("table/all_triggers", table=was, on=was.key_triggers == "O"), relation=sql.name(was)
    )
    for row in step.before.children("trigger", "table_key", was.key):
        if row.enabled != was.key_triggers:
            yield trigger.switch(sql, row)


def _parents(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    relation = sql.name(was)
    for key, parent in zip(now.parent_keys, now.parents, strict=True):
        if key not in was.parent_keys and key not in step.created:
            yield Piece(
                Rank.DROP_PUBLICATION,
                5,
                sql("table/detach", table=now, parent=parent, partition=now.bound is not None),
                relation=relation,
            )
    for key, parent in zip(was.parent_keys, was.parents, strict=True):
        if key not in now.parent_keys:
            _stays_own(step, sql, was, now)
            yield Piece(Rank.ATTACH, was.key, sql("table/attach", table=was, parent=parent, bound=was.bound), relation=relation)


def _stays_own(step: Step, sql: Sql, was: Any, now: Any) -> None:
    if was.bound is not None:
        return  # of a partition, attaching makes all of it its parent's again
    own = [
        c.before.name
        for kind in ("column", "constraint")
        for c in step.of(kind)
        if c.before is not None
        and c.after is not None
        and c.before.table_key == now.key
        and c.fields & {"local", "not_null_local"}
    ]
    if own:
        raise Irreversible(f"{', '.join(own)} of {sql.name(was)} would stay its own, though inherited before NO INHERIT")


def _options(sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    relation = sql.name(was)
    if was.row_security != (now.row_security if now else False):
        # the flag goes off before policies come back, and on after them: no moment in which everything is denied
        rank = Rank.ROW_SECURITY if was.row_security else Rank.DROP_PUBLICATION
        yield Piece(
            rank, 0, sql("table/row_security", table=was if was.row_security else now, on=was.row_security), relation=relation
        )
    if was.force_row_security != (now.force_row_security if now else False):
        yield Piece(
            Rank.ROW_SECURITY, 1, sql("table/force_row_security", table=was, on=was.force_row_security), relation=relation
        )
    if was.replica_identity not in {now.replica_identity if now else "d", "i"}:
        yield Piece(Rank.ALTER_TABLE, 2, sql("table/replica_identity", table=was), relation=relation)
    if now is None:
        return
    if was.persistence != now.persistence:
        yield Piece(
            Rank.ALTER_TABLE, 3, sql("table/persistence", table=was), relation=relation, dangers=frozenset({"rewrites_table"})
        )
    for prefix, old, new in (("", was.options, now.options), ("toast.", was.toast_options, now.toast_options)):
        if old != new:
            for text in sql("table/options", table=was, prefix=prefix, old=old or [], new=new or []).split(";\n"):
                yield Piece(Rank.ALTER_TABLE, 4, text, lock="SHARE UPDATE EXCLUSIVE", relation=relation)
    if was.access_method != now.access_method:
        yield Piece(
            Rank.ALTER_TABLE, 5, sql("table/access_method", table=was), relation=relation, dangers=frozenset({"rewrites_table"})
        )
    if was.tablespace != now.tablespace:
        yield Piece(
            Rank.ALTER_TABLE, 6, sql("table/tablespace", table=was), relation=relation, dangers=frozenset({"rewrites_table"})
        )


def losses(step: Step, _sql: Sql) -> Iterator[Loss]:
    """Rows of dropped tables; rows written since into made ones."""
    for change in step.of("table"):
        if change.dropped:
            yield Loss(
                "rows", "the table is made again, empty: its rows went with it", (change.before.schema, change.before.name)
            )
        elif change.created:
            reason = "the table goes, and with it every row written into it since"
            yield Loss("rows", reason, (change.after.schema, change.after.name), since=True)


def captures(step: Step, _sql: Sql) -> Iterator[Capture]:
    """Every row of a dropped table."""
    for change in step.of("table"):
        if change.dropped and change.before.relkind == "r":
            yield Capture((change.before.schema, change.before.name), None, "dropped")


FAMILY = Family(
    "table",
    frozenset({"table"}),
    (
        "CREATE TABLE",
        "DROP TABLE",
        "ALTER TABLE RENAME",
        "ALTER TABLE SET",
        "ALTER TABLE ATTACH",
        "ALTER TABLE DETACH",
        "ALTER TABLE ENABLE",
        "ALTER TABLE DISABLE",
        "ALTER TABLE FORCE",
        "ALTER TABLE NO FORCE",
        "ALTER TABLE REPLICA",
        "ALTER TABLE OWNER",
        "ALTER TABLE INHERIT",
        "ALTER TABLE NO INHERIT",
        "SELECT INTO",
        "COMMENT",
        "GRANT",
        "REVOKE",
    ),
    reverse,
    captures=captures,
    losses=losses,
)
