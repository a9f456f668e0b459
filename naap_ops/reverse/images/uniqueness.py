"""Unique values that somebody else has by now: the newer row keeps its own, the older one, or its older value, stays away.

Who has a value in the end is what counts: that of a row which gets an older one back itself is free. Such rows first get out of
each other's way, as the server looks at each row when it is written, not at the end of the statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.fill import distinct
from naap_ops.reverse.images.keeps import unique
from naap_ops.reverse.images.model import KeptColumn
from naap_ops.reverse.images.referring import same, unmark, until_none
from naap_ops.reverse.images.statements import CONFLICTS, Place, label, noted
from naap_ops.reverse.references import Reference
from naap_ops.reverse.render import literal, quoted


@dataclass(frozen=True)
class _Part:
    """A column of a unique key. ``at``, ``kept``: of the image, where it has it. ``changes``: an older value can come back."""

    row: Any
    at: int
    kept: KeptColumn | None
    changes: bool

    def now(self, alias: str) -> str:
        return f"{alias}.{quoted(self.row.name)}"


class Keys:
    """The unique keys of one table, where its rows come back, that images have to do with."""

    def __init__(self, place: Place, first: Catalog, references: Sequence[Reference]) -> None:
        self.place = place
        self.table = place.sql.name(place.table)
        self.foreign = {row.key for each in references if each.child.key == place.table.key for row in each.columns}
        self.foreign |= {row.key for each in references if each.parent.key == place.table.key for row in each.referenced}
        columns = {row.key: row for row in place.catalog.children("column", "table_key", place.table.key)}
        image = {row.key: (at, kept) for at, kept, row in place.columns()}
        own = {kept.name for kept in place.image.keep.key}
        self.keys: list[list[_Part]] = []
        numbers = {tuple(sorted(each)) for state in (place.catalog, first) for each in unique(state, place.table.key)}
        for each in sorted(numbers):
            rows = [columns.get((place.table.key << 16) | number) for number in each]
            if None not in rows and not all(row.name in own for row in rows if row is not None):
                parts = [(row, *image.get(row.key, (0, None))) for row in rows if row is not None]
                self.keys.append([_Part(row, at, kept, _changes(kept, row, own)) for row, at, kept in parts])

    def free(self, *, rows: bool) -> str | None:
        """What may not be put back, as others have it by now. ``rows``: whole rows as well."""
        rounds = [
            self._values(key, held)
            for key in self.keys
            if any(part.changes for part in key)
            for held in self._held(key, other=True)
        ]
        if rows:
            rounds += [
                self._rows(held) for key in self.keys if all(part.at for part in key) for held in self._held(key, other=False)
            ]
        return until_none(rounds)

    def aside(self, *, rows: bool) -> Iterator[str]:
        """Rows that get an older value give way to those that get theirs."""
        for key in self.keys:
            parts = [part for part in key if part.changes and part.row.key not in self.foreign]
            values = {part: "NULL" if not part.row.not_null else distinct(part.row, of="t.") for part in parts}
            if not parts or any(value is None for value in values.values()):
                continue
            sets = ", ".join(
                f"{quoted(part.row.name)} = CASE WHEN w.c{part.at} THEN {value} ELSE {part.now('t')} END"
                for part, value in values.items()
            )
            some = " OR ".join(f"w.c{part.at}" for part in parts)
            held = " AND ".join(f"{self._final(part, 'o')} = {part.now('t')}" for part in key)
            wanted = f"SELECT FROM {self._changing('o')} WHERE {_some(key, 'o')} AND {held}"
            in_the_way = [wanted]
            if rows and (came := " AND ".join(f"{self._back(part, 'oi')} = {part.now('t')}" for part in key if part.at)):
                in_the_way.append(f"SELECT FROM {self._noted('o')} WHERE ow.add AND {came}")
            for each in in_the_way:
                yield (
                    f"UPDATE {self.table} t SET {sets} FROM {noted(self.place.image)} w "
                    f"WHERE {self.place.joined('t', 'w')} AND ({some}) AND EXISTS ({each})"
                )

    # --- rounds -------------------------------------------------------------------------------------------------------

    def _values(self, key: list[_Part], held: str) -> str:
        """Values that another row has, or gets."""
        changing = [part for part in key if part.changes]
        unset = ", ".join(f"c{part.at} = false" for part in changing)
        names = ", ".join(
            f"CASE WHEN was.c{part.at} THEN {literal(part.kept.name)} END" for part in changing if part.kept is not None
        )
        keys = [f"k{at}" for at, _ in enumerate(self.place.image.keep.key, 1)]
        given = " AND ".join(f"{self._final(part, '')} IS NOT NULL" for part in key)
        source = f"{self.place.image.name} i, {self.table} t"
        flags = ", ".join(f"w.c{part.at}" for part in changing)
        found = (
            f"SELECT {', '.join(f'w.{name}' for name in keys)}, {flags} FROM {noted(self.place.image)} w, {source} "
            f"WHERE {_some(key, '')} AND {same(self.place)} AND {self.place.join} AND {given} "
            f"AND {held}"
        )
        on = " AND ".join(f"w.{name} = was.{name}" for name in keys)
        told = ", ".join(f"was.{name}" for name in keys)
        return (
            f"WITH was AS ({found}), unset AS (UPDATE {noted(self.place.image)} w SET {unset} FROM was WHERE {on}) "
            f"INSERT INTO {CONFLICTS} SELECT {label(self.place.image)}, concat_ws(', ', {told}), "
            f"array_remove(ARRAY[{names}]::text[], NULL) FROM was"
        )

    def _rows(self, held: str) -> str:
        rest = f"FROM {self.place.image.name} i WHERE w.add AND {same(self.place)} AND {held}"
        return unmark(self.place, "add", rest)

    def _held(self, key: list[_Part], *, other: bool) -> Iterator[str]:
        """SQL over ``i`` and ``w``, and ``t`` with ``other``: another row will have the same in the end. One by one: what is in
        an OR is looked up row by row."""
        mine = [self._final(part, "") if other else self._back(part, "i") for part in key]
        apart = f" AND NOT ({self.place.joined('o', 'w')})" if other else ""
        pairs = list(zip(key, mine, strict=True))
        equal = " AND ".join(f"{part.now('o')} = {value}" for part, value in pairs)
        stays = ""
        if any(part.changes for part in key):
            marked = " OR ".join(f"ow.c{part.at}" for part in key if part.changes)
            on = self.place.joined("o", "ow")
            stays = f" AND NOT EXISTS (SELECT FROM {noted(self.place.image)} ow WHERE {on} AND ({marked}))"
        yield f"EXISTS (SELECT FROM {self.table} o WHERE {equal}{stays}{apart})"
        if stays:
            gets = " AND ".join(f"{self._final(part, 'o')} = {value}" for part, value in pairs)
            yield f"EXISTS (SELECT FROM {self._changing('o')} WHERE {_some(key, 'o')} AND {gets}{apart})"

    # --- values -------------------------------------------------------------------------------------------------------

    def _back(self, part: _Part, image: str) -> str:
        assert part.kept is not None
        return self.place.back(part.at, part.kept, part.row, of=image)

    def _final(self, part: _Part, who: str) -> str:
        """SQL: what a row has in the end. ``who``: the row's alias, with those of its image and what was noted; '': the
        row's own."""
        table, image, mark = (who, f"{who}i", f"{who}w") if who else ("t", "i", "w")
        if not part.changes:
            return part.now(table)
        return f"CASE WHEN {mark}.c{part.at} THEN {self._back(part, image)} ELSE {part.now(table)} END"

    def _noted(self, who: str) -> str:
        on = " AND ".join(f"{who}w.k{at} = {who}i.k{at}" for at, _ in enumerate(self.place.image.keep.key, 1))
        return f"{self.place.image.name} {who}i JOIN {noted(self.place.image)} {who}w ON {on}"

    def _changing(self, who: str) -> str:
        return f"{self._noted(who)} JOIN {self.table} {who} ON {self.place.joined(who, f'{who}w')}"


def _changes(kept: KeptColumn | None, row: Any, own: set[str]) -> bool:
    return kept is not None and kept.after is not None and kept.name not in own and row.identity != "a"


def _some(key: list[_Part], who: str) -> str:
    return "(" + " OR ".join(f"{who}w.c{part.at}" for part in key if part.changes) + ")"
