"""`invoke deploy`: what is pending is applied, with a way back from each migration made and proved before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naap_ops.tasks.command import Call, command
from naap_ops.wording import count_of

_SHOWN = 3  # losses of one reverse
_BACK = {"capture": "out of what is kept at the deploy", "backup": "out of the backup"}
_LEFT = 20  # rows that stay parked
_PARKED = "parked"  # the source of losses that a rollback keeps for a reapply

if TYPE_CHECKING:
    from naap_ops.app import App
    from naap_ops.deploys.capture import Wanted
    from naap_ops.deploys.deploy import Asked
    from naap_ops.deploys.preflight import Preflight
    from naap_ops.deploys.record import Record


@command(
    lists=["allow_unproved"],
    backup="a backup of the last hour, instead of taking one",
    no_backup="take none; only with --yes",
    tenant="to this tenant's schema only (setting tenant_schemas)",
    all_tenants="to the schema of every tenant, one after the other, behind one backup",
    allow_unproved="this migration may go without a proved reverse; repeatable",
    capture="keep the rows that go, however many they are (setting capture.ceiling)",
    no_capture="keep none of the rows that go: only the backup has them, then",
    no_parked="leave parked what rollbacks of these migrations have kept",
    drift="refuse where the schema is not what its applied migrations make, seen on a shadow",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
    dry_run="look, prove the reverses, apply nothing and write nothing",
)
def deploy(
    call: Call,
    backup: str | None = None,
    no_backup: bool = False,
    allow_unproved: list[str] | None = None,
    tenant: str | None = None,
    all_tenants: bool = False,
    capture: bool = False,
    no_capture: bool = False,
    no_parked: bool = False,
    drift: bool = False,
    project: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Apply pending migrations: a verified backup and a proved reverse of each first, Prisma's books looked at afterwards.

    By the setting deploy.command (`npx prisma migrate deploy`), else by a built-in that does the same without Node. One that
    fails half-way is named, with its statement and what can follow. Of tenants one that fails does not stop the others;
    running it again goes on with what is left.

    Example: invoke deploy --dry-run
    """
    from naap_ops import exclusion
    from naap_ops.deploys import deploy as deploys
    from naap_ops.tasks.flags import no_backup_meant, not_both

    not_both(backup=backup, no_backup=no_backup)
    not_both(capture=capture, no_capture=no_capture)
    not_both(tenant=tenant, all_tenants=all_tenants)
    no_backup_meant(call, no_backup=no_backup, dry_run=dry_run)
    call.override(prisma__root=project)
    asked = deploys.Asked(backup, no_backup, tuple(allow_unproved or ()), tenant, all_tenants, capture, no_capture, no_parked)
    exclusion.look(call.app, call.database, "deploy")
    seen = deploys.preflight(call.app, call.database, asked, drift=drift)
    if not seen.pending:
        return _nothing(call, seen)
    if dry_run:
        return _dry(call, asked, seen)
    call.confirm_name(f"deploying to {seen.database!r}", seen.database, [*seen.lines(), *_by(call, asked)])
    call.begin("deploy")
    call.tell_steps("backup", "reverse", "look", "migrate", "apply", "status")
    if no_backup:
        call.note("no backup is taken before it: --no-backup")
    return told(call, deploys.deploy(call.app, call.database, asked, seen, call.note))


def _nothing(call: Call, seen: Preflight) -> dict[str, Any]:
    from naap_ops.deploys import deploy as deploys
    from naap_ops.deploys.preflight import told

    call.say("\n".join([f"nothing is pending in {told(seen.schemas) or 'any schema'} of {seen.database}", *seen.lines()]))
    deploys.none_left_out(seen)
    facts = {"applied": [], "migrations": [], "backup": None, "record": "", "notes": list(seen.notes)}
    tenants = {"tenants": [{"schema": schema, "state": "current"} for schema in seen.schemas]} if seen.fleet else {}
    return {"database": seen.database, "schema": seen.schema, **facts, **tenants}


def _by(call: Call, asked: Asked) -> list[str]:
    words = call.app.loaded.settings.deploy.command
    backup = "no backup" if asked.no_backup else f"backup {asked.backup}" if asked.backup else "a backup is taken first"
    return [f"{backup}; applied by {' '.join(words) if words else 'the built-in deploy'}"]


def reverses(call: Call, app: App, asked: Asked, seen: Preflight) -> tuple[list[dict[str, Any]], list[str]]:
    """What is proved of each pending migration, as JSON, and in lines with what would be kept of its rows."""
    from naap_ops.deploys import capture, ways_back

    found = ways_back.reverse(app, call.database, seen, asked.allowed, check=True)
    able, kept = _kept(app, asked, seen, [each.wanted for each in found if each.wanted is not None])
    migrations = [each.as_dict() for each in found]
    for entry in migrations:
        facts = {"captured": entry["name"] in able, "backup": not asked.no_backup}
        entry["losses"] = capture.foreseen(app, entry["losses"], **facts)
    return migrations, [*map(reverse_line, migrations), *kept]


