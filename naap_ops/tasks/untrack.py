"""`invoke untrack`: Prisma forgets a migration."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from naap_ops.tasks.command import Call, command

if TYPE_CHECKING:
    from naap_ops.prisma.untrack import Outcome


@command(
    migration="which: its name, a unique beginning or part of it, latest, or failed",
    hold="put the folder away but keep an applied row, while images out there still carry the folder",
    finalise="delete the row of a migration that was held, once its folder is gone everywhere",
    all_tenants="in the tracking table of every tenant's schema too (setting tenant_schemas)",
    any_age="also where later migrations are applied",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
    dry_run="say what would be done, touch nothing",
)
def untrack(
    call: Call,
    migration: str,
    hold: bool = False,
    finalise: bool = False,
    all_tenants: bool = False,
    any_age: bool = False,
    project: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Have Prisma forget a migration whose changes are undone: its folder is archived, then its rows are deleted.

    The schema itself is not touched. Interrupted, it is finished by running it again.

    Example: invoke untrack --migration 20261101120000_add_wallet
    """
    from naap_ops import statuses
    from naap_ops.errors import UsageError
    from naap_ops.prisma.untrack import Request

    if hold and finalise:
        raise UsageError(detail="--hold begins what --finalise ends: give one of them")
    call.override(prisma__root=project)
    request = Request(migration, (), hold=hold, finalise=finalise, any_age=any_age)
    if dry_run or not call.yes:
        database, plan = statuses.plan_untrack(call.app, call.database, request, all_tenants=all_tenants)
        lines = [*plan.lines, *(f"note: {note}" for note in plan.notes)]
        if dry_run:
            call.say("\n".join([f"untrack {plan.migration} of {database}:", *lines]))
            return {"dry_run": True, "migration": plan.migration, "rows": plan.counts, "plan": lines}
        call.confirm_name(f"untracking {plan.migration} of {database!r}", database, lines)
        request = dataclasses.replace(request, ref=plan.migration)
    call.tell_steps("rows")
    outcome = statuses.perform_untrack(call.app, call.database, request, all_tenants=all_tenants)
    _tell(call, outcome)
    return dataclasses.asdict(outcome)


def _tell(call: Call, outcome: Outcome) -> None:
    what = "is held: its row stays" if outcome.held else f"is untracked: rows deleted: {outcome.rows}"
    call.say(f"{outcome.migration} {what}")
    if outcome.archive:
        call.say(f"kept, with its rows ({outcome.archived}), in {outcome.archive}")
    for line in outcome.commit:
        call.say(f"commit it: {line}")
    for note in outcome.notes:
        call.say(f"note: {note}")
