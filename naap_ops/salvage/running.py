"""A salvage carried out: staged once; decided and written in one transaction, anew where somebody else was quicker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import errors as server
from psycopg import sql

from naap_ops.errors import Blocked, OpsError, Refused
from naap_ops.rollback import audit
from naap_ops.salvage import choosing, sequences, staging
from naap_ops.salvage.applying import RING, Hand, Ring
from naap_ops.salvage.base import Base
from naap_ops.salvage.deciding import Judge
from naap_ops.salvage.holding import Court
from naap_ops.salvage.model import Fate, Name, Wanted
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.events import Events
    from naap_ops.salvage.choosing import Chosen
    from naap_ops.salvage.sequences import Raised
    from naap_ops.salvage.staging import Sources

ATTEMPTS: Final = 5
_BIG: Final = 100_000
_QUICKER: Final = (
    server.SerializationFailure,
    server.DeadlockDetected,
    server.LockNotAvailable,
    psycopg.IntegrityError,
)


@dataclass(frozen=True)
class Result:
    """What became of the rows, by table; sequences; notes."""

    fates: dict[Name, Fate]
    raised: list[Raised]
    notes: list[str]


@dataclass(frozen=True)
class Work:
    """All that it needs. ``patience``: seconds that a lock is waited for; ``kept``: the old database's name."""

    sources: Sources
    chosen: Chosen
    base: Base
    wanted: Wanted
    events: Events
    patience: float
    kept: str

    def stage(self) -> dict[Name, int]:
        """Unsettled rows of the old into the live session; settled ones, counted, by table."""
        counts = {}
        self.events.emit("salvage.begin", tables=len(self.chosen.pairs))
        for at, (name, pair) in enumerate(self.chosen.pairs.items(), 1):
            self.events.emit("salvage.step", name="count", text=f"looking through {pair.old.qualified}")
            counts[name], rows = staging.counted(self.sources, pair.old)
            if rows > _BIG:
                self.events.emit("salvage.step", name="wait", text=f"{pair.old.qualified}: {count_of(rows, 'row')} to look at")
            staging.make(self.sources, pair)
            if rows:  # it reads the whole table once more
                staging.stage(self.sources, pair)
            self.events.emit("salvage.progress", step="stage", tables=at)
        return counts

    def carry_out(self, *, dry_run: bool) -> Result:
        """Raises Blocked, Refused."""
        settled = self.stage()
        before = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._transaction(keep=not dry_run):
                    return self._decided(settled, dry_run=dry_run)
            except _QUICKER as error:
                said = _said(error)
                if attempt == ATTEMPTS or (said == before and isinstance(error, psycopg.IntegrityError)):
                    raise _given_up(error, attempt) from error
                before = said
                self.events.emit("salvage.step", name="wait", text=f"{said}: deciding anew")
        raise AssertionError

    @contextmanager
    def _transaction(self, *, keep: bool) -> Iterator[None]:
        """One instant of the live database; undone where not to ``keep``."""
        live = self.sources.live
        live.execute("begin isolation level repeatable read")
        try:
            live.execute(f"set local lock_timeout = {int(self.patience * 1000)}".encode())
            yield
        except BaseException:
            if not live.broken:
                live.rollback()
            raise
        live.execute(b"commit" if keep else b"rollback")

    def _decided(self, settled: Mapping[Name, int], *, dry_run: bool) -> Result:
        chosen, sources = self.chosen, self.sources
        judge = Judge(sources, self.base, self.wanted)
        notes = {}
        for name, pair in chosen.pairs.items():
            self.events.emit("salvage.step", name="decide", text=f"deciding about {pair.live.qualified}")
            notes[name] = judge.decide(pair, settled[name])
        court = Court(sources.live, chosen.pairs, chosen.tables, chosen.keys, self.wanted.conflicts != "ours")
        court.settle()
        raised, told = sequences.raise_them(sources.old, sources.live, chosen.pairs.values(), dry_run=dry_run)
        fates = court.fates() if dry_run else self._written(court)
        for name, fate in fates.items():
            fate.notes += [*notes[name], *choosing.remarks(sources, chosen.pairs[name], fate)]
        return Result(fates, raised, told)

    def _written(self, court: Court) -> dict[Name, Fate]:
        """Rows that wait for one another for ever are left, and all of it is written anew without them."""
        live = self.sources.live
        rows = 0

        def told(more: int) -> None:
            nonlocal rows
            rows += more
            self.events.emit("salvage.progress", step="write", rows=rows)

        self.events.emit("salvage.step", name="write", text="writing")
        while True:
            live.execute("savepoint decided")
            fates = court.fates()
            try:
                Hand(live, self.chosen.pairs, self.chosen.keys, told).write()
            except Ring as ring:
                live.execute("rollback to savepoint decided")
                for name, numbers in ring.rows.items():
                    statement = sql.SQL("update {} set why = {} where n = any({})")
                    live.execute(statement.format(self.chosen.pairs[name].staging, RING, numbers))
                court.settle()
                continue
            self._audit(fates)
            return fates

    def _audit(self, fates: Mapping[Name, Fate]) -> None:
        tables = {".".join(name): [fate.inserted, fate.updated, fate.deleted] for name, fate in fates.items() if fate.written}
        facts = {"kept": self.kept, "backup": self.base.backup.id, "tables": tables}
        audit.add(self.sources.live, journal="", what="salvage", migration="", schema="", result="done", **facts)


def _said(error: psycopg.Error) -> str:
    return " ".join(filter(None, [error.diag.message_primary or str(error), error.diag.message_detail]))


def _given_up(error: psycopg.Error, attempts: int) -> OpsError:
    if isinstance(error, psycopg.IntegrityError):
        return Refused(
            reason=f"the live database refused it, and nothing was changed: {_said(error)}",
            hint="--tables NAME salvages single tables, and so leaves this one out.",
        )
    return Blocked(what=f"a salvage, after {count_of(attempts, 'attempt')},", blockers=_said(error))
