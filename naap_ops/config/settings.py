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

from naap_ops.config import duration, patterns

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


class RetentionSettings(_Section):
    """What `backup.prune` keeps; restic's names. ``keep_min`` is a floor no rule can undercut."""

    keep_last: Count = 7
    keep_daily: Count = 14
    keep_weekly: Count = 8
    keep_monthly: Count = 12
    keep_yearly: Count = 0
    keep_min: Annotated[int, BeforeValidator(_number), Field(ge=1)] = 3
    max_age: Duration = timedelta(hours=48)


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
    tenant_schemas: Pattern = "tenant_*"
    plugin_schemas: Pattern = "plugin_*"
    env_files: Words = [".env", "prisma/.env", "packages/database/.env", "packages/db/.env", "apps/backend/.env"]
    databases: dict[Text, DatabaseSettings] = {}
    tools: ToolsSettings = ToolsSettings()
    backup: BackupSettings = BackupSettings()
    restore: RestoreSettings = RestoreSettings()
    retention: RetentionSettings = RetentionSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        *_: Any,
        **sources: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: pydantic-settings' own sources forget where a value came from and let unknown names pass."""
        return (sources["init_settings"],)
