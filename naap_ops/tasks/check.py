"""`invoke check`: OK, WARN or CRIT, for monitoring systems."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from naap_ops.errors import OpsError, UsageError
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.progress import size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naap_ops.backup.health import Health


@command(
    without=("yes",),
    all_databases="every configured database; without configured ones, every database in the repository",
    notify="have the listeners hear what was found, as they do of a job: for cron",
)
def check(call: Call, all_databases: bool = False, notify: bool = False) -> dict[str, Any]:
    """
    Say whether the backups can be relied on: age, size, soundness, last drill.

    Exit codes: 0 OK, 1 WARN, 2 CRIT or no answer. Limits: settings check.warn_age, crit_age, size_change, drill_age.

    Example: invoke check --database naap
    """
    from naap_ops.backup.health import Status

    call.failure_code = Status.CRIT
    if all_databases and (call.database or call.url):
        raise UsageError(detail="--all-databases takes all there are: leave out --database and --url")
    found = _found(call, everything=all_databases, notify=notify)
    for name, each in found.items():
        (call.say if each.status is Status.OK else call.insist)(_line(call, name, each))
    for name, each in found.items():
        with call.part(name) if all_databases else nullcontext():
            _report(call, name, each)
    call.exit_code = max((each.status for each in found.values()), default=Status.OK)
    return _object(found, several=all_databases)


def _found(call: Call, *, everything: bool, notify: bool) -> dict[str, Health]:
    """By database. What keeps it from being looked at is a finding as well; only a misused flag is an error."""
    from naap_ops import checks
    from naap_ops.backup.health import unknown

    try:
        if notify:
            call.begin("check", several=everything)
        return checks.check(call.app, checks.aliases(call.app, call.database, everything=everything))
    except UsageError:
        raise
    except OpsError as error:
        return {call.database or "": unknown(error.text)}


def _line(call: Call, name: str, health: Health) -> str:
    """As monitoring plug-ins print it: status, text, and behind a bar the figures."""
    from naap_ops import checks
    from naap_ops.backup.health import span

    text = "; ".join(health.reasons)
    figures = ""
    if health.id is not None and health.age_seconds is not None and health.bytes is not None:
        age = span(timedelta(seconds=health.age_seconds))
        text = text or f"backup {health.id} is {age} old and verified, {size(health.bytes)}"
        limits = checks.limits(call.app)
        warn, crit = (f"{limit.total_seconds():.0f}" for limit in (limits.warn_age, limits.crit_age))
        figures = f" | age={health.age_seconds}s;{warn};{crit} size={health.bytes}B"
    return " ".join(f"{health.status.name}{name and ' '}{name}: {text}".replace("|", "/").split()) + figures


def _report(call: Call, name: str, health: Health) -> None:
    failure: dict[str, Any] = {}
    if health.status:
        told = {"code": int(health.status), "class": health.status.name, "message": "; ".join(health.reasons)}
        failure = {"status": "failed", "error": told}
    call.report(
        database=name or None, id=health.id, bytes=health.bytes, newest_verified_age_seconds=health.age_seconds, **failure
    )


def _object(found: Mapping[str, Health], *, several: bool) -> dict[str, Any]:
    """``status``, ``age_seconds`` (the greatest) and ``reasons`` of all, and with several databases those of each."""
    from naap_ops.backup.health import Status

    each = {name: {**dataclasses.asdict(health), "status": health.status.name} for name, health in found.items()}
    if not several:
        return {"database": next(iter(found)) or None, **next(iter(each.values()))}
    ages = [health.age_seconds for health in found.values() if health.age_seconds is not None]
    return {
        "status": max((health.status for health in found.values()), default=Status.OK).name,
        "age_seconds": max(ages, default=None),
        "reasons": [f"{name}: {reason}" if name else reason for name, health in found.items() for reason in health.reasons],
        "databases": each,
    }
