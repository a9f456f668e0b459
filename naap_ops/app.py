"""The composition root: from settings to wired objects. The only place that chooses tools, servers and storage."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from naap_ops import clock
from naap_ops.backup import retention
from naap_ops.backup.drill import Drill, drill
from naap_ops.backup.engines.base import choose_compression
from naap_ops.backup.manifest import Manifest
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
    ToolMismatch,
    ToolMissing,
    UsageError,
)
from naap_ops.events import Events
from naap_ops.listeners.delivery import Audience
from naap_ops.places import Places, Target
from naap_ops.postgres.conninfo import ConnInfo, by_variables, resolve
from naap_ops.postgres.session import connect, server_info
from naap_ops.postgres.tools import Toolset, find_tools, installations
from naap_ops.prisma import named, project
from naap_ops.storage.age import AgeStorage
from naap_ops.storage.registry import open_storage


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
    def places(self) -> Places:
        """Where backups are proved and migrations are tried."""
        return Places(self.loaded.settings)

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

    def unheard(self) -> list[str]:
        """Listeners of the settings that cannot be told anything, each with the reason."""
        from naap_ops.listeners.wiring import problems

        return problems(self.loaded.settings)

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
        return verify(backup, grade, tools, self.places.scratch, jobs=self.loaded.settings.restore.jobs)

    def drill(self, backup: Backup) -> Drill:
        """Restore a backup into a scratch database, ask it the questions of the settings, and record the outcome beside it."""
        settings = self.loaded.settings
        return drill(backup, self.readers(backup.sound), self.places.scratch, settings.drill.checks, jobs=settings.restore.jobs)

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
