"""Which dropped columns can be filled before the reverse's own transaction, and what is left for that to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.families.column import set_not_null
from naap_ops.reverse.images.model import KeptColumn
from naap_ops.reverse.images.staged import Staged, StagedColumn, name_of
from naap_ops.reverse.images.statements import Place
from naap_ops.reverse.model import Piece
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def fit(place: Place, gone: frozenset[int]) -> list[Any]:
    """Those of the columns (keys) that can be added by themselves, without rewriting the table."""
    return [row for _, _, row in _fit(place, gone)]


def _fit(place: Place, gone: frozenset[int]) -> list[tuple[int, KeptColumn, Any]]:
    return [
        (at, kept, row)
        for at, kept, row in place.columns()
        if row.key in gone and row.local and not row.inherited and not row.identity and row.type_kind != "d"
    ]


def staged(place: Place, gone: frozenset[int], last: Catalog) -> Staged | None:
    """What has to be done in the state ``last``, which the migration left; None where the table, or its key, is not a plain one
    there."""
    table = last.rows["table"].get(place.table.key)
    found = _fit(place, gone)
    if table is None or table.relkind != "r" or table.parent_keys or not found or not place.image.keep.key:
        return None
    if any(table.key in other.parent_keys for other in last.rows["table"].values()):
        return None
    keys = [last.rows["column"].get(place.first[kept.name].key) for kept in place.image.keep.key]
    if any(row is None for row in keys):
        return None
    pairs = list(zip(place.image.keep.key, keys, strict=True))
    columns = tuple(
        StagedColumn(
            name_of(place.image.table, row.number),
            row.type + (f" COLLATE {row.collation}" if row.collation else ""),
            place.back(at, kept, row),
        )
        for at, kept, row in found
    )
    return Staged(
        image=place.image.table,
        label=".".join(place.image.keep.relation),
        relation=(table.schema, table.name),
        key=tuple(row.name for row in keys if row is not None),
        keys=tuple(f"k{at}" for at, _ in enumerate(pairs, 1)),
        join=" AND ".join(_same(at, kept, row) for at, (kept, row) in enumerate(pairs, 1)),
        only="i.was" if place.image.keep.compared else "true",
        columns=columns,
    )


def _same(at: int, kept: KeptColumn, row: Any) -> str:
    """The key of the table is left as it is, so that its index is of use."""
    if kept.plain:
        return f"t.{quoted(row.name)} = i.k{at}"
    return f"t.{quoted(row.name)} = i.k{at}::{row.type}{f' COLLATE {row.collation}' if row.collation else ''}"


def naming(sql: Sql, column: Any, name: str) -> Iterator[Piece]:
    """In place of adding the column, what makes it of the one that is there, which lacks values of rows written since."""
    table = sql.table(column)
    rename = sql("column/rename", column=column, now=name)
    yield Piece(Rank.CREATE_COLUMN, column.number, rename, relation=table, dangers=frozenset({"column_order"}))
    if column.default is not None:
        yield Piece(Rank.CREATE_COLUMN + 1, column.number, sql("column/set_default", column=column), relation=table)
        if column.not_null:
            yield set_not_null(sql, column)


def completing(place: Place, column: Any) -> Iterator[str]:
    """Rows that came meanwhile under a key of the image get its value, others what adding the column would have given them."""
    [(at, kept)] = [(at, kept) for at, kept, row in place.columns() if row.key == column.key]
    table, name, value = place.sql.name(place.table), quoted(column.name), place.back(at, kept, column)
    was = " AND i.was" if place.image.keep.compared else ""
    yield place.counted(
        f"UPDATE {table} t SET {name} = {value} FROM {place.image.name} i "
        f"WHERE {place.join} AND t.{name} IS NULL AND {value} IS NOT NULL{was}",
        whole=False,
    )
    if column.default is not None:
        since = "" if column.not_null else f" AND NOT EXISTS (SELECT FROM {place.image.name} i WHERE {place.join})"
        yield f"UPDATE {table} t SET {name} = DEFAULT WHERE t.{name} IS NULL{since}"
