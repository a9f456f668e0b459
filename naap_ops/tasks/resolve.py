"""`invoke resolve`: what Prisma's books say of a migration, put right by hand."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from naap_ops.tasks.command import Call, command
from naap_ops.tasks.flags import not_both, one_of

if TYPE_CHECKING:
    from naap_ops.prisma.resolving import Plan


@command(
    lists=["applied"],
    applied="this migration is in the database: record it as applied, do not run it; repeatable",
    rolled_back="nothing of this failed migration is in the database any more: let the next deploy run it again",
    baseline="every pending migration is in the database already: record all of them as applied",
    tenant="in this tenant's tracking table only (setting tenant_schemas)",
    all_tenants="in the tracking table of every tenant's schema too (setting tenant_schemas)",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
    dry_run="say what would be done, touch nothing",
)
def resolve(
    call: Call,
    applied: list[str] | None = None,
    rolled_back: str | None = None,
    baseline: bool = False,
    tenant: str | None = None,
    all_tenants: bool = False,
    project: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Tell Prisma's books what is so: a migration is applied, or was rolled back, as `prisma migrate resolve` does.

    The schema itself is not touched. Names may be unique beginnings or parts, latest, or failed.

    Example: invoke resolve --rolled-back failed
    """
    from naap_ops import statuses
    from naap_ops.prisma.resolving import Request

    not_both(tenant=tenant, all_tenants=all_tenants)
    one_of({"applied": applied, "rolled_back": rolled_back, "baseline": baseline})
    call.override(prisma__root=project)
    request = Request(tuple(applied or ()), rolled_back, baseline)
    if dry_run or not call.yes:
        database, plan = statuses.plan_resolve(call.app, call.database, request, all_tenants=all_tenants, tenant=tenant)
        if dry_run:
            call.say("\n".join([f"resolve in {database}:", *plan.lines]))
            return {"dry_run": True, **_facts(plan), "plan": list(plan.lines)}
        call.confirm_name(f"changing Prisma's books of {database!r}", database, plan.lines)
        if not baseline:  # what was shown is what is done
            names = tuple(dict.fromkeys(name for task in plan.tasks for name in (*task.migrations, *task.skipped)))
            request = dataclasses.replace(request, **({"applied": names} if applied else {"rolled_back": names[0]}))
    done = statuses.perform_resolve(call.app, call.database, request, all_tenants=all_tenants, tenant=tenant)
    _tell(call, done)
    return _facts(done)


def _facts(plan: Plan) -> dict[str, Any]:
    names = list(dict.fromkeys(name for task in plan.tasks for name in task.migrations))
    return {
        "state": plan.state,
        "migrations": names,
        "schemas": {task.schema: list(task.migrations) for task in plan.tasks},
    }


def _tell(call: Call, plan: Plan) -> None:
    word = "rolled back" if plan.state == "rolled_back" else "applied"
    for task in plan.tasks:
        for name in task.migrations:
            call.say(f"{task.schema}: {name} is recorded as {word}")
        for error in task.skipped.values():
            call.note(f"{task.schema}: {error.text}")
    call.say("the schema was not touched: `invoke drift` says whether it is what the migrations make")
