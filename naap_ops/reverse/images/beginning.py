"""At which statement's undoing the rows of a table come back: with what they refer to already there.

That is where the first statement that touched them is undone. A column that was dropped is no matter: it is filled where it is
made again. But where a referenced table lost rows, those that refer to it wait for them; and rows that the migration put there
go after those that refer to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.images.keeps import OPAQUE, Touch
from naap_ops.reverse.model import INSERTED, QUERIED, Step


@dataclass(frozen=True)
class Begin:
    """``put_off``: the table was dropped, and its rows come back later than the table itself."""

    statement: int
    put_off: bool = False


def beginnings(
    touched: Mapping[int, Sequence[Touch]], steps: Mapping[int, Step], first: Catalog, *, late: bool = False
) -> dict[int, Begin]:
    """By key of table. ``late``: rows of tables that are still there come back at the very end."""
    dropped = {key: index for index, step in steps.items() for key in step.dropped if key in touched}
    begins = {key: dropped[key] if key in dropped else _first(each, steps) for key, each in touched.items()}
    if late:
        begins |= {key: min(steps) for key in touched if key not in dropped}
    edges = [(one, other) for one, other in _references(steps, first) if one in touched and other in touched]
    lost = {key for key, each in touched.items() if any(t.columns is None and t.what not in (INSERTED, QUERIED) for t in each)}
    came = {key for key, each in touched.items() if any(t.what in (INSERTED, QUERIED, OPAQUE) for t in each)}
    put_off: set[int] = set()
    changed = True
    while changed:
        before = dict(begins), len(put_off)
        for one, other in edges:
            if other in lost and begins[other] < begins[one]:
                begins[one] = begins[other]
            elif other in came and other not in dropped and begins[one] < begins[other]:
                begins[other] = begins[one]
            if one in dropped and (begins[one] < dropped[one] or other in put_off or (late and other in lost - dropped.keys())):
                put_off.add(one)
        changed = (begins, len(put_off)) != before
    return {key: Begin(statement, key in put_off) for key, statement in begins.items()}


def _first(touched: Sequence[Touch], steps: Mapping[int, Step]) -> int:
    """The first statement that did more to the table than drop columns of it; the first of all where none did."""
    more = [t.statement for t in touched if t.columns is None or not t.columns <= steps[t.statement].dropped_columns]
    return min(more or [t.statement for t in touched])


def _references(steps: Mapping[int, Step], first: Catalog) -> Iterator[tuple[int, int]]:
    """Tables and those that they refer to, in any state on the way."""
    found = {
        (row.table_key, row.referenced_key)
        for catalog in (first, *(step.before for step in steps.values()))
        for row in catalog.rows["constraint"].values()
        if row.type == "f" and row.table_key != row.referenced_key
    }
    yield from sorted(found)
