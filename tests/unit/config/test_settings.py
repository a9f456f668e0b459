"""What fits into the settings, and the words for what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from naap_ops.config.settings import Settings
from naap_ops.config.sources import load
from naap_ops.errors import ConfigurationError


def message(tmp_path: Path, toml: str = "", **environ: str) -> str:
    (tmp_path / "naap_ops.toml").write_text(toml)
    with pytest.raises(ConfigurationError) as caught:
        load({}, cwd=tmp_path, environ={"HOME": str(tmp_path), **environ})
    assert caught.value.exit_code == 3
    return caught.value.text


def test_defaults() -> None:
    settings = Settings()
    assert settings.repository == "./backups"
    assert settings.retention.keep_min == 3
    assert settings.backup.lock_wait_timeout.total_seconds() == 30
    assert 1 <= settings.backup.jobs == settings.restore.jobs <= 8


def test_the_model_alone_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAAP_OPS_REPOSITORY", "/elsewhere")
    assert Settings().repository == "./backups"


def test_unknown_fields_are_refused_by_the_model_too() -> None:
    extra: dict[str, Any] = {"repositry": "x"}
    with pytest.raises(ValidationError):
        Settings(**extra)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('repositry = "x"', "unknown setting repositry (naap_ops.toml): did you mean repository?"),
        ("[backup]\njob = 3", "unknown setting backup.job (naap_ops.toml): did you mean backup.jobs?"),
        ("[retention]\nkeep-last = 3", "did you mean retention.keep_last?"),
        ('bindir = "/x"', "did you mean tools.bindir?"),
        ("[bakcup]\njobs = 3", "unknown setting bakcup (naap_ops.toml): did you mean backup?"),
        (
            '[databases.main]\nurl_evn = "X"',
            "unknown setting databases.main.url_evn (naap_ops.toml): did you mean databases.main.url_env?",
        ),
        ("zzz = 1", "there are repository, database_url"),
        (
            "[backup]\nqqqqqqqqqqqqqqqq = 1",
            "there are backup.jobs, backup.format, backup.compression, backup.lock_wait_timeout, backup.verify",
        ),
        ('[schedule.check]\ndatabses = ["x"]', "did you mean schedule.check.databases?"),
    ],
)
def test_unknown_keys_name_the_file_and_the_nearest(tmp_path: Path, toml: str, told: str) -> None:
    assert told in message(tmp_path, toml)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('[backup]\njobs = "many"', "backup.jobs = 'many' (naap_ops.toml): Input should be a valid integer"),
        ("[backup]\njobs = 0", "backup.jobs = 0 (naap_ops.toml): Input should be greater than or equal to 1"),
        ("[backup]\njobs = true", "backup.jobs = True (naap_ops.toml): a number is wanted"),
        ('[backup]\nformat = "tar"', "'directory', 'custom' or 'plain'"),
        ('[backup]\ncompression = "bzip2"', "backup.compression = 'bzip2'"),
        ('[backup]\nlock_wait_timeout = "5m"', "write 'min'"),
        ('[restore]\nmaintenance_work_mem = "lots"', "restore.maintenance_work_mem = 'lots'"),
        ("[retention]\nkeep_min = 0", "retention.keep_min = 0"),
        ("[retention]\nkeep_last = -1", "retention.keep_last = -1"),
        ("[tools]\nexec_port = 70000", "tools.exec_port = 70000"),
        ('[tools]\nexec = "docker \'exec"', "tools.exec"),
        ("[tools]\nexec = [1]", "tools.exec"),
        ('tenant_schemas = "tenant"', "exactly one '*'"),
        ('plugin_schemas = "*_*"', "exactly one '*'"),
        ('repository = ""', "repository"),
        ("backup = 3", "backup = 3 (naap_ops.toml)"),
        (
            '[databases.main]\nurl = "postgresql://h/d"\nurl_env = "X"',
            "databases.main (naap_ops.toml): exactly one of url and url_env",
        ),
        ("[databases.main]\n", "databases.main (naap_ops.toml): exactly one of url and url_env"),
        ("jobs = = 3", "naap_ops.toml is not valid TOML"),
    ],
)
def test_bad_values_name_setting_and_source(tmp_path: Path, toml: str, told: str) -> None:
    assert told in message(tmp_path, toml)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("NAAP_OPS_BACKUP__JOBS", "-1", "backup.jobs = '-1' (environment NAAP_OPS_BACKUP__JOBS)"),
        ("NAAP_OPS_BACKUP__JOBS", "many", "(environment NAAP_OPS_BACKUP__JOBS)"),
        (
            "NAAP_OPS_BACKUP_JOBS",
            "3",
            "unknown setting backup_jobs (environment NAAP_OPS_BACKUP_JOBS): did you mean backup.jobs?",
        ),
        ("NAAP_OPS_TOOLS__EXEC", '["docker"', "tools.exec"),
        ("NAAP_OPS_BACKUP", "fast", "backup = 'fast' (environment NAAP_OPS_BACKUP)"),
        ("NAAP_OPS_", "x", "unknown setting"),
    ],
)
def test_bad_variables_are_named(tmp_path: Path, name: str, value: str, told: str) -> None:
    assert told in message(tmp_path, **{name: value})


def test_every_misfit_is_told_at_once(tmp_path: Path) -> None:
    text = message(tmp_path, 'repositry = "x"\n[backup]\njobs = 0')
    assert "repositry" in text
    assert "backup.jobs" in text


def test_a_section_given_as_a_value_elsewhere(tmp_path: Path) -> None:
    text = message(tmp_path, "[backup]\njobs = 3", NAAP_OPS_BACKUP="x")
    assert "backup is a section, not a value (environment NAAP_OPS_BACKUP and naap_ops.toml)" in text


def test_no_message_shows_a_password(tmp_path: Path) -> None:
    text = message(tmp_path, 'scratch_url = 3\n[databases]\nmain = "postgresql://u:hushhush@h/db"')
    assert "databases.main = 'postgresql://u:***@h/db'" in text
    assert "hush" not in text
