"""`invoke reapply`: forward again after a rollback, with everything that was written into it before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naap_ops.tasks.command import Call, command

if TYPE_CHECKING:
    from naap_ops.deploys.deploy import Asked
    from naap_ops.rollback.reapply import Outcome, Scene


@command(
    lists=["allow_unproved"],
    migration="which: its name, a unique beginning or part of it, or latest, the one that was rolled back last",
    backup="a backup of the last hour, instead of taking one",
    no_backup="take none; only with --yes",
    tenant="in this tenant's schema only (setting tenant_schemas)",
    all_tenants="in the schema of every tenant, one after the other",
    allow_unproved="this migration may go without a proved reverse; repeatable",
    capture="keep the rows that go, however many they are (setting capture.ceiling)",
    no_capture="keep none of the rows that go: only the backup has them, then",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
    dry_run="look, prove the reverses, move nothing and apply nothing",
)
def reapply(
    call: Call,
    migration: str | None = None,
    backup: str | None = None,
    no_backup: bool = False,
    allow_unproved: list[str] | None = None,
    tenant: str | None = None,
    all_tenants: bool = False,
    capture: bool = False,
    no_capture: bool = False,
    project: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Apply a migration again that was rolled back, and bring back what its rollback has parked.

    Its folder returns from the archive, the guarded deploy applies it, and rows and values come back in the same transaction.
    What was written since stays, and what cannot come back stays parked: it is listed. Ended in between, run it again.

    Example: invoke reapply --migration 20261101120000_add_wallet
    """
    from naap_ops import exclusion
    from naap_ops.deploys.deploy import Asked
    from naap_ops.errors import UsageError
    from naap_ops.rollback import reapply as procedure
    from naap_ops.tasks.flags import no_backup_meant, not_both

    if not migration:
        raise UsageError(detail="which migration? --migration NAME, or latest")
    not_both(backup=backup, no_backup=no_backup)
    not_both(capture=capture, no_capture=no_capture)
    not_both(tenant=tenant, all_tenants=all_tenants)
    no_backup_meant(call, no_backup=no_backup, dry_run=dry_run)
    call.override(prisma__root=project)
    asked = Asked(backup, no_backup, tuple(allow_unproved or ()), tenant, all_tenants, capture, no_capture)
    exclusion.look(call.app, call.database, "reapply")
    scene = procedure.look(call.app, call.database, migration, asked)
    lines = _lines(call, scene, asked, prove=dry_run)
    if dry_run:
        call.say("\n".join([f"reapply {scene.migration} in {scene.database}:", *lines]))
        parked = [each.as_dict() for each in scene.parked]
        return {"dry_run": True, "database": scene.database, "migration": scene.migration, "parked": parked, "plan": lines}
    call.confirm_name(f"reapplying {scene.migration} in {scene.database!r}", scene.database, lines)
    call.begin("reapply")
    call.tell_steps("folder", "backup", "reverse", "look", "migrate", "apply", "status")
    return _told(call, procedure.reapply(call.app, call.database, scene, asked, call.note))


def _lines(call: Call, scene: Scene, asked: Asked, *, prove: bool) -> list[str]:
    """What would be done: the folder, and then the deploy as it would be with it."""
    from naap_ops.deploys import deploy as deploys
    from naap_ops.rollback.reapply import overlaid
    from naap_ops.tasks.deploy import reverses

    if scene.done:
        return scene.lines()
    with overlaid(call.app, scene) as app:
        seen = deploys.preflight(app, call.database, asked)
        lines = [*scene.lines(), *seen.lines()]
        if prove and seen.pending:
            lines += reverses(call, app, asked, seen)[1]
    return lines


def _told(call: Call, outcome: Outcome) -> dict[str, Any]:
    from naap_ops.tasks import deploy

    call.say(f"{outcome.migration} is applied again" if outcome.record else f"{outcome.migration} was applied before")
    if outcome.record is not None:
        deploy.told(call, outcome.record)
    else:
        deploy.tell_back(call, outcome.restored, outcome.left, outcome.leaving)
    for line in outcome.commit:
        call.say(f"commit it: {line}")
    return outcome.as_dict()
