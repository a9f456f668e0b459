"""What a salvage knows of a table: its columns, its key, and what its rows must fulfil. One side's view, then both sides' pair.

Expressions and names are SQL of the live database, qualified. ``c<n>`` is a column of the staging table: names of its own, so
that no column of a user's can be mistaken for one of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

Name = tuple[str, str]


def text(expression: str) -> sql.SQL:
    """SQL that the server has printed, as it is."""
    return sql.SQL(expression)


# What a staged row is. `n` has not been looked at yet.
NEW, INSERT, UPDATE, DELETE, CONFLICT = "n", "i", "u", "d", "c"

# Why a conflict is one; the row's `why`.
CHANGED_BOTH: Final = "changed in both"
INSERTED_BOTH: Final = "inserted in both: another row under the same key"
DELETED_LIVE: Final = "changed in the old, deleted in the live"
DELETED_OLD: Final = "deleted in the old, changed in the live"
UNCLEAR: Final = "not in the live: inserted in the old, or deleted in the live, the backup cannot be asked"


@dataclass(frozen=True)
class Column:
    """``type`` without, ``spelled`` with its modifier; ``stored`` the type below a domain; ``shape`` what tells two types of
    one name apart; ``labels`` an enum's; ``value`` the expression of a generated column."""

    name: str
    type: str
    spelled: str
    stored: str
    modifier: int
    shape: str
    labels: tuple[str, ...] | None
    collation: str | None
    required: bool
    has_default: bool
    identity: str
    value: str | None


@dataclass(frozen=True)
class Key:
    """An index that tells rows apart; ``operators`` compare its columns (``operator(pg_catalog.=)``)."""

    index: str
    columns: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Unique:
    """A unique index or an exclusion constraint: no two rows (of ``where``) for which all operators hold."""

    name: str
    expressions: tuple[str, ...]
    operators: tuple[str, ...]
    where: str | None
    nulls_equal: bool


@dataclass(frozen=True)
class ForeignKey:
    """``columns`` of ``child`` refer to ``referred`` of ``parent``, compared by ``operators`` (parent's first)."""

    name: str
    child: Name
    parent: Name
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Trigger:
    """A user's trigger that fires now. ``state``: pg_trigger.tgenabled."""

    table: Name
    name: str
    state: str


@dataclass(frozen=True)
class Table:
    """One side's table. ``parts``: (oid, schema, name) of what holds its rows, ``bounds`` what each takes.

    ``unreadable``, ``unwritable``: why its rows cannot be read, or written, as they are, '' when they can. ``missing``: rights
    that the user lacks. ``sequences``: of which column.
    """

    schema: str
    name: str
    oid: int
    kind: str
    columns: tuple[Column, ...]
    keys: tuple[Key, ...]
    uniques: tuple[Unique, ...]
    checks: dict[str, str]
    triggers: tuple[Trigger, ...]
    parts: tuple[tuple[int, str, str], ...]
    bounds: tuple[str, ...]
    unreadable: str
    unwritable: str
    missing: tuple[str, ...]
    sequences: dict[Name, str]

    @property
    def of(self) -> Name:
        return self.schema, self.name

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Composable:
        return sql.Identifier(self.schema, self.name)

    @property
    def rows_of(self) -> sql.Composable:
        """For FROM and COPY: not those of tables that inherit from it, but those of its partitions."""
        return self.identifier if self.kind == "p" else sql.SQL("only {}").format(self.identifier)


@dataclass(frozen=True)
class Moved:
    """A column that both have. ``staged``: its column there; ``unfit``: for values that the live one cannot hold, an SQL
    condition on the old side and what is said of it."""

    column: Column
    staged: str
    unfit: tuple[sql.Composable, str] | None = None


@dataclass(frozen=True)
class Pair:
    """A table of both databases, chosen to be salvaged."""

    number: int
    old: Table
    live: Table
    key: Key
    moved: tuple[Moved, ...]
    stays: tuple[Moved, ...] = ()
    """Columns that only the live one has, generated ones apart."""
    lost: tuple[str, ...] = ()
    """Columns whose values are not moved."""
    needs: tuple[str, ...] = ()
    """Of ``stays``: NOT NULL without a default, so nothing can be inserted."""

    @property
    def name(self) -> Name:
        return self.live.of

    @property
    def staging(self) -> sql.Composable:
        return sql.Identifier("pg_temp", f"salvage_{self.number}")

    @property
    def keys_seen(self) -> sql.Composable:
        """Staging of the keys of settled rows of the old."""
        return sql.Identifier("pg_temp", f"salvage_{self.number}_keys")

    @property
    def base(self) -> sql.Composable:
        """Staging of the backup's rows, as text."""
        return sql.Identifier("pg_temp", f"salvage_{self.number}_base")

    def staged(self, column: str) -> sql.Composable:
        """The staging column of a live column."""
        return sql.Identifier(next(each.staged for each in (*self.moved, *self.stays) if each.column.name == column))

    def same_key(self, one: str, other: str, *, live: bool) -> sql.Composable:
        """``one`` is an alias of the live table (or of staging, when not ``live``), ``other`` of staging: the same key."""
        parts = []
        for column, operator in zip(self.key.columns, self.key.operators, strict=True):
            first = sql.Identifier(one, column) if live else sql.SQL("{}.{}").format(sql.Identifier(one), self.staged(column))
            second = sql.SQL("{}.{}").format(sql.Identifier(other), self.staged(column))
            parts.append(sql.SQL("{} {} {}").format(first, text(operator), second))
        return sql.SQL(" and ").join(parts)

    @property
    def written(self) -> Iterator[Moved]:
        """What an update sets."""
        return (each for each in self.moved if each.column.identity != "a")


@dataclass
class Fate:
    """What became, or would become, of a table's rows. ``left``: rows by reason; ``keys``: first keys by reason."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    conflicts: int = 0
    left: dict[str, int] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def written(self) -> int:
        return self.inserted + self.updated + self.deleted

    def as_json(self) -> dict[str, object]:
        return {
            "inserted": self.inserted,
            "updated": self.updated,
            "deleted": self.deleted,
            "left": sum(self.left.values()),
            "conflicts": self.conflicts,
            "reasons": [
                {"reason": reason, "rows": rows, "keys": self.keys.get(reason, [])} for reason, rows in self.left.items()
            ],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Wanted:
    """What the operator asked for. ``tables`` and ``schemas`` as typed; ``conflicts``: report, theirs or ours."""

    kept: str | None = None
    tables: Sequence[str] = ()
    schemas: Sequence[str] = ()
    everything: bool = False
    conflicts: str = "report"
    deletes: bool = True
