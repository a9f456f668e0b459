"""The scheduler's health and its answer to a moved clock, without waiting for either."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from naap_ops import clock
from naap_ops.app import App
from naap_ops.config.sources import load
from naap_ops.events import Events
from naap_ops.schedule.duty import Owed
from naap_ops.schedule.lease import State, lease_key
from naap_ops.schedule.plan import plan
from naap_ops.schedule.service import Service
from naap_ops.schedule.watch import ClockWatch

SETTINGS = """
[schedule]
timezone = "UTC"
[schedule.check]
trigger = "@hourly"
[schedule.prune]
trigger = "@daily"
"""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def service(tmp_path: Path, said: list[str]) -> Service:
    (tmp_path / "naap_ops.toml").write_text(SETTINGS)
    loaded = load({}, cwd=tmp_path, environ={"HOME": str(tmp_path), "DIRECT_URL": "postgresql://u@h/naap"})
    return Service(App(loaded, Events()), plan(loaded), [], said.append, said.append)


def overdue(service: Service) -> list[str]:
    return [str(each).split(",")[0] for each in service.health()[1]["overdue"]]


def test_a_job_that_is_not_served_within_the_limit_is_ill(service: Service) -> None:
    now = clock.now()
    prune = next(job for job in service._jobs.values() if job.name == "prune")
    service._settings = service._settings.model_copy(update={"overdue": timedelta()})
    assert overdue(service) == []  # what came due before the start is not this process's to serve
    service._worker.since = now - timedelta(days=2)
    assert overdue(service) == ["prune of naap", "check of naap"]
    assert service.health()[0] is False
    service._worker.settled["prune", "naap"] = Owed(prune.last(now), 1)
    assert overdue(service) == ["check of naap"]
    service._keepers["naap"].state = State.OTHER
    assert overdue(service) == []
    service._keepers["naap"].state = State.UNREACHABLE
    assert overdue(service) == ["check of naap"]


def test_a_limit_that_is_not_reached_is_well(service: Service) -> None:
    service._worker.since = clock.now() - timedelta(days=2)
    service._settings = service._settings.model_copy(update={"overdue": timedelta(days=2)})
    assert overdue(service) == []


@pytest.mark.parametrize("drift", [timedelta(days=-400), timedelta(days=400)])
def test_after_the_clock_was_moved_due_times_are_worked_out_anew(service: Service, said: list[str], drift: timedelta) -> None:
    """APScheduler goes on waiting for what it worked out by the clock as it was: for years, perhaps."""
    scheduler = service._scheduler
    scheduler.start(paused=True)
    try:
        for job in service._jobs.values():
            scheduler.add_job(service._attend, next_run_time=clock.now() - drift, trigger="date", args=(job,), id=job.name)
        wall, steady = clock.now() - drift, clock.monotonic()
        watch = ClockWatch(lambda: wall, lambda: steady)
        service._tick(watch)
        assert not said
        wall = clock.now()
        service._tick(watch)
        assert all(scheduler.get_job(name).next_run_time <= clock.now() for name in service._jobs)  # looked after at once
        for name in service._jobs:  # and then when due
            job = scheduler.get_job(name)
            following = job.trigger.get_next_fire_time(None, clock.now())
            assert clock.now() < following <= clock.now() + timedelta(days=1)
    finally:
        scheduler.shutdown(wait=False)
    assert "the clock was moved by" in said[0]


def test_leases_of_different_repositories_are_different() -> None:
    keys = {lease_key(url) for url in ("s3://a/b", "s3://a/c", "/var/backups")}
    assert len(keys) == 3
    assert all(0 <= key < 1 << 63 for key in keys)
