"""A restore killed outright, with all it had started: the live database is whole, old or new, and the next restore works."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from tests import restored
from tests.desk import Desk, Run, wait_until

WORDS = ("restore", "--swap", "--yes", "--json")
PATIENCE = {"NAAP_OPS_RESTORE__LOCK_TIMEOUT": "60s"}
SEED = 20261121


@pytest.fixture
def desk(any_server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    """With a backup that says ``old`` and a live database that says ``new`` and has rows of its own."""
    with restored.swept(any_server.info):
        desk = restored.desk_with_rows(Desk(tmp_path, restored.create(any_server.info, restored.NAME)), rows=20_000)
        desk.sql(restored.HELD)
        desk.backup()
        desk.sql("update word set w = 'new'", "insert into t values (0, 'since')")
        yield desk


def kill(child: subprocess.Popen[str]) -> None:
    """The whole process group, as when a machine's supervisor has had enough."""
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)


def assert_whole(desk: Desk) -> str:
    """The live database is the old one or the new one, complete. Which."""
    word = desk.ask("select w from word")
    assert desk.ask("select count(*) from t") == {"old": 20_000, "new": 20_001}[word]
    assert desk.ask("select count(*) from r") == 20_000
    return str(word)


def assert_recovers(desk: Desk) -> None:
    """The next restore goes through and leaves nothing of the dead one; undo brings back what was live."""
    assert desk.info is not None
    runs: list[Run] = []

    def done() -> bool:
        runs.append(desk.run(*WORDS))
        return runs[-1].code != 15  # the server may still be at the dead one's last statement

    was = assert_whole(desk)
    kept = restored.ours(desk.info, "before")
    wait_until(done)
    assert runs[-1].code == 0, runs[-1].err
    assert assert_whole(desk) == "old"
    assert restored.ours(desk.info, "restore") == []
    assert len(restored.ours(desk.info, "before")) == len(kept) + 1
    assert [name for name in restored.databases(desk.info) if name.startswith("naap_ops_swap")] == []
    assert desk.run("restore.undo", "--yes").code == 0
    assert assert_whole(desk) == was


def _never_held(_: ConnInfo) -> AbstractContextManager[None]:
    return nullcontext()


# What keeps it at a place, and how it is known to have come there.
PLACES: dict[str, tuple[Callable[[ConnInfo], AbstractContextManager[object]], Callable[[ConnInfo], object]]] = {
    "aside made": (restored.load_held, lambda info: restored.ours(info, "restore")),
    "loading": (restored.load_held, restored.loading),
    "swapping": (restored.swap_held, restored.swapping),
    "swapped": (_never_held, lambda info: restored.ours(info, "before")),
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_a_place(desk: Desk, place: str) -> None:
    assert desk.info is not None
    hold, come = PLACES[place]
    with hold(desk.info):
        child = desk.spawn(*WORDS, environ=PATIENCE)
        wait_until(lambda: come(desk.info), poll=0.002)  # type: ignore[arg-type]
        kill(child)
        if place == "loading":
            assert assert_whole(desk) == "new"
            assert len(restored.ours(desk.info, "restore")) == 1
            # The load goes on in the server without anybody: it does not keep the next restore from sweeping.
            swept = desk.run("restore", "--swap", "--dry-run", "--json").json["plan"]
            assert any(line.startswith("drop ") for line in swept)
    assert assert_whole(desk) == ("old" if place == "swapped" else "new")
    assert_recovers(desk)


def _asides(desk: Desk) -> set[int]:
    assert desk.info is not None
    return restored.oids(desk.info, restored.ours(desk.info, "restore"))


def test_a_load_that_outlives_its_restore_is_ended_by_the_next(desk: Desk) -> None:
    assert desk.info is not None
    with restored.load_held(desk.info):
        child = desk.spawn(*WORDS)
        wait_until(lambda: restored.loading(desk.info))  # type: ignore[arg-type]
        kill(child)
        [left] = _asides(desk)
        second = desk.spawn(*WORDS)
        # By oid: the second's own may have got the first's name, if all of this happened within one second.
        wait_until(lambda: _asides(desk) not in ({left}, set()))
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert restored.ours(desk.info, "restore") == []
    assert assert_whole(desk) == "old"


def test_the_leftover_of_one_database_is_not_anothers(desk: Desk, tmp_path: Path) -> None:
    """Neither that of a longer name, nor what somebody made by hand under such a name."""
    assert desk.info is not None
    by_hand = restored.create(desk.info, f"{restored.NAME}__restore_20260101T000000Z")
    Desk(tmp_path, by_hand).sql("create table precious ()")
    with restored.load_held(desk.info):
        child = desk.spawn(*WORDS)
        wait_until(lambda: restored.loading(desk.info))  # type: ignore[arg-type]
        kill(child)
        left = restored.ours(desk.info, "restore")
        assert len(left) == 2
    other = tmp_path / "other"
    other.mkdir()
    shorter = restored.desk_with_rows(Desk(other, restored.create(desk.info, restored.NAME[:-1])))
    shorter.backup()
    assert shorter.run(*WORDS).code == 0
    assert restored.ours(desk.info, "restore") == left
    wait_until(lambda: desk.run(*WORDS).code == 0)
    assert restored.ours(desk.info, "restore") == [by_hand.dbname]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_at_twenty_instants(desk: Desk) -> None:
    """Spread evenly over what a whole restore takes, each moved a little at random; the tests above wait for each place."""
    assert desk.info is not None
    chance = random.Random(SEED)
    began = time.monotonic()
    assert desk.program(*WORDS).code == 0
    took = time.monotonic() - began
    assert desk.run("restore.undo", "--yes").code == 0
    for number in range(20):
        child = desk.spawn(*WORDS)
        time.sleep(took * (number + chance.random()) / 20)
        kill(child)
        assert_whole(desk)
        assert_recovers(desk)
        if desk.ask("select w from word") == "old":
            assert desk.run("restore.undo", "--yes").code == 0
        for kept in desk.run("restore.kept", "--json").json["kept"]:
            if desk.ask("select w from word") == "new":
                assert desk.run("restore.drop-old", kept["name"], "--yes").code == 0
