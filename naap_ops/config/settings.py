"""The typed model of every setting. Only :mod:`naap_ops.config.sources` fills it; this file says what exists and what fits."""

from __future__ import annotations

import json
import os
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from naap_ops.config import cron, duration, patterns, weburl

PREFIX = "NAAP_OPS_"
DELIMITER = "__"
_JOBS = min(8, os.cpu_count() or 1)


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")
    return value


def _words(value: Any) -> Any:
    """A list from the environment: JSON, or words quoted as for a shell."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else shlex.split(value)


Text = Annotated[str, StringConstraints(min_length=1)]
Words = Annotated[list[Text], BeforeValidator(_words)]
Jobs = Annotated[int, BeforeValidator(_number), Field(ge=1)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=0)]
Duration = Annotated[timedelta, BeforeValidator(duration.parse), PlainSerializer(duration.text, when_used="json")]
Pattern = Annotated[str, BeforeValidator(lambda value: patterns.checked(value) if isinstance(value, str) else value)]
Url = Annotated[str | None, Field(repr=False)]
WebUrl = Annotated[str | None, BeforeValidator(weburl.checked), Field(repr=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)


class ToolsSettings(_Section):
    """Where pg_dump, pg_restore and psql are found, or the prefix they are run through."""

    bindir: Path | None = None
    exec: Words = []
    exec_host: Text | None = None
    exec_port: Annotated[int, BeforeValidator(_number), Field(ge=1, le=65535)] | None = None


class BackupSettings(_Section):
    """How a backup is taken."""

    jobs: Jobs = _JOBS
    format: Literal["directory", "custom", "plain"] = "directory"
    compression: Annotated[str, StringConstraints(pattern=r"^(auto|none|(gzip|zstd|lz4)(:\d+)?)$")] = "auto"
    lock_wait_timeout: Duration = timedelta(seconds=30)
    verify: Literal["hash", "read", "restore"] = "read"


class RestoreSettings(_Section):
    """How a restore loads and swaps."""

    jobs: Jobs = _JOBS
    maintenance_work_mem: Annotated[str, StringConstraints(pattern=r"^[1-9]\d*(kB|MB|GB|TB)$")] = "256MB"
    lock_timeout: Duration = timedelta(seconds=10)


class PrismaSettings(_Section):
    """Where the Prisma project is, where that cannot be found; where untracked migrations go; how long locks are waited for."""

    root: Path | None = None
    schema_file: Path | None = None
    config: Path | None = None
    migrations: Path | None = None
    archive: Path = Path(".naap_ops/archive/migrations")
    lock_timeout: Duration = timedelta(seconds=10)


class ServicesSettings(_Section):
    """Commands that stop and start what uses the database; without one the operator is asked to do it."""

    stop: Words = []
    start: Words = []
    timeout: Duration = timedelta(minutes=2)


class MaintenanceSettings(_Section):
    """Commands that turn the maintenance page on and off; without them connections are refused at the database."""

    on: Words = []
    off: Words = []
    timeout: Duration = timedelta(minutes=2)


class DeploySettings(_Section):
    """What deploys and what shows the status, `npx prisma migrate deploy` for instance; without a command we deploy."""

    command: Words = []
    status: Words = []
    timeout: Duration = timedelta(minutes=30)


class CaptureSettings(_Section):
    """Rows that a migration is about to destroy, kept in the database by `deploy` for its reverse.

    ``ceiling``: MB, estimated, from which on it is asked for by --capture; ``expires``: after which they are dropped.
    """

    enabled: bool = True
    ceiling: Annotated[int, BeforeValidator(_number), Field(ge=0)] = 1024
    lock_timeout: Annotated[Duration, Field(gt=timedelta())] = timedelta(seconds=10)
    expires: Duration = timedelta(days=30)


class ParkSettings(_Section):
    """What a rollback takes away, kept in the database for rolling forward again.

    ``ceiling``: MB, estimated, from which on it is asked for by --park; ``expires``: when a deploy drops it, and says so.
    """

    enabled: bool = True
    ceiling: Annotated[int, BeforeValidator(_number), Field(ge=0)] = 1024
    expires: Duration = timedelta(days=90)


class RollbackSettings(_Section):
    """How a reverse runs: how long it waits for a lock, and how often. ``hold``: keep an applied row by default.

    ``batches_from``: with how many rows a table is large, so that values of a column come back in batches, by ``jobs``
    sessions."""

    lock_timeout: Annotated[Duration, Field(gt=timedelta())] = timedelta(seconds=2)
    attempts: Annotated[int, BeforeValidator(_number), Field(ge=1)] = 20
    hold: bool = False
    batches_from: Count = 100_000
    jobs: Jobs = 2


class ResetSettings(_Section):
    """What fills an empty database anew: the schema (`npx prisma db push`), then the rows (`npx prisma db seed`)."""

    sync: Words = []
    seed: Words = []


class RetentionSettings(_Section):
    """What `backup.prune` keeps; restic's names. ``keep_min`` is a floor no rule can undercut."""

    keep_last: Count = 7
    keep_daily: Count = 14
    keep_weekly: Count = 8
    keep_monthly: Count = 12
    keep_yearly: Count = 0
    keep_min: Annotated[int, BeforeValidator(_number), Field(ge=1)] = 3
    max_age: Duration = timedelta(hours=48)


