"""What must be so for a reverse to be the right one: the tables and enums that it touches are as the migration left them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from naap_ops.postgres.catalog.difference import changes
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.render import Sql, literal


@dataclass(frozen=True)
class Guard:
    """An SQL condition, and what it means when it does not hold."""

    condition: str
    reason: str


def guards(before: Catalog, after: Catalog, sql: Sql, besides: Collection[str] = ()) -> list[Guard]:
    """Conditions on the state in which the reverse starts. ``besides``: names of columns that may be there, too."""
    found = list(changes(before, after))
    tables = dict.fromkeys(_touched(found, after))
    return [*_tables(after, tables, sql, besides), *_gone(found, after, sql), *_enums(found, sql)]


def _touched(found: list[Any], after: Catalog) -> Iterator[int]:
    for change in found:
        row = change.after or change.before
        key = row.key if change.kind.name == "table" else getattr(row, "table_key", None)
        if key is not None and key in after.rows["table"]:
            yield key


def _tables(after: Catalog, keys: dict[int, None], sql: Sql, besides: Collection[str]) -> Iterator[Guard]:
    passed_over = f" AND attname <> ALL (ARRAY[{', '.join(map(literal, besides))}])" if besides else ""
    columns: dict[int, list[Any]] = {key: [] for key in keys}
    for row in after.rows["column"].values():
        if row.table_key in columns:
            columns[row.table_key].append(row)
    for key, rows in columns.items():
        table = sql.name(after.rows["table"][key])
        shape = sorted(f"{row.name} {row.type}{' not null' if row.not_null else ''}" for row in rows)
        digest = hashlib.md5("\n".join(sorted(shape, key=str.encode)).encode(), usedforsecurity=False).hexdigest()
        condition = (
            "SELECT md5(string_agg(shape, E'\\n' ORDER BY shape COLLATE \"C\")) = "
            f"{literal(digest)} FROM (SELECT attname || ' ' || format_type(atttypid, atttypmod) "
            "|| CASE WHEN attnotnull THEN ' not null' ELSE '' END "
            f"FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass({literal(table)}) "
            f"AND attnum > 0 AND NOT attisdropped{passed_over}) t (shape)"
        )
        if rows:
            yield Guard(condition, f"table {table} has other columns, or is not there")


def _gone(found: list[Any], after: Catalog, sql: Sql) -> Iterator[Guard]:
    there = {(row.schema, row.name) for kind in ("table", "view", "sequence") for row in after.rows[kind].values()}
    for change in found:
        if change.kind.name in ("table", "view") and change.dropped and (change.before.schema, change.before.name) not in there:
            name = sql.name(change.before)
            yield Guard(f"to_regclass({literal(name)}) IS NULL", f"{name} exists, and the migration dropped it")


def _enums(found: list[Any], sql: Sql) -> Iterator[Guard]:
    for change in found:
        now = change.after
        if change.kind.name == "type" and now is not None and now.typtype == "e":
            labels = ", ".join(map(literal, now.labels))
            array = f"ARRAY[{labels}]::text[]" if labels else "'{}'::text[]"
            name = literal(sql.name(now))
            condition = (
                f"SELECT array_agg(enumlabel::text ORDER BY enumsortorder) = {array} "
                f"FROM pg_catalog.pg_enum WHERE enumtypid = to_regtype({name})"
            )
            if labels:
                yield Guard(condition, f"enum {sql.name(now)} has other values, or is not there")
