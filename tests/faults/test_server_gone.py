"""The server dies in the middle of a rollback or an emergency, and comes back, at once or later: both can be ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from naap_ops.postgres import swap
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.procedure.journal import Journal
from naap_ops.restore import aside
from naap_ops.rollback import rollback as procedure
from tests import emergencies, restored, rollbacks
from tests.conftest import Servers
from tests.desk import Run
from tests.emergencies import Scene
from tests.integration.prisma.conftest import Site

pytestmark = pytest.mark.long

WORDS = ("emergency", "--migration", "wallet", "--yes", "--json")
WAYS = ("--resume", "--abort")


@pytest.fixture
def mortal(servers: Servers, any_server: ScratchServer) -> Iterator[ScratchServer]:
    """A server that tests may kill."""
    server = servers.get(restored.tools(any_server.info).major, "mortal")
    yield server
    server.start()


def dying(mortal: ScratchServer, *, back: bool) -> Callable[[], None]:
    """Kills the server when first called; ``back``: and has it start again at once."""
    calls = []

    def die() -> None:
        calls.append(1)
        if len(calls) == 1:
            mortal.kill()
            if back:
                mortal.start()

    return die


# --- emergency --------------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(mortal: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    with emergencies.scene(mortal, tmp_path) as scene:
        scene.commands()
        yield scene


def at_note(step: str, state: str) -> Callable[[pytest.MonkeyPatch, Callable[[], None]], None]:
    def arranged(monkeypatch: pytest.MonkeyPatch, die: Callable[[], None]) -> None:
        note = Journal.note

        def noted(self: Journal, event: str, **facts: Any) -> None:
            note(self, event, **facts)
            if event == "step" and (facts["name"], facts["state"]) == (step, state):
                die()

        monkeypatch.setattr(Journal, "note", noted)

    return arranged


def before(module: Any, name: str) -> Callable[[pytest.MonkeyPatch, Callable[[], None]], None]:
    def arranged(monkeypatch: pytest.MonkeyPatch, die: Callable[[], None]) -> None:
        real = getattr(module, name)

        def called(*words: Any, **named: Any) -> Any:
            die()
            return real(*words, **named)

        monkeypatch.setattr(module, name, called)

    return arranged


def after(module: Any, name: str) -> Callable[[pytest.MonkeyPatch, Callable[[], None]], None]:
    def arranged(monkeypatch: pytest.MonkeyPatch, die: Callable[[], None]) -> None:
        real = getattr(module, name)

        def called(*words: Any, **named: Any) -> Any:
            result = real(*words, **named)
            die()
            return result

        monkeypatch.setattr(module, name, called)

    return arranged


INSTANTS = {
    "as the load begins": at_note("load", "begun"),
    "as what was loaded is counted": before(aside, "_check"),
    "as the folder goes": at_note("folder", "begun"),
    "before the swap": at_note("swap", "begun"),
    "between renames and commit": before(aside, "open_to_all"),
    "after the commit of the renames": after(swap, "_rename"),
    "before the look at the books": at_note("untrack", "begun"),
    "before the services start": at_note("services_start", "begun"),
    "before the rows are counted": at_note("record", "begun"),
}
FEW = ("as what was loaded is counted", "between renames and commit", "after the commit of the renames")


def broken(scene: Scene, mortal: ScratchServer, instant: str, *, back: bool) -> Run:
    with pytest.MonkeyPatch.context() as monkeypatch:
        INSTANTS[instant](monkeypatch, dying(mortal, back=back))
        answer = scene.run(*WORDS)
    mortal.start()
    return answer


def assert_emergency_recovers(scene: Scene, mortal: ScratchServer, instant: str, way: str, *, back: bool) -> None:
    answer = broken(scene, mortal, instant, back=back)
    if answer.code == 0:  # it was back before anybody asked for it
        assert back or instant in ("before the rows are counted", "before the services start"), answer.err
        return scene.assert_taken_back()
    assert answer.code in (4, 20), answer.err
    if answer.json.get("error") == "CommandFailed":  # pg_restore was the one to notice
        assert "server closed the connection" in answer.err or "connection" in answer.err
    went = scene.run("emergency", way, "--yes", "--json")
    if went.code == 11:  # nothing of it was left
        scene.assert_before()
        assert "nothing of it is left" in answer.err
        return None
    assert went.code == 0, went.err
    if way == "--resume":
        scene.assert_taken_back()
    else:
        scene.assert_before()
    assert scene.accepts()
    return None


@pytest.mark.parametrize("instant", FEW)
def test_emergency(scene: Scene, mortal: ScratchServer, instant: str) -> None:
    assert_emergency_recovers(scene, mortal, instant, "--resume", back=False)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("back", [True, False], ids=["bounced", "gone"])
@pytest.mark.parametrize("instant", INSTANTS)
def test_emergency_at_every_instant(scene: Scene, mortal: ScratchServer, instant: str, way: str, back: bool) -> None:
    assert_emergency_recovers(scene, mortal, instant, way, back=back)


# --- rollback ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(mortal: ScratchServer, tmp_path: Path) -> Iterator[Site]:
    with restored.swept(mortal.info):
        yield rollbacks.place(restored.create(mortal.info, restored.NAME), tmp_path)


class Instants:
    """Counts the instants of a rollback, before and after whatever changes the world, and has something happen at one."""

    def __init__(self, at: int, happens: Callable[[], None]) -> None:
        self.at, self.happens = at, happens
        self.count, self.counting = 0, False

    def arrange(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for owner, name in (
            (psycopg.Connection, "execute"),
            (psycopg.Transaction, "_commit_gen"),
            (Journal, "note"),
            (os, "rename"),
        ):
            monkeypatch.setattr(owner, name, self._around(getattr(owner, name)))
        real = procedure.rollback

        def begun(*words: Any, **named: Any) -> Any:
            self.counting = True
            try:
                return real(*words, **named)
            finally:
                self.counting = False

        monkeypatch.setattr(procedure, "rollback", begun)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*words: Any, **named: Any) -> Any:
            self._instant()
            result = function(*words, **named)
            self._instant()
            return result

        return wrapped

    def _instant(self) -> None:
        self.count += self.counting
        if self.counting and self.count == self.at:
            self.counting = False  # what happens is not a part of it
            self.happens()
            self.counting = True


def assert_rollback_recovers(site: Site, mortal: ScratchServer, at: int, way: str, *, back: bool) -> None:
    before = rollbacks.world(site)
    with pytest.MonkeyPatch.context() as monkeypatch:
        Instants(at, dying(mortal, back=back)).arrange(monkeypatch)
        answer = site.run(*rollbacks.WORDS)
    mortal.start()
    for _ in range(40):  # were the ids of what was lost given away again, these would be mistaken for it
        site.sql("begin; create temp table burnt (); commit; drop table burnt")
    if answer.code == 0:
        return rollbacks.assert_rolled_back(site)
    assert answer.code == 4, answer.err
    went = site.run("rollback", way, "--yes", "--json")
    assert went.code in (0, 11), went.err
    if went.code == 11 or way == "--abort":  # 11: before it was begun, or it ended as having changed nothing
        assert rollbacks.world(site) == before
        return None
    rollbacks.assert_rolled_back(site)
    return None


@pytest.mark.parametrize(("at", "way"), [(40, "--resume"), (64, "--abort"), (88, "--resume")])
def test_rollback(site: Site, mortal: ScratchServer, at: int, way: str) -> None:
    assert_rollback_recovers(site, mortal, at, way, back=True)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("back", [True, False], ids=["bounced", "gone"])
@pytest.mark.parametrize("at", range(3, 150, 7))
def test_rollback_at_every_seventh_instant(site: Site, mortal: ScratchServer, at: int, way: str, back: bool) -> None:
    assert_rollback_recovers(site, mortal, at, way, back=back)
