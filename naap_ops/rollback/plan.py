"""What a rollback would do: which migrations in which schemas, the ways back, and which of them is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from naap_ops import reverses, statuses
from naap_ops.app import App
from naap_ops.config import patterns
from naap_ops.errors import Busy, MigrationNotFound, Refused
from naap_ops.postgres.session import connect
from naap_ops.prisma import advisory, archive, tracking
from naap_ops.prisma.migrations import migrations
from naap_ops.prisma.reference import resolve
from naap_ops.prisma.tracking import Books, State
from naap_ops.restore.failures import server_errors
from naap_ops.restore.outcome import size_text
from naap_ops.reverse import files
from naap_ops.reverse.images import parking
from naap_ops.reverse.images.fitting import CUT
from naap_ops.reverse.images.parking import Expected
from naap_ops.rollback import ways
from naap_ops.rollback.choosing import Flags, Found, refusal
from naap_ops.rollback.undoing import Before, Undoing, by_reverse
from naap_ops.rollback.unit import Putting
from naap_ops.rollback.ways import Way
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from pathlib import Path

    from naap_ops.backup.repository import Backup
    from naap_ops.postgres.session import Connection
    from naap_ops.prisma.migrations import Migration
    from naap_ops.prisma.project import Project

_SHOWN = 12
_MEGABYTE = 1024 * 1024
REPORT, THEIRS, OURS = "report", "theirs", "ours"


@dataclass(frozen=True)
class Asked:
    """What the flags say. ``strategy`` None: the way that loses least. ``backup``: to restore, else the newest before.

    ``conflicts``: where a value was written since, ``report`` and ``theirs`` leave it, ``ours`` takes the one from before.
    ``park``: what goes is kept however much it is, or not at all; None: as the settings say. ``defaults``,
    ``park_rows``: what becomes of rows that do not fit, as in :class:`Flags`.
    """

    ref: str
    strategy: str | None = None
    cascade: bool = False
    tenant: str | None = None
    all_tenants: bool = False
    hold: bool = False
    redo: bool = False
    backup: str | None = None
    conflicts: str = REPORT
    park: bool | None = None
    defaults: tuple[str, ...] = ()
    park_rows: bool = False


@dataclass(frozen=True)
class Plan:
    """``migrations`` newest first, by schema those that are undone there. ``way``: the one that is taken.

    ``scripts``: checksums of the migrations as they are in the folder. ``undecided``: why somebody has to say first
    whether what goes is parked. ``parks``: it is, and so are values in whose place others are put.
    ``unfit``: rows that somebody has to choose for, too.
    """

    database: str
    migrations: tuple[str, ...]
    schemas: Mapping[str, tuple[str, ...]]
    ways: tuple[Way, ...]
    way: Way
    putting: Putting
    scripts: Mapping[str, str | None]
    notes: tuple[str, ...] = ()
    undecided: str = ""
    parks: bool = True
    unfit: tuple[Found, ...] = ()

    @property
    def migration(self) -> str:
        """The one that was asked for: the oldest of them."""
        return self.migrations[-1]

    def decided(self) -> None:
        """Raises Refused where somebody has to say first whether what goes is parked, or what becomes of some rows."""
        if self.unfit:
            raise refusal(self.unfit, restore=True)
        if self.undecided:
            hint = "--park keeps it all the same; --no-park does not: it is lost then."
            raise Refused(reason=f"{self.undecided}. Nothing was rolled back", hint=hint)

    def lines(self) -> list[str]:
        """For people."""
        where = ", ".join(self.schemas) if len(self.schemas) <= _SHOWN else f"{len(self.schemas)} schemas"
        lines = [f"roll back {name} in {where}" for name in self.migrations]
        for way in self.ways:
            taken = "->" if way is self.way else "  "
            lines.append(f"{taken} {_described(way)}")
            lines += [f"     {each}" for each in way.told]
            lines += [f"     brings back {each}" for each in way.comes_back]
            lines += [f"     {'cuts' if each.choice == CUT else 'does not fit:'} {each.line}" for each in way.unfit]
            lines += [f"     parks {parked_line(each)}" for each in way.parked if each.rows]
            lines += [f"     parks {taken_line(table, rows)}" for table, rows in way.taken.items()]
            lines += [f"     loses {loss}" for loss in way.losses[:_SHOWN]]
            if len(way.losses) > _SHOWN:
                lines.append(f"     and {len(way.losses) - _SHOWN} more")
        lines += [*self._after(), *(f"note: {note}" for note in self.notes)]
        lines += [f"to be decided: {self.undecided}: --park or --no-park"] if self.undecided else []
        return [*lines, *(["to be decided: what becomes of rows that do not fit"] if self.unfit else [])]

    def _after(self) -> list[str]:
        if self.putting.redo:
            return ["its folder stays and its rows are marked as rolled back: the next deploy runs it again"]
        rows = "an applied row is kept" if self.putting.hold else "its rows go"
        folder = "the folder goes to the archive first" if self.putting.folder else "the folder stays, others need it"
        return [f"in Prisma's books {rows}; {folder}"]


class Undecided(Refused):
    """Every way back loses something, and not all of it is counted, so that somebody has to choose. Fields: ``reason`` (the
    ways, in lines), ``ways`` (as JSON)."""

    message = "every way back loses something, and what they lose cannot be compared:\n{reason}"
    hint = (
        "Choose: --strategy reverse, or --strategy restore."
        " (Rows that the migration itself wrote count as written since the backup: nothing tells them apart.)"
    )

    def as_dict(self) -> dict[str, Any]:
        """With the ways."""
        return {**super().as_dict(), "ways": self.fields.get("ways")}


def _undecided(found: Sequence[Way]) -> Undecided:
    lines = [line for way in found for line in (f"  {_described(way)}", *(f"     {loss}" for loss in way.losses[:_SHOWN]))]
    return Undecided(reason="\n".join(lines), ways=[way.as_dict() for way in found])


def _described(way: Way) -> str:
    if way.problem:
        return f"{way.strategy}: not possible, {way.problem}"
    about = f", about {way.seconds:.0f} s" if way.seconds is not None else ""
    what = f"by backup {way.backup.id}" if way.backup else f"by its proved reverse ({count_of(way.statements, 'statement')})"
    return f"{way.strategy}: {what}{about}; {'loses:' if way.losses else 'loses nothing'}"


def plan(app: App, database: str | None, asked: Asked) -> Plan:
    """Look, touch nothing.

    Raises MigrationNotFound, MigrationAmbiguous; Refused (nothing to roll back, later ones applied, no way back); Busy while
    it is being applied; what the connection raises.
    """
    info = app.info(database)
    with server_errors(info, "planning"), connect(info, application_name="naap_ops rollback plan") as connection:
        return planned(app, database, asked, connection)


@dataclass(frozen=True)
class Scene:
    """What is there. ``undone``: by schema what is to be undone there, ``ordered``: all of that; both newest first."""

    project: Project
    folders: Mapping[str, Migration]
    every: Mapping[str, Books]
    undone: Mapping[str, tuple[str, ...]]
    ordered: tuple[str, ...]

    @property
    def scripts(self) -> dict[str, str | None]:
        """The checksum of each script that is to be undone."""
        return {name: self.folders[name].sha256 if name in self.folders else None for name in self.ordered}


def look(app: App, database: str | None, asked: Asked, connection: Connection) -> Scene:
    """Folder and books. Raises what :func:`plan` raises."""
    project, info = app.project(), app.info(database)
    archive.checked(app.archive, project.migrations)
    tracking.refuse_contract(connection)
    folders = {each.name: each for each in migrations(project.migrations)}
    every = {schema: tracking.read(connection, schema) for schema in tracking.schemas(connection)}
    chosen = _chosen(app, database, asked, info.schema, every)
    name = _named(asked, folders, chosen, app.archive, str(project.migrations))
    undone = {schema: names for schema, books in chosen.items() if (names := _undone(name, books, asked))}
    if not undone:
        raise _nothing(name, folders, chosen, app.archive)
    _not_under_way(connection, name, undone, chosen)
    ordered = _ordered({each for names in undone.values() for each in names}, list(chosen.values()))
    return Scene(project, folders, every, undone, tuple(ordered))


def planned(app: App, database: str | None, asked: Asked, connection: Connection) -> Plan:
    """The same, on a session that is there."""
    scene = look(app, database, asked, connection)
    ordered, undone = scene.ordered, scene.undone
    chosen = {schema: scene.every[schema] for schema in undone}
    undoing = [_undoing(each, scene.folders.get(each), list(chosen.values())) for each in ordered]
    alias = database or app.alias(None) or connection.info.dbname
    backup, problem = _backup(app, alias, asked, list(undone), ordered[-1])
    unable = "" if _parks(app, asked) is False else parking.trouble(connection)
    park = _parks(app, asked) and not unable
    wanted = reverses.Wanted(database, next(iter(undone)), check=True, overwrite=asked.conflicts == OURS, park=park)
    flags = Flags(asked.defaults, asked.park_rows, park, asked.conflicts == OURS)
    if asked.park_rows and not park:
        raise Refused(
            reason=f"rows cannot be parked: {unable or 'park.enabled is off'}",
            hint="--park parks all the same." if not unable else "A role that may; or --default for what does not fit.",
        )
    reverse = by_reverse(app, wanted, undoing, connection, chosen, _before(app, alias, asked, backup), flags=flags)
    restore = ways.by_restore(connection, backup, problem, list(undone) if asked.tenant else None)
    found = (reverse, restore)
    unfit = _undecided_rows(reverse, restore, asked)
    way = _taken(found, asked)
    others = [schema for schema, books in scene.every.items() if schema not in undone and _has(books, ordered)]
    putting = _putting(asked, others, hold=asked.hold or app.loaded.settings.rollback.hold)
    notes = [*app.remarks(database), *_notes(scene.project, others, putting, undoing)]
    if unable and reverse.losses:
        notes.append(f"nothing is parked: {unable}")
    too_much = "" if asked.park else _too_much(app, way)
    return Plan(
        connection.info.dbname, ordered, undone, found, way, putting, scene.scripts, tuple(notes), too_much, park, unfit
    )


def _undecided_rows(reverse: Way, restore: Way, asked: Asked) -> tuple[Found, ...]:
    """Rows that somebody has to choose for first: a restore in place of the reverse would lose more than these. Of several
    schemas each goes by itself, and one with such rows is left behind. Raises RowsUnfit where there is no other way."""
    if not reverse.problem:
        return ()
    undecided = tuple(each for each in reverse.unfit if not each.choice)
    if undecided and (asked.strategy == ways.REVERSE or (asked.strategy is None and not restore.possible)):
        raise refusal(undecided, restore=False)
    return undecided if asked.strategy is None and restore.losses else ()


def _parks(app: App, asked: Asked) -> bool:
    return app.loaded.settings.park.enabled if asked.park is None else asked.park


def _too_much(app: App, way: Way) -> str:
    """That what is parked is more than the setting allows, '' where it is not."""
    ceiling = app.loaded.settings.park.ceiling * _MEGABYTE
    size = sum(each.bytes for each in way.parked) + way.taken_bytes
    if size <= ceiling:
        return ""
    what = [*map(parked_line, way.parked), *(taken_line(table, rows) for table, rows in way.taken.items())]
    return f"{'; '.join(what)}: about {size_text(size)}, more than park.ceiling, {size_text(ceiling)}"


def taken_line(table: str, rows: int) -> str:
    """Rows that are parked as they do not fit, or refer to such."""
    return f"{count_of(rows, 'row')} of {table}, whole, for `invoke reapply`"


def parked_line(each: Expected) -> str:
    """What is parked of a table, about."""
    park = each.park
    what = "" if park.whole else f"{', '.join(column.name for column in park.columns)} of "
    return (
        f"{what}about {count_of(each.rows, 'row')} of {'.'.join(park.relation)}, {size_text(each.bytes)}, for `invoke reapply`"
    )


def _chosen(app: App, database: str | None, asked: Asked, own: str, every: Mapping[str, Books]) -> dict[str, Books]:
    if asked.tenant is not None:
        schema = patterns.schema_for(app.loaded.database(database).tenant_schemas, asked.tenant)
        if schema not in every:
            raise MigrationNotFound(
                ref=asked.ref, folder=f"schema {schema}", what=f"tracking tables in: {', '.join(every) or 'none'}"
            )
        return {schema: every[schema]}
    if asked.all_tenants:
        schemas = statuses.schemas_of(app, database, app.info(database), list(every), all_tenants=True)
        return {schema: every.get(schema) or Books(schema, ()) for schema in schemas}
    return {own: every.get(own) or Books(own, ())}


def _named(asked: Asked, folders: Mapping[str, Migration], chosen: Mapping[str, Books], put_away: Path, where: str) -> str:
    known = [*folders, *(entry.migration for entry in archive.entries(put_away))]
    return resolve(asked.ref, known, list(chosen.values()), f"{where} and the books of {', '.join(chosen)}")


def _undone(name: str, books: Books, asked: Asked) -> tuple[str, ...]:
    """What has to be undone in one schema, newest first. Raises Refused where later ones are applied, without cascade."""
    if books.state(name) not in (State.APPLIED, State.FAILED):
        return ()
    later = books.later(name)
    if later and not asked.cascade:
        raise Refused(
            reason=f"later migrations are applied in {books.schema} ({len(later)}): {', '.join(later[-5:])}",
            hint=f"Newest first: --migration {later[-1]}; or --cascade, which rolls all of them back in order.",
        )
    return tuple(_ordered({name, *later}, [books]))


def _ordered(names: set[str], books: Sequence[Books]) -> list[str]:
    """Newest first, by when they were begun."""
    begun = {name: max(row.started for each in books for row in each.of(name) if row.live) for name in names}
    return sorted(names, key=lambda name: (begun[name], name), reverse=True)


def _nothing(name: str, folders: Mapping[str, Migration], chosen: Mapping[str, Books], put_away: Path) -> Refused:
    where = ", ".join(chosen)
    before = archive.entries(put_away, name)
    if before and name not in folders:
        return Refused(
            reason=f"{name} was rolled back or untracked before ({before[0].ended or before[0].begun}): nothing is left to do",
            hint=f"It lies in {before[0].path}.",
        )
    if any(books.state(name) is State.ROLLED_BACK for books in chosen.values()):
        return Refused(
            reason=f"{name} is marked as rolled back in {where}: nothing of it is applied",
            hint="Its folder is applied again by the next deploy; `invoke untrack` puts it away.",
        )
    return Refused(
        reason=f"{name} was never applied in {where}: there is nothing to roll back",
        hint="`invoke untrack` puts its folder away, so that the next deploy does not apply it.",
    )


def _not_under_way(connection: Connection, name: str, undone: Mapping[str, Sequence[str]], chosen: Mapping[str, Books]) -> None:
    """Raise Busy while it is being applied: a failed row and a running one are the same but for the lock."""
    running = any(chosen[schema].state(each) is State.FAILED for schema, names in undone.items() for each in names)
    who = advisory.holder(connection)
    if running and who is not None and who.pid != connection.info.backend_pid:
        raise Busy(what=f"a Prisma migrate command, perhaps {name} itself,", holder=str(who))


def _undoing(name: str, folder: Migration | None, books: Sequence[Books]) -> Undoing:
    if folder is None or folder.sha256 is None:
        return Undoing(name, None, "its folder is gone")
    found = files.Migration(name, folder.path / files.FORWARD, folder.path / files.DOWN, folder.path / files.RECORD)
    rows = [row for each in books for row in each.of(name) if row.live]
    if any(not folder.matches(row.checksum) for row in rows):
        return Undoing(name, found, "migration.sql was edited since it was run, so that its reverse is of another script")
    states = {each.schema: each.state(name) for each in books}
    applied, failed = ([schema for schema, state in states.items() if state is one] for one in (State.APPLIED, State.FAILED))
    return Undoing(name, found, "", tuple(applied), tuple(failed))


def _backup(app: App, alias: str, asked: Asked, schemas: Sequence[str], oldest: str) -> tuple[Backup | None, str]:
    if asked.backup is not None:
        return app.repository.find(asked.backup, alias), ""
    backups, problem = statuses.good_backups(app, alias)
    found = [statuses.backup_before(backups, schema, oldest) for schema in schemas]
    if any(each is None for each in found):
        return None, problem or f"no verified backup is from before {oldest}"
    return min((each for each in found if each is not None), key=lambda each: each.id), ""


def _before(app: App, alias: str, asked: Asked, chosen: Backup | None) -> Before:
    """Each migration's rows come out of the newest backup before it, or out of the one that was asked for."""
    backups = [chosen] if asked.backup is not None and chosen is not None else statuses.good_backups(app, alias)[0]
    return partial(statuses.backup_before, backups)


