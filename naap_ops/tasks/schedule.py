"""`invoke schedule.run`, `schedule.list` and `schedule.export`: the jobs of the settings, done when they are due."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from invoke.collection import Collection

from naap_ops.errors import ConfigurationError, Interrupted, UsageError
from naap_ops.tasks.command import Call, command


@command(
    without=("url", "database", "yes"),
    http="serve /metrics and /healthz at this address, e.g. 127.0.0.1:9188",
)
def run(call: Call, http: str | None = None) -> dict[str, Any]:
    """
    Run the jobs of the settings when they are due, in the foreground, until SIGTERM or Ctrl-C.

    Start it on two hosts: one is in charge of a database, the other stands by and takes over when that one ends.

    Example: invoke schedule.run --http 127.0.0.1:9188
    """
    from naap_ops.schedule.plan import plan, something
    from naap_ops.schedule.service import Service

    listen = None if http is None else _address(http)
    service = Service(call.app, something(plan(call.app.loaded)), _shared_flags(call), call.note, call.complain)
    for problem in call.app.unheard():
        call.complain(f"naap_ops: {problem}")
    killed = service.run(listen)
    call.exit_code = Interrupted.exit_code if killed else 0
    return {"killed": killed}


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(detail=f"--http wants an address such as 127.0.0.1:9188, not {text!r}")
    return host, int(port)


def _shared_flags(call: Call) -> list[str]:
    """Those of this call that every task it starts needs too. Settings come first: the folder of the file can matter."""
    given = [(f"--{flag}", call.flag(flag)) for flag in ("settings", "repo")]
    return [word for flag, value in given if value for word in (flag, str(value))]


@command(name="list", without=("url", "database", "yes"))
def list_(call: Call) -> dict[str, Any]:
    """
    List the jobs: when they are due next, and how they last ended.

    Example: invoke schedule.list --json
    """
    from naap_ops import clock
    from naap_ops.schedule.journal import Journal
    from naap_ops.schedule.listing import listed
    from naap_ops.schedule.plan import plan

    found = listed(plan(call.app.loaded), Journal(call.app.repository.storage), clock.now())
    if found:
        call.table(["JOB", "TRIGGER", "NEXT", "DATABASE", "LAST", "OUTCOME"], [row for job in found for row in _rows(job)])
    else:
        call.say("nothing is scheduled: set schedule.snapshot.trigger, say")
    return {"jobs": found}


def _rows(job: dict[str, Any]) -> list[list[str]]:
    return [
        [job["name"], job["trigger"], job["next"], database, *(("", "") if run is None else (run["due"], _outcome(run)))]
        for database, run in job["databases"].items()
    ]


def _outcome(run: dict[str, Any]) -> str:
    why = f" with code {run['code']}: {run.get('message')}" if run["status"] == "failed" else ""
    return f"{run['status']}{why}"


@command(
    without=("url", "database", "yes"),
    format="cron, systemd or k8s",
    output="write the files into this folder instead of printing them",
    image="the container image for k8s",
)
def export(call: Call, format: str, output: str | None = None, image: str = "naap-ops:latest") -> dict[str, Any]:
    """
    Write the schedule for another scheduler: crontab lines, systemd timers, Kubernetes CronJobs.

    Example: invoke schedule.export --format systemd --output /etc/systemd/system
    """
    from naap_ops.schedule.export import Place, exported
    from naap_ops.schedule.plan import plan, something

    if format not in ("cron", "systemd", "k8s"):
        raise UsageError(detail=f"--format {format!r} is not cron, systemd or k8s")
    place = Place(_program(), call.app.loaded.cwd.absolute(), _shared_flags(call), image)
    files = exported(format, something(plan(call.app.loaded)), place)
    if output is None:
        separator = "---\n" if format == "k8s" else "\n"
        marked = [f"# {name}\n{text}" if len(files) > 1 else text for name, text in files.items()]
        call.say(separator.join(marked).rstrip("\n"))
    else:
        _write(Path(output), files)
        call.say("\n".join(str(Path(output) / name) for name in files))
    return {"format": format, "files": files}


def _write(folder: Path, files: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(detail=f"cannot write to {folder}: {error.strerror}") from None


def _program() -> list[str]:
    """The program by its absolute path: the one beside this Python, else the one on PATH, else Python itself."""
    beside = Path(sys.executable).with_name("naap-ops")
    found = str(beside) if beside.exists() else shutil.which("naap-ops")
    return [str(Path(found).absolute())] if found else [sys.executable, "-m", "naap_ops"]


collection = Collection("schedule", run, list_, export)
