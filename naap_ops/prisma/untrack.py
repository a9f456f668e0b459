"""``untrack``: Prisma forgets a migration, so that ``migrate deploy`` and ``migrate status`` are content without it.

Under Prisma's own lock, in this order: every row is written to the archive; the folder moves there; the rows are deleted.
Killed in between, the row is kept and the folder is gone, on which ``deploy`` does nothing; the other order would have the
next deploy apply the migration again. Running it again finishes it: what is done is asked of the folder and the table.

Servers whose images still carry the folder would apply it again once the row is gone. ``hold`` keeps an applied row, or adds
one, until the commit without the folder is everywhere; ``finalise`` then deletes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops.clock import iso
from naap_ops.errors import MigrationNotFound, OutOfStep, Refused
from naap_ops.prisma import advisory, archive, tracking
from naap_ops.prisma.archive import Entry
from naap_ops.prisma.migrations import Migration, migrations
from naap_ops.prisma.project import Project
from naap_ops.prisma.reference import resolve
from naap_ops.prisma.tracking import Books, State
from naap_ops.prisma.worktree import Worktree, told

if TYPE_CHECKING:
    from naap_ops.events import Events
    from naap_ops.postgres.session import Connection

_DIFF_FLAGS = {
    7: "--from-schema {schema} --to-config-datasource",
    6: "--from-schema-datamodel {schema} --to-schema-datasource {schema}",
}


@dataclass(frozen=True)
class Request:
    """What is asked for. ``schemas``: whose tracking tables. ``any_age``: also where later migrations are applied."""

    ref: str
    schemas: Sequence[str]
    hold: bool = False
    finalise: bool = False
    any_age: bool = False


@dataclass(frozen=True)
class Place:
    """Where it happens: the project on disk, the archive for its migrations, how long locks are waited for."""

    project: Project
    archive: Path
    lock_seconds: float = 10.0


@dataclass(frozen=True)
class Plan:
    """What would be done, as of now."""

    migration: str
    source: Path
    folder: Migration | None
    books: Mapping[str, Books]
    entry: Entry | None
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Rows by schema, of every attempt."""
        return {schema: len(books.of(self.migration)) for schema, books in self.books.items()}


@dataclass(frozen=True)
class Outcome:
    """What was done. ``rows`` were deleted, ``archived`` ones are in the archive; ``commit``: commands left to the operator."""

    migration: str
    rows: int
    archive: str | None
    held: bool
    archived: int = 0
    schemas: dict[str, int] = field(default_factory=dict)
    commit: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan(connection: Connection, place: Place, request: Request) -> Plan:
    """Look, touch nothing. Raises MigrationNotFound, MigrationAmbiguous, Refused, ConfigurationError, PrismaUnsupported."""
    folder = place.project.migrations
    archive.checked(place.archive, folder)
    tracking.refuse_contract(connection)
    on_disk = {each.name: each for each in migrations(folder)}
    every = {schema: tracking.read(connection, schema) for schema in tracking.schemas(connection)}
    chosen = {schema: every.get(schema) or Books(schema, ()) for schema in request.schemas}
    put_away = archive.entries(place.archive)
    known = [*on_disk, *(each.migration for each in put_away)]
    name = resolve(request.ref, known, list(chosen.values()), f"{folder} and {_tables(chosen)}")
    mine = [each for each in put_away if each.migration == name]
    found = Plan(name, folder / name, on_disk.get(name), chosen, _resumed(mine, on_disk.get(name)), ())
    _refuse(found, every, request)
    notes = [*_notes(found, place), *([_gone_already(mine)] if not _left(found) else [])]
    return Plan(name, found.source, found.folder, chosen, found.entry, tuple(_lines(found, place, request)), tuple(notes))


def _resumed(mine: Sequence[Entry], folder: Migration | None) -> Entry | None:
    """The entry of a run that is not through: a held one, or one whose folder has not come yet or has gone from its place."""
    if not mine or (mine[0].folder.exists() and folder is not None):
        return None
    return mine[0]


