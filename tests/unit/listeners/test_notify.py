"""Notifications through the real apprise, to a real server on loopback: failure, recovery, nothing else unless asked for."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from naap_ops.events import Event
from naap_ops.listeners.failing import Memory
from naap_ops.listeners.notify import NotDelivered, Notify, _Complaints
from tests.hearing import Service, dead_url, misbehaving
from tests.unit.listeners.conftest import event, outcome, several, started

BOTH = ("failure", "recovery")


def notify(service: Service, folder: Path, when: Collection[str] = BOTH) -> Notify:
    """Made anew for each run, as every run is a process of its own."""
    return Notify(f"json://{service.address}/hook", when, Memory(folder / "state"))


def told(service: Service) -> list[tuple[str, str, str]]:
    """Type, title and text of each message."""
    messages = [json.loads(body) for _, body in service.heard]
    return [(message["type"], message["title"], message["message"]) for message in messages]


def test_a_failure_is_told_and_the_first_success_after_it(service: Service, tmp_path: Path) -> None:
    for failed in (False, True, True, False, False):
        notify(service, tmp_path)(started())
        notify(service, tmp_path)(event(outcome(failed=failed)))
    bad = outcome(failed=True).line()
    assert told(service) == [
        ("failure", "naap_ops on db1: backup of naap FAILED", bad),
        ("failure", "naap_ops on db1: backup of naap FAILED", bad),
        (
            "success",
            "naap_ops on db1: backup of naap recovered",
            f"backup of naap works again: it had failed 2 times since 2026-11-21T03:15:12.500Z\n{outcome().line()}",
        ),
    ]


def test_a_change_is_told_although_all_went_well(service: Service, tmp_path: Path) -> None:
    when = (*BOTH, "change")
    gone = outcome("rollback", id=None, bytes=None, rows=None, detail="20260103_wallet rolled back by reverse, nothing lost")
    for record in (outcome("backup"), gone, outcome("emergency", detail="20260102_profile taken back")):
        notify(service, tmp_path, when)(event(record))
        notify(service, tmp_path)(event(record))
    first, second = told(service)
    text = "rollback of naap ok: 20260103_wallet rolled back by reverse, nothing lost, 12.5 s"
    assert first == ("success", "naap_ops on db1: rollback of naap ok", text)
    assert second[1] == "naap_ops on db1: emergency of naap ok"


def test_jobs_and_databases_recover_each_for_itself(service: Service, tmp_path: Path) -> None:
    notify(service, tmp_path)(event(outcome("backup", "a", failed=True)))
    notify(service, tmp_path)(event(outcome("backup", "b")))
    notify(service, tmp_path)(event(outcome("verify", "a")))
    assert len(service.heard) == 1
    notify(service, tmp_path)(event(outcome("backup", "a")))
    assert [title for _, title, _ in told(service)][1:] == ["naap_ops on db1: backup of a recovered"]


def test_several_databases_make_one_message(service: Service, tmp_path: Path) -> None:
    notify(service, tmp_path)(event(several(outcome(database="a", failed=True), outcome(database="b"), outcome(database="c"))))
    notify(service, tmp_path)(event(several(outcome(database="a"), outcome(database="b", failed=True), outcome(database="c"))))
    notify(service, tmp_path)(event(several(outcome(database="a"), outcome(database="b"), outcome(database="c"))))
    (_, first, _), (kind, second, text), (_, third, last) = told(service)
    assert first == second == "naap_ops on db1: backup partly failed"
    assert third == "naap_ops on db1: backup recovered"
    assert kind == "failure"
    assert text.startswith("backup of b FAILED")
    assert "backup of a works again" in text
    assert "backup of c" not in text
    assert last.startswith("backup of b works again")


def test_a_failure_that_named_no_database_ends_with_the_next_good_run(service: Service, tmp_path: Path) -> None:
    notify(service, tmp_path)(event(outcome(database=None, failed=True)))
    notify(service, tmp_path)(event(several(outcome(database="a"), outcome(database="b"))))
    assert told(service)[1][2].startswith("backup works again: it had failed 1 time since")
    notify(service, tmp_path)(event(outcome(database="a")))
    assert len(service.heard) == 2


def test_one_tenant_of_a_database_works_and_another_does_not(service: Service, tmp_path: Path) -> None:
    """Both are parts of one database: it has not recovered."""
    for _ in range(2):
        notify(service, tmp_path)(event(several(outcome(failed=True), outcome())))
    notify(service, tmp_path)(event(several(outcome(), outcome())))
    assert [title.rpartition(" ")[2] for _, title, _ in told(service)] == ["failed", "failed", "recovered"]
    assert "works again" not in told(service)[1][2]


@pytest.mark.parametrize(
    ("when", "count"),
    [(("failure",), 1), (("recovery",), 1), (("always",), 3), (("always", "failure", "recovery"), 3), ((), 0)],
)
def test_what_was_asked_for(service: Service, tmp_path: Path, when: Collection[str], count: int) -> None:
    for failed in (False, True, False):
        notify(service, tmp_path, when)(event(outcome(failed=failed)))
    assert len(service.heard) == count


def test_a_recovery_that_could_not_be_told_is_told_the_next_time(service: Service, tmp_path: Path) -> None:
    notify(service, tmp_path)(event(outcome(failed=True)))
    service.answers = [500]
    with pytest.raises(NotDelivered):
        notify(service, tmp_path)(event(outcome()))
    notify(service, tmp_path)(event(outcome()))
    notify(service, tmp_path)(event(outcome()))
    assert [title.rpartition(" ")[2] for _, title, _ in told(service)] == ["FAILED", "recovered", "recovered"]


def test_a_failure_that_could_not_be_told_still_recovers(service: Service, tmp_path: Path) -> None:
    service.answers = [500]
    with pytest.raises(NotDelivered):
        notify(service, tmp_path)(event(outcome(failed=True)))
    notify(service, tmp_path)(event(outcome()))
    assert told(service)[-1][1].endswith("recovered")


@pytest.mark.parametrize("spoilt", ["", "{", "[]", '{"since": 3}', "\0"])
def test_a_spoilt_memory_still_recovers(service: Service, tmp_path: Path, spoilt: str) -> None:
    notify(service, tmp_path)(event(outcome(failed=True)))
    (remembered,) = (tmp_path / "state").iterdir()
    remembered.write_text(spoilt)
    notify(service, tmp_path)(event(outcome()))
    assert told(service)[-1][1].endswith("recovered")
    assert list((tmp_path / "state").iterdir()) == []


def test_a_memory_that_cannot_be_written_keeps_no_message_back(service: Service, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="state"):
        notify(service, tmp_path)(event(outcome(failed=True)))
    assert len(service.heard) == 1


@pytest.mark.parametrize("name", ["a/b", "..", "Ünïcode %", "x" * 63, "ü" * 31, "a\nb"])
def test_any_name_of_a_database(service: Service, tmp_path: Path, name: str) -> None:
    notify(service, tmp_path)(event(outcome(database=name, failed=True)))
    assert len(list((tmp_path / "state").iterdir())) == 1
    notify(service, tmp_path)(event(outcome(database=name)))
    assert len(service.heard) == 2


@pytest.mark.parametrize("url", ["nosuchservice://x", "not a url", "json://"])
def test_a_url_that_apprise_does_not_know(tmp_path: Path, url: str) -> None:
    with pytest.raises(NotDelivered):
        Notify(url, BOTH, Memory(tmp_path))(event(outcome(failed=True)))


def test_nobody_there_says_so_and_nothing_on_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url = dead_url().replace("http://", "json://user:hushhush@")
    with pytest.raises(NotDelivered, match="onnection") as caught:
        Notify(url, BOTH, Memory(tmp_path))(event(outcome(failed=True)))
    assert "hushhush" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not any(isinstance(handler, _Complaints) for handler in logging.getLogger("apprise").handlers)


def test_no_thread_is_left_that_python_would_wait_for(service: Service, tmp_path: Path) -> None:
    """A pool's threads are waited for at exit, hanging or not: there must be none."""
    before = set(threading.enumerate())
    with misbehaving("dripping") as url:
        hanging = Notify(url.replace("http", "json"), BOTH, Memory(tmp_path / "h"))
        thread = threading.Thread(target=_ignoring, args=(hanging, event(outcome(failed=True))), daemon=True)
        thread.start()
        notify(service, tmp_path)(event(outcome(failed=True)))
        pools = [each.name for each in set(threading.enumerate()) - before if "Pool" in each.name]
    thread.join(60)
    assert not thread.is_alive()
    assert pools == []


def _ignoring(hanging: Notify, news: Event) -> None:
    with contextlib.suppress(NotDelivered):
        hanging(news)
