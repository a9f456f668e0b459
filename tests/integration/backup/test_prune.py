"""`backup.prune` on a real repository: dry unless told otherwise, never the last good ones, nothing that is not its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from naap_ops.backup.repository import Backup
from tests.desk import Desk

DAY = timedelta(days=1)

# Ends this process, as SIGKILL does, when a set's files are about to go: after the manifest, before the data.
KILLED = """
import os, signal, sys
from naap_ops import files
from naap_ops.cli import main
from naap_ops.storage import local

def die(folder):
    assert not (folder / "manifest.json").exists()
    os.kill(os.getpid(), signal.SIGKILL)

local._discard = die
main(["naap-ops", *sys.argv[1:]])
"""


@pytest.fixture
def week(any_desk: Desk) -> list[Backup]:
    """Backups of today, and of each of the six days before, newest first."""
    any_desk.sql("create table t as select 1 i")
    newest = any_desk.backup(backup__format="custom")
    return [newest, *(any_desk.aged(newest, DAY * days) for days in range(1, 7))]


def ids(backups: list[Backup]) -> list[str]:
    return [b.id for b in backups]


def left(desk: Desk) -> list[str]:
    return ids(desk.listed())


def test_it_is_dry_unless_told_otherwise(any_desk: Desk, week: list[Backup]) -> None:
    answer = any_desk.run("backup.prune", "--keep-last", "2", "--keep-min", "1", "--json")
    assert answer.code == 0
    assert answer.json["removed"] == []
    assert answer.json["would_remove"] == ids(week)[2:]
    assert [(d["id"], d["keep"]) for d in answer.json["decisions"]] == [(id, i < 2) for i, id in enumerate(ids(week))]
    assert all(d["reasons"] for d in answer.json["decisions"])
    assert "--yes removes 5" in answer.err
    assert left(any_desk) == ids(week)


def test_yes_removes_and_every_decision_has_its_reason(any_desk: Desk, week: list[Backup]) -> None:
    answer = any_desk.run("backup.prune", "--keep-last", "2", "--keep-min", "1", "--yes")
    assert answer.code == 0
    lines = [line for line in answer.out.splitlines() if line[:4].isdigit()]
    assert [line.split()[0] for line in lines] == ids(week)
    assert ["keep" in line and "last" in line for line in lines] == [True, True, *[False] * 5]
    assert ["remove" in line and "no rule keeps it" in line for line in lines] == [False, False, *[True] * 5]
    assert left(any_desk) == ids(week)[:2]
    assert any_desk.leftovers() == []


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (("--keep-daily", "3"), [0, 1, 2]),
        (("--keep-last", "1", "--keep-daily", "2"), [0, 1]),
        (("--keep-yearly", "1"), [0]),
        (("--keep-last", "0", "--keep-min", "4"), [0, 1, 2, 3]),
        ((), list(range(7))),  # the settings' own rules
    ],
)
def test_the_rules(any_desk: Desk, week: list[Backup], words: tuple[str, ...], kept: list[int]) -> None:
    floor = () if "--keep-min" in words or not words else ("--keep-min", "1")
    assert any_desk.run("backup.prune", *words, *floor, "--yes").code == 0
    assert left(any_desk) == [ids(week)[i] for i in kept]


def test_settings_rule_where_no_flag_does(any_desk: Desk, week: list[Backup]) -> None:
    any_desk.settings("[retention]\nkeep_last = 1\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0\nkeep_min = 2\n")
    assert any_desk.run("backup.prune", "--yes").code == 0
    assert left(any_desk) == ids(week)[:2]


@pytest.mark.parametrize("words", [("--keep-last", "-1"), ("--keep-last", "many"), ("--keep-daily", "1.5")])
def test_numbers_that_are_none(any_desk: Desk, week: list[Backup], words: tuple[str, ...]) -> None:
    assert any_desk.run("backup.prune", f"{words[0]}={words[1]}", "--yes").code == 2
    assert left(any_desk) == ids(week)


def test_nothing_goes_while_the_newest_good_one_is_too_old(any_desk: Desk, week: list[Backup]) -> None:
    """Backups have been failing for days, and retention goes on: how others lost their good ones."""
    for young in week[:3]:
        (any_desk.path(young) / "backup.dump").write_bytes(b"")
        assert any_desk.run("backup.verify", young.id).code == 13
    answer = any_desk.run("backup.prune", "--keep-last", "1", "--keep-min", "1", "--yes", "--json")
    assert answer.code == 0
    assert answer.json["removed"] == []
    assert {reason for d in answer.json["decisions"] for reason in d["reasons"] if reason.startswith("refused")} == {
        "refused: the newest verified backup is 72 h old, more than 48 h"
    }
    assert left(any_desk) == ids(week)


def test_bad_ones_take_no_slot(any_desk: Desk, week: list[Backup]) -> None:
    (any_desk.path(week[0]) / "backup.dump").write_bytes(b"")
    assert any_desk.run("backup.verify", week[0].id).code == 13
    assert any_desk.run("backup.prune", "--keep-last", "2", "--keep-min", "1", "--yes").code == 0
    assert left(any_desk) == ids(week)[1:3]


def test_pinned_ones_stay(any_desk: Desk, week: list[Backup]) -> None:
    assert any_desk.run("backup.keep", week[5].id).code == 0
    assert any_desk.run("backup.prune", "--keep-last", "1", "--keep-min", "1", "--yes").code == 0
    assert left(any_desk) == [week[0].id, week[5].id]
    assert any_desk.run("backup.keep", week[5].id, "--release").code == 0
    assert any_desk.run("backup.prune", "--keep-last", "1", "--keep-min", "1", "--yes").code == 0
    assert left(any_desk) == [week[0].id]


def test_other_databases_and_other_kinds_are_left_alone(any_desk: Desk, week: list[Backup]) -> None:
    """`app` is not `app_staging`, and a backup of the structure is no reason to drop one of the rows."""
    structure = any_desk.backup(kind="schema")
    other = any_desk.path(week[0]).parent
    other.rename(other.with_name(other.name + "_staging"))
    assert any_desk.run("backup.prune", "--keep-last", "1", "--keep-min", "1", "--yes").code == 0
    assert len(left(any_desk)) == len(week) + 1
    assert any_desk.run("backup.prune", "--keep-last", "1", "--keep-min", "1", "--all-databases", "--yes").code == 0
    assert set(left(any_desk)) == {week[0].id, structure.id}


def test_foreign_files_are_not_touched(any_desk: Desk, week: list[Backup]) -> None:
    alias = any_desk.path(week[0]).parent
    foreign = [
        any_desk.repo / "README.txt",
        any_desk.repo / "photos" / "holiday.jpg",
        alias / "notes.txt",
        alias / "by hand" / "dump.sql",
        alias / "20200101T000000Z-abcdef" / "backup.dump",  # looks like one of ours, but has no manifest and no lock
        alias / "20200101T000000Z-abcdef.partial" / "somebody.else",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs")
    assert any_desk.run("backup.prune", "--keep-last", "1", "--keep-min", "1", "--all-databases", "--yes").code == 0
    any_desk.backup()  # sweeps
    assert len(left(any_desk)) == 2
    assert [path.read_text() for path in foreign] == ["theirs"] * len(foreign)


def test_two_at_once(any_desk: Desk, week: list[Backup]) -> None:
    for days in range(7, 30):
        any_desk.aged(week[0], DAY * days)
    words = ("backup.prune", "--keep-last", "2", "--keep-min", "1", "--yes")
    both = [any_desk.spawn(*words) for _ in range(2)]
    ends = [(child.communicate(timeout=120), child.returncode) for child in both]
    assert {code for _, code in ends} <= {0, 15}, ends  # done, or the other one was seen at it
    assert 0 in {code for _, code in ends}
    assert any_desk.run(*words).code == 0
    assert left(any_desk) == ids(week)[:2]
    assert any_desk.leftovers() == []


def test_killed_between_manifest_and_data(any_desk: Desk, week: list[Backup]) -> None:
    driver = any_desk.folder / "killed.py"
    driver.write_text(KILLED)
    words = ("backup.prune", "--keep-last", "1", "--keep-min", "1", "--yes")
    child = any_desk.spawn(*words, argv0=(sys.executable, str(driver)))
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert len(any_desk.leftovers()) == 1
    assert len(left(any_desk)) == len(week) - 1
    assert any_desk.leftovers()[0] not in left(any_desk)
    assert any_desk.run("backup.show", any_desk.leftovers()[0].removesuffix(".partial")).code == 11
    newest = any_desk.backup()
    assert any_desk.leftovers() == []
    assert newest.id in left(any_desk)


def test_as_cron_would(any_desk: Desk, week: list[Backup]) -> None:
    """No terminal, no --yes: nothing is asked, nothing is removed, and that is no failure."""
    done = subprocess.run(
        [Path(sys.executable).with_name("naap-ops"), "backup.prune", "--keep-last", "1"],
        cwd=any_desk.folder,
        env=any_desk.environ,
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0
    assert left(any_desk) == ids(week)
