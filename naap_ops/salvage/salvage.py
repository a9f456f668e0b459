"""``invoke salvage --since-backup``: which kept database, which backup, under which locks."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from naap_ops import clock, exclusion
from naap_ops.errors import Refused
from naap_ops.postgres.session import Connection, connect, server_info
from naap_ops.restore import kept as keeping
from naap_ops.restore import marks
from naap_ops.restore.failures import server_errors
from naap_ops.restore.locking import target_lock
from naap_ops.rollback import audit
from naap_ops.salvage import choosing, staging
from naap_ops.salvage.base import Base
from naap_ops.salvage.model import Fate, Wanted
from naap_ops.salvage.running import Work
from naap_ops.salvage.sequences import Raised
from naap_ops.salvage.staging import Sources

if TYPE_CHECKING:
    from naap_ops.app import App
    from naap_ops.backup.repository import Backup
    from naap_ops.places import Target
    from naap_ops.restore.kept import Kept

WHAT: Final = "salvage"
_SESSION: Final = "naap_ops salvage"
# The transaction that wrote the mark is the one that swapped.
_SWAP: Final = """
select d.xmin::text from pg_catalog.pg_shdescription d join pg_catalog.pg_database b on b.oid = d.objoid
where d.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass and b.datname = %s
"""


@dataclass(frozen=True)
class Case:
    """The kept database, the backup that took its place, and the kept database whose mark is of the swap that counts."""

    database: str
    kept: Kept
    backup: Backup
    swapped: str


@dataclass(frozen=True)
class Outcome:
    """What was done, or with a dry run would be. ``tables`` by name, those with something to tell."""

    database: str
    kept: str
    backup: str
    dry_run: bool
    tables: dict[str, Fate]
    sequences: list[Raised] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def written(self) -> int:
        """Rows."""
        return sum(fate.written for fate in self.tables.values())

    def as_json(self) -> dict[str, Any]:
        tables = {name: fate.as_json() for name, fate in self.tables.items()}
        return {**vars(self), "tables": tables, "sequences": [vars(each) for each in self.sequences]}


def case(app: App, target: Target, wanted: Wanted) -> Case:
    """Choose the kept database. Raises Refused, BackupNotFound, what reading a manifest raises."""
    name = target.info.dbname or ""
    found = keeping.kept(target.info, name)
    fitting = [each for each in found if each.role == marks.BEFORE and wanted.kept in (None, each.name)]
    if not fitting:
        there = ", ".join(each.name for each in found) or "none"
        what = f"{wanted.kept!r} is not what" if wanted.kept else "nothing is kept that"
        raise Refused(reason=f"{what} a restore of {name!r} has replaced: nothing to bring over", hint=f"Kept of it: {there}.")
    backup = app.repository.find(str(fitting[0].backup), target.alias)
    assert backup.sound  # raises where the manifest cannot be read
    newest = next(each for each in found if each.role == marks.BEFORE)
    # The same backup once more: what is live is of the later swap. Another one: nothing there is settled, its base is another.
    swapped = newest if newest.backup == fitting[0].backup else fitting[0]
    return Case(name, fitting[0], backup, swapped.name)


def salvage(app: App, target: Target, of: Case, wanted: Wanted, *, dry_run: bool) -> Outcome:
    """Bring over what can be. Raises Busy, Blocked, Refused, PrivilegeMissing, UsageError, BackupDamaged,
    ProcedureUnfinished."""
    began = clock.monotonic()
    info, name = target.info, of.database
    with (
        server_errors(info, "salvaging"),
        exclusion.alone(app, info, WHAT, needed=True),
        target_lock(info, name) as session,
        closing(connect(info, dbname=of.kept.name, application_name=_SESSION)) as old,
        closing(connect(info, application_name=_SESSION)) as live,
    ):
        row = session.execute(_SWAP, [of.swapped]).fetchone()
        again = case(app, target, wanted)
        if row is None or (again.kept.name, again.swapped) != (of.kept.name, of.swapped):
            raise Refused(reason="a restore, or its undoing, has come in between: nothing was done")
        old.execute("begin isolation level repeatable read read only")
        sources = Sources(old, live, of.backup.sound, row[0], traceable=_same_server(live, of.backup))
        chosen = choosing.choose(app, sources, wanted)
        problem = None if dry_run else audit.prepare(live)
        for connection in (old, live):
            staging.agree(connection)
        patience = app.loaded.settings.restore.lock_timeout.total_seconds()
        base = Base(of.backup, target.tools)
        result = Work(sources, chosen, base, wanted, app.events, patience, of.kept.name).carry_out(dry_run=dry_run)
    every = {**chosen.left, **result.fates}
    told = {".".join(each): fate for each, fate in sorted(every.items()) if fate.written or fate.left or fate.conflicts}
    notes = [*chosen.notes, *result.notes, *([problem] if problem else [])]
    seconds = round(clock.monotonic() - began, 3)
    return Outcome(name, of.kept.name, of.backup.id, dry_run, told, result.raised, notes, seconds)


def _same_server(live: Connection, backup: Backup) -> bool:
    """Transaction ids mean the same there and here."""
    identifier = server_info(live).system_identifier
    return identifier is not None and identifier == str(backup.sound.server.get("system_identifier"))
