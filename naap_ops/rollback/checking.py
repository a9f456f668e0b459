"""The first step of a rollback by restore: everything that can be known to be wrong, while all still runs."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any, LiteralString

from naap_ops.backup.verify import verify
from naap_ops.errors import BackupDamaged, NoSpace, StorageError
from naap_ops.postgres.session import maintenance
from naap_ops.procedure.command import present
from naap_ops.procedure.step import Step
from naap_ops.restore import whole
from naap_ops.restore.outcome import size_text
from naap_ops.rollback.scene import Scene

# The data directory, and the folder of the database's tablespace where that is another one.
_PLACE: LiteralString = """
select current_setting('data_directory'), nullif(pg_catalog.pg_tablespace_location(dattablespace), '')
from pg_catalog.pg_database where datname = %s
"""


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
