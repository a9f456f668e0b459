"""The last step of a rollback: the archive's records are closed, git is told, the books are looked at once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from naap_ops.clock import iso
from naap_ops.errors import OutOfStep
from naap_ops.prisma import archive, tracking
from naap_ops.prisma.archive import Entry
from naap_ops.prisma.tracking import State
from naap_ops.prisma.worktree import Worktree, told
from naap_ops.procedure.step import Step
from naap_ops.rollback.unit import Ground, Putting


@dataclass
class Settling(Step):
    """``schemas``: by schema the migrations that were undone there. ``tidy``: those whose move may be staged."""

    ground: Ground
    migrations: Sequence[str]
    schemas: Mapping[str, Sequence[str]]
    putting: Putting
    tidy: Sequence[str]
    name: str = field(init=False, default="settle")
    text: str = field(init=False, default="closing the books: archive, git, a last look")

    changes = False

    def done(self) -> bool:
        return self.ground.journal.state(self.name) == "done"

    def run(self) -> dict[str, Any]:
        self._look()
        commands: list[str] = []
        folder = self.ground.place.project.migrations
        tree = Worktree.of(folder) if folder.is_dir() else None
        for name in self.migrations:
            entry = self._entry(name)
            if entry is None:
                continue
            entry.saved(state=archive.HELD if self.putting.hold else archive.DONE, ended=iso())
            if self.putting.folder:
                commands += told(tree, folder / name, entry.path, name, tidy=name in self.tidy)
        return {"commit": commands}

    def undo(self) -> None:
        """The records of migrations that are back are taken out of the archive."""
        for name in self.migrations:
            entry = self._entry(name)
            if entry is not None and not entry.folder.exists():
                entry.forget()

    def _entry(self, name: str) -> Entry | None:
        known = self.ground.journal.facts(f"archive {name}").get("entry")
        return next((each for each in archive.entries(self.ground.place.archive, name) if str(each.path) == known), None)

    def _look(self) -> None:
        """As Prisma's diagnosis would. Raises OutOfStep."""
        wanted = State.ROLLED_BACK if self.putting.redo else State.APPLIED if self.putting.hold else State.ABSENT
        wrong = [
            f"{name} in {schema}"
            for schema, names in self.schemas.items()
            for name in names
            if tracking.read(self.ground.connection, schema).state(name) is not wanted
        ]
        back = [name for name in self.migrations if (self.ground.place.project.migrations / name).exists()]
        if wrong or (back and self.putting.folder):
            raise OutOfStep(
                reason=f"not as it should be: {', '.join(wrong or back)}; somebody works on it in spite of Prisma's lock"
            )
