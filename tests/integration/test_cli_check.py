"""`invoke check`: one line and an exit code for monitoring, JSON for programs."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from naap_ops.backup.repository import Backup
from naap_ops.postgres.url import to_url
from tests.desk import Desk


@pytest.fixture
def backed_up(at_work: Desk) -> Desk:
    at_work.backup()
    return at_work


def the_only(desk: Desk) -> Backup:
    (backup,) = desk.listed()
    return backup


def older(desk: Desk, hours: float) -> Backup:
    """Instead of the backup just made, one of so many hours ago."""
    made = the_only(desk)
    aged = desk.aged(made, timedelta(hours=hours))
    shutil.rmtree(desk.path(made))
    return aged


@pytest.mark.parametrize(("hours", "code", "word"), [(1, 0, "OK"), (30, 1, "WARN"), (60, 2, "CRIT")])
def test_the_age_of_the_newest_verified(backed_up: Desk, hours: float, code: int, word: str) -> None:
    backup = older(backed_up, hours)
    answer = backed_up.run("check")
    assert (answer.code, answer.err) == (code, "")
    assert answer.out.startswith(f"{word} {backup.alias}: ")
    assert answer.out.count("\n") == 1
    assert f"{backup.id} is {hours} h old" in answer.out
    assert f"s;93600;172800 size={backup.sound.bytes}B\n" in answer.out
    told = backed_up.run("check", "--json")
    assert (told.code, told.json["status"]) == (code, word)
    assert hours * 3600 <= told.json["age_seconds"] < hours * 3600 + 120
    assert len(told.json["reasons"]) == (code > 0)
    assert (told.json["id"], told.json["database"]) == (backup.id, backup.alias)


def test_limits_come_from_the_settings(backed_up: Desk) -> None:
    older(backed_up, 30)
    assert backed_up.run("check", NAAP_OPS_CHECK__WARN_AGE="31h").code == 0
    assert backed_up.run("check", NAAP_OPS_CHECK__CRIT_AGE="29h").code == 2
    assert backed_up.run("check", NAAP_OPS_CHECK__DRILL_AGE="7d", NAAP_OPS_CHECK__WARN_AGE="31h").code == 1


def test_quiet_when_well_one_line_when_not(backed_up: Desk) -> None:
    answer = backed_up.run("check", "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    older(backed_up, 30)
    answer = backed_up.run("check", "--quiet")
    assert (answer.code, answer.out.count("\n"), answer.err) == (1, 1, "")


def test_a_backup_found_bad_and_a_failed_drill(backed_up: Desk) -> None:
    backup = the_only(backed_up)
    backup.add_record("drilled", ok=False, seconds=1.0, rows=0, tables=1)
    assert backed_up.run("check").code == 2
    backup.add_record("drilled", ok=True, seconds=1.0, rows=3, tables=1)
    assert backed_up.run("check").code == 0
    (backed_up.path(backup) / "globals.sql").write_text("-- changed\n")
    assert backed_up.run("backup.verify", "latest", "--grade", "hash").code == 13
    answer = backed_up.run("check")
    assert answer.code == 2
    assert "BAD: globals.sql" in answer.out


def test_no_backup(at_work: Desk) -> None:
    answer = at_work.run("check", "--json")
    assert (answer.code, answer.json["status"], answer.json["age_seconds"]) == (2, "CRIT", None)
    assert answer.json["reasons"] == [f"there is no backup in {at_work.repo}"]
    assert not at_work.repo.exists()


@pytest.mark.parametrize("repo", ["a_file", "s3x://bucket/x", "a\0b"])
def test_a_repository_that_cannot_be_read(at_work: Desk, repo: str) -> None:
    (at_work.folder / "a_file").write_text("")
    answer = at_work.run("check", "--json", "--repo", repo)
    assert (answer.code, answer.json["status"]) == (2, "CRIT")
    assert answer.json["reasons"][0]
    assert "Traceback" not in answer.err
    assert at_work.run("check", "--all-databases", "--repo", repo).code == 2


def test_settings_that_cannot_be_used(at_work: Desk) -> None:
    at_work.settings("repositry = 3\n")
    answer = at_work.run("check", "--json")
    assert (answer.code, answer.json["status"]) == (2, "CRIT")
    assert "repositry" in answer.json["reasons"][0]


def test_flags_that_do_not_fit_are_critical_too(at_work: Desk) -> None:
    """Whatever keeps it from answering: a monitoring system must not take it for OK or WARN."""
    answer = at_work.run("check", "--all-databases", "--database", "x", "--json")
    assert (answer.code, answer.json["error"]) == (2, "UsageError")


def test_without_a_server(backed_up: Desk) -> None:
    """On a machine that has only the repository."""
    alias = the_only(backed_up).alias
    backed_up.info = None
    answer = backed_up.run("check", "--json")
    assert (answer.code, answer.json["database"]) == (0, alias)


def test_several_databases(backed_up: Desk) -> None:
    alias, info = the_only(backed_up).alias, backed_up.info
    assert info is not None
    backed_up.settings(f'[databases.{alias}]\nurl = "{to_url(info)}"\n[databases.other]\nurl = "{to_url(info)}"\n')
    assert backed_up.run("check").code == 2  # which?
    assert backed_up.run("check", "--database", alias).code == 0
    answer = backed_up.run("check", "--all-databases", "--json")
    assert (answer.code, answer.json["status"]) == (2, "CRIT")
    assert answer.json["reasons"] == [f"other: there is no backup in {backed_up.repo}"]
    assert {name: each["status"] for name, each in answer.json["databases"].items()} == {alias: "OK", "other": "CRIT"}
    assert [line.split()[0] for line in backed_up.run("check", "--all-databases").out.splitlines()] == ["OK", "CRIT"]


def test_all_that_the_repository_holds(backed_up: Desk) -> None:
    alias = the_only(backed_up).alias
    shutil.copytree(backed_up.repo / alias, backed_up.repo / "stray")
    answer = backed_up.run("check", "--all-databases", "--json")
    assert set(answer.json["databases"]) == {alias, "stray"}
    backed_up.info = None
    which = backed_up.run("check")
    assert which.code == 2
    assert "--database" in which.err
