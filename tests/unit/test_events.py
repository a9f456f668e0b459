"""Listeners hear everything and harm nothing."""

from __future__ import annotations

import threading

from naap_ops.events import Event, Events


def test_every_listener_hears_every_event_in_order() -> None:
    events = Events()
    one: list[Event] = []
    two: list[Event] = []
    events.subscribe(one.append)
    events.emit("backup.begin", tables=3)
    events.subscribe(two.append)
    events.emit("backup.done", name="x", self=1)
    assert one == [Event("backup.begin", {"tables": 3}), Event("backup.done", {"name": "x", "self": 1})]
    assert two == one[1:]


def test_a_listener_that_fails_is_dropped_and_the_others_hear_on() -> None:
    events = Events()
    heard: list[str] = []
    failed: list[str] = []

    def failing(event: Event) -> None:
        failed.append(event.name)
        raise RuntimeError

    events.subscribe(failing)
    events.subscribe(lambda event: heard.append(event.name))
    events.emit("a")
    events.emit("b")
    assert (failed, heard) == (["a"], ["a", "b"])


def test_a_listener_that_fails_in_two_threads_at_once_harms_neither() -> None:
    """Progress comes from reader threads and from the main one."""
    events = Events()
    both_in = threading.Barrier(2)
    done: list[str] = []

    def failing(event: Event) -> None:
        both_in.wait(30)
        raise RuntimeError

    def work(name: str) -> None:
        events.emit(name)
        done.append(name)

    events.subscribe(failing)
    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["a", "b"]
