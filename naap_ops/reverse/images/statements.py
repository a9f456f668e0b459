"""The statements that bring rows back from an image, and the one that notes what may be brought back, as SQL.

A *place* is the state in which they run: names and types are those of its catalog. What was noted at the very beginning stands
in a temporary table, as values can no longer be compared once their column has another type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.images.model import Image, Keep, KeptColumn
from naap_ops.reverse.images.taking import TEXT, changed_by, differ, value_after
from naap_ops.reverse.render import Sql, literal, quoted

CONFLICTS = 'pg_temp."naap_ops conflicts"'
RESTORED = 'pg_temp."naap_ops restored"'
OPENING = (
    "SET LOCAL row_security = off",
    'CREATE TEMPORARY TABLE "naap_ops conflicts" (relation text, key text, columns text[]) ON COMMIT DROP',
    'CREATE TEMPORARY TABLE "naap_ops restored" (relation text, rows bigint, whole boolean DEFAULT true) ON COMMIT DROP',
)
"""What has to run before anything that is counted."""

COUNTED = f"""
select relation, coalesce(sum(rows) filter (where whole), 0)::bigint + coalesce(max(rows) filter (where not whole), 0)
from {RESTORED} group by 1 order by 1
"""
"""Rows by table: those that came or went, and those of which values changed, each once."""


def noted(image: Image) -> str:
    """The temporary table in which it stands what may be put back."""
    return f"pg_temp.{quoted(f'naap_ops put {image.table}')}"


def label(image: Image) -> str:
    """The table as people name it, as an SQL literal."""
    return literal(".".join(image.keep.relation))


# --- what may be put back -------------------------------------------------------------------------------------------


def note(image: Image, table: str, *, force: bool, parked: bool = False) -> Iterator[str]:
    """Run in the state that the migration left. ``table``: its name now. ``force``: whatever was written since. ``parked``:
    rows that the migration put there and somebody has changed since go, too, for they are parked (:func:`changed_since`)."""
    keep = image.keep
    keys = ", ".join(f"i.k{at}" for at, _ in enumerate(keep.key, 1))
    on, kept = _on(keep), _lasting(keep)
    there, same = "t.ctid IS NOT NULL", _same(kept, force or parked)
    flags = [
        "i.was AND NOT i.stays AND t.ctid IS NULL AS add",
        f"NOT i.was AND i.stays AND {there} AND {same} AS take",
        *(f"{there} AND {_may_be_put(at, column, force)} AS c{at}" for at, column in kept),
    ]
    yield f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"
    yield (
        f"CREATE TEMPORARY TABLE {quoted(f'naap_ops put {image.table}')} ON COMMIT DROP AS "
        f"SELECT {keys}, {', '.join(flags)}, {_conflict(kept, same, force)} AS conflicts "
        f"FROM {image.name} i LEFT JOIN {table} t ON {on}"
    )
    told = ", ".join(f"k{at}" for at, _ in enumerate(keep.key, 1))
    yield (
        f"INSERT INTO {CONFLICTS} SELECT {label(image)}, concat_ws(', ', {told}), conflicts "
        f"FROM {noted(image)} WHERE conflicts IS NOT NULL"
    )
    yield f"ANALYZE {noted(image)}"


def changed_since(image: Image) -> str:
    """SQL: the migration put the row ``t`` there, and somebody has changed it since."""
    return f"EXISTS ({_came(image)} AND NOT ({_same(_lasting(image.keep), force=False)}))"


def unchanged_since(image: Image) -> str:
    """SQL: the migration put the row ``t`` there, and it still is as it was then."""
    return f"EXISTS ({_came(image)} AND ({_same(_lasting(image.keep), force=False)}))"


def _came(image: Image) -> str:
    return f"SELECT FROM {image.name} i WHERE {_on(image.keep)} AND NOT i.was AND i.stays"


def _on(keep: Keep) -> str:
    return " AND ".join(f"{value_after(column)} = i.k{at}" for at, column in enumerate(keep.key, 1))


def _lasting(keep: Keep) -> list[tuple[int, KeptColumn]]:
    return [(at, column) for at, column in enumerate(keep.columns, 1) if column.after is not None]


def _same(kept: Sequence[tuple[int, KeptColumn]], force: bool) -> str:
    """The row is as the migration left it."""
    if force or not kept:
        return "true"
    return f"NOT ({' OR '.join(_written(at, column) for at, column in kept)})"


def _written(at: int, column: KeptColumn) -> str:
    return differ(value_after(column), f"i.q{at}", column.equal)


def _may_be_put(at: int, column: KeptColumn, force: bool) -> str:
    changed = f"i.was AND i.stays AND {changed_by(at, column, 'i', 'i')}"
    return f"(i.was AND NOT i.stays OR {changed})" if force else f"{changed} AND NOT ({_written(at, column)})"


def _conflict(kept: Sequence[tuple[int, KeptColumn]], same: str, force: bool) -> str:
    """Columns in which something was written since, ``{}`` for a whole row, null for no conflict."""
    if force:
        return "NULL::text[]"
    columns = [
        f"CASE WHEN {changed_by(at, column, 'i', 'i')} AND {_written(at, column)} THEN {literal(column.name)} END"
        for at, column in kept
    ]
    listed = f"nullif(array_remove(ARRAY[{', '.join(columns)}]::text[], NULL), '{{}}')" if columns else "NULL::text[]"
    return (
        "CASE WHEN t.ctid IS NULL THEN NULL WHEN i.was AND NOT i.stays THEN '{}'::text[] "
        f"WHEN NOT i.was AND NOT ({same}) THEN '{{}}'::text[] WHEN i.was AND i.stays THEN {listed} END"
    )


# --- putting it back ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """One table in the state in which its rows come back: ``table`` is its row in ``catalog``, ``first`` its columns before the
    migration, by name. A column is the same one, or was made again, when its key is the same. ``put_off``: the table was made
    again, and its rows come back later, when it can be known by its key which of them may."""

    image: Image
    table: Any
    catalog: Catalog
    first: dict[str, Any]
    sql: Sql
    put_off: bool = False

    def column(self, kept: KeptColumn) -> Any:
        """The column here, None where it is not there (any more, yet) or cannot be written to."""
        row = self.catalog.rows["column"].get(self.first[kept.name].key)
        return None if row is None or row.generated else row

    def back(self, at: int, kept: KeptColumn, row: Any, *, of: str = "i") -> str:
        """The value before, as this column takes it. Only where the type is another there is a cast: one that cuts is none."""
        was = self.first[kept.name]
        return f"{of}.p{at}" if kept.plain and row.type_key == was.type_key else f"{of}.p{at}::{row.type}"

    @property
    def join(self) -> str:
        """SQL: a row of the table, ``t``, is the one of the image, ``i``."""
        return self.joined("t", "i")

    def joined(self, table: str, image: str) -> str:
        """The same for other aliases; ``image`` may also be what was noted."""
        found = []
        for at, kept in enumerate(self.image.keep.key, 1):
            row = self.catalog.rows["column"][self.first[kept.name].key]
            found.append(f"{table}.{quoted(row.name)}{'' if kept.plain else TEXT} = {image}.k{at}")
        return " AND ".join(found)

    @property
    def joinable(self) -> bool:
        """The key is there, in this state."""
        return bool(self.image.keep.key) and all(
            self.first[kept.name].key in self.catalog.rows["column"] for kept in self.image.keep.key
        )

    @property
    def key(self) -> tuple[str, ...]:
        """The names of its columns, in this state."""
        return tuple(self.catalog.rows["column"][self.first[kept.name].key].name for kept in self.image.keep.key)

    @property
    def compared(self) -> bool:
        """It is known, row by row by its key, what may be put back."""
        return bool(self.image.keep.key) and (self.image.keep.compared or self.put_off)

    def noted_all(self) -> str:
        """Where nothing was compared: every row may come back, as far as is known."""
        keys = ", ".join(f"i.k{at}" for at, _ in enumerate(self.image.keep.key, 1))
        name = quoted(f"naap_ops put {self.image.table}")
        noting = f"SELECT {keys}, true AS add, false AS take FROM {self.image.name} i"
        return f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS {noting}"

    @property
    def _noted(self) -> str:
        on = " AND ".join(f"w.k{at} = i.k{at}" for at, _ in enumerate(self.image.keep.key, 1))
        return f"{self.image.name} i JOIN {noted(self.image)} w ON {on}"

    def counted(self, statement: str, *, whole: bool = True, only: str = "true") -> str:
        counted = f"SELECT {label(self.image)}, count(*) FILTER (WHERE counted), {str(whole).lower()} FROM done"
        return f"WITH done AS ({statement} RETURNING {only} AS counted) INSERT INTO {RESTORED} {counted}"

    def columns(self) -> list[tuple[int, KeptColumn, Any]]:
        """What the image holds, its number there and the column here, where there is one."""
        found = ((at, kept, self.column(kept)) for at, kept in enumerate(self.image.keep.columns, 1))
        return [(at, kept, row) for at, kept, row in found if row is not None]

    def filled(self, keys: frozenset[int]) -> str | None:
        """Columns (keys) that were made again get the values that they had."""
        sets = [f"{quoted(row.name)} = {self.back(at, kept, row)}" for at, kept, row in self.columns() if row.key in keys]
        if not sets:
            return None
        was, only = (" AND i.was", "i.stays") if self.image.keep.compared else ("", "true")  # others were just inserted
        text = f"UPDATE {self.sql.name(self.table)} t SET {', '.join(sets)} FROM {self.image.name} i WHERE {self.join}{was}"
        return self.counted(text, whole=False, only=only)

    def fills(self, keys: frozenset[int]) -> list[str]:
        """The same with what has to be before and after it: columns that make their values themselves take some, too, and go on
        after them."""
        text = self.filled(keys)
        if text is None:
            return []
        table = self.sql.name(self.table)
        always = [f"ALTER TABLE {table} ALTER COLUMN {quoted(row.name)} SET GENERATED" for row in self._always(keys)]
        carried_on = self.carried_on(keys)
        begin, end = [f"{each} BY DEFAULT" for each in always], [f"{each} ALWAYS" for each in always]
        return [*begin, text, *end, *carried_on, *self._counted_on(keys)]

    def _counted_on(self, keys: frozenset[int]) -> Iterator[str]:
        """Rows written since got numbers when the column was made again, which may be those of others."""
        counting = {row.column_key for row in self.catalog.rows["sequence"].values()} & keys
        names = [quoted(row.name) for _, _, row in self.columns() if row.key in counting]
        if names:
            sets = ", ".join(f"{name} = DEFAULT" for name in names)
            new = f"NOT EXISTS (SELECT FROM {self.image.name} i WHERE {self.join})"
            yield f"UPDATE {self.sql.name(self.table)} t SET {sets} WHERE {new}"

    def _always(self, keys: frozenset[int]) -> list[Any]:
        return [row for _, _, row in self.columns() if row.key in keys and row.identity == "a"]

    def inserted(self, *, everything: bool) -> str:
        """Rows that went: all of a table that was made again, else those that may be put back."""
        columns = self.columns()
        names = ", ".join(quoted(row.name) for _, _, row in columns)
        values = ", ".join(self.back(at, kept, row) for at, kept, row in columns)
        source = f"{self.image.name} i" if everything or not self.image.keep.key else f"{self._noted} WHERE w.add"
        if not columns:  # a table without columns has rows all the same
            return f"INSERT INTO {self.sql.name(self.table)} SELECT FROM {source}"
        return f"INSERT INTO {self.sql.name(self.table)} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {source}"

    def inserted_counted(self, *, everything: bool) -> str:
        """The same, counted."""
        return self.counted(self.inserted(everything=everything))

    def updated(self) -> str | None:
        """Values that the migration replaced, where they may be put back."""
        keys = {kept.name for kept in self.image.keep.key}
        columns = [
            (at, kept, row)
            for at, kept, row in self.columns()
            if kept.after is not None and kept.name not in keys and row.identity != "a"
        ]
        if not columns:
            return None
        sets = ", ".join(
            f"{quoted(row.name)} = CASE WHEN w.c{at} THEN {self.back(at, kept, row)} ELSE t.{quoted(row.name)} END"
            for at, kept, row in columns
        )
        some = " OR ".join(f"w.c{at}" for at, _, _ in columns)
        text = f"UPDATE {self.sql.name(self.table)} t SET {sets} FROM {self._noted} WHERE {self.join} AND ({some})"
        return self.counted(text, whole=False)

    def taken(self) -> str:
        """Rows that the migration put there, and nobody has changed since, go."""
        return self.counted(f"DELETE FROM {self.sql.name(self.table)} t USING {self._noted} WHERE {self.join} AND w.take")

    def carried_on(self, keys: frozenset[int] | None = None) -> Iterator[str]:
        """Sequences of the table, or of these columns, go on after the greatest value that has come back, where they stand
        before it."""
        for column in self.catalog.children("column", "table_key", self.table.key):
            if keys is not None and column.key not in keys:
                continue
            for row in self.catalog.children("sequence", "column_key", column.key):
                name, most, sign = self.sql.name(row), *(("max", ">=") if row.increment > 0 else ("min", "<="))
                value = f"{most}({quoted(column.name)})"
                if column.type in ("smallint", "integer", "bigint"):
                    yield (
                        f"SELECT pg_catalog.setval({literal(name)}::regclass, {value}) FROM {self.sql.name(self.table)} "
                        f"HAVING {value} {sign} (SELECT last_value FROM {name}) "
                        f"AND {value} BETWEEN {row.minimum} AND {row.maximum}"
                    )

    def not_in_image(self) -> str:
        """A query for rows that were written since."""
        return (
            f"SELECT 1 FROM {self.sql.name(self.table)} t WHERE NOT EXISTS (SELECT FROM {self.image.name} i WHERE {self.join})"
        )
