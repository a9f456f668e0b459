"""An emergency killed outright at every boundary of its steps: --resume ends as if nothing had been, --abort as before it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import emergencies
from tests.desk import Run, wait_until
from tests.emergencies import Scene

pytestmark = pytest.mark.long

WORDS = ("emergency", "--migration", "wallet", "--yes", "--json")
STEPS = (
    "check",
    "load",
    "maintenance_on",
    "services_stop",
    "folder",
    "swap",
    "untrack",
    "verify",
    "services_start",
    "maintenance_off",
    "record",
)
# Dies, with all it has started, once the journal says that a step is in a state, or just before it would say so.
DYING = """
import os, signal, sys
from naap_ops.procedure.journal import Journal
step, state, early = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1) == "early"
note = Journal.note
def noted(self, event, **facts):
    here = event == "step" and (facts["name"], facts["state"]) == (step, state)
    if here and early:
        os.killpg(0, signal.SIGKILL)
    note(self, event, **facts)
    if here:
        os.killpg(0, signal.SIGKILL)
Journal.note = noted
if step == "half loaded":
    from naap_ops.restore import aside
    aside._check = lambda *_: os.killpg(0, signal.SIGKILL)
if step == "half moved":
    from naap_ops.prisma.archive import Entry
    Entry.take = lambda *_: os.killpg(0, signal.SIGKILL)
if step == "between renames and commit":
    from naap_ops.restore import aside
    aside.open_to_all = lambda *_: os.killpg(0, signal.SIGKILL)
if step == "renamed":
    from naap_ops.postgres import swap
    rename = swap._rename
    def renamed(*words):
        rename(*words)
        os.killpg(0, signal.SIGKILL)
    swap._rename = renamed
from naap_ops.cli import main
main(["naap-ops", *sys.argv[1:]])
"""
PLACES = [(step, state) for step in STEPS for state in ("begun", "done")]
FEW = [("load", "done"), ("folder", "done"), ("swap", "done"), ("half loaded", ""), ("half moved", "")]
SWAPPING = [("between renames and commit", ""), ("renamed", "")]
ALL = [*(place for place in PLACES if place not in FEW)]


@pytest.fixture
def scene(any_server: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    with emergencies.scene(any_server, tmp_path) as scene:
        yield scene


def die(scene: Scene, step: str, state: str, *words: str) -> None:
    moment = "late" if state in ("begun", "undoing") else "early"
    run = scene.program("-c", DYING, step, state, moment, *words, argv0=(sys.executable,))
    assert run.code == -signal.SIGKILL, run.err


def go_on(scene: Scene, *words: str) -> Run:
    """The dead one's sessions end a moment after it."""
    runs: list[Run] = []

    def through() -> bool:
        runs.append(scene.run("emergency", *words, "--yes", "--json"))
        return runs[-1].code != 15

    wait_until(through)
    assert runs[-1].code == 0, runs[-1].err
    return runs[-1]


def assert_recovers(scene: Scene, step: str, state: str, way: str) -> None:
    scene.commands()
    die(scene, step, state, *WORDS)
    wait_until(lambda: (refused := scene.run(*WORDS)).code != 15 and refused.code == 17)
    answer = go_on(scene, way)
    if way == "--resume":
        scene.assert_taken_back()
        assert list(dict.fromkeys(scene.said)) == ["on", "stop", "start", "off"]
        assert {each["state"] for each in answer.json["steps"]} == {"done"}
    else:
        scene.assert_before()
        assert scene.said[-2:] in ([], ["off"], ["start", "off"], ["on", "off"])
    assert scene.accepts()
    assert Path(answer.json["record"]).is_file()


@pytest.mark.parametrize("way", ["--resume", "--abort"])
@pytest.mark.parametrize(("step", "state"), [*FEW, *SWAPPING])
def test_killed(scene: Scene, step: str, state: str, way: str) -> None:
    assert_recovers(scene, step, state, way)


@pytest.mark.long
@pytest.mark.parametrize("way", ["--resume", "--abort"])
@pytest.mark.parametrize(("step", "state"), ALL)
def test_killed_elsewhere(scene: Scene, step: str, state: str, way: str) -> None:
    assert_recovers(scene, step, state, way)


@pytest.mark.parametrize("way", ["--resume", "--abort"])
def test_killed_while_connections_are_refused(scene: Scene, way: str) -> None:
    """Without commands: whoever goes on cannot connect to the live database."""
    die(scene, "folder", "begun", *WORDS)
    assert not scene.accepts()
    go_on(scene, way)
    assert scene.accepts()
    if way == "--resume":
        scene.assert_taken_back()
    else:
        scene.assert_before()


def test_an_abort_killed_as_it_swaps_back(scene: Scene) -> None:
    scene.commands()
    die(scene, "untrack", "done", *WORDS)
    wait_until(lambda: scene.run(*WORDS).code == 17)
    die(scene, "renamed", "", "emergency", "--abort", "--yes")
    go_on(scene, "--abort")
    scene.assert_before()


@pytest.mark.long
@pytest.mark.parametrize("state", ["undoing", "undone"])
@pytest.mark.parametrize("step", ["swap", "folder", "load", "services_stop", "maintenance_on"])
def test_an_abort_killed_is_gone_on_with(scene: Scene, step: str, state: str) -> None:
    scene.commands()
    die(scene, "untrack", "done", *WORDS)
    wait_until(lambda: scene.run(*WORDS).code == 17)
    die(scene, step, state, "emergency", "--abort", "--yes")
    wait_until(lambda: scene.run(*WORDS).code == 17)
    assert scene.run("emergency", "--resume", "--yes").code == 17
    go_on(scene, "--abort")
    scene.assert_before()