def _taken(found: Sequence[Way], asked: Asked) -> Way:
    if asked.strategy is None:
        if ways.undecided(found):
            raise _undecided(found)
        way = ways.best(found)
        if way is None:
            reasons = "; ".join(f"{each.strategy}: {each.problem}" for each in found)
            raise Refused(reason=f"there is no way back: {reasons}", hint="`invoke backup.list` shows what could be restored.")
        return way
    way = next(each for each in found if each.strategy == asked.strategy)
    if way.problem:
        other = next(each for each in found if each is not way)
        raise Refused(
            reason=f"no rollback by {way.strategy}: {way.problem}",
            hint=f"--strategy {other.strategy} is possible."
            if other.possible
            else f"Nor by {other.strategy}: {other.problem}.",
        )
    return way


def _has(books: Books, names: Sequence[str]) -> bool:
    return any(books.state(name) in (State.APPLIED, State.FAILED) for name in names)


def _putting(asked: Asked, others: Sequence[str], *, hold: bool) -> Putting:
    """Where other schemas still have it, the folder stays for them, and an applied row here keeps it from running again."""
    if asked.redo:
        return Putting(hold=False, folder=False, redo=True)
    return Putting(hold=hold or bool(others), folder=not others)


def _notes(project: Project, others: Sequence[str], putting: Putting, undoing: Sequence[Undoing]) -> list[str]:
    notes = list(project.notes)
    if others and not putting.redo:
        shown = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
        notes.append(
            f"other schemas still have it ({shown}): the folder stays for them, and a row here keeps it from coming back"
        )
    if advisory.disabled():
        notes.append(f"{advisory.DISABLING} is set here: a Prisma started with it deploys in spite of the lock")
    if len(undoing) > 1:
        notes.append(f"{len(undoing)} migrations, newest first")
    return notes
