"""The order in which tables can be filled: first whatever a row cannot do without; what it would like to have, if possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from naap_ops.reverse.seed.facts import Table

Group = tuple[int, ...]


def ordered(tables: Iterable[Table]) -> list[Group]:
    """Groups of oids, parents first. A group of several, or of one that needs itself, can only be filled in one statement."""
    waiting = {table.oid: table for table in tables}
    needs = {oid: _parents(table, waiting, required=True) - {oid} for oid, table in waiting.items()}
    likes = {oid: _parents(table, waiting, required=False) - {oid} for oid, table in waiting.items()}
    groups: list[Group] = []
    while waiting:
        ready = [oid for oid in waiting if not needs[oid] & waiting.keys()]
        if ready:
            group: Group = (min(ready, key=lambda oid: (len(likes[oid] & waiting.keys()), waiting[oid].name)),)
        else:
            reached = {oid: _reachable(oid, needs, waiting) for oid in waiting}
            smallest = min(reached.values(), key=lambda oids: (len(oids), sorted(waiting[oid].name for oid in oids)))
            group = tuple(sorted(smallest, key=lambda oid: waiting[oid].name))
        groups.append(group)
        for oid in group:
            del waiting[oid]
    return groups


def entangled(group: Group, tables: Mapping[int, Table]) -> bool:
    """Its rows need one another: no row can be there before the others."""
    return any(key.table in group and tables[oid].required(key) for oid in group for key in tables[oid].keys)


def _parents(table: Table, among: Mapping[int, Table], *, required: bool) -> set[int]:
    return {key.table for key in table.keys if key.table in among and table.required(key) == required}


def _reachable(start: int, needs: Mapping[int, set[int]], among: Mapping[int, Table]) -> frozenset[int]:
    found: set[int] = {start}
    ahead = [start]
    while ahead:
        new = (needs[ahead.pop()] & among.keys()) - found
        found |= new
        ahead += new
    return frozenset(found)
