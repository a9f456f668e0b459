"""`invoke guard -- COMMAND`: a command that changes the schema, with a way back from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from naap_ops import redact
from naap_ops.tasks.command import Call, command
from naap_ops.wording import count_of

_SHOWN = 40


@command(
    no_reverse="make no reverse of what it changed; the backup remains",
    dry_run="say what would be done, run nothing",
)
def guard(call: Call, no_reverse: bool = False, dry_run: bool = False) -> dict[str, Any]:
    """
    Run a command that changes the schema: a backup before it, what it changed after it, and the reverse of that, proved.

    What follows `--` is run as it is, with DATABASE_URL and DIRECT_URL of the database that is meant. All is kept below
    .naap_ops/guard.

    Example: invoke guard -- npx prisma db push --accept-data-loss
    """
    import shlex

    from naap_ops import exclusion
    from naap_ops.deploys.guard import guard as guarded
    from naap_ops.errors import UsageError

    if not call.words:
        raise UsageError(detail="which command? It stands behind two dashes: invoke guard -- npx prisma db push")
    if dry_run:
        target = call.app.target(call.database)
        lines = [
            f"back up {target.info.dbname} (label guard), read to its end",
            f"run {shlex.join(call.words)}",
            "say what it changed" + ("" if no_reverse else f", and keep the reverse of that below {call.app.state / 'guard'}"),
        ]
        call.say("\n".join(lines))
        return {"dry_run": True, "database": target.info.dbname, "command": call.words, "plan": lines}
    exclusion.look(call.app, call.database, "guard")
    call.begin("guard")
    call.tell_steps("backup", "command", "reverse")
    outcome = guarded(call.app, call.database, call.words, call.complain, with_reverse=not no_reverse)
    changed = f"{count_of(len(outcome.changed), 'object')} changed"
    call.report(detail=f"{shlex.join(redact.argv(call.words))}: {changed}, backup from before: {outcome.backup}")
    for line in outcome.changed[:_SHOWN]:
        call.say(f"changed: {line}")
    if len(outcome.changed) > _SHOWN:
        call.say(f"and {len(outcome.changed) - _SHOWN} more objects")
    if not outcome.changed:
        call.say("it changed nothing in the schema")
    if outcome.changed and not no_reverse:
        reason = f" ({outcome.reason.splitlines()[0]})" if outcome.reason else ""
        call.say(f"its reverse is {outcome.reverse}{reason}: {outcome.down or 'none was written'}")
    for loss in outcome.losses:
        call.say(f"that would lose {loss}")
    call.say(f"before it: backup {outcome.backup}")
    if outcome.losses:
        call.say(f"back with every row as it was then: invoke restore --backup {outcome.backup} --swap")
    if outcome.down and outcome.reverse == "proved":
        rows = ", the structure alone" if outcome.losses else ""
        call.say(f"back by its reverse{rows}: psql -v ON_ERROR_STOP=1 -f {shlex.quote(outcome.down)}")
    return dataclasses.asdict(outcome)
