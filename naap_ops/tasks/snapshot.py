"""`invoke snapshot`: the backup that cron takes; of many databases, tenants or plugins in one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.errors import OpsError, Partial
from naap_ops.tasks.backup import one
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.flags import number
from naap_ops.tasks.several import no_single_one


@command(
    without=("yes",),
    all_databases="every configured database",
    each_tenant="a snapshot of each tenant's schema (setting tenant_schemas)",
    each_plugin="a snapshot of each plugin's schema (setting plugin_schemas)",
    label="a word to find it by",
    format="directory (each table is sent off as soon as it is dumped), custom or plain (streamed past the disk)",
    compression="auto, none, gzip, zstd, lz4, with an optional level: zstd:3",
    jobs="parallel jobs of pg_dump",
    lock_wait_timeout="how long to wait for table locks, e.g. 30s; 0 waits for ever",
    dry_run="say what would be done, touch nothing",
)
def snapshot(
    call: Call,
    all_databases: bool = False,
    each_tenant: bool = False,
    each_plugin: bool = False,
    label: str = "snapshot",
    format: str | None = None,
    compression: str | None = None,
    jobs: int | None = None,
    lock_wait_timeout: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    Take a snapshot, uploaded while it is dumped when --repo is s3://bucket/prefix. Silent under cron when all is well.

    One failure neither stops nor hides the others: exit code 21 says that some failed.

    Example: invoke snapshot --repo s3://backups/naap --all-databases
    """
    if all_databases:
        no_single_one(call)
    call.override(
        backup__format=format,
        backup__compression=compression,
        backup__jobs=number("--jobs", jobs),
        backup__lock_wait_timeout=lock_wait_timeout,
    )
    call.unattended()
    if not dry_run:
        call.begin("snapshot", several=all_databases or each_tenant or each_plugin)
    kinds = [kind for kind, wanted in (("tenants", each_tenant), ("plugins", each_plugin)) if wanted]
    if not all_databases and not kinds:
        return _one(call, call.database, [], label=label, dry_run=dry_run)
    return _several(call, kinds, everything=all_databases, label=label, dry_run=dry_run)


def _one(call: Call, database: str | None, schemas: list[str], *, label: str, dry_run: bool) -> dict[str, Any]:
    nothing: dict[str, list[str]] = {"tenants": [], "plugins": [], "tables": [], "exclude_table_data": []}
    return one(call, database, {**nothing, "schemas": schemas}, kind="full", label=label, dry_run=dry_run)


def _several(call: Call, kinds: list[str], *, everything: bool, label: str, dry_run: bool) -> dict[str, Any]:
    done: list[dict[str, Any]] = []
    failed: dict[str, OpsError] = {}
    aliases: list[str | None] = [*call.app.loaded.aliases()] if everything else [call.database]
    for alias in aliases or [None]:
        try:
            parts = list(_parts(call, alias, kinds))
        except OpsError as error:
            failed[alias or ""] = error
            continue
        for name, schemas in parts:
            try:
                with call.part(alias):
                    done.append(_one(call, alias, schemas, label=label, dry_run=dry_run))
            except OpsError as error:
                failed[name] = error
    if failed:
        raise Partial(done=done, failed=failed)
    return {"backups": done}


def _parts(call: Call, alias: str | None, kinds: list[str]) -> Iterator[tuple[str, list[str]]]:
    """What to take of a database: name for messages, schemas (none: all of it)."""
    if not kinds:
        yield alias or "the database", []
    for kind in kinds:
        for schema in call.app.schemas(alias, kind):
            yield f"{alias or 'schema'} {schema}", [schema]
