"""Indexes. Those behind constraints come and go with them; here are only their options, flags and names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.difference import Change
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Check, Family, Irreversible, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped from the server's own definition."""
    for change in step.of("index"):
        if change.created:
            now = change.after
            own = not now.parent_key or now.table_key in step.relinked  # what attaching made stays when it is detached
            if own and not now.constraint and now.table_key not in step.created:
                yield drop(sql, change.after, concurrently=_concurrent(step))
        elif change.dropped:
            yield from create(step, sql, change.before, concurrently=_concurrent(step))
        else:
            yield from _altered(step, sql, change)


def _concurrent(step: Step) -> bool:
    return not step.statement.transactional and any("CONCURRENTLY" in kind for kind in step.statement.kinds)


def drop(sql: Sql, index: Any, *, concurrently: bool = False) -> Piece:
    """Drop an index."""
    lock = "SHARE UPDATE EXCLUSIVE" if concurrently else "ACCESS EXCLUSIVE"
    text = sql("index/drop", index=index, concurrently=concurrently)
    return Piece(Rank.DROP_INDEX, -index.key, text, lock=lock, relation=sql.table(index), transactional=not concurrently)


def create(step: Step, sql: Sql, index: Any, *, concurrently: bool = False) -> Iterator[Piece]:
    """Make an index again, with all that belongs to it."""
    view = step.before.get("view", index.table_key) is not None
    rank, order = int(Rank.CREATE_VIEW_INDEX if view else Rank.CREATE_INDEX), index.key
    if index.parent_key:
        # a partition's first: its parent's then takes it for its own, and it keeps its name
        rank, order = rank - 1, -_depth(step, index)
    if not index.constraint:
        yield Piece(
            rank,
            order,
            sql("index/create", index=index, definition=_definition(sql, index), concurrently=concurrently),
            lock="SHARE UPDATE EXCLUSIVE" if concurrently else "SHARE",
            relation=sql.table(index),
            transactional=not concurrently,
            dangers=frozenset({"index_build"}),
        )
        yield from belongings(step, f"INDEX {sql.name(index)}", "", index, None)
    yield from _properties(step, sql, index, None)


def _definition(sql: Sql, index: Any) -> str:
    """The server's words, which leave out the tablespace; its place is before the predicate."""
    if not index.tablespace:
        return str(index.definition)
    where = f" WHERE {index.predicate}" if index.predicate else ""
    head = index.definition.removesuffix(where)
    if where and head == index.definition:
        raise Irreversible(f"index {sql.name(index)} has a tablespace and a predicate that cannot be told apart")
    return f"{head} TABLESPACE {quoted(index.tablespace)}{where}"


def _depth(step: Step, index: Any) -> int:
    parent = step.before.get("index", index.parent_key)
    return 1 + _depth(step, parent) if parent is not None else 0


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now = change.before, change.after
    if "parent_key" in change.fields and now.parent_key and now.table_key not in step.relinked:
        if now.parent_key in step.before.rows["index"]:
            raise Irreversible(f"index {sql.name(was)} was attached to a partitioned one, from which it cannot be detached")
        yield from create(step, sql, was)  # it goes with the parent that took it
        return
    if now.constraint and not was.constraint:
        yield from create(step, sql, was)  # it goes with the constraint that took it
        return
    if "name" in change.fields and not was.constraint:
        yield Piece(
            Rank.RENAME_PART,
            0,
            sql("index/rename", index=now, to=was.name),
            lock="SHARE UPDATE EXCLUSIVE",
            relation=sql.table(was),
        )
    yield from _properties(step, sql, was, now)
    yield from belongings(step, f"INDEX {sql.name(was)}", "", was, now)


def _clustered(step: Step, table_key: int) -> bool:
    return any(row.clustered for row in step.before.children("index", "table_key", table_key))


def _properties(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    table = sql.table(was)
    # of a view that is made again they come after its indexes
    rank = (
        Rank.CREATE_VIEW_INDEX + 1 if now is None and step.before.get("view", was.table_key) is not None else Rank.ALTER_TABLE
    )
    if (was.clustered and not (now and now.clustered)) or (
        not was.clustered and now and now.clustered and not _clustered(step, was.table_key)
    ):
        yield Piece(rank, 0, sql("index/cluster", index=was), lock="SHARE UPDATE EXCLUSIVE", relation=table)
    if was.replica_identity and not (now and now.replica_identity):
        yield Piece(rank, 1, sql("index/replica_identity", index=was), relation=table)
    for name in sorted(set(was.depends_on) ^ set(now.depends_on if now else [])):
        text = sql("index/depends_on", index=was, extension=name, on=name in was.depends_on)
        yield Piece(rank, 5, text, relation=table)
    if was.statistics != (now.statistics if now else []):
        for number, target in _targets(was.statistics, now.statistics if now else []):
            text = sql("index/statistics", index=was, number=number, target=target)
            yield Piece(rank, 2, text, lock="SHARE UPDATE EXCLUSIVE", relation=table)
    if was.options != (now.options if now else was.options if not was.constraint else None):
        for text in sql("index/options", index=was, now=now).split(";\n"):
            yield Piece(rank, 3, text, lock="SHARE UPDATE EXCLUSIVE", relation=table)
    if was.tablespace != (now.tablespace if now else was.tablespace if not was.constraint else None):
        yield Piece(rank, 4, sql("index/tablespace", index=was), relation=table, dangers=frozenset({"rewrites_table"}))


def _targets(was: list[str], now: list[str]) -> Iterator[tuple[str, str]]:
    old, new = dict(x.split("=") for x in was), dict(x.split("=") for x in now)
    for number in sorted(old.keys() | new.keys()):
        if old.get(number) != new.get(number):
            yield number, old.get(number, "-1")


def checks(step: Step, sql: Sql) -> Iterator[Check]:
    """A unique index can only be made again while its values are unique."""
    for change in step.of("index"):
        if change.dropped and change.before.unique and not change.before.constraint:
            query = unique_check(step, sql, change.before)
            if query:
                yield Check(
                    query, f"duplicates: unique index {change.before.name} on {sql.table(change.before)} cannot be made again"
                )


def unique_check(step: Step, sql: Sql, index: Any) -> str:
    """A query for the values that are there twice, '' where they cannot be named in the state in which it is asked."""
    columns = {row.name for row in step.after.rows["column"].values() if row.table_key == index.table_key}
    parts = index.definition.partition(" USING ")[2].partition("(")[2]
    keys = [part.strip().strip('"') for part in parts.split(")")[0].split(",")]
    if " WHERE " in index.definition or not keys or not set(keys) <= columns:
        return ""
    return sql("index/duplicates", index=index, columns=keys, nulls_distinct="NULLS NOT DISTINCT" not in index.definition)


FAMILY = Family(
    "index", frozenset({"index"}), ("CREATE INDEX", "DROP INDEX", "ALTER INDEX", "REINDEX", "CLUSTER"), reverse, checks=checks
)
