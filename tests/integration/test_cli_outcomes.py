"""Every job ends with one outcome, and the listeners the settings name hear it: the real program, real services on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from naap_ops.errors import Busy, DatabaseMissing, Partial
from naap_ops.events import Event
from naap_ops.listeners.record import JobOutcome
from naap_ops.outcomes import Job
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from tests.desk import Desk, wait_until
from tests.hearing import Service, dead_url, misbehaving, recording

LOG = "[log]\nfile = 'log.jsonl'\n"


@pytest.fixture
def logged(at_work: Desk) -> Desk:
    at_work.settings(LOG)
    return at_work


@pytest.fixture
def service() -> Iterator[Service]:
    with recording() as found:
        yield found


def log(desk: Desk) -> list[dict[str, Any]]:
    path = desk.folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def the_outcome(desk: Desk) -> dict[str, Any]:
    """Of the one job that has run: it began and ended, once each."""
    started, outcome = log(desk)
    assert (started["event"], outcome["event"]) == ("started", "outcome")
    assert started["job"] == outcome["job"]
    (desk.folder / "log.jsonl").unlink()
    return outcome


def test_a_backup(logged: Desk) -> None:
    first = logged.run("backup", "--json").json
    outcome = the_outcome(logged)
    (backup,) = logged.listed()
    manifest = (logged.path(backup) / "manifest.json").read_bytes()
    assert outcome["status"] == "ok"
    assert outcome["error"] is outcome["hint"] is outcome["previous_good"] is None
    assert (outcome["job"], outcome["database"], outcome["id"]) == ("backup", backup.alias, first["id"])
    assert (outcome["url"], outcome["rows"], outcome["bytes"]) == (backup.url, 3, backup.sound.bytes)
    assert outcome["sha256"] == hashlib.sha256(manifest).hexdigest()
    assert 0 < outcome["seconds"] < 60
    assert 0 <= outcome["newest_verified_age_seconds"] < 60
    assert outcome["verified_count"] == 1
    assert logged.run("backup").code == 0
    again = the_outcome(logged)
    assert (again["previous_good"], again["verified_count"]) == (backup.id, 2)


def test_a_backup_that_fails(logged: Desk) -> None:
    (good,) = [logged.backup()]
    answer = logged.run("backup", "--schema", "nothing", "--json")
    outcome = the_outcome(logged)
    assert outcome["status"] == "failed"
    assert outcome["error"] == {"code": answer.code, "class": answer.json["error"], "message": answer.json["message"]}
    assert (outcome["hint"], outcome["id"], outcome["previous_good"]) == (answer.json["hint"], None, good.id)
    assert outcome["verified_count"] == 1


def test_a_server_that_is_not_there(logged: Desk) -> None:
    port = dead_url().rpartition(":")[2]
    assert logged.run("backup", "--url", f"postgresql://u:hushhush@127.0.0.1:{port}/naap").code == 4
    outcome = the_outcome(logged)
    assert (outcome["database"], outcome["error"]["code"], outcome["verified_count"]) == ("naap", 4, 0)
    assert "hushhush" not in json.dumps(outcome)


def test_verify_restore_and_prune(logged: Desk) -> None:
    backup = logged.backup()
    assert logged.run("backup.verify", "latest", "--grade", "hash").code == 0
    verified = the_outcome(logged)
    assert (verified["job"], verified["status"], verified["id"], verified["rows"]) == ("verify", "ok", backup.id, 3)
    assert logged.run("restore", "--swap", "--yes").code == 0
    restored = the_outcome(logged)
    assert (restored["job"], restored["database"], restored["id"], restored["rows"]) == ("restore", backup.alias, backup.id, 3)
    assert logged.run("restore.drop-old", logged.run("restore.kept", "--json").json["kept"][0]["name"], "--yes").code == 0
    assert logged.run("backup.prune", "--yes").code == 0
    assert the_outcome(logged)["job"] == "prune"
    (logged.path(backup) / "globals.sql").write_text("-- changed\n")
    assert logged.run("backup.verify", "latest").code == 13
    found = the_outcome(logged)
    assert (found["status"], found["error"]["class"], found["id"]) == ("failed", "BackupDamaged", backup.id)
    assert (found["verified_count"], found["previous_good"], found["newest_verified_age_seconds"]) == (0, None, None)


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "--dry-run"),
        ("backup.list",),
        ("backup.prune",),
        ("restore", "--swap", "--dry-run", "--yes"),
        ("restore", "--swap"),  # nobody there to answer: nothing was begun
        ("check",),
        ("config",),
    ],
)
def test_what_is_no_job_is_told_nobody(logged: Desk, words: tuple[str, ...]) -> None:
    logged.backup()
    logged.run(*words)
    assert log(logged) == []


def test_several_databases_end_with_one_outcome(logged: Desk) -> None:
    assert logged.info is not None
    gone = to_url(logged.info.with_dbname("gone"))
    logged.settings(f'{LOG}[databases.a]\nurl = "{to_url(logged.info)}"\n[databases.b]\nurl = "{gone}"\n')
    assert logged.run("backup", "--all-databases").code == 21
    outcome = the_outcome(logged)
    assert (outcome["status"], outcome["database"], outcome["error"]["class"]) == ("partial", None, "Partial")
    parts = {part["database"]: part for part in outcome["parts"]}
    assert (parts["a"]["status"], parts["a"]["rows"], parts["a"]["verified_count"]) == ("ok", 3, 1)
    assert (parts["b"]["status"], parts["b"]["error"]["class"]) == ("failed", "DatabaseMissing")


def test_what_failed_before_its_part_began_is_a_part_too(logged: Desk) -> None:
    app = logged.app()
    heard: list[Event] = []
    app.events.subscribe(heard.append)
    gone = DatabaseMissing(database="c", address="h")
    with contextlib.suppress(Partial), Job(app, "snapshot", None) as job:
        with job.part("a"):
            job.report(rows=3)
        with pytest.raises(Busy), job.part("b"):
            raise (busy := Busy(what="backup", holder="pid 1"))
        raise Partial(done=[{}], failed={"b": busy, "c": gone})
    parts = JobOutcome.from_dict(heard[-1].data).parts
    assert [(part.database, part.status) for part in parts] == [("a", "ok"), ("b", "failed"), ("c", "failed")]
    assert (parts[0].rows, heard[-1].data["status"]) == (3, "partial")


def test_check_tells_when_asked_to(logged: Desk) -> None:
    assert logged.run("check", "--notify").code == 2
    outcome = the_outcome(logged)
    assert (outcome["job"], outcome["status"]) == ("check", "failed")
    assert outcome["error"] == {"code": 2, "class": "CRIT", "message": f"there is no backup in {logged.repo}"}
    logged.backup()
    assert logged.run("check", "--notify", "--all-databases").code == 0
    assert the_outcome(logged)["status"] == "ok"


def test_a_job_that_is_terminated(logged: Desk) -> None:
    """SIGTERM is a failure like any other, and it is told."""
    assert logged.info is not None
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with connect(logged.info, autocommit=False) as connection:
        connection.execute("lock table t")
        child = logged.spawn("backup", "--lock-wait-timeout", "0")
        wait_until(lambda: logged.ask(waiting))
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
    outcome = the_outcome(logged)
    assert child.returncode == 130
    assert (outcome["status"], outcome["error"]["class"]) == ("failed", "Interrupted")


def test_everybody_at_once(at_work: Desk, service: Service) -> None:
    (at_work.folder / "prom").mkdir()
    at_work.settings(
        f"""{LOG}stderr = true
        [metrics]
        textfile_dir = "prom"
        [notify]
        urls = ["json://{service.address}/hook", "json://{service.address}/other"]
        state = "state"
        [notify.ping]
        backup = "{service.url}/ping"
        """
    )
    bad = at_work.program("backup", "--schema", "nothing")
    assert bad.code == 2
    good = at_work.program("backup")
    assert good.code == 0
    assert sorted(service.paths) == sorted(
        ["/ping/start", "/ping/fail", "/ping/start", "/ping", "/hook", "/hook", "/other", "/other"]
    )
    titles = [json.loads(body)["title"].rpartition(" ")[2] for path, body in service.heard if path == "/hook"]
    assert titles == ["FAILED", "recovered"]
    assert [json.loads(line)["event"] for line in good.err.splitlines()] == ["started", "outcome"]
    (prom,) = (at_work.folder / "prom").iterdir()
    assert 'naap_ops_runs_total{database="' in prom.read_text()
    assert list((at_work.folder / "state").rglob("*.json")) == []
    assert len(log(at_work)) == 4


@pytest.mark.parametrize("manner", ["silent", "dripping", "garbage", "dead"])
def test_listeners_that_misbehave_change_nothing(at_work: Desk, manner: str, tmp_path: Path) -> None:
    """The backup is there, the code is 0, the JSON is whole; each complaint is one line, and no secret is in it."""
    with contextlib.nullcontext(dead_url()) if manner == "dead" else misbehaving(manner) as url:
        at_work.settings(
            f"""
            [log]
            file = "/proc/nothing/log"
            [metrics]
            textfile_dir = "missing"
            [notify]
            urls = ["json://user:hushhush@{url.removeprefix("http://")}/hook"]
            when = "always"
            timeout = "2s"
            state = "state"
            [notify.ping]
            backup = "{url}/6f1c2a34-90ab-4cde-8f12-34567890abcd"
            """
        )
        answer = at_work.program("backup", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["rows"] == 3
    complaints = [line for line in answer.err.splitlines() if line.startswith("naap_ops: ")]
    assert sorted(line.split()[1] for line in complaints) == ["log", "metrics", "notification", "ping"]
    assert "hushhush" not in answer.err
    assert "6f1c2a34" not in answer.err
    assert "Traceback" not in answer.err


def test_pings_name_the_database(at_work: Desk, service: Service) -> None:
    at_work.settings(f'[notify.ping]\nbackup = "{service.url}/key/backup-{{database}}"\n')
    assert at_work.run("backup").code == 0
    (backup,) = at_work.listed()
    assert service.paths == [f"/key/backup-{backup.alias}/start", f"/key/backup-{backup.alias}"]


def test_another_repository_has_failures_of_its_own(at_work: Desk, service: Service) -> None:
    at_work.settings(f'[notify]\nurls = ["json://{service.address}"]\n')
    assert at_work.run("backup", "--schema", "nothing", "--repo", "one").code == 2
    assert at_work.run("backup", "--repo", "two").code == 0
    assert len(service.heard) == 1
    assert at_work.run("backup", "--repo", "one").code == 0
    assert len(service.heard) == 2
    assert (at_work.folder / ".local" / "state" / "naap_ops" / "failing").is_dir()
