"""Takes a backup: lock, snapshot, dump and read, publish. The order is the safety: see DESIGN.md, section 3."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import naap_ops
from naap_ops import clock, files, process, resources
from naap_ops.backup import manifest as manifests
from naap_ops.backup.engines import engine
from naap_ops.backup.engines.base import ArchiveFacts, DumpJob, Engine, choose_compression, diagnose
from naap_ops.backup.inway import LockWatch
from naap_ops.backup.manifest import FileFact, Manifest, Scope, TableFact
from naap_ops.backup.reading import Reading, Unreadable
from naap_ops.backup.repository import Backup, Repository
from naap_ops.backup.request import BackupRequest, resolve
from naap_ops.backup.snapshot import Facts, Sessions, application_name
from naap_ops.errors import Blocked, CommandFailed, OpsError, ServerUnreachable, UsageError
from naap_ops.events import Events
from naap_ops.storage.base import translated
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.catalog.tables import Table
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import ServerInfo
    from naap_ops.postgres.tools import Toolset
    from naap_ops.storage.base import Staging

STRUCTURE = "schema.dump"
GLOBALS = "globals.sql"
SUMS = "SHA256SUMS"
GUIDE = "RESTORE.md"


@dataclasses.dataclass(frozen=True)
class Source:
    """The database to back up, and what can read it."""

    info: ConnInfo
    server: ServerInfo
    tools: Toolset


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a backup would do: printed by a dry run, carried out by :func:`take`."""

    scope: Scope
    tables: Sequence[Table]
    compression: str
    archive: str


def take(request: BackupRequest, source: Source, repository: Repository, events: Events) -> Backup:
    """Take, read and publish a backup. On any failure nothing of it remains.

    Raises Busy, Blocked, NoSpace, PrivilegeMissing, CommandFailed, StorageError, UsageError.
    """
    began = clock.monotonic()
    started = clock.now()
    with Sessions(source.info, request.lock_wait_timeout) as sessions:
        for name in repository.sweep(request.alias):
            events.emit("backup.swept", name=name)
        facts = sessions.facts()
        plan = prepare(request, source, facts, started)
        events.emit("backup.begin", tables=len(plan.tables), bytes=facts.database["bytes"], archive=plan.archive)
        id = clock.new_id(started)
        staging = repository.begin(request.alias, id)
        try:
            archive = _dump(request, source, sessions, facts, plan, staging, events)
            _demand_rows(request, source, plan, archive)
            manifest = _manifest(request, source, facts, plan, archive, id, started)
            url = Backup(request.alias, id, repository.storage).url
            manifest = _finish(manifest, staging, url, began)
            staging.publish(manifests.FILE_NAME, manifest.to_json())
        except BaseException as error:
            staging.abandon()
            if isinstance(error, OSError):
                raise _write_failure(error, staging.path) from error
            raise
    events.emit("backup.done", id=id)
    return Backup(request.alias, id, repository.storage, manifest)


def prepare(request: BackupRequest, source: Source, facts: Facts, moment: Any) -> Plan:
    """Exact names, compression and file name; every refusal that can be known before writing."""
    scope = resolve(request, [s["name"] for s in facts.schemas], facts.tables)
    compression = choose_compression(request.compression, source.tools, plain=request.format == "plain")
    name = engine(request.format).archive_name(request.label, moment.strftime("%Y%m%d_%H%M%S"), compression)
    return Plan(scope, _in_scope(scope, facts), compression, name)


def _in_scope(scope: Scope, facts: Facts) -> list[Table]:
    if scope.tables:
        return [t for t in facts.tables if t.qualified in scope.tables]
    return [t for t in facts.tables if not scope.schemas or t.schema in scope.schemas]


def _dump(
    request: BackupRequest, source: Source, sessions: Sessions, facts: Facts, plan: Plan, staging: Staging, events: Events
) -> ArchiveFacts:
    waiting = application_name("pg_dump")
    job = DumpJob(
        tools=source.tools,
        # Its first query comes before it lifts the timeouts that the role or the database have.
        info=source.info.with_params(application_name=waiting).with_settings({"statement_timeout": "0"}),
        staging=staging,
        archive=plan.archive,
        snapshot=facts.snapshot,
        kind=request.kind,
        scope=plan.scope,
        compression=plan.compression,
        jobs=request.jobs,
        lock_wait_timeout=request.lock_wait_timeout,
        tables=facts.tables,
        size=facts.database["bytes"],
        events=events,
    )
    with ThreadPoolExecutor(1) as beside, sessions.watch(waiting) as watch:
        globals_sql = beside.submit(_globals, source, staging.path, request.lock_wait_timeout)
        try:
            archive = engine(request.format).dump(job)
            if needs_structure(request.kind, plan.scope):
                structure = dataclasses.replace(job, archive=STRUCTURE, kind="schema", scope=Scope())
                archive.readings |= _custom().dump(structure).readings
            globals_sql.result()
        except CommandFailed as error:
            raise _explained(error, staging.path, source, watch, sessions) from error
    return archive


def needs_structure(kind: str, scope: Scope) -> bool:
    """Whether the archive alone cannot fill an empty database: rows without tables, or a part that may lean on the rest."""
    return kind == "data" or not scope.whole


def _custom() -> Engine:
    return engine("custom")


def _explained(error: CommandFailed, folder: Path, source: Source, watch: LockWatch, sessions: Sessions) -> Exception:
    found = diagnose(error, folder, source.info.address, source.server.user)
    if type(found) is CommandFailed and sessions.lost:
        # Workers that connect just then have many words for it: "invalid client encoding" is one of them.
        return ServerUnreachable(address=source.info.address, reason="the connection was lost during the dump")
    if isinstance(found, Blocked):
        culprits = watch.culprits(waited=not found.fields["queue_met"])
        if watch.lost:  # pg_dump's workers say that of any lock that failed
            return ServerUnreachable(address=source.info.address, reason="the connection was lost during the dump")
        return Blocked(what="pg_dump", blockers=culprits or found.fields["blockers"])
    return found


