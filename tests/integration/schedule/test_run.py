"""`schedule.run`: real schedulers, real children, killed and told to end."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest

from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from tests.desk import Desk, wait_until
from tests.integration.schedule.conftest import RARELY, Scheduler, runs

pytestmark = pytest.mark.slow

Start = Callable[..., Scheduler]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def children_of(desk: Desk) -> int:
    """Sessions of backups in the database."""
    found: int = desk.ask("select count(*) from pg_stat_activity where application_name like 'naap_ops backup %'")
    return found


def test_an_overdue_snapshot_runs_at_start_once(at_work: Desk, start: Start) -> None:
    at_work.settings(RARELY + "\n[log]\nfile = 'log.jsonl'\n")
    port = free_port()
    first = start("--http", f"127.0.0.1:{port}")
    first.until("snapshot of", "ok after")
    status, body = page(port, "/healthz")
    assert (status, json.loads(body)["overdue"], list(json.loads(body)["databases"].values())) == (200, [], ["held"])
    assert "naap_ops_last_run_success{" in page(port, "/metrics")[1]
    assert 'job="snapshot"' in page(port, "/metrics")[1]
    assert first.end() == 0
    assert first.said("ended")
    (backup,) = at_work.listed()
    assert backup.verified
    outcomes = [json.loads(line) for line in (at_work.folder / "log.jsonl").read_text().splitlines()]
    assert [each["event"] for each in outcomes] == ["started", "outcome"]
    (run,) = runs(at_work)
    assert run.ok
    listed = at_work.run("schedule.list", "--json").json["jobs"]
    assert [(job["name"], job["trigger"], job["last"]["status"]) for job in listed] == [("snapshot", "0 0 1 1 *", "ok")]
    assert listed[0]["next"].endswith("-01-01T00:00:00.000Z")
    second = start("--json")
    second.until("in charge")
    assert second.end(signal.SIGINT) == 0
    assert len(at_work.listed()) == 1


@pytest.mark.long
def test_a_standby_takes_over_from_a_killed_holder_and_repeats_nothing(at_work: Desk, start: Start) -> None:
    at_work.settings(RARELY)
    holder = start()
    holder.until("snapshot of", "ok after")
    standby = start()
    standby.until("standing by for naap_ops schedule", str(holder.process.pid))
    holder.end(signal.SIGKILL)
    standby.until("took over")
    assert standby.end() == 0
    assert not standby.said("begins")
    assert len(at_work.listed()) == len(runs(at_work)) == 1


def test_a_holder_killed_in_its_job_takes_the_job_along_and_the_standby_does_it(at_work: Desk, start: Start) -> None:
    at_work.settings(RARELY + "\n[backup]\nlock_wait_timeout = '120s'\n")
    assert at_work.info is not None
    with connect(at_work.info, autocommit=False) as blocker:
        blocker.execute("lock table t in access exclusive mode")
        holder = start()
        holder.until("snapshot of", "begins")
        wait_until(lambda: children_of(at_work) > 0)
        standby = start()
        standby.until("standing by")
        holder.end(signal.SIGKILL)
        wait_until(lambda: children_of(at_work) == 0)  # the job was on its leash
        standby.until("begins, attempt 2")
        blocker.rollback()
    standby.until("snapshot of", "ok after")
    assert standby.end() == 0
    assert [(run.attempt, run.end is None, run.ok) for run in runs(at_work)] == [(1, True, False), (2, False, True)]
    assert len(at_work.listed()) == 1
    assert list(at_work.repo.rglob("*.partial")) == []


def test_told_to_end_it_ends_its_job_and_says_which(at_work: Desk, start: Start) -> None:
    at_work.settings(RARELY + "\n[backup]\nlock_wait_timeout = '120s'\n")
    assert at_work.info is not None
    with connect(at_work.info, autocommit=False) as blocker:
        blocker.execute("lock table t in access exclusive mode")
        scheduler = start()
        scheduler.until("begins")
        wait_until(lambda: children_of(at_work) > 0)
        assert scheduler.end() == 0
        assert scheduler.said("ending snapshot of", "it has 30s")
        assert scheduler.said("snapshot of", "abandoned, it has cleaned up")
    assert [run.as_dict()["status"] for run in runs(at_work)] == ["abandoned"]
    assert at_work.listed() == []
    again = start()  # what was abandoned is done by whoever comes next
    again.until("ok after")
    assert again.end() == 0
    assert len(at_work.listed()) == 1


def test_a_job_that_does_not_end_in_time_is_killed_and_named(at_work: Desk, start: Start) -> None:
    at_work.settings(RARELY.replace('stop_within = "30s"', "stop_within = 0") + "\n[backup]\nlock_wait_timeout = '120s'\n")
    assert at_work.info is not None
    with connect(at_work.info, autocommit=False) as blocker:
        blocker.execute("lock table t in access exclusive mode")
        scheduler = start("--quiet")
        wait_until(lambda: children_of(at_work) > 0)
        assert scheduler.end() == 130
        assert scheduler.said("ended; had to kill snapshot of")
        assert not scheduler.said("in charge")
    assert [run.as_dict()["status"] for run in runs(at_work)] == ["abandoned"]
    assert at_work.listed() == []


def test_a_database_that_is_down_holds_up_no_other_and_is_told_of(at_work: Desk, start: Start) -> None:
    assert at_work.info is not None
    dead = f"postgresql://u@127.0.0.1:{free_port()}/gone"
    at_work.settings(
        RARELY
        + f'\n[log]\nfile = "log.jsonl"\n\n[databases.gone]\nurl = "{dead}"\n[databases.here]\nurl = "{to_url(at_work.info)}"\n'
    )
    scheduler = start()
    scheduler.until("snapshot of here", "ok after")
    scheduler.until("snapshot of gone", "failed with code 4")
    assert scheduler.said("gone: no lease, by the journal alone")
    assert scheduler.end() == 0
    outcomes = [json.loads(line) for line in (at_work.folder / "log.jsonl").read_text().splitlines()]
    ended = {each["database"]: each["status"] for each in outcomes if each["event"] == "outcome"}
    assert ended == {"gone": "failed", "here": "ok"}
    listed = at_work.run("schedule.list", "--json").json["jobs"][0]["databases"]
    assert {name: run["status"] for name, run in listed.items()} == {"gone": "failed", "here": "ok"}


def test_an_address_in_use_and_other_misuse(at_work: Desk) -> None:
    at_work.settings(RARELY)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = at_work.program("schedule.run", "--http", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (answer.code, "cannot listen" in answer.err) == (3, True)
    assert at_work.run("schedule.run", "--http", "here").code == 2
    at_work.settings("")
    nothing = at_work.run("schedule.run")
    assert (nothing.code, "schedule.snapshot.trigger" in nothing.err) == (3, True)
    assert at_work.run("schedule.list", "--json").json == {"jobs": []}


@pytest.mark.long
def test_two_schedulers_serve_every_minute_once_though_one_is_killed(at_work: Desk, start: Start) -> None:
    at_work.settings('[schedule]\ntimezone = "UTC"\npatience = "1s"\n[schedule.snapshot]\ntrigger = "* * * * *"\n')
    first = start()
    first.until("in charge")
    second = start()
    second.until("standing by")

    def served() -> int:
        return sum(run.ok for run in runs(at_work))

    wait_until(lambda: served() >= 2, seconds=180)
    first.end(signal.SIGKILL)
    second.until("took over")
    before = served()
    wait_until(lambda: served() >= before + 1, seconds=180)
    assert second.end() == 0
    found = [run for run in runs(at_work) if run.ok]
    assert len({run.due for run in found}) == len(found) == len(at_work.listed())
    assert len({run.facts["pid"] for run in found}) == 2


@pytest.mark.long
def test_who_loses_the_lease_in_its_job_ends_that_and_leaves_it_to_the_other(at_work: Desk, start: Start) -> None:
    """A machine that sleeps, say: its session is ended by the server, its job goes on when it wakes up."""
    at_work.settings(RARELY.replace('patience = "1s"', 'patience = "20s"') + "\n[backup]\nlock_wait_timeout = '120s'\n")
    assert at_work.info is not None
    with connect(at_work.info, autocommit=False) as blocker:
        blocker.execute("lock table t in access exclusive mode")
        holder = start()
        holder.until("begins")
        wait_until(lambda: children_of(at_work) > 0)
        standby = start()
        standby.until("standing by")
        holder.process.send_signal(signal.SIGSTOP)
        name = f"naap_ops schedule {holder.process.pid}@%"
        at_work.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where application_name like '{name}'")
        standby.until("took over")
        holder.process.send_signal(signal.SIGCONT)
        holder.until("ending snapshot of", "another scheduler is in charge now")
        holder.until("abandoned, it has cleaned up")
        blocker.rollback()
    standby.until("ok after")
    assert holder.end() == standby.end() == 0
    assert [run.as_dict()["status"] for run in runs(at_work)] == ["abandoned", "ok"]
    assert len(at_work.listed()) == 1
