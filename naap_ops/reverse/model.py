"""What a reverse is made of: pieces of SQL, losses, checks and captures, statement by statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from naap_ops.postgres.catalog.difference import Change, changes
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse.script import Script, Statement

if TYPE_CHECKING:
    from naap_ops.reverse.images.staged import Staged

LossKind = Literal["rows", "values", "state", "privileges", "residue"]


@dataclass(frozen=True)
class Loss:
    """Something that the reverse does not bring back, or takes away.

    ``kind``: rows (whole rows), values (of a column), state (a sequence's position, a materialised view's rows), privileges,
    residue (something the forward made that stays). ``relation``: (schema, table), ``column``: None for whole rows.
    ``since``: lost is only what was written after the migration. ``source``: none, or where it comes back from after all
    (capture, backup), then with the ``rows`` and ``bytes`` of its image where they are known; parked: `invoke rollback` keeps
    it for rolling forward again; cannot: nowhere.
    """

    kind: LossKind
    reason: str
    relation: tuple[str, str] | None = None
    column: str | None = None
    since: bool = False
    source: str = "none"
    rows: int | None = None
    bytes: int | None = None

    @property
    def comes_back(self) -> bool:
        """From an image."""
        return self.source in ("capture", "backup")


@dataclass(frozen=True)
class Check:
    """A query that must return no row for the reverse to succeed; ``reason`` says what a row would mean."""

    query: str
    reason: str


INSERTED: Final = "inserted into"
QUERIED: Final = "filled by a query"  # which may give other rows by the time it is asked again
"""Reasons of captures of tables that rows came into."""


@dataclass(frozen=True)
class Capture:
    """Rows to keep before the forward runs, for the reverse to bring back: of a relation, all columns or some."""

    relation: tuple[str, str]
    columns: tuple[str, ...] | None
    reason: str


@dataclass(frozen=True, order=True)
class Piece:
    """One statement of a reverse. ``rank`` and ``order`` are its place among the pieces that undo the same forward
    statement."""

    rank: int
    order: int
    sql: str
    lock: str = field(default="ACCESS EXCLUSIVE", compare=False)
    relation: str = field(default="", compare=False)
    transactional: bool = field(default=True, compare=False)
    dangers: frozenset[str] = field(default=frozenset(), compare=False)


class Irreversible(Exception):  # caught by the planner, which refuses the statement with the reason
    """A family cannot bring back what a statement did."""


@dataclass(frozen=True)
class Step:
    """One statement and what it did: the catalog before, the catalog after."""

    statement: Statement
    before: Catalog
    after: Catalog

    @cached_property
    def changes(self) -> list[Change]:
        """What the statement did."""
        return changes(self.before, self.after)

    @cached_property
    def by_kind(self) -> Mapping[str, list[Change]]:
        """The same by kind of object."""
        found: dict[str, list[Change]] = {}
        for change in self.changes:
            found.setdefault(change.kind.name, []).append(change)
        return found

    def of(self, kind: str) -> list[Change]:
        """What happened to objects of one kind."""
        return self.by_kind.get(kind, [])

    @cached_property
    def created(self) -> frozenset[int]:
        """Keys of the relations that were made."""
        return self._relations("created")

    @cached_property
    def dropped(self) -> frozenset[int]:
        """Keys of the relations that went."""
        return self._relations("dropped")

    def _relations(self, what: str) -> frozenset[int]:
        found = (change for kind in ("table", "view", "sequence") for change in self.of(kind) if getattr(change, what))
        return frozenset((change.before or change.after).key for change in found)

    @cached_property
    def relinked(self) -> frozenset[int]:
        """Keys of the tables that were attached to a parent or detached from one."""
        return frozenset(c.after.key for c in self.of("table") if c.fields & {"parent_keys", "bound"})

    @cached_property
    def created_columns(self) -> frozenset[int]:
        """Keys of the columns that were made, those of new tables included."""
        return frozenset(change.after.key for change in self.of("column") if change.created)

    @cached_property
    def dropped_columns(self) -> frozenset[int]:
        """Keys of the columns that went, those of dropped tables included."""
        return frozenset(change.before.key for change in self.of("column") if change.dropped)


@dataclass(frozen=True)
class Reversal:
    """What undoes one statement, in the order in which it must run."""

    statement: Statement
    pieces: tuple[Piece, ...] = ()
    losses: tuple[Loss, ...] = ()
    checks: tuple[Check, ...] = ()
    captures: tuple[Capture, ...] = ()
    families: tuple[str, ...] = ()

    @property
    def dangers(self) -> frozenset[str]:
        """Words for what is dangerous about it."""
        return frozenset(word for piece in self.pieces for word in piece.dangers)


@dataclass(frozen=True)
class Refusal:
    """A statement that cannot be reversed, and why."""

    statement: Statement
    reason: str


@dataclass(frozen=True)
class Plan:
    """The reverse of a migration: ``reversals`` in the order in which they run, the last forward statement's first.

    ``staged``: columns that have to be there, and filled, before it runs."""

    script: Script
    schema: str
    reversals: tuple[Reversal, ...]
    refusals: tuple[Refusal, ...] = ()
    staged: tuple[Staged, ...] = ()

    @property
    def losses(self) -> list[tuple[Statement, Loss]]:
        """Everything lost, in the order of the forward."""
        return [(reversal.statement, loss) for reversal in reversed(self.reversals) for loss in reversal.losses]

    @property
    def pieces(self) -> list[Piece]:
        """Every statement of the reverse."""
        return [piece for reversal in self.reversals for piece in reversal.pieces]


Verb = Callable[[Step, Any], Iterable[Any]]


def nothing(_step: Step, _sql: Any) -> Iterable[Any]:
    """A verb of a family that has nothing to say."""
    return ()


@dataclass(frozen=True)
class Family:
    """How one family of statements is undone. Four verbs: what it ``reads`` of the catalog (kinds of objects whose changes are
    its to undo), ``reverse``, ``captures``, ``checks``; ``losses`` beside the reverse says what that does not bring back.

    ``statements``: beginnings of the finer kinds of the statements that belong to it, for tables by family.
    """

    name: str
    reads: frozenset[str]
    statements: tuple[str, ...]
    reverse: Verb
    captures: Verb = nothing
    checks: Verb = nothing
    losses: Verb = nothing