class CheckSettings(_Section):
    """When `check` warns and when it cries. ``size_change`` is in percent; ``drill_age`` None: drills are not demanded."""

    warn_age: Duration = timedelta(hours=26)
    crit_age: Duration = timedelta(hours=48)
    size_change: Count = 50
    drill_age: Duration | None = None


class PingSettings(_Section):
    """Per job the URL that is told that it began, and how it ended. ``{database}`` in it is the database's name."""

    snapshot: WebUrl = None
    backup: WebUrl = None
    restore: WebUrl = None
    prune: WebUrl = None
    verify: WebUrl = None
    drill: WebUrl = None
    check: WebUrl = None


class NotifySettings(_Section):
    """Who is told of outcomes, and of which. ``urls`` are apprise's; ``state`` is the folder that remembers what is failing."""

    urls: Annotated[Words, Field(repr=False)] = []
    when: Annotated[list[Literal["failure", "recovery", "change", "always"]], BeforeValidator(_words)] = [
        "failure",
        "recovery",
        "change",
    ]
    ping: PingSettings = PingSettings()
    timeout: Annotated[Duration, Field(gt=timedelta(), le=timedelta(minutes=5))] = timedelta(seconds=10)
    state: Path | None = None


class LogSettings(_Section):
    """JSON lines of what happened, one per event: to a file, to stderr, or both."""

    file: Path | None = None
    stderr: bool = False


class MetricsSettings(_Section):
    """The folder of node_exporter's textfile collector, into which metrics are written."""

    textfile_dir: Path | None = None


class CheckQuery(_Section):
    """A question to a restored database: ``query`` must give ``expect``, the first column of its first row as text.

    A text alone is a query whose answer must be true.
    """

    query: Text
    expect: str = "t"
    name: Text | None = None


class DrillSettings(_Section):
    """What `drill` asks of the restored database, beside counting every table's rows."""

    checks: list[
        Annotated[CheckQuery, BeforeValidator(lambda value: {"query": value} if isinstance(value, str) else value)]
    ] = []


class EncryptionSettings(_Section):
    """age keys. ``recipients`` are public keys (``age1...``, ``ssh-ed25519 ...``): with one or more, every backup is encrypted.

    ``identity_file`` holds the secret key, and belongs only where one restores.
    """

    recipients: Words = []
    identity_file: Path | None = None


class ReverseSettings(_Section):
    """Reverse migrations. ``migrations``: the project's folder, None: the first of the usual ones; ``templates``: own ones.

    ``shadow``: where migrations are tried; ``major``: of the embedded server, where no database says which.
    """

    migrations: Path | None = None
    templates: Path | None = None
    shadow: Literal["auto", "embedded", "beside", "url"] = "auto"
    major: Annotated[int, BeforeValidator(_number), Field(ge=12)] | None = None
    jobs: Jobs = _JOBS


class LintSettings(_Section):
    """What `lint` finds and is told not to mind, by name."""

    allow: Words = []


