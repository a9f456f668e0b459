"""Where a rollback by restore is worked on: its case, its journal, the tools, the archive's entries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import restores
from naap_ops.app import App
from naap_ops.backup.repository import Backup
from naap_ops.prisma import archive
from naap_ops.prisma.archive import Entry
from naap_ops.rollback.case import Case, source_of
from naap_ops.rollback.commands import Surroundings

if TYPE_CHECKING:
    from naap_ops.postgres.tools import Toolset
    from naap_ops.restore.outcome import RestoreOptions


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
