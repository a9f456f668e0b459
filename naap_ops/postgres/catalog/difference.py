"""What changed between two snapshots of one database, and whether two snapshots show the same schema."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from naap_ops.postgres.catalog.model import Catalog, Kind
from naap_ops.postgres.catalog.snapshot import KINDS


@dataclass(frozen=True)
class Change:
    """One object that is not as it was: created (``before`` is None), dropped (``after`` is None) or altered in ``fields``."""

    kind: Kind
    before: Any
    after: Any
    fields: frozenset[str] = frozenset()

    @property
    def created(self) -> bool:
        """It was not there before."""
        return self.before is None

    @property
    def dropped(self) -> bool:
        """It is not there any more."""
        return self.after is None


def changes(before: Catalog, after: Catalog) -> list[Change]:
    """What happened between two snapshots of the same database, identity by key: a renamed object is altered, not replaced.

    An object that the server itself replaced by an equal one (ALTER TYPE rebuilds indexes and constraints) has not changed.
    """
    renamed = _renamed_schemas(before, after)
    return [change for name, kind in KINDS.items() for change in _of_kind(kind, before.rows[name], after.rows[name], renamed)]


def _renamed_schemas(before: Catalog, after: Catalog) -> set[tuple[str, str]]:
    """(old, new): what is in such a schema has followed it."""
    return {
        (old.name, now.name)
        for key, old in before.rows["schema"].items()
        if (now := after.rows["schema"].get(key)) is not None and now.name != old.name
    }


def _of_kind(kind: Kind, before: Any, after: Any, renamed: set[tuple[str, str]]) -> Iterator[Change]:
    gone = [row for key, row in before.items() if key not in after]
    new = [row for key, row in after.items() if key not in before]
    if gone and new and kind.rebuilt:
        gone, new = _without_replaced(kind, gone, new)
    # in the order in which things were made: the server gives its rows in any
    for row in sorted(gone, key=lambda row: row.key):
        yield Change(kind, row, None)
    for row in sorted(new, key=lambda row: row.key):
        yield Change(kind, None, row)
    for key in sorted(key for key, old in before.items() if after.get(key, old) != old):
        old = before[key]
        now = after.get(key)
        if now is not None and now != old:
            fields = frozenset(name for name in kind.own if getattr(old, name) != getattr(now, name))
            if renamed and "schema" in fields and (old.schema, now.schema) in renamed:
                fields -= {"schema"}
            if fields:
                yield Change(kind, old, now, fields)


def _without_replaced(kind: Kind, gone: list[Any], new: list[Any]) -> tuple[list[Any], list[Any]]:
    def what(row: Any) -> tuple[Any, ...]:
        return *kind.identify(row), repr(kind.shown(row)), repr([getattr(row, name) for name in kind.rebuilt])

    shown, same = {what(row): row.key for row in new}, {what(row): row.key for row in gone}
    both = shown.keys() & same.keys()
    replaced = {shown[name] for name in both} | {same[name] for name in both}
    return [row for row in gone if row.key not in replaced], [row for row in new if row.key not in replaced]


@dataclass(frozen=True)
class Difference:
    """Two states differ: ``fields`` maps each field that does to (one, other); empty when one state lacks the object."""

    kind: str
    identity: tuple[str, ...]
    missing_in: str | None
    fields: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        name = ".".join(self.identity)
        if self.missing_in:
            return f"{self.kind} {name}: only {'before' if self.missing_in == 'other' else 'after'}"
        return f"{self.kind} {name}: " + ", ".join(f"{field} {a!r} became {b!r}" for field, (a, b) in self.fields.items())


def differences(one: Catalog, other: Catalog) -> list[Difference]:
    """In what two states differ, by names: also of two databases. The order of columns is left aside."""
    found = []
    for name, kind in KINDS.items():
        first = {kind.identify(row): row for row in one.rows[name].values()}
        second = {kind.identify(row): row for row in other.rows[name].values()}
        found += [Difference(name, identity, "other", {}) for identity in first.keys() - second.keys()]
        found += [Difference(name, identity, "one", {}) for identity in second.keys() - first.keys()]
        for identity in first.keys() & second.keys():
            a, b = first[identity], second[identity]
            if a[1:] != b[1:] and (fields := _unequal(kind, a, b)):
                found.append(Difference(name, identity, None, fields))
    return sorted(found, key=lambda item: (item.kind, item.identity))


def _unequal(kind: Kind, one: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    return {name: (a, b) for name, a, b in zip(one._fields, one, other, strict=True) if name not in kind.unseen and a != b}


def reordered(one: Catalog, other: Catalog) -> list[tuple[str, str]]:
    """Tables (schema, name) whose columns are the same and stand in another order."""

    def order(catalog: Catalog) -> dict[tuple[str, str], list[str]]:
        tables: dict[tuple[str, str], list[Any]] = {}
        for row in catalog.rows["column"].values():
            tables.setdefault((row.schema, row.table), []).append(row)
        return {table: [row.name for row in sorted(rows, key=lambda row: row.number)] for table, rows in tables.items()}

    first, second = order(one), order(other)
    return sorted(table for table in first.keys() & second.keys() if first[table] != second[table])
