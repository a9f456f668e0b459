"""Listeners fail, hang and lag; the work does not notice, and somebody is told once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from naap_ops import clock
from naap_ops.events import Event, Events
from naap_ops.listeners import delivery
from naap_ops.listeners.delivery import Audience, Delivery
from naap_ops.listeners.record import OUTCOME, STARTED

FOREVER = 3600.0


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What a hanging listener waits for; comes when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def told() -> list[str]:
    return []


def soon() -> float:
    return clock.monotonic() + 60


def test_everything_is_told_in_order_before_close_returns(told: list[str]) -> None:
    heard: list[Event] = []
    one = Delivery("x", heard.append, told.append, FOREVER)
    for number in range(50):
        one(Event(OUTCOME, {"n": number}))
    one.close(soon())
    assert [event.data["n"] for event in heard] == list(range(50))
    assert told == []


def test_progress_is_not_for_listeners(told: list[str]) -> None:
    heard: list[Event] = []
    one = Delivery("x", heard.append, told.append, FOREVER)
    for name in ("backup.progress", STARTED, "backup.done", OUTCOME):
        one(Event(name))
    one.close(soon())
    assert [event.name for event in heard] == [STARTED, OUTCOME]


def test_one_that_fails_is_told_once_and_hears_on(told: list[str]) -> None:
    heard: list[Event] = []

    def failing(event: Event) -> None:
        heard.append(event)
        raise ConnectionRefusedError("nobody there")

    one = Delivery("ping", failing, told.append, FOREVER)
    for _ in range(5):
        one(Event(OUTCOME))
    one.close(soon())
    assert len(heard) == 5
    assert told == ["ping failed: nobody there"]


def test_the_work_does_not_wait_for_one_that_hangs(told: list[str], never: threading.Event) -> None:
    """Emitting returns at once; closing returns at its deadline, here one that has passed; the other one heard everything."""
    heard: list[Event] = []
    hanging = Delivery("hanging", lambda _: never.wait(), told.append, FOREVER)  # type: ignore[arg-type]
    sound = Delivery("sound", heard.append, told.append, FOREVER)
    events = Events()
    Audience([hanging, sound], FOREVER).subscribe(events)
    for _ in range(3):
        events.emit(OUTCOME)
    sound.close(soon())
    hanging.close(clock.monotonic())
    assert len(heard) == 3
    assert told == ["hanging did not finish in time: not everything was told"]


def test_the_deadline_is_one_for_all(told: list[str], never: threading.Event) -> None:
    """Ten that hang do not wait ten times: the clock is not looked at, each gets what the one before it left."""
    audience = Audience([Delivery(str(n), lambda _: never.wait(), told.append, FOREVER) for n in range(10)], 0.3)  # type: ignore[arg-type]
    events = Events()
    audience.subscribe(events)
    events.emit(OUTCOME)
    began = clock.monotonic()
    audience.close()
    assert clock.monotonic() - began >= 0.3
    assert len(told) == 10


def test_one_that_is_stuck_is_left_alone_and_the_next_event_is_told(told: list[str], never: threading.Event) -> None:
    heard: list[int] = []

    def stuck_on_the_first(event: Event) -> None:
        if event.data["n"] == 0:
            never.wait()
        heard.append(event.data["n"])

    one = Delivery("notification", stuck_on_the_first, told.append, patience=0.05)
    for number in range(3):
        one(Event(OUTCOME, {"n": number}))
    one.close(soon())
    assert heard == [1, 2]
    assert told == ["notification is stuck since 0.05 s"]


def test_one_that_is_slow_gets_its_time_if_nothing_waits_behind_it(told: list[str]) -> None:
    gate = threading.Event()
    heard: list[Event] = []

    def slow(event: Event) -> None:
        gate.wait()
        heard.append(event)

    one = Delivery("x", slow, told.append, patience=0.001)
    one(Event(OUTCOME))
    threading.Timer(0.2, gate.set).start()
    one.close(soon())
    assert (len(heard), told) == (1, [])


def test_the_stuck_ones_late_end_harms_nobody(told: list[str]) -> None:
    gate, late = threading.Event(), threading.Event()
    heard: list[int] = []

    def slow(event: Event) -> None:
        if event.data["n"] == 0:
            gate.wait()
            late.set()
            raise OSError("too late")
        heard.append(event.data["n"])

    one = Delivery("x", slow, told.append, patience=0.05)
    one(Event(OUTCOME, {"n": 0}))
    one(Event(OUTCOME, {"n": 1}))
    one.close(soon())
    gate.set()
    assert late.wait(60)
    one(Event(OUTCOME, {"n": 2}))
    one.close(soon())
    assert heard == [1, 2]
    assert told == ["x is stuck since 0.05 s"]


def test_a_flood_loses_events_not_memory(told: list[str], never: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_ROOM", 5)
    one = Delivery("log", lambda _: never.wait(), told.append, FOREVER)  # type: ignore[arg-type]
    for _ in range(1000):
        one(Event(OUTCOME))
    assert told == ["log is too slow: an event was not told"]


def test_no_thread_where_nothing_happens(told: list[str]) -> None:
    before = threading.active_count()
    Delivery("x", lambda _: None, told.append, FOREVER).close(soon())
    assert threading.active_count() == before


def test_nobody_reads_what_goes_wrong() -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    def failing(_: Event) -> None:
        raise OSError

    one = Delivery("x", failing, broken, FOREVER)
    one(Event(OUTCOME))
    one(Event(OUTCOME))
    one.close(soon())
    assert one._pending == 0