def _left(found: Plan) -> bool:
    return (
        found.folder is not None
        or any(found.counts.values())
        or (found.entry is not None and found.entry.state != archive.DONE)
    )


def _gone_already(mine: Sequence[Entry]) -> str:
    return f"it was untracked before, at {mine[0].ended or mine[0].begun}: nothing is left to do"


def _tables(chosen: Mapping[str, Books]) -> str:
    return ", ".join(f"{schema}.{tracking.TABLE}" for schema in chosen)


def _refuse(found: Plan, every: Mapping[str, Books], request: Request) -> None:
    """Raise Refused where doing it would leave Prisma in a worse state."""
    name = found.migration
    if found.folder is None and not any(found.counts.values()) and found.entry is None:
        where = f"{found.source.parent} and {_tables(found.books)}"
        raise MigrationNotFound(ref=request.ref, folder=where, what="others: `invoke status` lists them")
    if request.finalise and found.folder is not None:
        raise Refused(
            reason=f"{found.source} is still there: with its row gone, the next deploy would apply it again",
            hint="First `invoke untrack --hold`, then roll out the commit without the folder, then --finalise.",
        )
    others = [schema for schema, books in every.items() if schema not in found.books and books.state(name) is not State.ABSENT]
    if others:
        raise Refused(
            reason=f"{name} is also in the books of {', '.join(others[:8])}, whose row would be left without a folder",
            hint="--all-tenants takes all schemas of the setting tenant_schemas.",
        )
    later = sorted({other for books in found.books.values() for other in books.later(name)})
    if later and not (request.any_age or request.finalise or found.entry is not None):
        raise Refused(
            reason=f"later migrations are applied ({len(later)}): {', '.join(later[-5:])}",
            hint="Newest first. --any-age does it all the same: right only if the later ones run without it.",
        )


def _lines(found: Plan, place: Place, request: Request) -> list[str]:
    name, counts = found.migration, found.counts
    lines = [f"take Prisma's migrate lock ({advisory.KEY}), so that nobody deploys meanwhile"]
    if any(counts.values()):
        lines.append(f"keep its rows ({sum(counts.values())}) as JSON in {place.archive}")
    if found.folder is not None:
        lines.append(f"move {found.source} to {place.archive}")
    for schema, count in counts.items():
        state = found.books[schema].state(name)
        table = f"{schema}.{tracking.TABLE}"
        if request.hold:
            lines.append(f"{table}: " + ("keep its applied row" if state is State.APPLIED else "have an applied row"))
        else:
            lines.append(f"{table}: delete its rows ({count})" if count else f"{table}: nothing to delete")
    return lines


def _notes(found: Plan, place: Place) -> list[str]:
    """What the operator should know before."""
    notes = []
    rows = [row for books in found.books.values() for row in books.of(found.migration) if row.live]
    if found.folder is not None and any(not found.folder.matches(row.checksum) for row in rows):
        notes.append("its migration.sql was edited since it was applied: the checksum in the books is another")
    if any(books.state(found.migration) is State.FAILED for books in found.books.values()):
        notes.append("it failed half-way in the books: what it did before is still in the database")
    if advisory.disabled():
        notes.append(f"{advisory.DISABLING} is set here: a Prisma started with it deploys in spite of the lock")
    return [*notes, *place.project.notes]


# --- doing it -------------------------------------------------------------------------------------------------------


