"""`invoke backup` and what belongs to it: list, show, verify, keep, prune."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from naap_ops import clock
from naap_ops.errors import BackupDamaged, UsageError
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.flags import number
from naap_ops.tasks.progress import progress, size
from naap_ops.tasks.several import each_database, no_single_one
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.backup.manifest import TableFact
    from naap_ops.backup.repository import Backup


@command(
    name="create",
    of_namespace=True,
    lists=["schema", "table", "exclude_table_data", "tenant", "plugin"],
    kind="what: full, schema (structure only) or data (rows only)",
    schema="only this schema; repeatable; a pattern such as 'plugin_*'",
    tenant="only this tenant's schema (setting tenant_schemas); repeatable",
    plugin="only this plugin's schema (setting plugin_schemas); repeatable",
    table="only this table, as schema.table; repeatable; a pattern",
    exclude_table_data="structure but not the rows of this table; repeatable",
    label="a word to find it by, e.g. pre_migration",
    format="directory (parallel, one file per table), custom or plain (what psql restores)",
    compression="auto, none, gzip, zstd, lz4, with an optional level: zstd:3",
    jobs="parallel jobs of pg_dump",
    lock_wait_timeout="how long to wait for table locks, e.g. 30s; 0 waits for ever",
    verify="grade before it counts: hash, read or restore",
    all_databases="every configured database, one backup each",
    dry_run="say what would be done, touch nothing",
)
def create(
    call: Call,
    kind: str = "full",
    schema: list[str] | None = None,
    tenant: list[str] | None = None,
    plugin: list[str] | None = None,
    table: list[str] | None = None,
    exclude_table_data: list[str] | None = None,
    label: str = "",
    format: str | None = None,
    compression: str | None = None,
    jobs: int | None = None,
    lock_wait_timeout: str | None = None,
    verify: str | None = None,
    all_databases: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Back up a database: dumped, read back whole, published only then.

    Example: invoke backup --label pre_migration
    """
    call.override(
        backup__format=format,
        backup__compression=compression,
        backup__jobs=number("--jobs", jobs),
        backup__lock_wait_timeout=lock_wait_timeout,
        backup__verify=verify,
    )
    if not dry_run:
        call.begin("backup", several=all_databases)
    parts = {"schemas": schema, "tenants": tenant, "plugins": plugin, "tables": table, "exclude_table_data": exclude_table_data}
    wanted = {name: list(value or []) for name, value in parts.items()}
    if not all_databases:
        return one(call, call.database, wanted, kind=kind, label=label, dry_run=dry_run)
    return _all(call, wanted, kind=kind, label=label, dry_run=dry_run)


def one(
    call: Call, database: str | None, parts: dict[str, list[str]], *, kind: str, label: str, dry_run: bool
) -> dict[str, Any]:
    """Back up one database, or parts of it, and tell about it."""
    target = call.app.target(database)
    request = call.app.request(target.alias, parts, kind=kind, label=label)
    if dry_run:
        plan = call.app.plan(request, target)
        tables = sum(t.kind == "r" for t in plan.tables)
        call.say(
            f"would back up {target.alias} ({plan.scope.text()}, {count_of(tables, 'table')}) from {target.info.address}, "
            f"PostgreSQL {target.server.version}, with pg_dump {target.tools.version} from {target.tools.origin}, "
            f"as {request.format} with compression {plan.compression}, to {call.app.repository.storage.url}"
        )
        return {"dry_run": True, "database": target.alias, "tables": tables, "compression": plan.compression}
    began = clock.monotonic()
    with progress(call):
        backup = call.app.back_up(request, target)
    seconds = round(clock.monotonic() - began, 3)  # the manifest cannot know how long its own publication takes
    call.report(backup)
    call.say(
        f"backup {backup.id} of {backup.alias}: {count_of(backup.sound.rows, 'row')} in "
        f"{count_of(backup.sound.table_count, 'table')}, "
        f"{size(backup.sound.bytes)} in {seconds:.1f} s, verified: {backup.grade}\n{backup.url}"
    )
    return {**facts(backup), "seconds": seconds, "url": backup.url}


def _all(call: Call, parts: dict[str, list[str]], *, kind: str, label: str, dry_run: bool) -> dict[str, Any]:
    """Each database its own backup; a failure neither stops nor hides the others."""
    no_single_one(call)
    take = functools.partial(one, call, parts=parts, kind=kind, label=label, dry_run=dry_run)
    return {"backups": each_database(call, take)}


