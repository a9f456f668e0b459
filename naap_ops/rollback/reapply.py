"""Roll forward again: the folder of a migration that was rolled back returns to its place, is deployed, and what was parked
comes back.

Of its steps only the folder's is ours, the rest is a guarded deploy. Killed in between, the folder is in its place and pending:
running it again goes on, and so does ``invoke deploy``. Where the deploy ends without having applied anything of it, the folder
goes back to the archive.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from naap_ops import exclusion, statuses
from naap_ops.app import App
from naap_ops.deploys import deploy as deploys
from naap_ops.deploys import returning
from naap_ops.deploys.record import Record
from naap_ops.errors import OpsError, Refused
from naap_ops.postgres.session import connect
from naap_ops.prisma import advisory, archive, tracking
from naap_ops.prisma.archive import Entry
from naap_ops.prisma.migrations import migrations
from naap_ops.prisma.reference import LATEST, resolve
from naap_ops.prisma.tracking import Books, State
from naap_ops.prisma.worktree import Worktree, told_back
from naap_ops.restore.failures import server_errors
from naap_ops.reverse.images import parked
from naap_ops.reverse.images.parked import Parked
from naap_ops.reverse.images.unparking import Back

if TYPE_CHECKING:
    from naap_ops.deploys.deploy import Asked
    from naap_ops.deploys.preflight import Preflight
    from naap_ops.postgres.session import Connection
    from naap_ops.prisma.project import Project

NAME = "reapply"


@dataclass(frozen=True)
class Scene:
    """What is there. ``entry``: its place in the archive, None without one. ``held``: schemas whose books have a row that only
    keeps it from running. ``applied``: those in which it really is. ``parked``: what waits to come back there."""

    database: str
    migration: str
    source: Path
    entry: Entry | None
    schemas: tuple[str, ...]
    held: tuple[str, ...]
    applied: tuple[str, ...]
    parked: tuple[Parked, ...]

    @property
    def folder(self) -> Path | None:
        """Where it has to come from; None where it is in its place."""
        if self.source.exists() or self.entry is None:
            return None
        return self.entry.folder

    @property
    def done(self) -> bool:
        """It is applied everywhere: only what is still parked is left to bring back."""
        return set(self.applied) == set(self.schemas)

    def lines(self) -> list[str]:
        """For people."""
        if self.done:
            return [f"{self.migration} is applied: bring back {statuses.parked_line(each)}" for each in self.parked]
        lines = [f"put {self.folder} back as {self.source}"] if self.folder else [f"{self.source} is in its place"]
        return [*lines, *(f"in the books of {schema} its row goes, which was held" for schema in self.held)]


@dataclass(frozen=True)
class Outcome:
    """``record``: of the deploy, None where nothing had to be deployed. ``commit``: commands left to the operator."""

    migration: str
    record: Record | None
    restored: dict[str, int] = field(default_factory=dict)
    left: list[dict[str, Any]] = field(default_factory=list)
    leaving: int = 0
    commit: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        own = {"restored": self.restored, "left": self.left, "leaving": self.leaving}
        known = self.record.as_dict() if self.record else {"applied": [], **own}
        return {**known, "migration": self.migration, "commit": self.commit}


def look(app: App, database: str | None, ref: str, asked: Asked) -> Scene:
    """Look, touch nothing. Raises MigrationNotFound, MigrationAmbiguous; Refused where there is nothing to do, or it failed
    half-way; what the connection raises."""
    project, info = app.project(), app.info(database)
    archive.checked(app.archive, project.migrations)
    with server_errors(info, "looking"), connect(info, application_name="naap_ops reapply") as connection:
        return _look(app, database, ref, asked, connection, project)


def _look(app: App, database: str | None, ref: str, asked: Asked, connection: Connection, project: Project) -> Scene:
    schemas = statuses.tenant_schemas(app, database, connection, asked.tenant, all_tenants=asked.all_tenants)
    books = {schema: tracking.read(connection, schema) for schema in schemas}
    entries = archive.entries(app.archive)
    name = _named(ref, entries, [each.name for each in migrations(project.migrations)], books, app.archive)
    entry = next((each for each in entries if each.migration == name), None)
    source = project.migrations / name
    states = {schema: each.state(name) for schema, each in books.items()}
    held = [
        schema
        for schema, state in states.items()
        if state is State.APPLIED and entry is not None and entry.state == archive.HELD and schema in (entry.rows or {})
    ]
    applied = [schema for schema, state in states.items() if state is State.APPLIED and schema not in held]
    waiting = tuple(each for each in parked.found(connection) if each.migration == name and each.schema in schemas)
    scene = Scene(
        connection.info.dbname, name, source, entry, tuple(schemas), tuple(held), tuple(applied), waiting
    )  # fmt: skip
    _refuse(scene, states)
    return scene


def _named(ref: str, entries: Sequence[Entry], folders: Sequence[str], books: Mapping[str, Books], where: Path) -> str:
    """``latest``: the one that was put away last; of several at once the oldest, which was the last in its turn."""
    if ref != LATEST:
        return resolve(ref, [*folders, *(each.migration for each in entries)], list(books.values()), str(where))
    gone = [each for each in entries if each.state in (archive.DONE, archive.HELD) and each.rows]
    if not gone:
        raise Refused(
            reason=f"nothing was rolled back or untracked, as far as {where} knows",
            hint="`invoke status` shows what is applied and what is pending.",
        )
    newest = max(each.ended or each.begun for each in gone)
    return min(each.migration for each in gone if (each.ended or each.begun) == newest)


def _refuse(scene: Scene, states: Mapping[str, State]) -> None:
    name = scene.migration
    failed = [schema for schema, state in states.items() if state is State.FAILED]
    if failed:
        raise Refused(
            reason=f"{name} failed half-way in {', '.join(failed)}, or was ended in the middle",
            hint=f"Nothing of it took effect: `invoke resolve --rolled-back {name}`, then run this again. Else"
            " `invoke rollback --migration failed` first.",
        )
    if scene.done and not scene.parked:
        raise Refused(
            reason=f"{name} is applied in {', '.join(scene.schemas)}, and nothing of it is parked: there is nothing to do",
            hint="`invoke status` shows what is parked.",
        )
    if not scene.source.exists() and (scene.entry is None or not scene.entry.folder.exists()):
        raise Refused(
            reason=f"the folder of {name} is neither in {scene.source.parent} nor in the archive",
            hint="Get it back from the repository (git), then `invoke deploy`: what is parked comes back with it.",
        )


# --- before ---------------------------------------------------------------------------------------------------------


@dataclass
class _Overlaid(App):
    """As if the project's migrations were those in ``overlay``."""

    overlay: Path = Path()

    def project(self) -> Project:
        return replace(super().project(), migrations=self.overlay)


