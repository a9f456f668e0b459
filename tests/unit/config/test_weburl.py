"""Webhooks and ping URLs are secrets: masked where they are shown, and in every other text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from naap_ops import redact
from naap_ops.config import weburl
from naap_ops.config.sources import load
from naap_ops.errors import ConfigurationError

UUID = "6f1c2a34-90ab-4cde-8f12-34567890abcd"
TOKEN = "TIiajkdnlazkcOXrIdevi7FQ"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://hc-ping.com/{UUID}", "https://hc-ping.com/***"),
        (f"https://user:{TOKEN}@ping.example.org:8443/a/b?c=d", "https://ping.example.org:8443/***"),
        (f"https://ping.example.org?token={TOKEN}", "https://ping.example.org/***"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        (f"slack://T1JJ3T3L2/A1BRTD4JD/{TOKEN}/#backups", "slack://***"),
        (f"tgram://123456789:{TOKEN}/12315544/", "tgram://***"),
        (f"mailto://user:{TOKEN}@gmail.com", "mailto://***"),
        (TOKEN, "***"),
    ],
)
@pytest.mark.usefixtures("_no_lasting_secrets")
def test_what_may_be_shown(url: str, shown: str) -> None:
    assert weburl.masked(url) == shown
    weburl.register_secrets(url)
    for secret in (TOKEN, UUID):
        if secret in url and secret != url:
            assert secret not in redact.text(f"POST to {url} failed: /{secret}/start, {secret}")


@pytest.mark.parametrize("url", ["json://127.0.0.1:8000/hook", "https://ping.example.org/short", "http://localhost/x"])
@pytest.mark.usefixtures("_no_lasting_secrets")
def test_names_of_hosts_are_no_secrets(url: str) -> None:
    weburl.register_secrets(url)
    text = "cannot reach PostgreSQL at 127.0.0.1:5432 nor localhost, see ping.example.org"
    assert redact.text(text) == text


@pytest.mark.usefixtures("_no_lasting_secrets")
def test_the_table_of_settings_shows_none(tmp_path: Path) -> None:
    (tmp_path / "naap_ops.toml").write_text(
        f'[notify]\nurls = ["slack://T1JJ3T3L2/A1BRTD4JD/{TOKEN}", "json://h.example/x"]\n[notify.ping]\nbackup = "https://hc-ping.com/{UUID}"\n'
    )
    table = load({}, cwd=tmp_path, environ={"HOME": str(tmp_path)}).table()
    assert table["notify.urls"] == {"value": ["slack://***", "json://***"], "source": "naap_ops.toml"}
    assert table["notify.ping.backup"] == {"value": "https://hc-ping.com/***", "source": "naap_ops.toml"}
    assert table["notify.ping.prune"]["value"] is None
    text = json.dumps(table)
    assert TOKEN not in text
    assert UUID not in text


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        (
            f'[notify.ping]\nbackup = "ftp://x/{UUID}"',
            "notify.ping.backup = 'ftp://***' (naap_ops.toml): an http:// or https://",
        ),
        (f'[notify.ping]\nbackup = "{UUID}"', "notify.ping.backup = '***' (naap_ops.toml): an http:// or https://"),
        (f'[notify.ping]\nbakup = "https://x/{UUID}"', "did you mean notify.ping.backup?"),
        (f'[notify]\nurl = ["slack://{TOKEN}"]', "did you mean notify.urls?"),
        ('[notify]\nwhen = "never"', "notify.when"),
        ('[notify]\ntimeout = "0s"', "notify.timeout"),
        ('[check]\nwarn_age = "1m"', "check.warn_age = '1m' (naap_ops.toml): 'm' could be"),
    ],
)
def test_misfits_are_told_without_secrets(tmp_path: Path, toml: str, told: str) -> None:
    (tmp_path / "naap_ops.toml").write_text(toml)
    with pytest.raises(ConfigurationError) as caught:
        load({}, cwd=tmp_path, environ={"HOME": str(tmp_path)})
    assert told in caught.value.text
    assert UUID not in caught.value.text
    assert TOKEN not in caught.value.text


def test_the_environment_spells_them_too(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "NAAP_OPS_NOTIFY__URLS": "json://a.example/x 'json://b.example/y z'",
        "NAAP_OPS_NOTIFY__WHEN": "always",
        "NAAP_OPS_NOTIFY__PING__SNAPSHOT": "https://hc-ping.com/x",
        "NAAP_OPS_CHECK__DRILL_AGE": "35d",
    }
    settings = load({}, cwd=tmp_path, environ=environ).settings
    assert settings.notify.urls == ["json://a.example/x", "json://b.example/y z"]
    assert settings.notify.when == ["always"]
    assert settings.notify.ping.snapshot == "https://hc-ping.com/x"
    assert settings.check.drill_age is not None
    assert settings.check.drill_age.days == 35


def test_paths_count_from_the_settings_files_folder(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "naap_ops.toml").write_text(
        '[log]\nfile = "log/x.jsonl"\n[metrics]\ntextfile_dir = "prom"\n[notify]\nstate = "s"\n'
    )
    below = tmp_path / "apps" / "web"
    below.mkdir(parents=True)
    settings = load({}, cwd=below, environ={"HOME": str(tmp_path)}).settings
    assert settings.log.file == tmp_path / "log" / "x.jsonl"
    assert settings.metrics.textfile_dir == tmp_path / "prom"
    assert settings.notify.state == tmp_path / "s"