def _dry(call: Call, asked: Asked, seen: Preflight) -> dict[str, Any]:
    from naap_ops.deploys import ways_back

    ways_back.known(seen, asked.allowed)
    if asked.backup:
        ways_back.fresh(call.app, seen.target, asked.backup)
    migrations, lines = reverses(call, call.app, asked, seen)
    plan = [*seen.lines(), *_by(call, asked), *lines]
    call.say("\n".join([f"deploy to {seen.database}:", *plan]))
    return {
        "dry_run": True,
        "database": seen.database,
        "schema": seen.schema,
        "tenants": {part.schema: list(part.pending) for part in seen.parts} if seen.fleet else {},
        "left_out": {schema: error.as_dict() for schema, error in seen.blocked.items()},
        "migrations": migrations,
        "dangers": list(seen.dangers),
        "notes": list(seen.notes),
        "plan": plan,
    }


def _kept(app: App, asked: Asked, seen: Preflight, wanted: list[Wanted]) -> tuple[set[str], list[str]]:
    """The migrations of which rows are kept, and what is said of that."""
    from naap_ops.deploys import capture
    from naap_ops.postgres.session import connect

    if asked.no_capture or not app.loaded.settings.capture.enabled:
        return set(), ["no rows are captured"] if any(each.keeps for each in wanted) else []
    able = capture.able(app, wanted)
    every = [each.moved(part.schema) for part in seen.parts for each in able if each.migration in part.pending]
    with connect(seen.target.info, application_name="naap_ops deploy") as connection:
        found = capture.estimates(connection, every)
    return {each.migration for each in able}, [*map(str, found), *capture.reasons(app, wanted)]


def reverse_line(entry: dict[str, Any]) -> str:
    """A migration's reverse, for people."""
    losses = [each for each in entry["losses"] if each["source"] not in (*_BACK, _PARKED)]
    back = [f"{each['loss']} of {each['object']}" for each in entry["losses"] if each["source"] in _BACK]
    parked = [f"{each['loss']} of {each['object']}" for each in entry["losses"] if each["source"] == _PARKED]
    shown = [f"\n  loses {each['loss']} of {each['object'] or 'the database'}: {each['reason']}" for each in losses[:_SHOWN]]
    lost = "".join([*shown, *([f"\n  and {len(losses) - _SHOWN} losses more"] if len(losses) > _SHOWN else [])])
    reason = f" ({entry['reason']})" if entry["reason"] else ""
    where = f" in {entry['proved_in']}" if entry["reverse"] == "proved" and entry.get("proved_in") else ""
    brought = ""
    if back:
        source = next(_BACK[each["source"]] for each in entry["losses"] if each["source"] in _BACK)
        brought = f"\n  brings back, {source}: {_listed(back)}"
    parks = f"\n  parks, when it is rolled back: {_listed(parked)}" if parked else ""
    return f"reverse of {entry['name']}: {entry['reverse']}{where}{reason}{brought}{parks}{lost}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(dict.fromkeys(names[:_SHOWN]))}{more}"


def tell_back(call: Call, rows: dict[str, int], left: list[dict[str, Any]], leaving: int) -> None:
    """What was parked, and came back or did not."""
    from naap_ops.deploys.record import left_line

    for table, number in rows.items():
        call.say(f"brought back: {count_of(number, 'row')} of {table}")
    for each in left[:_LEFT]:
        call.say(f"stays parked: {left_line(each)}")
    if leaving > _LEFT:
        call.say(f"{count_of(leaving, 'row')} stay parked in all: see the record")


def told(call: Call, record: Record) -> dict[str, Any]:
    """Say what was done; the record."""
    from naap_ops.deploys.record import tenant_line

    where = f" in {count_of(len(record.tenants), 'schema')}" if record.tenants else ""
    call.report(detail=f"applied{where}: {', '.join(record.applied)}; backup from before: {record.backup or 'none'}")
    for entry in record.migrations:
        call.say(f"{entry['name']} is applied")
        call.say(f"  {reverse_line(entry)}")
    for tenant in record.tenants:
        call.say(f"  {tenant_line(tenant)}")
    for each in record.captured:
        call.say(f"kept for the reverse of {each['migration']}: {count_of(each['rows'], 'row')} of {each['table']}")
    tell_back(call, record.restored, record.left, record.leaving)
    for note in record.notes:
        call.say(f"note: {note}")
    call.say(f"backup from before: {record.backup or 'none'}")
    if record.record:
        call.say(f"record: {record.record}")
    return record.as_dict()
