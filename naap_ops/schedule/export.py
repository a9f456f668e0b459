"""The plan for other schedulers: a crontab, systemd services and timers, Kubernetes CronJobs. Pure text, by file name.

They start the same tasks, which lock, tell their listeners and are quiet when well; the lease and the journal are not theirs.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from naap_ops.config import duration
from naap_ops.config.cron import Cron
from naap_ops.schedule.plan import Job

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_DEADLINE_SECONDS = 3600
_NAME_LIMIT = 52  # a CronJob's name: 63 less what Kubernetes appends


@dataclass(frozen=True)
class Place:
    """How the program is started: its words (absolute path first), its folder, flags for every task; for k8s the image."""

    program: Sequence[str]
    folder: Path
    flags: Sequence[str]
    image: str


def exported(format: str, jobs: Sequence[Job], place: Place) -> dict[str, str]:
    """Text by file name. ``format``: cron, systemd, k8s."""
    return {"cron": _cron, "systemd": _systemd, "k8s": _k8s}[format](jobs, place)


def _names(job: Job) -> list[str]:
    """One per command, fit for units and Kubernetes alike: lower case letters, digits and hyphens."""
    if len(job.commands()) == 1:
        return [f"naap-ops-{job.name}"]
    return [f"naap-ops-{job.name}-{_slug(str(database))}" for database in job.databases]


def _slug(text: str) -> str:
    """Databases whose names differ only by what is lost here keep names of their own."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    room = _NAME_LIMIT - len("naap-ops-snapshot-")
    if plain == text and len(plain) <= room:
        return plain
    return f"{plain[: room - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")


# --- cron -----------------------------------------------------------------------------------------------------------------


def _cron(jobs: Sequence[Job], place: Place) -> dict[str, str]:
    lines = [
        "# Add these lines to `crontab -e`. The program finds its settings (naap_ops.toml, .env) in the working folder.",
        "# Output is mailed by cron: it is silent when all is well.",
    ]
    if zone := jobs[0].timezone:
        lines += [
            "# cronie and Fedora's cron know CRON_TZ. Debian's does not: there, set the machine's zone.",
            f"CRON_TZ={zone}",
        ]
    for job in jobs:
        if job.jitter:
            lines.append(f"# {job.name}: crontabs have no jitter of {duration.text(job.jitter)}; spread the machines by hand")
        lines += [f"{_crontab_time(job.cron)} {_crontab_command(words, place)}" for words in job.commands()]
    return {"naap_ops.crontab": "\n".join(lines) + "\n"}


def _crontab_time(cron: Cron) -> str:
    return cron.expression if cron.text.startswith("@") else cron.text


def _crontab_command(words: Sequence[str], place: Place) -> str:
    command = shlex.join([*place.program, *words, *place.flags, "--quiet"])
    return f"cd {shlex.quote(str(place.folder))} && {command}".replace("%", r"\%")  # a bare % is a newline to cron


# --- systemd --------------------------------------------------------------------------------------------------------------


def _systemd(jobs: Sequence[Job], place: Place) -> dict[str, str]:
    files = {}
    for job in jobs:
        for name, words in zip(_names(job), job.commands(), strict=True):
            files[f"{name}.service"] = _service(job, words, place)
            files[f"{name}.timer"] = _timer(job)
    return files


def _service(job: Job, words: Sequence[str], place: Place) -> str:
    command = " ".join(_unit_word(word) for word in [*place.program, *words, *place.flags, "--quiet"])
    folder = str(place.folder).replace("%", "%%")
    # KillMode=mixed: the program gets SIGTERM and ends its own children; what it leaves is killed.
    return f"""[Unit]
Description=naap_ops {job.name}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={folder}
ExecStart={command}
KillMode=mixed
Nice=10
"""


def _unit_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", word) or not word else escaped


def _timer(job: Job) -> str:
    calendar = "\n".join(f"OnCalendar={each}" for each in on_calendar(job.cron, job.timezone))
    jitter = f"RandomizedDelaySec={job.jitter.total_seconds():g}s\n" if job.jitter else ""
    return f"""[Unit]
Description=naap_ops {job.name}: {job.cron.text}

[Timer]
{calendar}
Persistent=true
AccuracySec=1s
{jitter}
[Install]
WantedBy=timers.target
"""


def on_calendar(cron: Cron, timezone: str | None) -> list[str]:
    """systemd's calendar events. Two of them where either of two days will do: systemd demands both."""
    clock = f"{_numbers(cron.hours, 24)}:{_numbers(cron.minutes, 60)}:00" + (f" {timezone}" if timezone else "")
    months = _numbers(cron.months, 12)
    found = []
    if cron.days is not None or cron.weekdays is None:
        found.append(f"*-{months}-{'*' if cron.days is None else _numbers(cron.days, 31)} {clock}")
    if cron.weekdays is not None:
        found.append(f"{','.join(_WEEKDAYS[day] for day in sorted(cron.weekdays))} *-{months}-* {clock}")
    return found


def _numbers(values: frozenset[int], count: int) -> str:
    return "*" if len(values) == count else ",".join(f"{value:02}" for value in sorted(values))


# --- Kubernetes -----------------------------------------------------------------------------------------------------------


def _k8s(jobs: Sequence[Job], place: Place) -> dict[str, str]:
    files = {}
    for job in jobs:
        for name, words in zip(_names(job), job.commands(), strict=True):
            files[f"{name}.yaml"] = _cronjob(name, job, [*words, *place.flags, "--quiet"], place.image)
    return files


def _cronjob(name: str, job: Job, words: Sequence[str], image: str) -> str:
    # A JSON text is a YAML scalar or list as it stands.
    zone = f"  timeZone: {json.dumps(job.timezone)}\n" if job.timezone else ""
    return f"""apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: naap-ops
spec:
  schedule: {json.dumps(job.cron.expression)}
{zone}  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {_DEADLINE_SECONDS}
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: naap-ops
              image: {json.dumps(image)}
              command: ["naap-ops"]
              args: {json.dumps(list(words), ensure_ascii=False)}
              # DIRECT_URL, NAAP_OPS_REPOSITORY and the other settings, from `kubectl create secret generic naap-ops
              # --from-env-file .env`
              envFrom:
                - secretRef:
                    name: naap-ops
"""