@command(name="list", all_databases="backups of every database, not only the configured one")
def list_(call: Call, all_databases: bool = False) -> dict[str, Any]:
    """
    List backups, newest first, with what they were verified at.

    Example: invoke backup.list --database naap
    """
    backups = call.app.repository.backups(None if all_databases else call.app.alias(call.database))
    if backups:
        call.table(
            ["ID", "DATABASE", "LABEL", "KIND", "HOLDS", " ROWS", " SIZE", "VERIFIED", "LAST DRILL", "MIGRATION"],
            [_row(b) for b in backups],
        )
    else:
        call.say(f"no backups in {call.app.repository.storage.url}")
    return {"backups": [facts(b) for b in backups]}


def _row(backup: Backup) -> list[str]:
    manifest = backup.manifest
    if manifest is None:
        return [backup.id, backup.alias, "", "?", "?", "", "", "BAD", _drill(backup), ""]
    heads = {str(book["head"]) for book in manifest.prisma if book["head"]}
    return [
        backup.id,
        backup.alias,
        manifest.label,
        manifest.kind,
        manifest.scope.text()[:40],
        f"{manifest.rows:,}",
        size(manifest.bytes),
        backup.state + (", kept" if backup.kept else ""),
        _drill(backup),
        heads.pop() if len(heads) == 1 else count_of(len(heads), "head") if heads else "",
    ]


def _drill(backup: Backup) -> str:
    drill = backup.drilled
    if drill is None:
        return ""
    return f"{drill.at} in {drill.data.get('seconds', '?')} s" if drill.data.get("ok") else f"{drill.at} FAILED"


def facts(backup: Backup) -> dict[str, Any]:
    """The JSON form of a backup, the same wherever one is printed."""
    manifest = backup.manifest
    found: dict[str, Any] = {
        "id": backup.id,
        "database": backup.alias,
        "path": backup.url,
        "verified": backup.grade,
        "kept": backup.kept,
    }
    if manifest is None:
        return {**found, "problem": backup.problem.text if backup.problem else "unreadable"}
    return {
        **found,
        "label": manifest.label,
        "kind": manifest.kind,
        "scope": manifest.scope.text(),
        "format": manifest.format,
        "compression": manifest.compression,
        "bytes": manifest.bytes,
        "seconds": manifest.seconds,
        "tables": manifest.table_count,
        "rows": manifest.rows,
        "snapshot_at": manifest.snapshot_at,
        "bad": backup.bad,
        "encrypted": manifest.encryption is not None,
        "last_drill": backup.drilled and {"at": backup.drilled.at, **backup.drilled.data},
        "migrations": {book["schema"]: book["head"] for book in manifest.prisma},
    }


@command(id="latest, an id or a unique beginning of one, or a label")
def show(call: Call, id: str) -> dict[str, Any]:
    """
    Show one backup: what is in it, table by table, and what verified it.

    Example: invoke backup.show latest
    """
    backup = call.app.repository.find(id, call.app.alias(call.database))
    manifest = backup.sound
    call.say(
        f"backup    {backup.id}" + (f"  ({manifest.label})" if manifest.label else "") + f"\nwhere     {backup.url}\n"
        f"database  {manifest.database['name']} ({manifest.alias}), PostgreSQL {manifest.server['version']}, "
        f"{manifest.database['encoding']}, system {manifest.server['system_identifier']}\n"
        f"snapshot  {manifest.snapshot_at} at {manifest.wal_lsn}, took {manifest.seconds:.1f} s\n"
        f"holds     {manifest.kind}, {manifest.scope.text()}: {count_of(manifest.rows, 'row')} in "
        f"{count_of(manifest.table_count, 'table')}, "
        f"{size(manifest.bytes)} as {manifest.format}, {manifest.compression}\n"
        f"state     {backup.state}{', kept' if backup.kept else ''}"
    )
    for check in backup.checks:
        problems = "; ".join(check.data.get("problems") or [str(check.data.get("problem", ""))])
        call.say(f"          {check.at} {check.what} at grade {check.data.get('grade', '?')} {problems}".rstrip())
    for book in manifest.prisma:
        call.say(
            f"prisma    schema {book['schema']}: newest applied {book['head']}, {count_of(len(book['migrations']), 'row')}"
        )
    call.say("")
    call.table(
        ["TABLE", " ROWS", "FILE"],
        [[t.qualified, _rows(t), t.file or ""] for t in manifest.tables],
    )
    return {**facts(backup), "manifest": dataclasses.asdict(manifest)}