def _write_failure(error: OSError, folder: Path) -> OpsError:
    if error.errno == errno.E2BIG:
        return UsageError(detail="so many tables do not fit on pg_dump's command line: choose whole schemas")
    return translated(folder, error)


def _globals(source: Source, folder: Path, patience: float) -> None:
    """Roles and tablespaces of the cluster, without passwords: managed services show no pg_authid."""
    from psycopg.conninfo import make_conninfo

    # Without --database it wants to connect to postgres or template1. Its own lock timeout is for pg_dump only.
    database = make_conninfo("", dbname=source.info.dbname)
    words = ["--globals-only", "--no-role-passwords", "--no-password", f"--database={database}"]
    session = source.info.with_settings({"lock_timeout": f"{int(patience * 1000)}ms", "statement_timeout": "0"})
    command = source.tools.command("pg_dumpall", words, session)
    _, output, _ = process.run(command.argv, env=command.env, input=command.preamble or None)
    files.write_durably(folder / GLOBALS, output)


def _demand_rows(request: BackupRequest, source: Source, plan: Plan, archive: ArchiveFacts) -> None:
    """Every table that was asked for must have its rows in the archive. Raises Unreadable.

    Not a standby's unlogged tables, which are empty there, and not an extension's, which are the extension's to fill.
    """
    if request.kind == "schema" or source.server.in_recovery:
        return
    excluded = set(plan.scope.exclude_table_data)
    wanted = [t for t in plan.tables if t.kind == "r" and not t.of_extension and t.qualified not in excluded]
    missing = [t.qualified for t in wanted if t.oid not in archive.rows]
    if missing:
        raise Unreadable(detail=f"pg_dump left out the rows of {', '.join(missing[:5])} ({count_of(len(missing), 'table')})")


def _manifest(
    request: BackupRequest, source: Source, facts: Facts, plan: Plan, archive: ArchiveFacts, id: str, started: Any
) -> Manifest:
    tables = [
        TableFact(
            schema=t.schema,
            name=t.name,
            oid=t.oid,
            owner=t.owner,
            rows=archive.rows.get(t.oid),
            file=archive.data_files.get(t.oid),
            objects=facts.belongings.get(t.oid, []),
            partitioned=t.kind == "p",
        )
        for t in facts.tables
        if t.oid in archive.rows or t.oid in archive.structure
    ]
    return Manifest(
        id=id,
        label=request.label,
        alias=request.alias,
        kind=request.kind,
        scope=plan.scope,
        format=request.format,
        compression=plan.compression,
        archive=plan.archive,
        structure=STRUCTURE if needs_structure(request.kind, plan.scope) else None,
        database=facts.database,
        server={
            "version": source.server.version,
            "version_num": source.server.version_num,
            "system_identifier": source.server.system_identifier,
            "in_recovery": source.server.in_recovery,
        },
        tools={"version": source.tools.version, "origin": source.tools.origin},
        extensions=facts.extensions,
        roles=facts.roles,
        schemas=facts.schemas,
        prisma=facts.prisma,
        started_at=clock.iso(started),
        snapshot_at=facts.snapshot_at,
        finished_at="",
        wal_lsn=facts.wal_lsn,
        transactions=facts.transactions,
        seconds=0.0,
        rows=sum(archive.rows.values()),
        bytes=0,
        tables=tables,
        files=[FileFact(path, r.bytes, r.sha256) for path, r in archive.readings.items()],
        verified={
            "grade": "read",
            "at": clock.iso(),
            "by": f"naap-ops {naap_ops.__version__}, pg_restore {source.tools.version}",
        },
        toolkit=f"naap-ops {naap_ops.__version__}",
    )


def _finish(manifest: Manifest, staging: Staging, url: str, began: float) -> Manifest:
    """Add the files beside the archive and the totals. ``url``: where it will be. ``began``: on the monotonic clock."""
    beside = [_fact(staging.path, GLOBALS)]
    stored = staging.settle()
    encryption = {"method": "age", "recipients": list(staging.recipients)} if staging.recipients else None
    manifest = dataclasses.replace(manifest, encryption=encryption)
    guide = resources.render("runbooks", "restore_without_toolkit.md.j2", m=manifest, url=url, quoted=_shell_quoted)
    beside.append(_write(staging, GUIDE, guide.encode()))
    everything = sorted([*manifest.files, *beside], key=lambda f: f.path)
    everything = [dataclasses.replace(f, stored=stored.get(f.path)) for f in everything]
    everything.append(_write(staging, SUMS, sums(everything).encode()))
    return dataclasses.replace(
        manifest,
        files=everything,
        bytes=sum(f.bytes for f in everything),
        seconds=round(clock.monotonic() - began, 3),
        finished_at=clock.iso(),
    )


def sums(everything: Sequence[FileFact]) -> str:
    """For ``sha256sum -c``: the files as they are stored."""
    return "".join(f"{(f.stored or f).sha256}  {(f.stored or f).path}\n" for f in everything)


def _write(staging: Staging, name: str, content: bytes) -> FileFact:
    files.write_durably(staging.path / name, content)
    fact = _fact(staging.path, name)
    staging.complete(name, fact.sha256)
    return fact


def _fact(folder: Path, name: str) -> FileFact:
    reading = _reading(folder / name)
    return FileFact(name, reading.bytes, reading.sha256)


def _reading(path: Path) -> Reading:
    from naap_ops.backup.reading import read_file

    return read_file(path, content=False)


def _shell_quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
