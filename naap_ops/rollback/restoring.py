"""The steps of a rollback by restore: the backup is loaded beside the live database, the folders go, then both change places.

The folder goes before the swap, since a folder that is there while its row is not is applied again by the next deploy. The
books of the new database are put right while nobody can see it, so that at no instant the live database has wrong ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naap_ops.postgres.session import maintenance
from naap_ops.prisma import archive, tracking
from naap_ops.prisma.worktree import Worktree
from naap_ops.procedure.step import Step
from naap_ops.restore import aside, ready
from naap_ops.restore.locking import target_lock
from naap_ops.restore.source import BackupSource
from naap_ops.rollback import comparing
from naap_ops.rollback.case import source_of
from naap_ops.rollback.checking import Check
from naap_ops.rollback.looking import Record, Untrack, Verify
from naap_ops.rollback.scene import Scene

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection


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


def steps(scene: Scene) -> tuple[Step, Step, Sequence[Step], Sequence[Step], Step]:
    """Check, load; what stands between maintenance on and off; what looks at it; the record."""
    return Check(scene), Load(scene), [Folder(scene), Swap(scene)], [Untrack(scene), Verify(scene)], Record(scene)
