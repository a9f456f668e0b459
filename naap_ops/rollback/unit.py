"""One migration rolled back in one schema: its reverse, its rows, its folder, as one.

The reverse's last transaction also deletes the rows of the books and writes the audit row; the folder moves just before the
commit. So there is no instant at which the schema is as before and the books say otherwise. Killed between the move and the
commit, the row is kept and the folder is gone, on which ``migrate deploy`` does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naap_ops.errors import OpsError
from naap_ops.halfway import prefix
from naap_ops.prisma import advisory, archive, tracking
from naap_ops.prisma.archive import Entry
from naap_ops.prisma.tracking import State
from naap_ops.procedure.step import Step
from naap_ops.reverse.images import brought, parking, store, unparking
from naap_ops.reverse.images.fitting import Attempt, Chosen, fit
from naap_ops.reverse.images.parks import Park
from naap_ops.reverse.script import parse
from naap_ops.rollback import audit
from naap_ops.rollback.running import Part, Patience, Run, forward_parts, reverse_parts

if TYPE_CHECKING:
    from naap_ops.events import Events
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.prisma.untrack import Place
    from naap_ops.procedure.journal import Journal


@dataclass
class Ground:
    """Where it happens. ``connection`` is in autocommit and holds Prisma's lock for the whole procedure."""

    connection: Connection
    info: ConnInfo
    journal: Journal
    place: Place
    patience: Patience
    events: Events


@dataclass(frozen=True)
class Putting:
    """What becomes of the folder and the rows. ``hold``: an applied row is kept. ``folder``: it goes to the archive.

    ``redo``: the folder stays and the rows are marked as rolled back, so that the next deploy runs a mended script.
    """

    hold: bool = False
    folder: bool = True
    redo: bool = False