class S3Settings(_Section):
    """How an `s3://bucket/prefix` is reached and written. Keys come from the chain that AWS tools use, never from here."""

    endpoint: Text | None = None
    region: Text | None = None
    profile: Text | None = None
    path_style: Literal["auto", "always", "never"] = "auto"
    ca_bundle: Path | None = None
    jobs: Jobs = 8
    max_parts: Annotated[int, BeforeValidator(_number), Field(ge=1, le=10_000)] = 10_000
    checksums: Literal["auto", "sha256", "when_required"] = "auto"
    read_back: Literal["auto", "all", "sample", "none"] = "auto"
    sse: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: Text | None = None
    storage_class: Text | None = None
    tags: Annotated[list[Annotated[str, StringConstraints(pattern=r"^[^=]+=.*$")]], BeforeValidator(_words)] = []
    object_lock: Literal["governance", "compliance"] | None = None
    lock_days: Annotated[int, BeforeValidator(_number), Field(ge=1)] | None = None
    connect_timeout: Duration = timedelta(seconds=10)
    read_timeout: Duration = timedelta(seconds=60)
    attempts: Annotated[int, BeforeValidator(_number), Field(ge=1)] = 5

    @model_validator(mode="after")
    def _belong_together(self) -> S3Settings:
        if (self.object_lock is None) != (self.lock_days is None):
            raise ValueError("object_lock and lock_days are wanted together")
        if self.kms_key_id is not None and self.sse != "aws:kms":
            raise ValueError('kms_key_id is wanted with sse = "aws:kms" only')
        return self


class JobSettings(_Section):
    """When a job runs and on which databases: those of `schedule.databases` by default. ``options`` are flags of its task."""

    trigger: Annotated[str, BeforeValidator(cron.checked)] | None = None
    jitter: Duration | None = None
    databases: Words = []
    options: Words = []

    @model_validator(mode="after")
    def _own_flags(self) -> JobSettings:
        taken = (
            "--url",
            "--json",
            "--yes",
            "-y",
            "--database",
            "-d",
            "--settings",
            "--repo",
            "--all-databases",
            "--help",
            "-h",
        )
        if bad := [word for word in self.options if word.partition("=")[0] in taken]:
            raise ValueError(f"options cannot hold {bad[0].partition('=')[0]}: that is the scheduler's to say")
        return self


class ScheduleSettings(_Section):
    """When which job runs. ``timezone`` None: the machine's. ``overdue``: after that long a job that has not ended is ill.

    ``patience``: how long somebody else's unfinished run is left alone; ``stop_within``: what a running job gets to end itself.
    """

    timezone: Annotated[Text, BeforeValidator(cron.checked_zone)] | None = None
    jitter: Duration = timedelta()
    databases: Words = []
    patience: Duration = timedelta(seconds=60)
    stop_within: Duration = timedelta(seconds=60)
    overdue: Duration = timedelta(hours=6)
    snapshot: JobSettings = JobSettings()
    prune: JobSettings = JobSettings()
    verify: JobSettings = JobSettings()
    drill: JobSettings = JobSettings()
    check: JobSettings = JobSettings()


class DatabaseSettings(_Section):
    """One database by name: a URL, or the variable that holds it; patterns where they differ from the general ones."""

    url: Url = None
    url_env: Text | None = None
    tenant_schemas: Pattern | None = None
    plugin_schemas: Pattern | None = None

    @model_validator(mode="after")
    def _one_url(self) -> DatabaseSettings:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("exactly one of url and url_env is wanted")
        return self


class Settings(BaseSettings):
    """Every setting. The environment spells them ``NAAP_OPS_BACKUP__JOBS``, the file ``[backup] jobs``."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
    )

    repository: Text = "./backups"
    database_url: Url = None
    scratch_url: Url = None
    shadow_database_url: Url = None
    staging: Path | None = None
    state: Path = Path(".naap_ops")
    tenant_schemas: Pattern = "tenant_*"
    plugin_schemas: Pattern = "plugin_*"
    env_files: Words = [".env", "prisma/.env", "packages/database/.env", "packages/db/.env", "apps/backend/.env"]
    databases: dict[Text, DatabaseSettings] = {}
    tools: ToolsSettings = ToolsSettings()
    backup: BackupSettings = BackupSettings()
    restore: RestoreSettings = RestoreSettings()
    prisma: PrismaSettings = PrismaSettings()
    services: ServicesSettings = ServicesSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    deploy: DeploySettings = DeploySettings()
    capture: CaptureSettings = CaptureSettings()
    park: ParkSettings = ParkSettings()
    rollback: RollbackSettings = RollbackSettings()
    reset: ResetSettings = ResetSettings()
    retention: RetentionSettings = RetentionSettings()
    check: CheckSettings = CheckSettings()
    s3: S3Settings = S3Settings()
    encryption: EncryptionSettings = EncryptionSettings()
    drill: DrillSettings = DrillSettings()
    notify: NotifySettings = NotifySettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    reverse: ReverseSettings = ReverseSettings()
    lint: LintSettings = LintSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        *_: Any,
        **sources: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: pydantic-settings' own sources forget where a value came from and let unknown names pass."""
        return (sources["init_settings"],)
