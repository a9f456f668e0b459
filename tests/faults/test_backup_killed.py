"""Killed at any instant, a backup leaves nothing that looks like one, and the next run clears away what it left."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import pytest

from naap_ops.backup.verify import file_problems
from tests.desk import PROGRAM, Desk, command_lines, wait_until

DUMPING = "select count(*) from pg_stat_activity where query like 'COPY%' and state = 'active' and datname = current_database()"
OURS = "select count(*) from pg_stat_activity where application_name like 'naap_ops %' and datname = current_database()"


def alone(desk: Desk) -> bool:
    """Whether the server has noticed that all sessions of killed runs are gone."""
    return bool(desk.ask(OURS + " and pid <> pg_backend_pid() and application_name <> 'naap_ops'") == 0)


def sound(desk: Desk) -> list[str]:
    """Ids of what is listed, each of which must be whole."""
    for backup in desk.listed():
        assert list(file_problems(desk.path(backup), backup.sound)) == [], backup.id
    return [backup.id for backup in desk.listed()]


def kill_at_random(desk: Desk, times: int, seed: int) -> None:
    first = desk.program("backup", "--json")
    assert first.code == 0, first.err
    began = time.monotonic()
    assert desk.program("backup").code == 0
    length = time.monotonic() - began
    dice = random.Random(seed)
    done = sound(desk)
    assert len(done) == 2
    for number in range(times):
        child = desk.spawn("backup")
        # Spread over the whole run, from its start to a little past its end.
        time.sleep(length * 1.1 * (number + dice.random()) / times)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        now = sound(desk)
        assert set(done) <= set(now)
        assert len(now) - len(done) == (child.returncode == 0) or len(now) - len(done) == 1
        assert not {name.removesuffix(".partial") for name in desk.leftovers()} & set(now)
        listed = desk.run("backup.list", "--json").json["backups"]
        assert [b["id"] for b in listed] == now
        done = now
    wait_until(lambda: alone(desk))
    last = desk.run("backup", "--json")
    assert last.code == 0, last.err
    assert desk.leftovers() == []
    assert sound(desk) == [last.json["id"], *done]


def test_at_four_instants(big: Desk) -> None:
    big.settings("[backup]\njobs = 2\ncompression = 'gzip:1'\n")
    kill_at_random(big, 4, 1)


@pytest.mark.long
@pytest.mark.parametrize("format", ["directory", "custom", "plain"])
def test_at_twenty_instants(big: Desk, format: str) -> None:
    big.settings(f"[backup]\njobs = 2\nformat = '{format}'\n")
    kill_at_random(big, 20, 2)


# Takes backups one after another, each in a process that dies before its n-th change to the disk after publishing began.
STEPS = """
import itertools, json, os, signal, sys
from naap_ops.app import App
from naap_ops.backup.verify import file_problems
from naap_ops.cli import main
from naap_ops.events import Events
from naap_ops.storage import local

CHANGES = ("rename", "fsync", "chmod", "unlink", "open", "replace", "mkdir", "rmdir")

def die_before(number):
    count = itertools.count(1)
    def counted(name, real):
        def call(*words, **options):
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **options)
        return call
    for name in CHANGES:
        setattr(os, name, counted(name, getattr(os, name)))

publish = local.LocalStaging.publish

def begin(self, *words):
    die_before(number)
    publish(self, *words)

local.LocalStaging.publish = begin
for number in itertools.count(1):
    child = os.fork()
    if child == 0:
        main(["naap-ops", "backup", "--format", "custom", "--quiet"])
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    app = App.load({}, settings_file=None, events=Events())
    backups = app.repository.backups()
    local_paths = [(b, local.Path(b.url)) for b in backups]
    problems = [p for b, path in local_paths for p in file_problems(path, b.sound)]
    print(json.dumps({"status": status, "listed": [b.id for b in backups], "problems": problems}), flush=True)
    if status == 0:
        break
"""


def test_between_any_two_steps_of_publishing(desk: Desk) -> None:
    desk.sql("create table t as select generate_series(1, 10) i")
    driver = desk.folder / "steps.py"
    driver.write_text(STEPS)
    child = desk.spawn(argv0=(sys.executable, str(driver)))
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    steps = [json.loads(line) for line in out.splitlines()]
    assert len(steps) > 12
    assert [step["status"] for step in steps] == [-signal.SIGKILL] * (len(steps) - 1) + [0]
    assert [step["problems"] for step in steps] == [[]] * len(steps)
    listed = [len(step["listed"]) for step in steps]
    # Nothing is listed until the manifest has its name; from then on each run adds one.
    appears = listed.index(1)
    assert listed[:appears] == [0] * appears
    assert listed[appears:] == list(range(1, len(listed) - appears + 1))
    assert appears >= 8
    wait_until(lambda: alone(desk))
    assert desk.run("backup", "--json").code == 0
    assert desk.leftovers() == []
    assert len(sound(desk)) == listed[-1] + 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whom", ["process", "group"])
def test_asked_to_end(big: Desk, number: signal.Signals, whom: str) -> None:
    child = big.spawn("backup", "--json")
    wait_until(lambda: big.ask(f"{DUMPING} and application_name like 'naap_ops pg_dump {child.pid}@%'"))
    (os.kill if whom == "process" else os.killpg)(child.pid, number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert json.loads(out.splitlines()[-1])["code"] == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not any(str(big.repo).encode() in words for words in command_lines())  # pg_dump ended before us
    assert big.leftovers() == []
    assert big.listed() == []
    wait_until(lambda: alone(big))


def test_nohup_is_respected(big: Desk) -> None:
    child = big.spawn("backup", argv0=("nohup", PROGRAM))
    wait_until(lambda: big.ask(f"{DUMPING} and application_name like 'naap_ops pg_dump {child.pid}@%'"))
    os.killpg(child.pid, signal.SIGHUP)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert len(big.listed()) == 1
