"""What can be known before anything is done: what is pending, what stands in the way, what should be known."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from naap_ops import drifts
from naap_ops.app import App, Target
from naap_ops.errors import Busy, MigrationUnreadable, NoSpace, OutOfStep
from naap_ops.postgres.session import connect
from naap_ops.prisma import advisory, applier, tracking
from naap_ops.prisma.migrations import migrations
from naap_ops.prisma.project import Project
from naap_ops.prisma.status import MEANING, Standing, compare
from naap_ops.procedure.command import present
from naap_ops.restore.failures import server_errors
from naap_ops.restore.outcome import size_text
from naap_ops.reverse import files
from naap_ops.reverse.dangers import dangers

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_SHOWN = 8
_TOLD = (Standing.EDITED, Standing.OUT_OF_ORDER, Standing.FOLDER_MISSING, Standing.ROLLED_BACK, Standing.HELD)


@dataclass(frozen=True)
class Preflight:
    """``pending``: by name, in the order in which they are applied, the script's SHA-256. ``before``: every migration's state.
    ``notes`` are sentences for people; ``dangers`` what the pending scripts may do, by name."""

    database: str
    schema: str
    target: Target
    project: Project
    pending: Mapping[str, str]
    before: Mapping[str, str]
    notes: tuple[str, ...] = ()
    dangers: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        return [
            *(f"apply {name} in {self.schema}" for name in self.pending),
            *(f"danger: {danger}" for danger in self.dangers),
            *(f"note: {note}" for note in self.notes),
        ]


def look(app: App, database: str | None, *, drift: bool = False) -> Preflight:
    """Look, touch nothing. ``drift``: also at whether the schema is what the applied migrations make, on a shadow.

    Raises Busy while somebody migrates, NoSpace, ProgramMissing for a configured command, and what `migrate deploy` would
    refuse: FailedBefore, MigrateRefused, MigrateMisconfigured. OutOfStep for drift, or where it cannot be told.
    """
    target, project = app.target(database), app.project()
    schema = target.info.schema
    with server_errors(target.info, "looking"), connect(target.info, application_name="naap_ops deploy") as connection:
        if (holder := advisory.holder(connection)) is not None:
            raise Busy(what="a Prisma migrate command", holder=str(holder))
        pending = {each.name: each.sha256 or "" for each in applier.look(connection, project, schema).migrations}
        before = states(connection, project, schema)
        row = connection.execute("select pg_database_size(current_database())").fetchone()
        found = Preflight(connection.info.dbname, schema, target, project, pending, before)
    if not pending:
        return replace(found, notes=tuple(_standings(before)))
    for words in (app.loaded.settings.deploy.command, app.loaded.settings.deploy.status):
        if words:
            present(words, project.root)
    _room(app, target, int(row[0]) if row else 0)
    remark = project.ordering(list(pending))
    notes = [*app.remarks(database), *project.notes, *_standings(before), *_lock_disabled(), *([remark] if remark else [])]
    notes.append(_no_drift(app, database, before) if drift else "drift was not looked for (--drift does)")
    return replace(found, notes=tuple(notes), dangers=tuple(_dangers(app, found)))


def states(connection: Connection, project: Project, schema: str) -> dict[str, str]:
    """Every migration's state by its name, as `invoke status` has it."""
    entries = compare(migrations(project.migrations), tracking.read(connection, schema))
    return {entry.name: entry.state.value for entry in entries}


def _standings(before: Mapping[str, str]) -> Iterator[str]:
    """What does not stop a deploy but should be known."""
    for standing in _TOLD:
        names = [name for name, state in before.items() if state == standing.value]
        if names:
            yield f"{', '.join(names)}: {MEANING[standing]}"


def _no_drift(app: App, database: str | None, before: Mapping[str, str]) -> str:
    if set(before.values()) == {Standing.PENDING.value}:
        return "nothing was ever deployed here: there is nothing to drift from"
    [found] = drifts.look(app, drifts.Asked(database)).schemas
    if found.state == drifts.NONE:
        return "no drift: the schema is what its applied migrations make"
    objects = [str(each) for each in found.drift]
    shown = "; ".join(objects[:_SHOWN]) + (f"; and {len(objects) - _SHOWN} more" if len(objects) > _SHOWN else "")
    raise OutOfStep(
        reason=f"nothing was deployed: the schema is not what its migrations make: {shown}"
        if objects
        else f"nothing was deployed: whether the schema is what its migrations make cannot be told: {found.reason}",
        hint="`invoke drift --sql PREFIX` has the SQL that mends it, either way; without --drift it is not looked for.",
    )


def _lock_disabled() -> Iterator[str]:
    if advisory.disabled():
        yield f"{advisory.DISABLING} is set here: nothing keeps two deploys apart"


def _dangers(app: App, found: Preflight) -> Iterator[str]:
    allowed = set(app.loaded.settings.lint.allow)
    for each in files.in_folder(found.project.migrations):
        if each.name not in found.pending:
            continue
        try:
            script = each.script()
        except MigrationUnreadable as error:
            yield error.text
            continue
        for danger in dangers(script):
            if danger.word not in allowed:
                yield f"{each.name}, line {danger.statement.line}: {danger.word}: {danger.reason}"


def _room(app: App, target: Target, size: int) -> None:
    """Raise NoSpace where a backup as large as the last one, else a tenth of the database, does not fit any more.

    A store elsewhere is not looked at.
    """
    where = app.loaded.settings.repository
    if "://" in where:
        return
    folder = (app.loaded.cwd / where).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    last = [each.sound.bytes for each in app.repository.backups(target.alias) if not each.bad][:1]
    wanted = last[0] if last else size // 10
    free = shutil.disk_usage(there).free
    if free < wanted:
        reason = f"{size_text(free)} are free, the backup before the deploy takes about {size_text(wanted)}"
        raise NoSpace(where=folder, reason=reason)
