"""What a rollback by restore is about, decided before anything is done: afterwards the live books are others.

The journal keeps it as its request, so that whoever goes on with it, or undoes it, needs neither the live database nor the same
flags. ``migrations`` are newest first: the one that was asked for is the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from naap_ops import statuses
from naap_ops.app import App
from naap_ops.backup.repository import Backup
from naap_ops.errors import OutOfStep, Refused
from naap_ops.postgres.session import connect
from naap_ops.prisma import advisory, archive, tracking
from naap_ops.prisma.migrations import migrations
from naap_ops.prisma.reference import resolve
from naap_ops.prisma.tracking import Books, State
from naap_ops.prisma.worktree import Worktree
from naap_ops.restore.failures import server_errors
from naap_ops.rollback import since

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.rollback.plan import Asked

_COUNT_SECONDS = 1.0  # for the plan: what takes longer is estimated; the record counts again, from the old database


@dataclass(frozen=True)
class Case:
    """``schemas``: by schema the migrations that are live in its books, newest first. ``folders``: those whose folder is there.

    ``tidy``: those whose move may be staged in git. ``checksums`` to hold them with. ``lost``: rows by table, about.
    ``selection``: the ``--database`` it was asked for with. ``services``: with services and maintenance, or the restore alone.
    """

    database: str
    selection: str | None
    alias: str
    address: str
    migrations: list[str]
    schemas: dict[str, list[str]]
    checksums: dict[str, str]
    folders: list[str]
    tidy: list[str]
    source: str
    archive: str
    backup: str
    taken_at: str
    hold: bool
    services: bool
    maintenance_first: bool
    lost: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def migration(self) -> str:
        """The one that was asked for: the oldest of them."""
        return self.migrations[-1]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, request: Mapping[str, Any], info: ConnInfo) -> Self:
        """That of a journal. Raises OutOfStep where the flags or the environment lead to another database."""
        case = cls(**request)
        here = (info.dbname or case.database, info.address)
        if here != (case.database, case.address):
            raise OutOfStep(
                reason=f"it is about {case.database!r} at {case.address}, and this is {here[0]!r} at {here[1]}",
                hint="Give its --url or --database.",
            )
        return case


def decide(app: App, database: str | None, asked: Asked, *, services: bool, maintenance_first: bool = False) -> Case:
    """Look, touch nothing.

    Raises MigrationNotFound, MigrationAmbiguous, BackupNotFound; Refused (never applied, later ones applied without cascade, no
    backup from before it, or the backup has it); ConfigurationError; what the connection raises.
    """
    project, info = app.project(), app.info(database)
    archive.checked(app.archive, project.migrations)
    folders = {each.name: each for each in migrations(project.migrations)}
    with server_errors(info, "planning"), closing(connect(info, application_name="naap_ops emergency plan")) as connection:
        name = connection.info.dbname
        tracking.refuse_contract(connection)
        every = {schema: tracking.read(connection, schema) for schema in tracking.schemas(connection)}
        where = f"{project.migrations} and the books of {', '.join(every) or 'nobody'}"
        known = [*folders, *(entry.migration for entry in archive.entries(app.archive))]
        own = every.get(info.schema)
        wanted = resolve(asked.ref, known, [own] if own is not None else list(every.values()), where)
        schemas = _live(wanted, every, cascade=asked.cascade)
        names = _ordered(schemas, every)
        alias = database or app.alias(None) or name
        backup = _backup(app, alias, asked.backup, names)
        held = asked.hold or app.loaded.settings.rollback.hold
        if held:
            _can_hold(backup, schemas)
        lost = since.as_json(since.written_since(connection, backup.sound, seconds=_COUNT_SECONDS))
        notes = [*app.remarks(database), *_notes(connection, names, every, backup), *project.notes]
    there = [each for each in names if each in folders]
    tree = Worktree.of(project.migrations) if project.migrations.is_dir() else None
    checksums = {each: found for each in names if (found := _checksum(each, folders, every)) is not None}
    return Case(
        database=name,
        selection=database,
        alias=alias,
        address=info.address,
        migrations=names,
        schemas=schemas,
        checksums=checksums,
        folders=there,
        tidy=[each for each in there if tree is not None and tree.tidy(project.migrations / each, app.archive)],
        source=str(project.migrations.absolute()),
        archive=str(app.archive.absolute()),
        backup=backup.id,
        taken_at=backup.sound.snapshot_at,
        hold=held,
        services=services,
        maintenance_first=maintenance_first,
        lost=lost,
        notes=notes,
    )


def source_of(case: Case, migration: str) -> Path:
    """Where the migration's folder lies, or lay."""
    return Path(case.source) / migration