@contextmanager
def overlaid(app: App, scene: Scene) -> Iterator[App]:
    """An application whose project has the folder in its place, for looking only: nothing of it is written to the real one."""
    if scene.folder is None:
        yield app
        return
    with tempfile.TemporaryDirectory(prefix="naap_ops-") as place:
        folder = Path(place) / scene.source.parent.name
        shutil.copytree(scene.source.parent, folder)
        shutil.copytree(scene.folder, folder / scene.migration)
        yield _Overlaid(app.loaded, app.events, folder)


# --- doing it -------------------------------------------------------------------------------------------------------


def reapply(app: App, database: str | None, scene: Scene, asked: Asked, tell: Callable[[str], None]) -> Outcome:
    """Do it. Raises what :func:`look` and the deploy raise."""
    if scene.done:
        return _brought_back(app, database, scene)
    tree = Worktree.of(scene.source.parent) if scene.source.parent.is_dir() else None
    tidy = tree is not None and tree.tracks(scene.source.parent) and tree.clean([scene.source, app.archive])
    moved = scene.folder is not None
    _in_place(app, database, scene)
    try:
        commit = told_back(tree, scene.entry.folder, scene.source, scene.migration, tidy=tidy) if moved and scene.entry else []
        seen = deploys.preflight(app, database, asked)
        record = _deployed(app, database, asked, seen, tell)
    except BaseException:
        if (moved or scene.held) and _untouched(app, database, scene):
            with suppress(OpsError, psycopg.Error):  # why it failed is what people must hear
                _put_away(app, database, scene, moved=moved, tree=tree if tidy else None)
        raise
    _settled(scene)
    return Outcome(scene.migration, record, commit=commit)


def _deployed(app: App, database: str | None, asked: Asked, seen: Preflight, tell: Callable[[str], None]) -> Record:
    if not seen.pending:
        deploys.none_left_out(seen)
        raise Refused(
            reason="somebody else has deployed it meanwhile",
            hint="Run it again: what is still parked comes back.",
        )
    return deploys.deploy(app, database, asked, seen, tell)


def _brought_back(app: App, database: str | None, scene: Scene) -> Outcome:
    info = exclusion.named(app, database)
    with exclusion.alone(app, info, NAME), server_errors(info, "bringing back what is parked"):
        back = Back()
        for schema in scene.schemas:
            back.add(returning.late(info, schema, [scene.migration]))
    return Outcome(scene.migration, None, back.rows, back.left, back.leaving)


def _in_place(app: App, database: str | None, scene: Scene) -> None:
    """The folder, then the end of rows that only kept it from running; under Prisma's lock."""
    info = exclusion.named(app, database)
    seconds = app.loaded.settings.prisma.lock_timeout.total_seconds()
    with exclusion.alone(app, info, NAME), server_errors(info, "putting the folder back"), \
            connect(info, application_name="naap_ops reapply") as connection, \
            advisory.migrate_lock(connection, seconds):  # fmt: skip
        if scene.entry is not None and scene.folder is not None:
            app.events.emit("reapply.step", name="folder", text=f"{scene.migration}: its folder returns to its place")
            scene.entry.give_back(scene.source)
        with connection.transaction():
            for schema in scene.held:
                tracking.delete(connection, schema, scene.migration)


def _untouched(app: App, database: str | None, scene: Scene) -> bool:
    """Nothing of it was applied, nor begun. Where that cannot be known, it is not."""
    try:
        with connect(app.info(database)) as connection:
            states = [tracking.read(connection, schema).state(scene.migration) for schema in scene.schemas]
    except (OpsError, psycopg.Error):
        return False
    return all(state in (State.ABSENT, State.ROLLED_BACK) for state in states)


def _put_away(app: App, database: str | None, scene: Scene, *, moved: bool, tree: Worktree | None) -> None:
    """As it was before."""
    assert scene.entry is not None
    seconds = app.loaded.settings.prisma.lock_timeout.total_seconds()
    with connect(app.info(database)) as connection, advisory.migrate_lock(connection, seconds):
        with connection.transaction():
            for schema in scene.held:
                tracking.mark_applied(connection, schema, scene.migration, scene.entry.checksum_of(schema))
        if moved:
            scene.entry.take(scene.source)
    if moved and tree is not None:
        tree.moved(scene.source, scene.entry.folder)


def _settled(scene: Scene) -> None:
    """The archive's record goes; where other schemas still are as it says, these go from it."""
    if scene.entry is None:
        return
    others = {schema: rows for schema, rows in (scene.entry.rows or {}).items() if schema not in scene.schemas}
    if scene.entry.state == archive.HELD and others:
        scene.entry.saved(rows=others)
    else:
        scene.entry.forget()
