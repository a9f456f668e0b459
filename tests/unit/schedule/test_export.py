"""The plan for other schedulers: crontab lines, timers, CronJobs. Their own validators judge where they are installed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from naap_ops.config.cron import parse
from naap_ops.config.sources import load
from naap_ops.schedule import due
from naap_ops.schedule.export import Place, exported, on_calendar
from naap_ops.schedule.plan import Job, plan

PLACE = Place(
    ["/opt/naap ops/bin/naap-ops"], Path("/srv/my app/100%"), ["--repo", "s3://b/p$x"], "registry.example.org/naap-ops:1"
)
EXPRESSIONS = [
    "0 3 * * *", "@hourly", "@daily", "@weekly", "@monthly", "*/15 * * * *", "30 2 * * 0", "30 2 * * 7", "0 4 * * mon-fri",
    "0 0 1 jan,jul *", "0 0 13 * 5", "5,35 8-18/2 1-7 * *", "59 23 31 12 *", "0 0 * * 1-7",
]  # fmt: skip


def jobs(tmp_path: Path, text: str) -> list[Job]:
    (tmp_path / "naap_ops.toml").write_text(text)
    return plan(load({}, cwd=tmp_path, environ={"HOME": str(tmp_path)}))


TWO = """
[databases.naap]
url = "postgresql://u@h/naap"
[databases."Ple xica%"]
url = "postgresql://u@h/plexica"

[schedule]
timezone = "Europe/Berlin"