def _rows(table: TableFact) -> str:
    if table.partitioned:
        return "partitioned, its rows are in its partitions"
    return "not in it" if table.rows is None else f"{table.rows:,}"


@command(
    id="latest, an id or a unique beginning of one, or a label",
    grade="hash (files as written), read (read to the end, rows counted), restore (loaded into a scratch server)",
)
def verify(call: Call, id: str, grade: str = "read") -> dict[str, Any]:
    """
    Verify a backup and record the outcome beside it.

    Example: invoke backup.verify latest --grade restore
    """
    if grade not in ("hash", "read", "restore"):
        raise UsageError(detail=f"grade {grade!r} is not hash, read or restore")
    call.begin("verify")
    backup = call.app.repository.find(id, call.app.alias(call.database))
    call.report(backup)
    with progress(call):
        report = call.app.verify(backup, grade)
    if not report.sound:
        raise BackupDamaged(id=backup.id, problems="; ".join(report.problems[:10]))
    found = f"{count_of(report.files, 'file')}, {size(report.bytes)}"
    if grade == "hash":
        found += ", compared as stored: no identity here to decrypt them with" if report.compared == "stored files" else ""
    else:
        found += f", {count_of(report.rows, 'row')}"
    call.say(f"backup {backup.id} is sound at grade {grade}: {found}, {report.seconds:.1f} s")
    return {**dataclasses.asdict(report), "ok": report.sound}


@command(id="latest, an id or a unique beginning of one, or a label", release="no longer keep it: retention decides again")
def keep(call: Call, id: str, release: bool = False) -> dict[str, Any]:
    """
    Pin a backup, so that no retention rule ever removes it.

    Example: invoke backup.keep 20261121T0315
    """
    backup = call.app.repository.find(id, call.app.alias(call.database))
    if backup.kept == release:
        backup.add_record("released" if release else "kept")
    call.say(f"backup {backup.id} is {'kept' if backup.kept else 'no longer kept'}")
    return facts(backup)


@command(
    keep_last="keep the newest N",
    keep_daily="keep the newest of each of the last N days that have one",
    keep_weekly="the same for weeks",
    keep_monthly="the same for months",
    keep_yearly="the same for years",
    keep_min="never leave fewer than N verified ones",
    all_databases="prune the backups of every database",
)
def prune(
    call: Call,
    keep_last: int | None = None,
    keep_daily: int | None = None,
    keep_weekly: int | None = None,
    keep_monthly: int | None = None,
    keep_yearly: int | None = None,
    keep_min: int | None = None,
    all_databases: bool = False,
) -> dict[str, Any]:
    """
    Remove backups that no rule keeps. Says what and why; only --yes deletes.

    Example: invoke backup.prune --keep-daily 14 --keep-weekly 8 --yes
    """
    flags = {"last": keep_last, "daily": keep_daily, "weekly": keep_weekly, "monthly": keep_monthly, "yearly": keep_yearly}
    numbers = {rule: number(f"--keep-{rule}", value) for rule, value in {**flags, "min": keep_min}.items()}
    if call.yes:
        call.begin("prune", several=all_databases)
    alias = None if all_databases else call.app.alias(call.database)
    plan = call.app.retention_plan(alias, call.app.policy(numbers))
    call.table(
        ["ID", "DATABASE", "HOLDS", "VERIFIED", "DECISION", "REASON"],
        [
            [
                b.id,
                b.alias,
                b.group[2][:40],
                b.state,
                "keep" if d.keep else "remove" if call.yes else "would remove",
                ", ".join(d.reasons),
            ]
            for b, d in plan
        ],
    )
    doomed = [b for b, d in plan if not d.keep]
    if call.yes:
        for backup in doomed:
            call.app.repository.delete(backup)
    elif doomed:
        call.say(f"nothing removed: --yes removes {len(doomed)}")
    decisions = [{"id": d.id, "database": b.alias, "keep": d.keep, "reasons": d.reasons} for b, d in plan]
    return {
        "removed": [b.id for b in doomed] if call.yes else [],
        "would_remove": [b.id for b in doomed],
        "decisions": decisions,
    }


collection = Collection("backup", create, list_, show, verify, keep, prune)
