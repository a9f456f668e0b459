"""`invoke drill`: prove that the newest backup can be restored, and how long that takes."""

from __future__ import annotations

import dataclasses
from typing import Any

from naap_ops.errors import BackupDamaged
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.progress import progress
from naap_ops.tasks.several import each_database, no_single_one
from naap_ops.wording import count_of


@command(
    backup="latest, an id or a unique beginning of one, or a label; without it the newest of the whole database",
    all_databases="every configured database, one after the other",
)
def drill(call: Call, backup: str | None = None, all_databases: bool = False) -> dict[str, Any]:
    """
    Restore a backup into a scratch server, count every table, ask the questions of drill.checks; the outcome is kept beside it.

    The live database is not touched. The time it takes is the time a recovery takes. With --all-databases one that fails
    neither stops nor hides the others: exit code 21 says that some failed.

    Example: invoke drill --backup latest
    """
    if all_databases:
        no_single_one(call)
    call.begin("drill", several=all_databases)
    if not all_databases:
        return _one(call, call.database, backup)
    return {"drills": each_database(call, lambda alias: _one(call, alias, backup))}


def _one(call: Call, database: str | None, backup: str | None) -> dict[str, Any]:
    """Drill with a backup of one database, and tell about it."""
    repository, alias = call.app.repository, call.app.alias(database)
    found = repository.newest(alias) if backup is None else repository.find(backup, alias)
    call.report(found)
    with progress(call):
        result = call.app.drill(found)
    call.report(found, seconds=result.seconds)
    if not result.ok:
        raise BackupDamaged(id=found.id, problems="; ".join(result.problems[:10]))
    asked = f", {count_of(result.questions, 'question')} answered" if result.questions else ""
    held = f"{count_of(result.rows, 'row')} in {count_of(result.tables, 'table')}"
    call.say(f"backup {found.id} of {found.alias} was restored in {result.seconds:.1f} s: {held}{asked}")
    return {**dataclasses.asdict(result), "database": found.alias}