[schedule.snapshot]
trigger = "0 3 * * *"
[schedule.drill]
trigger = "30 5 * * sun"
jitter = "10min"
[schedule.prune]
trigger = "@daily"
databases = ["naap"]
options = ["--keep-daily", "14"]
"""


@pytest.fixture
def two(tmp_path: Path) -> list[Job]:
    return jobs(tmp_path, TWO)


def test_a_crontab_line_as_in_the_guides(tmp_path: Path) -> None:
    found = jobs(tmp_path, '[schedule.snapshot]\ntrigger = "0 3 * * *"\n')
    place = Place(["/opt/naap/bin/naap-ops"], Path("/srv/naap"), [], "")
    lines = exported("cron", found, place)["naap_ops.crontab"].splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "0 3 * * * cd /srv/naap && /opt/naap/bin/naap-ops snapshot --quiet"
    ]


def test_jitter_is_none_of_cronds(tmp_path: Path) -> None:
    found = jobs(tmp_path, '[schedule]\njitter = "5min"\n[schedule.snapshot]\ntrigger = "0 3 * * *"\n')
    assert "# snapshot: crontabs have no jitter of 5min;" in exported("cron", found, PLACE)["naap_ops.crontab"]


def test_a_crontab_of_several(two: list[Job]) -> None:
    lines = [each for each in exported("cron", two, PLACE)["naap_ops.crontab"].splitlines() if not each.startswith("#")]
    assert lines[0] == "CRON_TZ=Europe/Berlin"
    times = [" ".join(line.split()[:5]) for line in lines[1:]]
    assert times == ["0 3 * * *", "0 0 * * *", "30 5 * * sun", "30 5 * * sun"]
    commands = [line.split(maxsplit=5)[5] for line in lines[1:]]
    assert not re.search(r"(?<!\\)%", "".join(commands))
    words = [shlex.split(command.replace(r"\%", "%")) for command in commands]
    program = ["cd", "/srv/my app/100%", "&&", "/opt/naap ops/bin/naap-ops"]
    flags = ["--repo", "s3://b/p$x", "--quiet"]
    assert words == [
        [*program, "snapshot", "--all-databases", *flags],
        [*program, "backup.prune", "--yes", "--keep-daily", "14", "--database", "naap", *flags],
        [*program, "drill", "--database", "naap", *flags],
        [*program, "drill", "--database", "Ple xica%", *flags],
    ]


def systemd_analyze(*words: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_systemd_takes_the_calendar_for_what_cron_means(text: str) -> None:
    cron, start = parse(text), datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    answer = [
        systemd_analyze("calendar", "--base-time=2026-11-21 12:00:00 UTC", "--iterations=6", each)
        for each in on_calendar(cron, "UTC")
    ]
    found = re.findall(r"(?:Next elapse|Iteration #\d+|Iter\. #\d+): \w+ (\S+ \S+) UTC", "".join(answer))
    moments = sorted({datetime.fromisoformat(each).replace(tzinfo=UTC) for each in found})
    assert len(moments) >= 6
    for moment in moments[:6]:
        start = due.after(cron, UTC, start)
        assert moment == start


def test_systemd_accepts_the_units(two: list[Job], tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    program = tmp_path / "with space" / "naap-ops"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    files = exported("systemd", two, Place([str(program)], PLACE.folder, PLACE.flags, ""))
    assert {name.rpartition(".")[2] for name in files} == {"service", "timer"}
    assert len(files) == 8
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        if name.endswith(".timer"):
            assert "\nPersistent=true\n" in text
            assert " Europe/Berlin\n" in text
    assert "RandomizedDelaySec=600s" in files["naap-ops-drill-naap.timer"]
    said = systemd_analyze("verify", "--man=no", *(tmp_path / name for name in files))
    assert str(tmp_path) not in said


def test_cronjobs(two: list[Job]) -> None:
    files = exported("k8s", two, PLACE)
    found: dict[str, Any] = {name: yaml.safe_load(text) for name, text in files.items()}
    assert len(found) == 4
    for name, each in found.items():
        spec = each["spec"]
        assert (each["apiVersion"], each["kind"]) == ("batch/v1", "CronJob")
        assert name == each["metadata"]["name"] + ".yaml"
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", each["metadata"]["name"])
        assert len(each["metadata"]["name"]) <= 52
        assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Europe/Berlin")
        assert spec["startingDeadlineSeconds"] == 3600
        assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    drill = found["naap-ops-drill-naap.yaml"]["spec"]
    assert drill["schedule"] == "30 5 * * 0"  # no names: not every version of Kubernetes knows 7 or sun
    (container,) = drill["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["drill", "--database", "naap", "--repo", "s3://b/p$x", "--quiet"]
    assert container["image"] == "registry.example.org/naap-ops:1"


def lacks(given: Any, kept: Any, place: str = "") -> list[str]:
    """What of ``given`` is missing in ``kept``."""
    if isinstance(given, dict):
        missing = [f"{place}.{name}" for name in given if name not in kept]
        return missing + [
            each for name in given.keys() & kept.keys() for each in lacks(given[name], kept[name], f"{place}.{name}")
        ]
    if isinstance(given, list):
        return [each for one, other in zip(given, kept, strict=True) for each in lacks(one, other, place)]
    return [] if given == kept else [f"{place}: {given!r} became {kept!r}"]


def test_kubectl_knows_every_field_of_the_cronjobs(two: list[Job], tmp_path: Path) -> None:
    """Read into its own types and printed again, without a cluster: a wrong type is refused, an unknown field gets lost."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed")
    for name, text in exported("k8s", two, PLACE).items():
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            [program, "set", "env", "--local", "-f", name, "-o", "json", "ADDED=1"],
            cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert lacks(yaml.safe_load(text), json.loads(done.stdout)) == []


def test_kubeconform_accepts_the_cronjobs(two: list[Job], tmp_path: Path) -> None:
    program = shutil.which("kubeconform")
    if program is None:
        pytest.skip("kubeconform is not installed")
    for name, text in exported("k8s", two, PLACE).items():
        (tmp_path / name).write_text(text)
        done = subprocess.run([program, "-strict", tmp_path / name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_names_that_differ_little_stay_apart(tmp_path: Path) -> None:
    names = ["a b", "a_b", "a-b", "A-B", "x" * 60, "x" * 61, "%"]
    text = "".join(f'[databases."{name}"]\nurl = "postgresql://u@h/d"\n' for name in names)
    found = jobs(tmp_path, text + '[schedule.verify]\ntrigger = "@daily"\n')
    assert len(exported("k8s", found, PLACE)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{,50}[a-z0-9])?\.yaml", name) for name in exported("k8s", found, PLACE))


def test_utc_offsets_of_the_plan(tmp_path: Path) -> None:
    (job,) = jobs(tmp_path, '[schedule]\ntimezone = "Asia/Kathmandu"\n[schedule.snapshot]\ntrigger = "0 3 * * *"\n')
    moment = job.next(datetime(2026, 11, 21, tzinfo=UTC)).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert (moment.hour, moment.minute) == (3, 0)
