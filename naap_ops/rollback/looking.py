"""The steps of a rollback by restore after the swap: the books, what is live, what was lost. They change nothing of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from naap_ops import statuses
from naap_ops.clock import iso
from naap_ops.errors import OpsError, OutOfStep
from naap_ops.postgres.session import connect
from naap_ops.prisma import archive, tracking
from naap_ops.prisma.tracking import State
from naap_ops.prisma.worktree import Worktree, told
from naap_ops.procedure.step import Step
from naap_ops.restore import ready
from naap_ops.rollback import asking, comparing, since
from naap_ops.rollback.case import source_of
from naap_ops.rollback.scene import Scene

_COUNT_SECONDS = 60.0


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
