"""The steps of a rollback by restore: the backup is loaded beside the live database, the folders go, then both change places.

The folder goes before the swap, since a folder that is there while its row is not is applied again by the next deploy. The
books of the new database are put right while nobody can see it, so that at no instant the live database has wrong ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

from naap_ops import restores, statuses
from naap_ops.app import App
from naap_ops.backup.repository import Backup
from naap_ops.backup.verify import verify
from naap_ops.clock import iso
from naap_ops.errors import BackupDamaged, NoSpace, OpsError, OutOfStep, StorageError
from naap_ops.postgres.session import connect, maintenance
from naap_ops.prisma import archive, tracking
from naap_ops.prisma.archive import Entry
from naap_ops.prisma.tracking import State
from naap_ops.prisma.worktree import Worktree, told
from naap_ops.procedure.command import present
from naap_ops.procedure.step import Step
from naap_ops.restore import aside, ready, whole
from naap_ops.restore.locking import target_lock
from naap_ops.restore.outcome import size_text
from naap_ops.restore.source import BackupSource
from naap_ops.rollback import asking, comparing, since
from naap_ops.rollback.case import Case, source_of
from naap_ops.rollback.commands import Surroundings

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset
    from naap_ops.restore.outcome import RestoreOptions

_COUNT_SECONDS = 60.0
# The data directory, and the folder of the database's tablespace where that is another one.
_PLACE: LiteralString = """
select current_setting('data_directory'), nullif(pg_catalog.pg_tablespace_location(dattablespace), '')
from pg_catalog.pg_database where datname = %s
"""


@dataclass(frozen=True)
class Scene:
    """Where a case is worked on. ``around``: how commands run, with the journal and the database's address."""

    app: App
    case: Case
    around: Surroundings
    tools: Toolset

    @property
    def id(self) -> str:
        """The procedure's, which the marks on the server bear."""
        return self.around.journal.id

    @property
    def options(self) -> RestoreOptions:
        return restores.options(self.app)

    def backup(self) -> Backup:
        """Raises BackupNotFound."""
        return self.app.repository.find(self.case.backup, self.case.alias)

    def told(self, name: str) -> bool:
        """Whether the journal has the step as done: for what leaves nothing in the world to ask."""
        return self.around.journal.state(name) == "done"

    @property
    def catalog(self) -> Path:
        """Where what was loaded is written down, to be held against what is live."""
        return self.around.journal.path.with_suffix(".catalog.json")

    # --- archive entries ----------------------------------------------------------------------------------------------

    def entry(self, migration: str) -> Entry:
        """The archive's entry of a migration: its path is journalled before it is made, and the same ever after."""
        journal, key = self.around.journal, f"archive {migration}"
        known = journal.facts(key).get("entry")
        made = [each for each in archive.entries(Path(self.case.archive), migration) if str(each.path) == known]
        if made:
            return made[0]
        checksum = self.case.checksums.get(migration)
        entry = archive.begin(Path(self.case.archive), migration, source_of(self.case, migration), checksum)
        if known is None:
            journal.fact(key, entry=str(entry.path))
            return entry
        return replace(entry, path=Path(known))

    def entries(self) -> list[str]:
        """Paths of those that were begun."""
        found = [self.around.journal.facts(f"archive {name}").get("entry") for name in self.case.migrations]
        return [each for each in found if each]


