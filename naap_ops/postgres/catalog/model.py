"""What a snapshot of the catalog is made of: kinds of objects, their rows, and the whole.

A :class:`Kind` says how one kind of object is read (one query for the whole database), what names it, which of its fields are
its *own* (a change of one is a change of this object) and which merely *follow* other objects (an index's text names its
columns, and follows when one is renamed). Rows are named tuples whose first field is ``key``: the object's oid, or for columns
the table's oid and the column's number in one integer. A key names an object only within its database; ``identity`` names it in
any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Row(Protocol):
    """What every row has, whatever its kind."""

    @property
    def key(self) -> int:
        """The object, within its database."""

    def _asdict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Kind:
    """One kind of catalog object.

    ``query(major)`` is the SQL whose columns are the fields of ``row``, in order. ``identity``: the fields that name it.
    ``own``: fields whose change, under the same key, is a change of the object itself. ``unseen``: fields left out when two
    states are compared by name (keys, positions, internal hashes). ``parent``: the field with the key of the object that it
    goes away with (a table for its columns), None when it stands alone. ``rebuilt``: of a kind that the server itself
    makes anew when a column's type changes, the fields that must be equal for the new one to be the old one.
    """

    name: str
    row: Callable[..., Any]
    query: Callable[[int], str]
    identity: tuple[str, ...]
    own: tuple[str, ...]
    unseen: tuple[str, ...] = ("key",)
    parent: str | None = None
    rebuilt: tuple[str, ...] = ()

    def identify(self, row: Any) -> tuple[str, ...]:
        """The names of a row, outermost first."""
        return tuple([getattr(row, name) for name in self.identity])

    def shown(self, row: Any) -> tuple[Any, ...]:
        """What of a row must be equal for two states to be the same."""
        unseen = self.unseen
        return tuple([value for name, value in zip(row._fields, row, strict=True) if name not in unseen])


@dataclass(frozen=True)
class Catalog:
    """A database's objects at one moment. ``rows[kind][key]`` is a row; ``schema`` is what unqualified names meant, ``user``
    who looked."""

    major: int
    schema: str
    rows: Mapping[str, Mapping[int, Any]]
    user: str = ""
    named: dict[str, dict[tuple[str, ...], Any]] = field(default_factory=dict, compare=False, repr=False)

    def get(self, kind: str, key: int | None) -> Any:
        """The row with this key, None when there is none."""
        return None if key is None else self.rows[kind].get(key)

    def find(self, kind: Kind, *identity: str) -> Any:
        """The row with these names, None when there is none."""
        if kind.name not in self.named:
            self.named[kind.name] = {kind.identify(row): row for row in self.rows[kind.name].values()}
        return self.named[kind.name].get(identity)

    def children(self, kind: str, parent_field: str, parent: int) -> Iterator[Any]:
        """Rows of a kind that belong to one parent."""
        return (row for row in self.rows[kind].values() if getattr(row, parent_field) == parent)

    def relation(self, key: int) -> Any:
        """The table, view, materialised view or sequence with this key."""
        for kind in ("table", "view", "sequence"):
            if (row := self.rows[kind].get(key)) is not None:
                return row
        return None
