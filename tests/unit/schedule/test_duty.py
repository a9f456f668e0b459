"""What a scheduler owes: served once, missed ones coalesced, taken over, and a clock that is moved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from naap_ops.config.cron import parse
from naap_ops.schedule.duty import Facts, Owed, owed
from naap_ops.schedule.journal import Run
from naap_ops.schedule.plan import Job
from naap_ops.schedule.watch import ClockWatch

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
DUE = datetime(2026, 11, 21, 3, tzinfo=UTC)
DAY = timedelta(days=1)
LONG_AGO, LATER = NOW - 10 * DAY, NOW + timedelta(hours=1)


def job(name: str) -> Job:
    return Job(name, parse("0 3 * * *"), None, UTC, timedelta(), (None,), (), whole=False)


def facts(
    *,
    ends: Mapping[datetime, Mapping[str, Any] | None] | None = None,
    newest: datetime | None = None,
    lease: bool = True,
    attempt: int = 1,
    **others: Any,
) -> Facts:
    """``ends``: by due time how its last attempt ended."""
    known = ends or {}
    return Facts(
        **{
            "now": NOW,
            "dues": dict.fromkeys(known, attempt),
            "run": lambda due, attempt: Run(due, attempt, {"lease": lease}, known[due]),
            "held": True,
            "since": NOW - timedelta(minutes=1),
            "starting": False,
            "newest": lambda: newest,
            **others,
        }
    )


OK, FAILED, ABANDONED, KILLED = {"code": 0}, {"code": 9}, {"code": 130}, {"code": -9}


@pytest.mark.parametrize("name", ["snapshot", "prune"])
def test_what_came_due_while_we_were_here(name: str) -> None:
    assert owed(job(name), facts(since=LONG_AGO, newest=NOW)) == Owed(DUE, 1)
    assert owed(job(name), facts(since=LONG_AGO, ends={DUE - DAY: OK})) == Owed(DUE, 1)  # many missed: the last one
    assert owed(job(name), facts(since=LONG_AGO, ends={DUE: OK})) is None
    assert owed(job(name), facts(since=LONG_AGO, ends={DUE: FAILED})) is None


def test_a_snapshot_is_overdue_at_start_and_other_jobs_wait() -> None:
    assert owed(job("snapshot"), facts(starting=True)) == Owed(DUE, 1)
    assert owed(job("snapshot"), facts(starting=True, newest=DUE - DAY)) == Owed(DUE, 1)
    assert owed(job("snapshot"), facts(starting=True, newest=DUE)) is None
    assert owed(job("prune"), facts(starting=True)) is None
    assert owed(job("prune"), facts(starting=True, ends={DUE - DAY: OK})) == Owed(DUE, 1)  # but not when they used to run


def test_a_failed_snapshot_is_tried_again_by_a_new_start_only() -> None:
    assert owed(job("snapshot"), facts(starting=True, ends={DUE: FAILED})) == Owed(DUE, 2)
    assert owed(job("snapshot"), facts(starting=False, ends={DUE: FAILED})) is None
    assert owed(job("prune"), facts(starting=True, ends={DUE: FAILED})) is None


@pytest.mark.parametrize("end", [ABANDONED, KILLED])
def test_an_abandoned_run_is_done_again(end: Mapping[str, Any]) -> None:
    assert owed(job("drill"), facts(ends={DUE: end})) == Owed(DUE, 2)
    assert owed(job("snapshot"), facts(ends={DUE: end})) == Owed(DUE, 2)
    assert owed(job("snapshot"), facts(ends={DUE: end}, newest=NOW)) is None
    assert owed(job("drill"), facts(ends={DUE: end}, attempt=5)) is None


def test_an_unfinished_run_is_taken_over_by_the_holder_of_the_lease_alone() -> None:
    assert owed(job("drill"), facts(ends={DUE: None})) == Owed(DUE, 2, patiently=True)
    assert owed(job("drill"), facts(ends={DUE: None}, held=False)) is None
    assert owed(job("drill"), facts(ends={DUE: None}, lease=False)) is None  # its owner may be alive and well


def test_without_the_lease_others_may_come_first() -> None:
    assert owed(job("check"), facts(since=LONG_AGO, held=False)) == Owed(DUE, 1, patiently=True)


def test_a_clock_set_back_repeats_nothing() -> None:
    back = facts(now=DUE - timedelta(hours=1), since=DUE + DAY, ends={DUE: OK, DUE - DAY: OK})
    assert owed(job("check"), back) is None
    assert owed(job("check"), facts(now=DUE, since=DUE + DAY, ends={DUE: OK, DUE - DAY: OK})) is None


def test_a_clock_set_back_from_far_ahead_still_serves_what_comes() -> None:
    ahead = NOW + 400 * DAY
    assert owed(job("check"), facts(now=DUE, since=ahead, ends={ahead: OK})) == Owed(DUE, 1)


def test_a_clock_set_forward_serves_the_last_one() -> None:
    assert owed(job("check"), facts(now=NOW + 400 * DAY, since=NOW, ends={DUE: OK})) == Owed(DUE + 400 * DAY, 1)


def test_the_watch_tells_a_moved_clock_from_time_that_passes() -> None:
    wall, steady = NOW, 0.0
    watch = ClockWatch(lambda: wall, lambda: steady)
    wall, steady = wall + timedelta(hours=5), steady + 5 * 3600  # a suspended thread
    assert not watch.moved()
    wall, steady = wall + timedelta(seconds=3), steady + 1  # slewed
    assert not watch.moved()
    wall, steady = wall + timedelta(hours=2), steady + 1
    assert watch.moved() == timedelta(hours=2, seconds=-1)
    wall, steady = wall - DAY, steady + 1
    assert watch.moved() == -DAY - timedelta(seconds=1)
    assert not watch.moved()