class Check(Step):
    """Everything that can be known to be wrong is found here, while all still runs."""

    changes = False

    def __init__(self, scene: Scene) -> None:
        super().__init__("check", f"checking backup {scene.case.backup}, tools, rights, room, commands")
        self._scene = scene

    def done(self) -> bool:
        return self._scene.told(self.name)

    def run(self) -> dict[str, Any]:
        self.look()
        backup = self._scene.backup()
        report = verify(backup, "hash", None, None, jobs=1)
        if not report.sound:
            raise BackupDamaged(
                id=backup.id,
                problems="; ".join(report.problems[:10]),
                hint="Nothing was stopped. Take an older one: --backup ID; `invoke backup.list` shows the verified ones.",
            )
        return {"backup": backup.id, "files": report.files, "bytes": report.bytes}

    def look(self) -> list[str]:
        """All but the hashes, which take as long as reading the backup; the restore's plan, for people."""
        scene = self._scene
        self._commands()
        self._folders()
        backup = scene.backup()
        plan = whole.plan_swap(backup, scene.around.info, scene.options, scene.tools)
        self._room(int(backup.sound.database.get("bytes") or 0))
        return plan.lines

    def _commands(self) -> None:
        settings = self._scene.app.loaded.settings
        named = [settings.deploy.status]
        if self._scene.case.services:
            named += [settings.services.stop, settings.services.start, settings.maintenance.on, settings.maintenance.off]
        for argv in named:
            if argv:
                present(argv, self._scene.around.root)

    def _folders(self) -> None:
        case = self._scene.case
        put_away = Path(case.archive)
        there = next(path for path in (put_away, *put_away.parents) if path.exists())
        for path in [there, *([Path(case.source)] if case.folders else [])]:
            if not os.access(path, os.W_OK | os.X_OK):
                raise StorageError(
                    url=path, reason="it is not writable", hint="The migration's folder has to move from or to it."
                )

    def _room(self, wanted: int) -> None:
        """Where the server's files are on this machine: room for one more database, where the live one's files are."""
        import psycopg

        with closing(maintenance(self._scene.around.info)) as session:
            try:
                row = session.execute(_PLACE, [self._scene.case.database]).fetchone()
            except psycopg.errors.InsufficientPrivilege:
                return
            here, port = session.info.host, session.info.port
        if row is None or not _serves(Path(row[0]), here, port):
            return
        folder = Path(row[1] or row[0])
        try:
            found = os.statvfs(folder)
        except OSError:
            return
        free = found.f_bavail * found.f_frsize
        if free < wanted:
            raise NoSpace(
                where=folder,
                reason=f"the database takes {size_text(wanted)} once more, {size_text(free)} are free",
                hint="Nothing was stopped. `invoke restore.kept` lists old databases that could be dropped.",
            )


def _serves(folder: Path, host: str, port: int) -> bool:
    """Whether the folder, as seen from here, is that of the server at ``host``: its postmaster.pid names the port."""
    if host and not host.startswith("/") and host not in ("localhost", "127.0.0.1", "::1"):
        return False
    try:
        return (folder / "postmaster.pid").read_text().splitlines()[3] == str(port)
    except (OSError, IndexError, UnicodeDecodeError):
        return False


class Load(Step):
    """The database beside the live one. ``undo`` drops it, or what a killed load has left of it."""

    def __init__(self, scene: Scene) -> None:
        super().__init__("load", f"loading backup {scene.case.backup} beside the live database")
        self._scene = scene

    def done(self) -> bool:
        info, id = self._scene.around.info, self._scene.id
        return ready.find(info, id) is not None or ready.published(info, id) is not None

    def halfway(self) -> bool:
        """Whether something was left that could not be dropped: a server that went away. Raises while it is away."""
        info = self._scene.around.info
        with closing(maintenance(info, avoid=(info.dbname,))) as session:
            return bool(aside.leftovers(session, info, info.dbname or ""))

    def run(self) -> dict[str, Any]:
        scene = self._scene
        loaded = ready.load(
            BackupSource(scene.backup(), scene.tools),
            scene.around.info,
            scene.options,
            scene.app.events,
            procedure=scene.id,
            settle=self._settle,
        )
        facts = {"tables": loaded.tables, "rows": loaded.rows, "notes": list(loaded.notes)}
        return {"database": loaded.name, "oid": loaded.oid, **facts}

    def _settle(self, connection: Connection) -> None:
        """The books as they are to be, before anybody can see them."""
        case = self._scene.case
        for schema in tracking.schemas(connection):
            with connection.transaction():
                for name in case.migrations:
                    tracking.delete(connection, schema, name)
                    if case.hold and name in case.schemas.get(schema, ()):
                        tracking.mark_applied(connection, schema, name, case.checksums[name])
        comparing.keep(connection, self._scene.catalog)

    def undo(self) -> dict[str, Any]:
        info = self._scene.around.info
        dropped = ready.drop_ready(info, self._scene.id)
        with target_lock(info, info.dbname or "") as session:
            swept = aside.sweep(session, info, info.dbname or "")
        self._scene.catalog.unlink(missing_ok=True)
        return {"dropped": [each for each in (dropped, *swept) if each]}


