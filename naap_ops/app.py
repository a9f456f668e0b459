"""The composition root: from settings to wired objects. The only place that chooses tools, servers and storage."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from naap_ops import clock
from naap_ops.backup import retention
from naap_ops.backup.drill import Drill, drill
from naap_ops.backup.engines.base import choose_compression
from naap_ops.backup.manifest import Manifest
from naap_ops.backup.proving import lent_roles
from naap_ops.backup.repository import Backup, Repository
from naap_ops.backup.request import BackupRequest
from naap_ops.backup.snapshot import Sessions
from naap_ops.backup.take import Plan, Source, prepare, take
from naap_ops.backup.verify import Report, verify
from naap_ops.config import patterns
from naap_ops.config.choice import DatabaseChoice
from naap_ops.config.sources import Loaded, load
from naap_ops.errors import (
    BackupDamaged,
    ConfigurationError,
    PrismaProjectNotFound,
    PrismaUnsupported,
    PrivilegeMissing,
    ToolMismatch,
    ToolMissing,
    UsageError,
)
from naap_ops.events import Events
from naap_ops.listeners.delivery import Audience
from naap_ops.postgres.conninfo import ConnInfo, by_variables, resolve
from naap_ops.postgres.databases import create, drop, properties
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, ServerInfo, connect, maintenance, server_info
from naap_ops.postgres.tools import Toolset, find_tools, installations, server_bindir
from naap_ops.prisma import named, project
from naap_ops.storage.age import AgeStorage
from naap_ops.storage.registry import open_storage

# A plain script is loaded in one transaction, which locks every table and index it makes.
_SCRATCH_CONFIG = {"max_locks_per_transaction": "1024"}
_COMMON_MAJOR = 16


@dataclasses.dataclass(frozen=True)
class Target:
    """One database to work on: its alias in the repository, how to reach it, what its server is, the tools for it."""

    alias: str
    info: ConnInfo
    server: ServerInfo
    tools: Toolset


@dataclasses.dataclass(frozen=True)
class ShadowPlace:
    """An empty database to try migrations in. ``kind``: url, beside or embedded; ``tools`` finds the client tools for it."""

    kind: str
    info: ConnInfo
    server: ServerInfo
    tools: Callable[[], Toolset]


@dataclasses.dataclass
class App:
    """Settings and what follows from them."""

    loaded: Loaded
    events: Events

    @classmethod
    def load(cls, flags: Mapping[str, Any], *, settings_file: Path | None, events: Events) -> Self:
        """Read the settings; ``flags`` are the strongest. Raises ConfigurationError."""
        return cls(load(flags, settings_file=settings_file), events)

    @cached_property
    def repository(self) -> Repository:
        """Where backups live."""
        return self.open_repository()

    def open_repository(self) -> Repository:
        """The same by a connection of its own, for another thread."""
        settings = self.loaded.settings
        storage = open_storage(settings.repository, settings, base=self.loaded.cwd)
        keys = settings.encryption
        return Repository(AgeStorage(storage, keys.recipients, keys.identity_file))

    def listen(self, tell: Callable[[str], None]) -> Audience:
        """Have everybody whom the settings name hear the events. ``tell`` prints what goes wrong with them."""
        from naap_ops.listeners.wiring import audience

        where = self.loaded.settings.repository
        found = audience(self.loaded.settings, where if "://" in where else str(self.loaded.cwd / where), tell)
        found.subscribe(self.events)
        return found

    # --- the database ---------------------------------------------------------------------------------------------

    def info(self, database: str | None) -> ConnInfo:
        """How to reach a configured database. Raises UsageError, ConfigurationError, UnusableUrl."""
        return resolve(self.choice(database))

    def choice(self, database: str | None) -> DatabaseChoice:
        """The configured database; where nothing says which, the one whose variable the Prisma project names."""
        found = self.loaded.database(database)
        if found.url is not None or by_variables(os.environ):
            return found
        try:
            return named.chosen(found, self.project(), self.loaded.places())
        except (PrismaProjectNotFound, PrismaUnsupported, ConfigurationError):
            return found  # what is missing is said where it is needed

    def remarks(self, database: str | None) -> list[str]:
        """Where the connection came from, where that is not one of the usual names."""
        source = self.info(database).source
        return [f"connected by {source}"] if named.BY in source else []

    def target(self, database: str | None) -> Target:
        """Reach the database and find the tools for its server: every mismatch is an error here, before anything is written."""
        choice = self.choice(database)
        info = resolve(choice)
        with connect(info) as connection:
            server = server_info(connection)
            name = connection.info.dbname
        tools = find_tools(server.major, self.loaded.settings.tools)
        tools.check(info)
        info = info if info.dbname else info.with_dbname(name)
        tools.reach(info)
        return Target(choice.alias or name, info, server, tools)

    def schemas(self, database: str | None, kind: str) -> list[str]:
        """The schemas of the ``tenants`` or ``plugins`` that the database has now."""
        choice = self.choice(database)
        pattern = {"tenants": choice.tenant_schemas, "plugins": choice.plugin_schemas}[kind]
        with connect(resolve(choice)) as connection:
            names = connection.execute("select nspname from pg_catalog.pg_namespace").fetchall()
        return patterns.matching(pattern, [name for (name,) in names])

    def project(self) -> project.Project:
        """The Prisma project on disk. Raises PrismaProjectNotFound, PrismaUnsupported, ConfigurationError."""
        settings, cwd = self.loaded.settings.prisma, self.loaded.cwd
        root, schema, config, migrations = (
            path and cwd / path.expanduser()
            for path in (settings.root, settings.schema_file, settings.config, settings.migrations)
        )
        return project.find(cwd, project.Overrides(root, schema, config, migrations))

    @property
    def state(self) -> Path:
        """Where procedures keep their journals and records."""
        return self.loaded.cwd / self.loaded.settings.state.expanduser()

    @property
    def archive(self) -> Path:
        """Where untracked migrations go."""
        return self.loaded.cwd / self.loaded.settings.prisma.archive.expanduser()

    def alias(self, database: str | None) -> str | None:
        """The repository's name for ``--database``; the only one there is when none is given, None when that is unknown."""
        if database is not None:
            return database
        known = self.loaded.aliases()
        return known[0] if len(known) == 1 else None

    # --- backups --------------------------------------------------------------------------------------------------

    def request(self, target_alias: str, parts: Mapping[str, Sequence[str]], *, kind: str, label: str) -> BackupRequest:
        """The request that flags and settings make. Tenants and plugins become schemas by their patterns."""
        settings = self.loaded.settings.backup
        choice = self.loaded.database(target_alias if self.loaded.settings.databases else None)
        schemas = [
            *parts["schemas"],
            *(patterns.schema_for(choice.tenant_schemas, slug) for slug in parts["tenants"]),
            *(patterns.schema_for(choice.plugin_schemas, slug) for slug in parts["plugins"]),
        ]
        return BackupRequest(
            alias=target_alias,
            kind=kind,
            schemas=schemas,
            tables=parts["tables"],
            exclude_table_data=parts["exclude_table_data"],
            label=label,
            format="custom" if self._must_stream else settings.format,
            compression=settings.compression,
            jobs=settings.jobs,
            lock_wait_timeout=settings.lock_wait_timeout.total_seconds(),
            verify=settings.verify,
        )

    @property
    def _must_stream(self) -> bool:
        """Through tools.exec there is one output stream: the default format gives way, a format asked for does not."""
        by_default = self.loaded.sources.get("backup.format", "default") == "default"
        return bool(self.loaded.settings.tools.exec) and by_default

    def plan(self, request: BackupRequest, target: Target) -> Plan:
        """What :meth:`back_up` would do, by the same code up to the first write."""
        source = Source(target.info, target.server, target.tools)
        with Sessions(target.info, request.lock_wait_timeout) as sessions:
            return prepare(request, source, sessions.facts(), clock.now())

    def back_up(self, request: BackupRequest, target: Target) -> Backup:
        """Take a backup; with grade restore asked for, prove it too."""
        choose_compression(request.compression, target.tools, plain=request.format == "plain")
        backup = take(request, Source(target.info, target.server, target.tools), self.repository, self.events)
        if request.verify == "restore":
            self.events.emit("backup.step", text="loading it into a scratch server")
            report = self.verify(backup, "restore")
            if not report.sound:
                raise BackupDamaged(id=backup.id, problems="; ".join(report.problems[:10]))
        return backup

    def verify(self, backup: Backup, grade: str) -> Report:
        """Check a backup at ``grade`` and record the outcome beside it."""
        tools = None if grade == "hash" else self.readers(backup.sound)
        return verify(backup, grade, tools, self._scratch, jobs=self.loaded.settings.restore.jobs)

    def drill(self, backup: Backup) -> Drill:
        """Restore a backup into a scratch database, ask it the questions of the settings, and record the outcome beside it."""
        settings = self.loaded.settings
        return drill(backup, self.readers(backup.sound), self._scratch, settings.drill.checks, jobs=settings.restore.jobs)

    def readers(self, manifest: Manifest) -> Toolset | None:
        """Tools that can read the archive: those of its major, else of a newer one. A plain script needs none."""
        major = int(str(manifest.tools["version"]).split(".")[0])
        last: ToolMissing | ToolMismatch | None = None
        for candidate in (major, *(m for m in sorted(installations()) if m > major)):
            try:
                return find_tools(candidate, self.loaded.settings.tools)
            except (ToolMissing, ToolMismatch) as error:
                last = last or error
        if manifest.format == "plain" and manifest.structure is None:
            return None
        assert last is not None
        raise last

    @contextlib.contextmanager
    def _scratch(self, manifest: Manifest) -> Iterator[tuple[ConnInfo, Toolset]]:
        """An empty database to prove a backup in: at scratch_url, else on a scratch server of the backup's major."""
        name = f"naap_ops_proof_{secrets.token_hex(6)}"
        with contextlib.ExitStack() as stack:
            info, tools = stack.enter_context(self._scratch_server(manifest))
            connection = stack.enter_context(maintenance(info))
            stack.enter_context(lent_roles(connection, manifest.roles))
            _create_scratch(connection, name, manifest)
            try:
                yield info.with_dbname(name), tools
            finally:
                drop(connection, name)

    @contextlib.contextmanager
    def _scratch_server(self, manifest: Manifest) -> Iterator[tuple[ConnInfo, Toolset]]:
        settings = self.loaded.settings
        here = settings.tools.model_copy(update={"exec": []})  # tools.exec leads to the live server
        if settings.scratch_url is not None:
            from naap_ops.postgres.url import parse_url

            info = parse_url(settings.scratch_url, source="scratch_url")
            with connect(info) as connection:
                server = server_info(connection)
            yield info, find_tools(server.major, here)
            return
        major = int(manifest.server["version_num"]) // 10000
        with (
            tempfile.TemporaryDirectory(prefix="naap_ops_") as folder,
            ScratchServer(server_bindir(major), Path(folder), config=_SCRATCH_CONFIG) as own,
        ):
            yield own.info, find_tools(major, here.model_copy(update={"bindir": None}))

    # --- shadows --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def shadow(self, live: Target | None, *, major: int | None = None, like: str | None = None) -> Iterator[ShadowPlace]:
        """An empty database to try migrations in: by ``reverse.shadow`` the one of shadow_database_url, one beside the live
        one, or one on a server of our own. Beside it, it gets the encoding and the locale of the database ``like``.

        Raises PrivilegeMissing where there is none of the three; ConfigurationError.
        """
        from naap_ops.reverse import shadows

        settings = self.loaded.settings
        here = settings.tools.model_copy(update={"exec": []})
        wanted = settings.reverse.shadow
        if wanted == "url" or (wanted == "auto" and settings.shadow_database_url is not None):
            info = self._shadow_url()
            with shadows.given(info, live.info if live else None) as given:
                with connect(given) as connection:
                    server = server_info(connection)
                yield ShadowPlace("url", given, server, lambda: find_tools(server.major, here))
        elif wanted == "beside" or (wanted == "auto" and live is not None and _can_create(live.server)):
            if live is None:
                raise ConfigurationError(detail="a shadow beside the live database wants that to be reached: give --url")
            beside, tools = live, live.tools
            with shadows.beside(live.info, like) as info:
                yield ShadowPlace("beside", info, beside.server, lambda: tools)
        else:
            number = live.server.major if live else major or settings.reverse.major or default_major()
            with self._own_server(number, live) as info, shadows.beside(info) as made:
                with connect(made) as connection:
                    server = server_info(connection)
                local = here.model_copy(update={"bindir": None})
                yield ShadowPlace("embedded", made, server, lambda: find_tools(number, local))

    def _shadow_url(self) -> ConnInfo:
        from naap_ops.postgres.url import parse_url

        url = self.loaded.settings.shadow_database_url
        if url is None:
            raise ConfigurationError(
                detail="shadow_database_url is not set", hint="Set SHADOW_DATABASE_URL, or take another --shadow-server."
            )
        return parse_url(url, source="shadow_database_url")

    @contextlib.contextmanager
    def _own_server(self, major: int, live: Target | None) -> Iterator[ConnInfo]:
        """A server of our own, on which whoever the live database's user is may do everything."""
        try:
            bindir = server_bindir(major)
        except ToolMissing as missing:
            if live is None:
                raise
            raise PrivilegeMissing(
                user=live.server.user,
                action=f"create a shadow database on {live.info.address}, and no server of major {major} is installed here",
                hint=f"One of three: ALTER ROLE ... CREATEDB; SHADOW_DATABASE_URL, an empty database; {missing.advice}",
            ) from None
        with (
            tempfile.TemporaryDirectory(prefix="naap_ops_") as folder,
            ScratchServer(
                bindir, Path(folder), config=_SCRATCH_CONFIG, superuser=live.server.user if live else "postgres"
            ) as own,
        ):
            yield own.info

    @contextlib.contextmanager
    def history_server(self, workdir: Path) -> Iterator[ConnInfo]:
        """A server of our own for long work: that of a killed run is ended by the next one with the same ``workdir``."""
        bindir = server_bindir(self.loaded.settings.reverse.major or default_major())
        try:
            with ScratchServer(bindir, workdir, config=_SCRATCH_CONFIG) as own:
                yield own.info
        finally:
            with contextlib.suppress(OSError):
                workdir.rmdir()

    # --- retention ------------------------------------------------------------------------------------------------

    def retention_plan(self, alias: str | None, policy: retention.Policy) -> list[tuple[Backup, retention.Decision]]:
        """A decision for each backup, newest first."""
        backups = {b.id: b for b in self.repository.backups(alias)}
        return [(backups[d.id], d) for d in retention.plan(list(backups.values()), policy, clock.now())]

    def policy(self, overrides: Mapping[str, int | None]) -> retention.Policy:
        """The settings' policy; any keep-* flag given replaces all the keep rules, as in restic."""
        settings = self.loaded.settings.retention
        rules = ("last", "daily", "weekly", "monthly", "yearly")
        given = {rule: overrides.get(rule) for rule in rules}
        if any(value is not None for value in given.values()):
            if any(value is not None and value < 0 for value in given.values()):
                raise UsageError(detail="a number of backups to keep cannot be negative")
            chosen = {rule: value or 0 for rule, value in given.items()}
        else:
            chosen = {rule: getattr(settings, f"keep_{rule}") for rule in rules}
        minimum = overrides.get("min")
        return retention.Policy(
            **chosen, minimum=settings.keep_min if minimum is None else max(1, minimum), max_age=settings.max_age
        )


def _can_create(server: ServerInfo) -> bool:
    return server.can_createdb and not server.in_recovery


def default_major() -> int:
    """The major of a server of our own where nothing says which. Raises ToolMissing."""
    there = installations()
    return _COMMON_MAJOR if _COMMON_MAJOR in there or not there else max(there)


def _create_scratch(connection: Connection, name: str, manifest: Manifest) -> None:
    """With the backup's encoding, and its locale if the scratch server knows that; else the server's own, else C.

    Raises ConfigurationError, PrivilegeMissing.
    """
    own = dataclasses.replace(properties(connection, "template0"), encoding=manifest.database["encoding"])
    locale = {field: manifest.database[field] for field in ("provider", "collate", "ctype", "locale", "icu_rules")}
    plainest: dict[str, Any] = {"provider": "libc", "collate": "C", "ctype": "C", "locale": None, "icu_rules": None}
    candidates = [dataclasses.replace(own, **locale), own, dataclasses.replace(own, **plainest)]
    for candidate in candidates:
        try:
            return create(connection, name, candidate)
        except ConfigurationError as error:
            failure = error
    raise failure