def _live(name: str, every: Mapping[str, Books], *, cascade: bool) -> dict[str, list[str]]:
    """By schema what is undone there, newest first. A restore takes all schemas back, so all are asked."""
    having = {schema: books for schema, books in every.items() if books.state(name) in (State.APPLIED, State.FAILED)}
    if not having:
        raise Refused(
            reason=f"{name} is not applied in {', '.join(every) or 'any schema'}: there is nothing to go back from",
            hint="`invoke untrack` puts its folder away; `invoke restore --swap` goes back to a backup for another reason.",
        )
    later = list(dict.fromkeys(each for books in having.values() for each in books.later(name)))
    if later and not cascade:
        raise Refused(
            reason=f"later migrations are applied ({len(later)}), which the restore would lose as well: {', '.join(later)}",
            hint="--cascade takes all of them back.",
        )
    return {schema: _ordered({schema: [name, *books.later(name)]}, every) for schema, books in having.items()}


def _ordered(schemas: Mapping[str, Sequence[str]], every: Mapping[str, Books]) -> list[str]:
    """Each once, newest first by when it was begun."""
    begun = {
        name: max(row.started for schema in schemas for row in every[schema].of(name) if row.live)
        for name in dict.fromkeys(name for names in schemas.values() for name in names)
        if any(row.live for schema in schemas for row in every[schema].of(name))
    }
    return sorted(begun, key=lambda name: (begun[name], name), reverse=True)


def _backup(app: App, alias: str, ref: str | None, names: Sequence[str]) -> Backup:
    """The backup that was asked for, else the newest good one of everything that has none of ``names`` in its books."""
    if ref is not None:
        backup = app.repository.find(ref, alias)
        if having := in_books(backup, names):
            raise Refused(
                reason=f"backup {backup.id} was taken with {', '.join(having)} in its books: it is no way back from that",
                hint="Without --backup the newest one from before it is taken; `invoke backup.list` shows them.",
            )
        return backup
    backups, problem = statuses.good_backups(app, alias)
    for each in backups:
        scope = each.sound.scope
        if scope.whole and not scope.exclude_table_data and not in_books(each, names):
            return each
    raise Refused(
        reason=problem or f"no verified backup of all of {alias!r} is from before {names[-1]}",
        hint="`invoke backup.list` shows what there is; `invoke rollback` goes back by the reverse, without a backup.",
    )


def in_books(backup: Backup, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that the backup's books have as applied or half-way."""
    live = {
        row.get("name")
        for books in backup.sound.prisma
        for row in books.get("migrations", ())
        if row.get("state") != "rolled_back"
    }
    return [name for name in names if name in live]


def _can_hold(backup: Backup, schemas: Mapping[str, Sequence[str]]) -> None:
    known = {books.get("schema") for books in backup.sound.prisma}
    if lacking := [schema for schema in schemas if schema not in known]:
        raise Refused(
            reason=f"backup {backup.id} is from before the first migration of {', '.join(lacking)}: no books to hold a row in",
            hint="Without --hold; then stop everything that would deploy the folder again.",
        )


def _checksum(name: str, folders: Mapping[str, Any], every: Mapping[str, Books]) -> str | None:
    folder = folders.get(name)
    if folder is not None and folder.sha256 is not None:
        return str(folder.sha256)
    return next((row.checksum for books in every.values() for row in books.of(name)), None)


def _notes(connection: Connection, names: Sequence[str], every: Mapping[str, Books], backup: Backup) -> list[str]:
    notes = []
    before = {row.get("name") for books in backup.sound.prisma for row in books.get("migrations", ())}
    others = sorted({each for books in every.values() for each in books.applied()} - before - set(names))
    if others:
        notes.append(f"applied since the backup, so pending again and run by the next deploy: {', '.join(others)}")
    who = advisory.holder(connection)
    if who is not None:
        notes.append(f"somebody migrates right now, whose session ends with the swap: {who}")
    if advisory.disabled():
        notes.append(f"{advisory.DISABLING} is set here: a Prisma started with it deploys in spite of any lock")
    return notes