class Folder(Step):
    """The folders put away. ``undo`` brings them back, in git's index too."""

    def __init__(self, scene: Scene) -> None:
        super().__init__("folder", f"putting away {', '.join(scene.case.folders) or 'no folder'}")
        self._scene = scene

    def done(self) -> bool:
        return not any(source_of(self._scene.case, name).exists() for name in self._scene.case.folders)

    def halfway(self) -> bool:
        return bool(self._scene.entries())

    def run(self) -> dict[str, Any]:
        case = self._scene.case
        for name in case.folders:
            entry = self._scene.entry(name).saved()  # the record is there before anything has moved
            if source_of(case, name).exists():
                entry.take(source_of(case, name))
        return {"archive": self._scene.entries()}

    def undo(self) -> dict[str, Any]:
        case = self._scene.case
        tree = Worktree.of(Path(case.source)) if Path(case.source).is_dir() else None
        for known in self._scene.entries():
            entry = next((each for each in archive.entries(Path(case.archive)) if str(each.path) == known), None)
            if entry is None:
                continue
            source = source_of(case, entry.migration)
            entry.give_back(source)
            if tree is not None and entry.migration in case.tidy:
                tree.moved(entry.path, source)
            if not entry.folder.exists():
                entry.forget()
        return {"back": [name for name in case.folders if source_of(case, name).exists()]}


class Swap(Step):
    """The loaded database in the live one's place. ``undo`` swaps back; what was live meanwhile is kept, rows may be in it."""

    def __init__(self, scene: Scene) -> None:
        super().__init__("swap", f"putting it in place as {scene.case.database}; the old database is kept")
        self._scene = scene

    def done(self) -> bool:
        return ready.published(self._scene.around.info, self._scene.id) is not None

    def run(self) -> dict[str, Any]:
        scene = self._scene
        old, seconds = ready.put_in_place(scene.around.info, scene.options, scene.app.events, procedure=scene.id)
        return {"previous": old.name, "swap_seconds": round(seconds, 3)}

    def undo(self) -> dict[str, Any]:
        scene = self._scene
        outcome = ready.take_back(scene.around.info, scene.options, scene.app.events, procedure=scene.id)
        return {"undone": outcome.previous} if outcome is not None and outcome.previous else {}


class Untrack(Step):
    """A look at the new books, then the archive's record is finished with the rows of the old database, and git is told."""

    changes = False

    def __init__(self, scene: Scene) -> None:
        held = " (held: an applied row stays)" if scene.case.hold else ""
        super().__init__("untrack", f"looking at Prisma's books, closing the archive's record{held}")
        self._scene = scene

    def done(self) -> bool:
        return self._scene.told(self.name)

    def run(self) -> dict[str, Any]:
        scene, case = self._scene, self._scene.case
        self._look()
        old = ready.published(scene.around.info, scene.id)
        tree = Worktree.of(Path(case.source)) if Path(case.source).is_dir() else None
        commit: list[str] = []
        for name in case.migrations:
            entry = scene.entry(name)
            if old is not None:
                entry = entry.keep(self._rows(old.name, name))
            entry = entry.saved(state=archive.HELD if case.hold else archive.DONE, ended=iso())
            if name in case.folders:
                commit += told(tree, source_of(case, name), entry.path, name, tidy=name in case.tidy)
        return {"archive": scene.entries(), "commit": commit}

    def undo(self) -> dict[str, Any]:
        """Records of migrations that had no folder: those of the others go with their folder's return."""
        case = self._scene.case
        for entry in archive.entries(Path(case.archive)):
            if str(entry.path) in self._scene.entries() and entry.migration not in case.folders:
                entry.forget()
        return {}

    def _look(self) -> None:
        """Raises OutOfStep: a server with an image of its own has deployed it again meanwhile."""
        case = self._scene.case
        with closing(connect(self._scene.around.info, application_name="naap_ops emergency")) as connection:
            wrong = [
                f"{name} in {schema}"
                for schema, names in case.schemas.items()
                for name in names
                if tracking.read(connection, schema).state(name) is not (State.APPLIED if case.hold else State.ABSENT)
            ]
        wrong += [str(source_of(case, name)) for name in case.folders if source_of(case, name).exists()]
        if wrong:
            raise OutOfStep(
                reason=f"not as it should be: {', '.join(wrong)}; something with a folder of its own has deployed it again",
                hint=f"Stop what deploys, then `invoke emergency --abort {self._scene.id}`, and once more with --hold.",
            )

    def _rows(self, old: str, name: str) -> dict[str, list[dict[str, Any]]]:
        info, case = self._scene.around.info, self._scene.case
        milliseconds = int(self._scene.app.loaded.settings.prisma.lock_timeout.total_seconds() * 1000)
        with closing(connect(info, dbname=old)) as connection, connection.transaction():
            return {
                schema: tracking.lock_rows(connection, schema, name, milliseconds)
                for schema, names in case.schemas.items()
                if name in names
            }


