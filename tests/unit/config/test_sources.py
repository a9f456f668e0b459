"""Where a value comes from, and which database the settings lead to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from naap_ops.config.sources import Loaded, load
from naap_ops.errors import ConfigurationError, UsageError

URL = "postgresql://u:hushhush@h:5432/app"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A home with a git checkout in it."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    return folder


def loaded(cwd: Path, flags: dict[str, Any] | None = None, *, settings_file: Path | None = None, **environ: str) -> Loaded:
    return load(flags or {}, cwd=cwd, environ={"HOME": str(cwd.parent), **environ}, settings_file=settings_file)


def test_precedence_and_sources(project: Path) -> None:
    (project / "naap_ops.toml").write_text("[backup]\njobs = 2\nformat = 'plain'\nverify = 'hash'")
    found = loaded(
        project, {"backup.jobs": 4, "backup.format": None}, NAAP_OPS_BACKUP__JOBS="3", NAAP_OPS_BACKUP__FORMAT="custom"
    )
    backup = found.settings.backup
    assert (backup.jobs, backup.format, backup.verify, backup.compression) == (4, "custom", "hash", "auto")
    assert {name: found.sources[f"backup.{name}"] for name in ("jobs", "format", "verify", "compression")} == {
        "jobs": "flag --jobs",
        "format": "environment NAAP_OPS_BACKUP__FORMAT",
        "verify": "naap_ops.toml",
        "compression": "default",
    }


def test_flags_have_the_command_lines_names(project: Path) -> None:
    found = loaded(project, {"repository": "/r", "backup.lock_wait_timeout": "5s", "database_url": URL, "env_files": []})
    assert found.sources["repository"] == "flag --repo"
    assert found.sources["backup.lock_wait_timeout"] == "flag --lock-wait-timeout"
    assert found.sources["database_url"] == "flag --url"
    assert found.sources["env_files"] == "default"


def test_pyproject(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.naap_ops]\nrepository = '/from-pyproject'")
    assert loaded(project).sources["repository"] == "pyproject.toml"
    (project / "naap_ops.toml").write_text("repository = '/own'")
    assert loaded(project).settings.repository == "/own"
    assert loaded(project, settings_file=Path("pyproject.toml")).settings.repository == "/from-pyproject"


@pytest.mark.parametrize("content", ["[project]\nname = 'x'", "tool = 3", "[tool]\nother = 1"])
def test_pyproject_without_our_table_is_passed_over(project: Path, content: str) -> None:
    (project / "pyproject.toml").write_text(content)
    assert loaded(project).settings_file is None
    with pytest.raises(ConfigurationError, match=r"has no \[tool.naap_ops\]"):
        loaded(project, settings_file=Path("pyproject.toml"))


def test_pyproject_with_a_value_for_a_table(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool]\nnaap_ops = 3")
    with pytest.raises(ConfigurationError, match="not a table"):
        loaded(project)


def test_found_in_an_upper_folder_up_to_the_repositorys_root(project: Path) -> None:
    inner = project / "apps" / "web"
    inner.mkdir(parents=True)
    (project.parent / "naap_ops.toml").write_text("repository = '/outside'")
    assert loaded(inner, HOME="/nowhere").settings_file is None
    (project / "naap_ops.toml").write_text("repository = './backups'\n[tools]\nbindir = 'pg/bin'")
    found = loaded(inner, HOME="/nowhere")
    assert found.settings.repository == str(project / "backups")
    assert found.settings.tools.bindir == project / "pg" / "bin"
    assert found.sources["repository"] == "../../naap_ops.toml"


def test_found_up_to_home_where_there_is_no_repository(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "naap_ops.toml").write_text("repository = '/home-file'")
    assert loaded(inner, HOME=str(tmp_path)).settings.repository == "/home-file"
    assert loaded(inner, HOME="/nowhere").settings_file is None


def test_default_paths_count_from_the_settings_file(project: Path) -> None:
    (project / "naap_ops.toml").write_text("")
    (project / ".env").write_text(f"DATABASE_URL={URL}")
    (project / "inner").mkdir()
    found = loaded(project / "inner", HOME="/nowhere")
    assert found.settings.repository == str(project / "backups")
    assert found.sources["repository"] == "default"
    assert found.settings.database_url == URL


def test_paths_beside_the_file_stay_as_written(project: Path) -> None:
    (project / "naap_ops.toml").write_text("repository = './b'\n[tools]\nbindir = 'pg'")
    found = loaded(project)
    assert found.settings.repository == "./b"
    assert found.settings.tools.bindir == project / "pg"


@pytest.mark.parametrize("value", ["/absolute", "s3://bucket/prefix"])
def test_paths_that_are_whole_already(project: Path, value: str) -> None:
    (project / "naap_ops.toml").write_text(f"repository = '{value}'")
    (project / "inner").mkdir()
    assert loaded(project / "inner", HOME="/nowhere").settings.repository == value


def test_an_explicit_settings_file(project: Path) -> None:
    (project / "ops.toml").write_text("repository = '/ops'")
    assert loaded(project, settings_file=Path("ops.toml")).sources["repository"] == "ops.toml"
    with pytest.raises(ConfigurationError, match=r"there is no settings file gone\.toml"):
        loaded(project, settings_file=Path("gone.toml"))


@pytest.mark.parametrize("value", ['["docker", "exec", "-i", "naap db"]', "docker exec -i 'naap db'"])
def test_a_list_from_the_environment(project: Path, value: str) -> None:
    assert loaded(project, NAAP_OPS_TOOLS__EXEC=value).settings.tools.exec == ["docker", "exec", "-i", "naap db"]


def test_a_section_from_the_environment_as_json(project: Path) -> None:
    found = loaded(project, NAAP_OPS_BACKUP='{"jobs": 3, "format": "plain"}', NAAP_OPS_BACKUP__FORMAT="custom")
    assert (found.settings.backup.jobs, found.settings.backup.format) == (3, "custom")
    assert found.sources["backup.jobs"] == "environment NAAP_OPS_BACKUP"


def test_empty_variables_and_service_links_are_not_settings(project: Path) -> None:
    found = loaded(
        project,
        NAAP_OPS_REPOSITORY="",
        NAAP_OPS_SERVICE_HOST="10.0.0.1",
        NAAP_OPS_SERVICE_PORT_HTTP="80",
        NAAP_OPS_PORT="tcp://10.0.0.1:80",
        NAAP_OPS_PORT_80_TCP_ADDR="10.0.0.1",
    )
    assert found.sources["repository"] == "default"


def test_env_files_hold_settings_below_the_environment(project: Path) -> None:
    (project / "one.env").write_text("NAAP_OPS_BACKUP__JOBS=2\nNAAP_OPS_REPOSITORY=/one")
    (project / "two.env").write_text("NAAP_OPS_BACKUP__JOBS=3\nNAAP_OPS_BACKUP__FORMAT=plain")
    (project / "naap_ops.toml").write_text("env_files = ['one.env', 'two.env']\n[backup]\njobs = 1\n")
    found = loaded(project, NAAP_OPS_REPOSITORY="/process")
    assert (found.settings.backup.jobs, found.sources["backup.jobs"]) == (2, "one.env NAAP_OPS_BACKUP__JOBS")
    assert found.settings.backup.format == "plain"
    assert found.settings.repository == "/process"


# --- the database -------------------------------------------------------------------------------------------------


def test_url_from_env_file(project: Path) -> None:
    (project / ".env").write_text(f'PW=hushhush\nDATABASE_URL="{URL.replace("hushhush", "${PW}")}?schema=core"')
    found = loaded(project)
    assert found.settings.database_url == f"{URL}?schema=core"
    assert found.sources["database_url"] == ".env DATABASE_URL"
    choice = found.database()
    assert (choice.alias, choice.source) == ("app", "DATABASE_URL in .env")


def test_url_in_the_settings_file_is_the_weakest(project: Path) -> None:
    (project / "naap_ops.toml").write_text(f"database_url = '{URL}'")
    assert loaded(project).database().source == "database_url in naap_ops.toml"
    assert loaded(project, DATABASE_URL=URL).sources["database_url"] == "environment DATABASE_URL"


def test_pooled_in_the_environment_direct_in_the_file(project: Path) -> None:
    (project / "naap_ops.toml").write_text(f"database_url = '{URL}'")
    found = loaded(project, DATABASE_URL="postgresql://u:p@h:6432/app")
    assert found.settings.database_url == URL
    assert "instead of DATABASE_URL in the environment, which is pooled" in found.sources["database_url"]


def test_no_url_at_all(project: Path) -> None:
    assert loaded(project).aliases() == []
    assert loaded(project).database().url is None
    assert loaded(project, PGDATABASE="pg").aliases() == ["pg"]
    assert loaded(project, PGDATABASE="pg").database("pg").url is None


@pytest.fixture
def several(project: Path) -> Path:
    (project / "naap_ops.toml").write_text(
        "[databases.app]\nurl = 'postgresql://u:hushhush@h/app'\n"
        "[databases.App_Staging]\nurl_env = 'STAGING_URL'\ntenant_schemas = 't_*'\n"
    )
    return project


def test_configured_databases(several: Path) -> None:
    found = loaded(several, STAGING_URL=URL, DATABASE_URL=URL)
    assert found.aliases() == ["app", "App_Staging"]
    app, staging = found.database("app"), found.database("App_Staging")
    assert (app.url, app.source, app.tenant_schemas) == (
        "postgresql://u:hushhush@h/app",
        "databases.app.url in naap_ops.toml",
        "tenant_*",
    )
    assert (staging.url, staging.source, staging.tenant_schemas) == (URL, "STAGING_URL in the environment", "t_*")


def test_url_env_is_looked_up_in_env_files_too(several: Path) -> None:
    (several / ".env").write_text(f"STAGING_URL={URL}")
    assert loaded(several).database("App_Staging").source == "STAGING_URL in .env"


def test_url_env_that_is_not_set(several: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"databases\.App_Staging\.url_env names STAGING_URL, which is not set"):
        loaded(several).database("App_Staging")


def test_several_and_none_named(several: Path) -> None:
    with pytest.raises(UsageError, match="several databases are configured: app, App_Staging"):
        loaded(several).database()
    assert loaded(several, {"database_url": URL}).database().url == URL


@pytest.mark.parametrize("alias", ["ap", "APP", "app_staging", "app*", ""])
def test_an_alias_matches_exactly(several: Path, alias: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(several).database(alias)
    assert "app, App_Staging" in caught.value.advice


def test_the_only_database_needs_no_name(project: Path) -> None:
    (project / "naap_ops.toml").write_text("[databases.only]\nurl = 'postgresql://h/d'")
    assert loaded(project).database().alias == "only"


def test_an_alias_from_the_environment_keeps_the_files_case(several: Path) -> None:
    found = loaded(several, NAAP_OPS_DATABASES__APP_STAGING__PLUGIN_SCHEMAS="p_*", STAGING_URL=URL)
    assert found.database("App_Staging").plugin_schemas == "p_*"
    found = loaded(several.parent, NAAP_OPS_DATABASES__NEW__URL=URL)
    assert found.database("new").source == "databases.new.url in environment NAAP_OPS_DATABASES__NEW__URL"


def test_without_configured_databases_the_own_name_is_the_alias(project: Path) -> None:
    found = loaded(project, DATABASE_URL=URL)
    assert found.database("app").url == URL
    with pytest.raises(UsageError, match="no database 'ap'"):
        found.database("ap")


# --- what is shown ------------------------------------------------------------------------------------------------


def test_table_is_json_and_holds_every_value_with_its_source(several: Path) -> None:
    table = loaded(several, {"tools.exec": ["docker", "exec"]}, DIRECT_URL=URL, NAAP_OPS_RETENTION__MAX_AGE="3d").table()
    assert json.loads(json.dumps(table)) == table
    assert table["database_url"] == {"value": "postgresql://u:***@h:5432/app", "source": "environment DIRECT_URL"}
    assert table["databases.app.url"] == {"value": "postgresql://u:***@h/app", "source": "naap_ops.toml"}
    assert table["retention.max_age"] == {"value": "3d", "source": "environment NAAP_OPS_RETENTION__MAX_AGE"}
    assert table["tools.exec"] == {"value": ["docker", "exec"], "source": "flag --exec"}
    assert table["scratch_url"] == {"value": None, "source": "default"}


def test_nothing_shows_the_password(several: Path) -> None:
    found = loaded(several, DATABASE_URL=URL, STAGING_URL=URL, NAAP_OPS_SCRATCH_URL=URL)
    texts = [
        repr(found),
        str(found.settings),
        repr(found.settings),
        json.dumps(found.table()),
        repr(found.database("App_Staging")),
    ]
    assert not [text for text in texts if "hush" in text]


def test_the_room_itself_imports_nothing_heavy() -> None:
    code = "import sys, naap_ops.config; print([m for m in ('pydantic', 'dotenv', 'psycopg') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
