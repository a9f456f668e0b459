"""The ways back from a migration, and what each loses: by the reverse, by the backup before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from naap_ops.backup.repository import Backup
from naap_ops.halfway import Half
from naap_ops.reverse.images.fitting import Chosen
from naap_ops.reverse.images.parking import Expected
from naap_ops.reverse.images.parks import Park
from naap_ops.rollback import since
from naap_ops.rollback.choosing import Found
from naap_ops.rollback.sources import Filled

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

REVERSE: Final = "reverse"
RESTORE: Final = "restore"
COUNT_SECONDS: Final = 0.5  # for the plan: what takes longer is estimated
LOAD_BYTES_PER_SECOND: Final = 40e6
START_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Way:
    """``problem``: why it cannot be taken, "" if it can. ``lost``: rows by table, as far as they can be counted.

    ``losses``: all that is lost, in words. ``downs``: the reverse by migration. ``seconds``: how long it takes, roughly.
    ``uncounted``: those of the losses of which nobody knows how many rows they are: what the migration itself had destroyed.
    ``filled``: by schema and migration, the reverse that brings rows back.
    ``halves``: by schema and migration, where that failed half-way, the reverse of what took effect; ``told``: how far it came.
    ``parks``: by schema and migration, what of that is parked which the reverse takes away; ``parked``: about how much.
    ``unfit``: rows that the state before cannot hold; ``chosen``: by schema and migration what becomes of them; ``taken``: by
    table those that are parked, with those that refer to them, about ``taken_bytes``.
    """

    strategy: str
    problem: str = ""
    lost: Mapping[str, int] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    seconds: float | None = None
    downs: Mapping[str, str] = field(default_factory=dict)
    statements: int = 0
    backup: Backup | None = None
    halves: Mapping[str, Mapping[str, Half]] = field(default_factory=dict)
    filled: Mapping[str, Mapping[str, Filled]] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    parks: Mapping[str, Mapping[str, Sequence[Park]]] = field(default_factory=dict)
    parked: tuple[Expected, ...] = ()
    unfit: tuple[Found, ...] = ()
    chosen: Mapping[str, Mapping[str, Sequence[Chosen]]] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=dict)
    taken_bytes: int = 0

    @property
    def possible(self) -> bool:
        return not self.problem

    @property
    def rows(self) -> int:
        return sum(self.lost.values())

    @property
    def comes_back(self) -> tuple[str, ...]:
        """Rows that the migration had destroyed, in sentences."""
        return tuple(dict.fromkeys(line for of in self.filled.values() for each in of.values() for line in each.lines()))

    @property
    def parked_rows(self) -> dict[str, int]:
        """By table, about; of those that have any."""
        found: dict[str, int] = {}
        for each in self.parked:
            table = ".".join(each.park.relation)
            found[table] = max(found.get(table, 0), each.rows)
        for table, rows in self.taken.items():
            found[table] = found.get(table, 0) + rows
        return {table: rows for table, rows in found.items() if rows}

    def as_dict(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "possible": self.possible,
            "problem": self.problem,
            "lost": dict(self.lost),
            "losses": list(self.losses),
            "seconds": self.seconds,
            "backup": self.backup.id if self.backup else None,
            "uncounted": list(self.uncounted),
            "halfway": list(self.told),
            "comes_back": list(self.comes_back),
            "parked": self.parked_rows,
        }


def best(ways: Sequence[Way]) -> Way | None:
    """The way that loses least: nothing before something, then by rows; among equals the reverse, which nobody notices. None
    where there is no way, or where all lose and not all of that is counted: :func:`undecided` says which."""
    possible = [way for way in ways if way.possible]
    if undecided(possible):
        return None
    return min(possible, key=lambda way: (bool(way.losses), way.rows, way.strategy != REVERSE), default=None)


def undecided(ways: Sequence[Way]) -> bool:
    """Whether what the ways lose cannot be compared."""
    possible = [way for way in ways if way.possible]
    return len(possible) > 1 and all(way.losses for way in possible) and any(way.uncounted for way in possible)


def by_restore(connection: Connection, backup: Backup | None, problem: str, schemas: Sequence[str] | None) -> Way:
    """``schemas``: only those are restored, None: the whole database."""
    if backup is None:
        return Way(RESTORE, problem or "no verified backup is from before it")
    written = since.written_since(connection, backup.sound, schemas=schemas, seconds=COUNT_SECONDS)
    size = float(backup.sound.database.get("bytes") or 0)
    return Way(
        RESTORE,
        "",
        since.as_json(written),
        tuple(since.told(written)),
        round(START_SECONDS + size / LOAD_BYTES_PER_SECOND, 1),
        backup=backup,
    )
