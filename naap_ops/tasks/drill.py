"""`invoke drill`: prove that the newest backup can be restored, and how long that takes."""

from __future__ import annotations

import dataclasses
from typing import Any

from naap_ops.errors import BackupDamaged
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.progress import progress


@command(backup="latest, an id or a unique beginning of one, or a label")
def drill(call: Call, backup: str = "latest") -> dict[str, Any]:
    """
    Restore a backup into a scratch server, count every table, ask the questions of drill.checks; the outcome is kept beside it.

    The live database is not touched. The time it takes is the time a recovery takes.

    Example: invoke drill --backup latest
    """
    call.begin("drill")
    found = call.app.repository.find(backup, call.app.alias(call.database))
    call.report(found)
    with progress(call):
        result = call.app.drill(found)
    call.report(found, seconds=result.seconds)
    if not result.ok:
        raise BackupDamaged(id=found.id, problems="; ".join(result.problems[:10]))
    asked = f", {result.questions} questions answered" if result.questions else ""
    call.say(f"backup {found.id} was restored in {result.seconds:.1f} s: {result.rows:,} rows in {result.tables} tables{asked}")
    return dataclasses.asdict(result)
