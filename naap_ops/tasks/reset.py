"""`invoke reset`: the database made anew."""

from __future__ import annotations

import dataclasses
from typing import Any

from naap_ops.tasks.command import Call, command


@command(
    backup="a backup of the last hour, instead of taking one",
    dry_run="say what would be done, touch nothing",
)
def reset(call: Call, backup: str | None = None, dry_run: bool = False) -> dict[str, Any]:
    """
    Make the database anew and empty, behind a verified backup; then run the configured sync and seed.

    The old one is kept beside it: `invoke restore.undo` brings it back. Schemas come back with owners and grants, and so do
    extensions; tables and rows do not, that is what `[reset] sync` and `seed` are for.

    Example: invoke reset --dry-run
    """
    from naap_ops import exclusion
    from naap_ops.deploys import reset as procedure

    exclusion.look(call.app, call.database, "reset")
    target = call.app.target(call.database)
    name = target.info.dbname or target.alias
    lines = procedure.plan(call.app, target, backup)
    if dry_run:
        call.say("\n".join([f"reset of {name}:", *lines]))
        return {"dry_run": True, "database": name, "plan": lines}
    call.confirm_name(f"making {name!r} anew", name, lines)
    call.begin("reset")
    call.tell_steps("command", "wait")
    outcome = procedure.reset(call.app, target, backup, call.complain)
    call.report(detail=f"{name} is new, the old one is kept as {outcome.previous}, and is in backup {outcome.backup}")
    call.say(f"{name} is new; the old one is kept as {outcome.previous}, and is in backup {outcome.backup}")
    for ran in outcome.ran:
        call.say(f"ran {' '.join(map(str, ran['command']))} ({ran['seconds']} s)")  # type: ignore[call-overload]
    for note in outcome.notes:
        call.say(f"note: {note}")
    call.say("back: invoke restore.undo")
    return dataclasses.asdict(outcome)