def untrack(connection: Connection, place: Place, request: Request, events: Events) -> Outcome:
    """Do it, or finish what an earlier run began. ``connection`` must be in autocommit and reach the server itself.

    Raises what :func:`plan` raises, Busy while somebody migrates, Blocked, PrivilegeMissing, StorageError; then the row is
    where it was.
    """
    with advisory.migrate_lock(connection, place.lock_seconds):
        found = plan(connection, place, request)
        if not _left(found) and not request.hold:
            return Outcome(found.migration, 0, _text(found.entry), held=False, notes=found.notes)
        tree = Worktree.of(place.project.migrations) if place.project.migrations.is_dir() else None
        tidy = tree is not None and tree.tidy(found.source, place.archive)
        entry = found.entry or archive.begin(
            place.archive, found.migration, found.source, found.folder.sha256 if found.folder else None
        )
        events.emit("untrack.step", name="rows", text=f"{found.migration}: the folder first, the rows second")
        deleted, entry = _books(connection, place, request, found, entry)
        entry = entry.saved(state=archive.HELD if request.hold else archive.DONE, ended=iso())
        commit = told(tree, found.source, entry.path, found.migration, tidy=tidy)
        _verified(connection, place, request, found.migration)
    return Outcome(
        found.migration,
        sum(deleted.values()),
        str(entry.path),
        held=request.hold,
        archived=sum(len(rows) for rows in (entry.rows or {}).values()),
        schemas=deleted,
        commit=tuple(commit),
        notes=(*found.notes, *reminders(place.project, held=request.hold)),
    )


def _books(connection: Connection, place: Place, request: Request, found: Plan, entry: Entry) -> tuple[dict[str, int], Entry]:
    """Rows to the archive, the folder after them, then the rows' end: one transaction, which keeps the rows locked."""
    name = found.migration
    tables = [schema for schema, books in found.books.items() if books.rows or _has_table(connection, schema)]
    deleted: dict[str, int] = {}
    try:
        with connection.transaction():
            milliseconds = int(place.lock_seconds * 1000)
            rows = {schema: tracking.lock_rows(connection, schema, name, milliseconds) for schema in tables}
            entry = entry.keep(rows)
            advisory.still_held(connection)
            if found.folder is not None:
                entry.take(found.source)
            for schema in tables:
                if request.hold:
                    _hold(connection, schema, found, entry)
                else:
                    deleted[schema] = tracking.delete(connection, schema, name)
                    _all_kept(schema, deleted[schema], len(rows[schema]))
    except BaseException:
        if found.folder is not None and not connection.broken:  # else nobody knows yet whether it was committed
            entry.give_back(found.source)
        raise
    return deleted, entry


def _has_table(connection: Connection, schema: str) -> bool:
    return schema in tracking.schemas(connection)


def _all_kept(schema: str, deleted: int, kept: int) -> None:
    if deleted != kept:
        raise OutOfStep(reason=f"{schema}.{tracking.TABLE} got rows of this migration meanwhile, in spite of Prisma's lock")


def _hold(connection: Connection, schema: str, found: Plan, entry: Entry) -> None:
    """Have an applied row, which keeps every deployer from running the folder it may still carry."""
    if found.books[schema].state(found.migration) is not State.APPLIED:
        tracking.mark_applied(connection, schema, found.migration, entry.checksum_of(schema))


def _verified(connection: Connection, place: Place, request: Request, name: str) -> None:
    """Look again, as Prisma's diagnosis would. Raises OutOfStep."""
    wanted = State.APPLIED if request.hold else State.ABSENT
    there = tracking.schemas(connection)
    wrong = [
        schema for schema in request.schemas if schema in there and tracking.read(connection, schema).state(name) is not wanted
    ]
    if wrong or (place.project.migrations / name).exists():
        where = ", ".join(wrong) or str(place.project.migrations)
        raise OutOfStep(reason=f"{name} is not as it should be in {where}: somebody works on it in spite of Prisma's lock")


def reminders(project: Project, *, held: bool) -> list[str]:
    """What is left to do by hand once Prisma has forgotten a migration."""
    schema = project.schema or Path("prisma/schema.prisma")
    flags = _DIFF_FLAGS[7 if project.version is None or project.version[0] >= 7 else 6].format(schema=schema)
    notes = [
        f"{schema} still describes the models as after the migration: take them back, then `npx prisma generate`",
        f"to compare: npx prisma migrate diff {flags} --exit-code   (2: they differ)",
        f"deployers that set {advisory.DISABLING} are kept out by no lock: stop them before you untrack",
    ]
    if held:
        notes.append("held: roll out the commit without the folder, then `invoke untrack --migration ... --finalise`")
    return notes


def _text(entry: Entry | None) -> str | None:
    return str(entry.path) if entry is not None else None