@dataclass
class Unit(Step):
    """``down``: the ``down.sql`` that was planned. ``schema``: whose tables and books. ``upto``: where the migration had failed
    half-way, how many of its statements had taken effect. ``told``: conflicts are listed. ``parks``: what is parked of what
    goes, ``lasting`` so long. ``chosen``: what becomes of rows that the state before cannot hold; ``keep``: values that others
    replace are parked."""

    ground: Ground
    migration: str
    schema: str
    down: str
    putting: Putting
    upto: int | None = None
    told: bool = True
    parks: Sequence[Park] = ()
    lasting: timedelta = timedelta()
    chosen: Sequence[Chosen] = ()
    keep: bool = True
    name: str = field(init=False)
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"{self.migration} in {self.schema}"
        self.text = f"rolling back {self.migration} in schema {self.schema}"
        self._down = self._run("down")
        self._up = self._run("up")

    def _run(self, kind: str) -> Run:
        each = self.ground
        return Run(each.connection, each.info, each.journal, self.name, kind, each.patience, each.events)

    @property
    def source(self) -> Path:
        """Where the folder belongs."""
        return self.ground.place.project.migrations / self.migration

    def done(self) -> bool:
        return self._down.committed() and not self._up.committed()

    def halfway(self) -> bool:
        return self._down.begun() and not self.done()

    def run(self) -> dict[str, Any]:
        moved: list[Entry] = []

        def finish(connection: Connection) -> None:
            self._brought(connection)
            moved.extend(self._books(connection))

        try:
            self._down.through(self._reverse(), self.schema, finish, self._park)
        except OpsError as error:
            connection = self.ground.connection
            if not connection.broken:  # else nobody knows yet whether it was committed
                for each in moved:
                    each.give_back(self.source)
                audit.failed(connection, **self._who, what="rollback", error=error.text)
            raise
        return {"retries": self._down.retries}

    def _park(self, connection: Connection) -> None:
        """What the reverse takes away, for rolling forward again. Tables that go first, as their rows may refer to rows that do
        not fit, and rows that the migration put there, as they are; the rest after those, which are parked whole."""
        attempt = tracking.read(connection, self.schema).attempt(self.migration)
        facts = {"migration": self.migration, "schema": self.schema, "attempt": attempt}
        before = [park for park in self.parks if park.goes or park.put]
        parked = parking.park(connection, before, **facts, lasting=self.lasting)
        fitted = fit(connection, self.chosen, Attempt(**facts, lasting=self.lasting), before=before, keep=self.keep)
        after = [park for park in self.parks if park not in before]
        others = parking.park(connection, after, **facts, lasting=self.lasting)
        for more in (fitted.parked, others):
            for table, rows in more.items():
                parked[table] = parked.get(table, 0) + rows
        self.ground.journal.fact(self.name, parked=parked, defaulted=fitted.defaulted)

    def _brought(self, connection: Connection) -> None:
        """What came back from images, as far as that can be known only now; they are of no more use, and go."""
        rows, conflicts, count = brought.counted(connection)
        if not self.told:
            conflicts, count = [], 0
        if rows or count:
            self.ground.journal.fact(self.name, restored=rows, conflicts=conflicts, conflicting=count)
        store.forget(connection, self.migration, self.schema)

    def _reverse(self) -> Sequence[Part]:
        return reverse_parts(self.down, self.schema, self.ground.patience)

    def _books(self, connection: Connection) -> list[Entry]:
        """Rows to the archive, the folder after them, then the rows' end: in the reverse's transaction. Entries moved into."""
        lock_ms = int(self.ground.patience.lock_timeout * 1000)
        rows = tracking.lock_rows(connection, self.schema, self.migration, lock_ms)
        kept = entry_of(self.ground, self.migration, self.source).keep({self.schema: rows})
        advisory.still_held(connection)
        moved = []
        if self.putting.folder and self.source.exists():
            kept.take(self.source)
            moved.append(kept)
        if self.putting.redo:
            tracking.mark_rolled_back(connection, self.schema, self.migration)
        elif not self.putting.hold:
            tracking.delete(connection, self.schema, self.migration)
        elif tracking.read(connection, self.schema).state(self.migration) is not State.APPLIED:
            tracking.mark_applied(connection, self.schema, self.migration, kept.checksum_of(self.schema))
        audit.add(connection, **self._who, what="rollback", result="done", held=self.putting.hold)
        return moved

    @property
    def _who(self) -> dict[str, str]:
        return {"journal": self.ground.journal.id, "migration": self.migration, "schema": self.schema}

    # --- forward again ------------------------------------------------------------------------------------------------

    def undo(self) -> dict[str, Any] | None:
        """The migration runs again and its rows are put back as they were, with what was parked; then the folder."""
        if self.halfway():
            self.run()  # half of a reverse has no way back but through its end
        entry = entry_of(self.ground, self.migration, self.source)
        script = parse(self._script(entry).read_bytes(), name=self.migration)
        apart = unparking.apart(script)
        if self.done():
            rows = (entry.rows or {}).get(self.schema, [])
            if self.upto is not None:
                script = prefix(script, self.upto)

            def finish(connection: Connection) -> None:
                if not apart:
                    self._unparked(connection, fresh=True)
                tracking.put_back(connection, self.schema, self.migration, rows)
                audit.add(connection, **self._who, what="rollback undone", result="done")

            self._up.through(forward_parts(script), self.schema, finish)
        if apart:
            with self.ground.connection.transaction():
                self._unparked(self.ground.connection, fresh=False)
        entry.give_back(self.source)
        self._forgotten(entry)
        return {"forward": self._up.committed()}

    def _unparked(self, connection: Connection, *, fresh: bool) -> None:
        back = unparking.bring_back(connection, self.migration, self.schema, fresh=fresh)
        if back.rows or back.leaving:
            self.ground.journal.fact(self.name, unparked=back.as_dict())

    def _forgotten(self, entry: Entry) -> None:
        """The record goes with the last unit of the migration: rows of the others are still in it before."""
        others = [each["name"] for each in self.ground.journal.steps() if each["state"] != "undone"]
        if not any(name.startswith(f"{self.migration} in ") and name != self.name for name in others):
            entry.forget()

    def _script(self, entry: Entry) -> Path:
        folder = entry.folder if entry.folder.exists() else self.source
        return folder / "migration.sql"


def entry_of(ground: Ground, migration: str, source: Path) -> Entry:
    """The archive's entry for a migration of this procedure: begun at first need, the same one ever after."""
    key = f"archive {migration}"
    known = ground.journal.facts(key).get("entry")
    if known is not None:
        found = [each for each in archive.entries(ground.place.archive, migration) if str(each.path) == known]
        return found[0] if found else _begun(ground, migration, source, Path(known))
    entry = _begun(ground, migration, source, None)
    ground.journal.fact(key, entry=str(entry.path))
    return entry


def _begun(ground: Ground, migration: str, source: Path, path: Path | None) -> Entry:
    from dataclasses import replace

    from naap_ops.prisma.migrations import migrations

    folder = next((each for each in migrations(source.parent) if each.name == migration), None)
    entry = archive.begin(ground.place.archive, migration, source, folder.sha256 if folder else None)
    return entry if path is None else replace(entry, path=path)