class Verify(Step):
    """What is live is what was loaded; Prisma's own status, or ours. A bad status is noted: the services are down meanwhile."""

    changes = False

    def __init__(self, scene: Scene) -> None:
        super().__init__("verify", "verifying what is live, and the status of its migrations")
        self._scene = scene

    def done(self) -> bool:
        return self._scene.told(self.name)

    def run(self) -> dict[str, Any]:
        scene = self._scene
        if ready.published(scene.around.info, scene.id) is None:
            raise OutOfStep(
                reason=f"what is live as {scene.case.database!r} is not what was put in place",
                hint="`invoke restore.kept` lists the databases; somebody has restored or renamed meanwhile.",
            )
        facts: dict[str, Any] = {}
        try:
            facts["differences"] = comparing.compare(scene.around.info, scene.catalog)
        except OpsError as error:
            facts["differences"] = [f"not known: {error.text}"]
        try:
            return {**facts, "status": self._status()}
        except OpsError as error:
            return {**facts, "status": f"not known: {error.text}"}

    def _status(self) -> str:
        settings = self._scene.app.loaded.settings.deploy
        if settings.status:
            code = self._scene.around.run(self.name, settings.status, settings.timeout.total_seconds(), check=False)
            return "in step, as the configured command says" if code == 0 else f"the configured command ended with {code}"
        found = statuses.status(self._scene.app, self._scene.case.selection)
        wrong = [f"{each.name}: {each.state}" for each in found.entries if not each.in_step]
        return "in step" if not wrong else f"not in step: {', '.join(wrong)}"


class Record(Step):
    """What was lost, counted exactly in the old database, now that the services are up again."""

    changes = False

    def __init__(self, scene: Scene) -> None:
        super().__init__("record", "counting what was written since the backup, writing the record")
        self._scene = scene

    def done(self) -> bool:
        return self._scene.told(self.name)

    def run(self) -> dict[str, Any]:
        scene = self._scene
        scene.catalog.unlink(missing_ok=True)
        return {**self._lost(), **self._again(), **self._asked()}

    def _again(self) -> dict[str, Any]:
        """Those that something with a folder of its own has deployed again by now."""
        case = self._scene.case
        if case.hold:
            return {}
        try:
            with closing(connect(self._scene.around.info, application_name="naap_ops emergency")) as connection:
                every = {schema: tracking.read(connection, schema) for schema in case.schemas}
        except OpsError:  # everything else is done: see _lost
            return {}
        there = {name for schema, names in case.schemas.items() for name in names if every[schema].of(name)}
        return {"again": sorted(there)}

    def _asked(self) -> dict[str, Any]:
        """Where no command for the status is configured, Prisma's own, if it is there: now that nobody waits for it."""
        if self._scene.app.loaded.settings.deploy.status:
            return {}
        said = asking.prisma_status(self._scene.around, self.name)
        return {} if said is None else {"status": said}

    def _lost(self) -> dict[str, Any]:
        scene = self._scene
        old = ready.published(scene.around.info, scene.id)
        if old is None:
            return {"lost": scene.case.lost, "exact": False}
        try:
            manifest = scene.backup().sound
            with closing(connect(scene.around.info, dbname=old.name)) as connection:
                written = since.written_since(connection, manifest, seconds=_COUNT_SECONDS)
        except OpsError as error:  # everything else is done: that it cannot be counted is no failure of that
            return {"previous": old.name, "lost": scene.case.lost, "exact": False, "problem": error.text}
        return {"previous": old.name, "lost": since.as_json(written), "exact": all(each.exact for each in written)}


def steps(scene: Scene) -> tuple[Step, Step, Sequence[Step], Sequence[Step], Step]:
    """Check, load; what stands between maintenance on and off; what looks at it; the record."""
    return Check(scene), Load(scene), [Folder(scene), Swap(scene)], [Untrack(scene), Verify(scene)], Record(scene)
