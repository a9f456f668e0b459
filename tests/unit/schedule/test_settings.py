"""What the settings of the schedule refuse, and that the refusal names the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from naap_ops.config.sources import load
from naap_ops.errors import ConfigurationError
from naap_ops.schedule.plan import plan, something


def planned(folder: Path, text: str, **environ: str) -> list[str]:
    (folder / "naap_ops.toml").write_text(text)
    found = plan(load({}, cwd=folder, environ={"HOME": str(folder), **environ}))
    return [f"{job.name} {job.cron.text} {list(job.databases)}" for job in found]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[schedule.snapshot]\ntrigger = "0 3 * *"', "schedule.snapshot.trigger"),
        ('[schedule.drill]\ntrigger = "61 * * * *"', "schedule.drill.trigger"),
        ("[schedule.check]\ntrigger = 5", "schedule.check.trigger"),
        ('[schedule]\ntimezone = "Mars/Olympus"', "schedule.timezone"),
        ('[schedule]\ntimezone = "Europe"', "schedule.timezone"),
        ('[schedule]\ntimezone = "../etc/passwd"', "schedule.timezone"),
        ('[schedule]\njitter = "5m"', "schedule.jitter"),
        ('[schedule.backup]\ntrigger = "@daily"', "schedule.backup"),
        ('[schedule.snapshot]\noptions = ["--url=postgresql://u:p@h/d"]', "schedule.snapshot"),
        ('[schedule.snapshot]\ntrigger = "@daily"\ndatabases = ["other"]', "schedule.snapshot.databases"),
        ('[schedule]\ndatabases = ["other"]\n[schedule.check]\ntrigger = "@daily"', "schedule.databases"),
    ],
)
def test_the_setting_is_named(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        planned(tmp_path, text)
    assert name in caught.value.text
    assert "u:p" not in caught.value.text


def test_which_databases(tmp_path: Path) -> None:
    trigger = '[schedule.check]\ntrigger = "@daily"\n'
    assert planned(tmp_path, trigger) == ["check @daily [None]"]
    assert planned(tmp_path, trigger, DIRECT_URL="postgresql://u@h/naap") == ["check @daily ['naap']"]
    two = '[databases.a]\nurl = "postgresql://u@h/a"\n[databases.b]\nurl = "postgresql://u@h/b"\n'
    assert planned(tmp_path, two + trigger) == ["check @daily ['a', 'b']"]
    assert planned(tmp_path, two + trigger + '[schedule]\ndatabases = ["b"]\n') == ["check @daily ['b']"]
    assert planned(tmp_path, two + trigger + 'databases = ["a"]\n[schedule]\ndatabases = ["b"]\n') == ["check @daily ['a']"]


def test_the_environment_can_say_it_all(tmp_path: Path) -> None:
    assert planned(tmp_path, "", NAAP_OPS_SCHEDULE__SNAPSHOT__TRIGGER="0 3 * * 1") == ["snapshot 0 3 * * 1 [None]"]


def test_no_job_is_an_error_for_those_who_want_one(tmp_path: Path) -> None:
    assert planned(tmp_path, "") == []
    with pytest.raises(ConfigurationError, match=r"schedule\.snapshot\.trigger"):
        something([])
