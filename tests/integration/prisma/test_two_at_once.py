"""Two operators on one database: the first goes through, the second is told who that is. And after one who was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.errors import Busy
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.restore.locking import procedure_lock
from tests import emergencies
from tests.desk import Run, wait_until
from tests.emergencies import Scene
from tests.integration.prisma.conftest import INIT, PROFILE, WALLET, Site

pytestmark = pytest.mark.long

NEXT = "20260401000000_add_note"
COMMANDS = {
    "rollback": ("rollback", "--migration", WALLET, "--strategy", "reverse", "--yes", "--json"),
    "emergency": ("emergency", "--migration", WALLET, "--yes", "--json"),
    "deploy": ("deploy", "--yes", "--json"),
    "untrack": ("untrack", "--migration", WALLET, "--yes", "--json"),
}
# Stands still in the middle of what it does, until it is let go.
HELD = """
import pathlib, sys, time
from naap_ops.prisma import untrack
from naap_ops.procedure.journal import Journal

def wait():
    pathlib.Path("here").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)

note, books = Journal.note, untrack._books
def noted(self, event, **facts):
    note(self, event, **facts)
    name, state = facts.get("name", ""), facts.get("state")
    if event == "step" and state == "begun" and (name in ("folder", "migrate") or " in " in name):
        wait()
def booked(*words):
    wait()
    return books(*words)
Journal.note, untrack._books = noted, booked
from naap_ops.cli import main
main(["naap-ops", *sys.argv[1:]])
"""


@pytest.fixture
def scene(any_server: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    """With a reverse at hand, and a migration that is pending."""
    with emergencies.scene(any_server, tmp_path) as scene:
        made = scene.run("reverse", "--migration", WALLET, "--from", "history")
        assert made.code == 0, made.err
        scene.add(NEXT, 'CREATE TABLE "Note" ("id" INTEGER NOT NULL);\n')
        yield scene


def held(scene: Scene, command: str) -> subprocess.Popen[str]:
    child = scene.spawn("-c", HELD, *COMMANDS[command], argv0=(sys.executable,))
    wait_until(lambda: (scene.folder / "here").exists() or child.poll() is not None)
    assert child.poll() is None, child.communicate()
    return child


def let_go(scene: Scene) -> None:
    (scene.folder / "go").touch()


def assert_done(scene: Scene, command: str) -> None:
    """As if it had been alone."""
    wallet, note = (scene.ask(f"select to_regclass('\"{name}\"') is not null") for name in ("Wallet", "Note"))
    there = [INIT, PROFILE, *([WALLET] if command == "deploy" else [])]
    assert scene.folders == [*there, NEXT]
    assert scene.books == [*there, *([NEXT] if command == "deploy" else [])]
    assert (wallet, note) == (command in ("deploy", "untrack"), command == "deploy")
    assert scene.users == (3 if command == "emergency" else 5)


@pytest.mark.parametrize("second", COMMANDS)
@pytest.mark.parametrize("first", COMMANDS)
def test_two_at_once(scene: Scene, first: str, second: str) -> None:
    child = held(scene, first)
    refused = scene.run(*COMMANDS[second])
    assert refused.code == Busy.exit_code, refused.err
    assert f"naap_ops {first} {child.pid}@" in refused.json["message"]
    let_go(scene)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err + out
    assert_done(scene, first)
    assert scene.run(*COMMANDS[second]).code in (0, 17)  # nothing is held any more: there is nothing left to take back


@pytest.mark.parametrize("first", ["rollback", "emergency"])
def test_a_restore_meanwhile(scene: Scene, first: str) -> None:
    """It would put the database away under the other's hands."""
    child = held(scene, first)
    refused = scene.run("restore", "--swap", "--yes", "--json")
    let_go(scene)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err + out
    if first == "rollback":  # an emergency has the database refuse connections
        assert refused.code == Busy.exit_code, refused.err
        assert f"naap_ops rollback {child.pid}@" in refused.json["message"]
    assert refused.code != 0
    assert_done(scene, first)


@pytest.mark.parametrize("second", COMMANDS)
@pytest.mark.parametrize("first", ["rollback", "emergency"])
def test_after_one_who_was_killed(scene: Scene, first: str, second: str) -> None:
    """Whatever comes next is told to end that first, and how."""
    child = held(scene, first)
    child.send_signal(signal.SIGKILL)
    child.wait()
    refused = scene.run(*COMMANDS[second])
    assert refused.code == 17, refused.err
    assert "unfinished" in refused.json["message"]
    assert f"invoke {first} --resume" in refused.json["hint"]
    resumed: Run = scene.run(first, "--resume", "--yes", "--json")
    assert resumed.code == 0, resumed.err
    assert_done(scene, first)


def test_two_that_start_at_the_same_moment(scene: Scene) -> None:
    """Of four of a kind one does it; the others are told that somebody is at it, or that it is done."""
    children = [scene.spawn(*COMMANDS["rollback"]) for _ in range(4)]
    ends = sorted((child.communicate(timeout=120), child.returncode)[1] for child in children)
    assert ends[0] == 0
    assert set(ends[1:]) <= {15, 17, 23}
    assert_done(scene, "rollback")


def test_what_a_procedure_starts_is_a_part_of_it(scene: Scene) -> None:
    """Services that deploy when they start: the emergency that starts them is not in their way."""
    program = Path(sys.executable).with_name("naap-ops")
    scene.commands(f'if [ "$1" = start ]; then "{program}" deploy --no-backup --yes || exit 1; fi')
    answer = scene.run(*COMMANDS["emergency"])
    assert answer.code == 0, answer.err
    assert scene.books == [INIT, PROFILE, NEXT]


# --- the lock itself --------------------------------------------------------------------------------------------------


def test_the_lock_is_given_back_and_its_holder_named(site: Site) -> None:
    assert site.info is not None
    name = site.info.dbname or ""
    with procedure_lock(site.info, name, "emergency"):
        with pytest.raises(Busy, match=r"a procedure on .* is already running: naap_ops emergency \d+@"), \
                procedure_lock(site.info, name, "deploy"):  # fmt: skip
            pytest.fail("it was let in")
        with procedure_lock(site.info, f"{name}_other", "deploy"):
            pass
    with procedure_lock(site.info, name, "deploy"):
        pass


def test_a_lost_lock_is_taken_again_or_missed(site: Site) -> None:
    """Its session ended: taken again when nobody has it, and when somebody has, that is told."""
    assert site.info is not None
    name = site.info.dbname or ""

    def end_session() -> None:
        query = (
            "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where application_name like 'naap_ops mine %'"
        )
        assert site.ask(query) == 1

    with procedure_lock(site.info, name, "mine") as lock:
        lock.keep()
        end_session()
        lock.keep()
        with pytest.raises(Busy), procedure_lock(site.info, name, "other"):
            pytest.fail("it was let in")
        end_session()
        with procedure_lock(site.info, name, "other"), pytest.raises(Busy, match="naap_ops other"):
            lock.keep()


def test_a_user_of_one_database_does_without(site: Site) -> None:
    """Who may connect nowhere else can take no lock there; and can restore nothing, which is what the lock keeps apart."""
    assert site.info is not None
    role = f"{site.info.dbname}_only"
    site.sql(f"create role {role} login", "revoke connect on database postgres, template1 from public")
    try:
        only = type(site.info)(site.info.host, site.info.port, role, site.info.dbname)
        with procedure_lock(only, only.dbname or "", "rollback", needed=False) as lock:
            lock.keep()
    finally:
        site.sql("grant connect on database postgres, template1 to public", f"drop role {role}")
