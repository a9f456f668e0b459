"""Procedures: what is written down when, what is gone on with, what is undone. Steps here change a set, their world."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from naap_ops import clock
from naap_ops.errors import Blocked, Busy, NoSpace, OpsError, ProcedureMissing, ProcedureUnfinished, Refused
from naap_ops.events import Event, Events
from naap_ops.procedure.journal import Journal, unfinished
from naap_ops.procedure.perform import abort, perform
from naap_ops.procedure.step import Step


class Mark(Step):
    """Puts its name into the world."""

    def __init__(self, name: str, world: list[str], *, fails: BaseException | None = None, half: bool = False) -> None:
        super().__init__(name, f"marking {name}")
        self.world, self.fails, self.half = world, fails, half

    def done(self) -> bool:
        return self.name in self.world

    def run(self) -> dict[str, Any]:
        if self.fails is not None:
            raise self.fails
        self.world.append(self.name)
        return {"marked": self.name}

    def undo(self) -> None:
        if self.name in self.world:
            self.world.remove(self.name)

    def halfway(self) -> bool:
        return self.half


class Look(Mark):
    changes = False


def begun(folder: Path) -> Journal:
    return Journal.begin(folder, "rollback", {"migration": "m"})


def failure() -> OpsError:
    return Blocked(what="it", blockers="somebody")


def test_every_step_is_begun_before_and_done_after(tmp_path: Path) -> None:
    world: list[str] = []
    events, seen = Events(), list[Event]()
    events.subscribe(seen.append)
    with begun(tmp_path) as journal:
        perform(journal, [Mark("a", world), Mark("b", world)], events)
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [(each["event"], each.get("name"), each.get("state")) for each in lines] == [
        ("begin", None, None),
        ("step", "a", "begun"),
        ("step", "a", "done"),
        ("step", "b", "begun"),
        ("step", "b", "done"),
        ("end", None, None),
    ]
    assert lines[0]["request"] == {"migration": "m"}
    assert journal.outcome == "done"
    assert journal.facts("a") == {"marked": "a"}
    assert [event.data["name"] for event in seen] == ["a", "b"]
    assert unfinished(tmp_path) == []
    assert list(tmp_path.glob("*.lock")) == []


def test_a_step_that_the_world_has_already_is_not_run_again(tmp_path: Path) -> None:
    world = ["a"]
    with begun(tmp_path) as journal:
        perform(journal, [Mark("a", world, fails=AssertionError()), Mark("b", world)], Events())
    assert world == ["a", "b"]


def test_resumed_after_a_kill_it_goes_on_where_the_world_is(tmp_path: Path) -> None:
    world: list[str] = []
    with pytest.raises(KeyboardInterrupt), begun(tmp_path) as journal:
        perform(journal, [Mark("a", world), Mark("b", world, fails=KeyboardInterrupt())], Events())
    assert [each.id for each in unfinished(tmp_path, "rollback")] == [journal.id]
    with Journal.resume(tmp_path, "rollback") as again:
        assert again.request == {"migration": "m"}
        assert (again.state("a"), again.state("b")) == ("done", "begun")
        perform(again, [Mark("a", world), Mark("b", world)], Events())
    assert world == ["a", "b"]
    assert again.outcome == "done"


def test_a_failure_with_nothing_changed_ends_it(tmp_path: Path) -> None:
    world: list[str] = []
    with pytest.raises(Blocked), begun(tmp_path) as journal:
        perform(journal, [Look("look", world), Mark("b", world, fails=failure())], Events())
    assert journal.outcome == "failed"


@pytest.mark.parametrize("half", [True, False])
def test_a_failure_after_a_change_can_be_resumed_or_undone(tmp_path: Path, half: bool) -> None:
    world: list[str] = []
    first = [] if half else [Mark("a", world)]
    steps = [*first, Mark("b", world, fails=failure(), half=half)]
    with pytest.raises(Blocked), begun(tmp_path) as journal:
        perform(journal, steps, Events())
    assert journal.outcome is None
    with Journal.resume(tmp_path, "rollback") as again:
        abort(again, steps, Events())
    assert world == []
    assert again.outcome == "aborted"


def test_undoing_goes_backwards_and_leaves_what_was_never_begun(tmp_path: Path) -> None:
    world: list[str] = ["c"]
    undone: list[str] = []

    class Telling(Mark):
        def undo(self) -> None:
            undone.append(self.name)
            super().undo()

    steps = [Telling("a", world), Telling("b", world), Telling("c", world, fails=failure())]
    with pytest.raises(KeyboardInterrupt), begun(tmp_path) as journal:
        perform(journal, [*steps[:2], Telling("x", world, fails=KeyboardInterrupt())], Events())
    with Journal.resume(tmp_path, "rollback") as again:
        abort(again, steps, Events())
    assert undone == ["b", "a"]
    assert world == ["c"]


def test_what_is_being_undone_is_not_gone_on_with(tmp_path: Path) -> None:
    world: list[str] = []

    class Stuck(Mark):
        def undo(self) -> None:
            raise failure()

    with pytest.raises(KeyboardInterrupt), begun(tmp_path) as journal:
        perform(journal, [Stuck("a", world), Mark("b", world, fails=KeyboardInterrupt())], Events())
    with pytest.raises(Blocked), Journal.resume(tmp_path, "rollback") as again:
        abort(again, [Stuck("a", world)], Events())
    with pytest.raises(Refused, match="being undone"), Journal.resume(tmp_path, "rollback") as third:
        perform(third, [Mark("a", world)], Events())
    with Journal.resume(tmp_path, "rollback") as fourth:
        abort(fourth, [Mark("a", world)], Events())
    assert world == []
    assert journal.id == fourth.id


def test_two_at_once_on_one_journal(tmp_path: Path) -> None:
    with begun(tmp_path), pytest.raises(Busy):
        Journal.resume(tmp_path, "rollback")


def test_journals_sort_by_when_they_began_even_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 11, 21, 3, 15, tzinfo=UTC)
    began = []
    for number in range(20):
        monkeypatch.setattr(clock, "now", lambda at=moment + timedelta(milliseconds=number): at)
        with Journal.begin(tmp_path, "rollback", {}) as journal:
            began.append(journal.id)
    assert [each.id for each in unfinished(tmp_path, "rollback")] == began


def test_several_unfinished_want_to_be_named(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        with begun(tmp_path) as journal:
            ids.append(journal.id)
    with pytest.raises(ProcedureUnfinished, match=ids[0]):
        Journal.resume(tmp_path, "rollback")
    with Journal.resume(tmp_path, "rollback", ids[1]) as journal:
        assert journal.id == ids[1]
    with pytest.raises(ProcedureMissing, match="nope"):
        Journal.resume(tmp_path, "rollback", "nope")
    with pytest.raises(ProcedureMissing):
        Journal.resume(tmp_path, "emergency")


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    with begun(tmp_path) as journal:
        journal.note("step", name="a", state="begun")
    with journal.path.open("ab") as file:
        file.write(b'{"at": "2026-')
    with Journal.resume(tmp_path, "rollback") as again:
        again.note("step", name="a", state="done")
    with Journal.resume(tmp_path, "rollback") as third:
        assert third.state("a") == "done"


def test_a_full_disk_or_a_closed_folder_is_said_before_the_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OpsError, match=r"Not a directory|File exists"):
        Journal.begin(tmp_path / "file" / "journal", "rollback", {})


def full(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """No room after so many lines; what fits of the next is written."""
    lines = [0]
    write = os.write

    def written(fd: int, data: bytes) -> int:
        lines[0] += 1
        if lines[0] <= after:
            return write(fd, data)
        if lines[0] == after + 1:
            return write(fd, bytes(data[:9]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", written)


def test_no_room_to_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, 0)
    with pytest.raises(NoSpace):
        begun(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_a_line_stops_it_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was written in part is no line, neither now nor when it is read again."""
    world: list[str] = []
    journal = begun(tmp_path)
    full(monkeypatch, 1)
    with pytest.raises(NoSpace):
        perform(journal, [Mark("a", world), Mark("b", world)], Events())
    monkeypatch.undo()
    assert world == ["a"]
    journal.close()
    with Journal.resume(tmp_path, "rollback") as again:
        assert again.state("a") == "begun"
        perform(again, [Mark("a", world), Mark("b", world)], Events())
    assert (world, again.outcome) == (["a", "b"], "done")


def test_no_room_to_tell_of_a_failure_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(tmp_path) as journal:
        full(monkeypatch, 1)
        with pytest.raises(Blocked):
            perform(journal, [Mark("a", [], fails=failure())], Events())
    monkeypatch.undo()
    assert [each.id for each in unfinished(tmp_path)] == [journal.id]


def test_what_comes_before_a_step_is_a_part_of_it(tmp_path: Path) -> None:
    """A lock that cannot be taken again: nothing was done, nothing is left."""
    calls: list[int] = []

    def before() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise failure()

    world: list[str] = []
    with begun(tmp_path) as journal:
        with pytest.raises(Blocked):
            perform(journal, [Look("a", world), Mark("b", world)], Events(), before=before)
        assert (world, journal.outcome) == (["a"], "failed")
