"""Several databases by name: each its own folder, one failing not in the others' way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import sql

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from tests.desk import Desk

NAMES = ("app", "app_staging")


@pytest.fixture
def two(any_server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    """Two configured databases, of which one alias is the beginning of the other, and a third that is not there."""
    urls = {}
    for number, name in enumerate(NAMES, start=1):
        database = f"test_databases_{name}"
        with closing(connect(any_server.info)) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database)))
            connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(database)))
        info = any_server.info.with_dbname(database)
        with closing(connect(info)) as connection:
            connection.execute(f"create table t as select generate_series(1, {number}) i; create schema org_acme".encode())
            connection.execute(b"create table org_acme.u as select 1 i")
        urls[name] = to_url(info)
    desk = Desk(tmp_path, None)
    desk.settings(
        f"[databases.app]\nurl = '{urls['app']}'\n[databases.app_staging]\nurl_env = 'STAGING_URL'\ntenant_schemas = 'org_*'\n"
    )
    desk.extra["STAGING_URL"] = urls["app_staging"]
    yield desk
    for name in NAMES:
        with closing(connect(any_server.info)) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(f"test_databases_{name}")))


def test_one_by_its_name(two: Desk) -> None:
    answer = two.run("backup", "--database", "app", "--json")
    assert (answer.code, answer.json["database"], answer.json["rows"]) == (0, "app", 2), answer.err
    assert [entry.name for entry in two.repo.iterdir()] == ["app"]


def test_none_by_accident(two: Desk) -> None:
    answer = two.run("backup", "--json")
    assert answer.code == 2
    assert "app, app_staging" in answer.json["message"]
    wrong = two.run("backup", "--database", "ap", "--json")
    assert wrong.code == 2
    assert "Did you mean app?" in wrong.json["hint"]


def test_all_of_them(two: Desk) -> None:
    answer = two.run("backup", "--all-databases", "--json")
    assert answer.code == 0, answer.err
    assert [(b["database"], b["rows"]) for b in answer.json["backups"]] == [("app", 2), ("app_staging", 3)]
    assert {b["database"] for b in two.run("backup.list", "--all-databases", "--json").json["backups"]} == set(NAMES)
    listed = two.run("backup.list", "--database", "app", "--json").json["backups"]
    assert [b["database"] for b in listed] == ["app"]


def test_the_latest_of_which(two: Desk) -> None:
    assert two.run("backup", "--all-databases").code == 0
    answer = two.run("backup.show", "latest", "--json")
    assert answer.code == 12
    assert "app, app_staging" in answer.json["message"]
    assert two.run("backup.show", "latest", "--database", "app", "--json").json["database"] == "app"


def test_one_of_them_failing(two: Desk) -> None:
    two.extra["STAGING_URL"] = two.extra["STAGING_URL"].replace("test_databases_app_staging", "gone")
    answer = two.run("backup", "--all-databases", "--json")
    assert answer.code == 21
    assert (answer.json["error"], answer.json["code"]) == ("Partial", 21)
    assert [(b["database"], b["rows"]) for b in answer.json["done"]] == [("app", 2)]
    assert {name: error["code"] for name, error in answer.json["failed"].items()} == {"app_staging": 6}
    assert "app_staging" in answer.json["message"]
    assert [b.alias for b in two.listed()] == ["app"]


def test_drills_of_all_of_them(two: Desk) -> None:
    """Each in its turn and each its own outcome; one that fails is no reason to leave out the next."""
    two.run("backup", "--all-databases")
    answer = two.run("drill", "--all-databases", "--json")
    assert answer.code == 0, answer.err
    told = [(d["database"], d["rows"], d["ok"]) for d in answer.json["drills"]]
    assert told == [("app", 2, True), ("app_staging", 3, True)]
    assert two.run("drill", "--all-databases", "--database", "app").code == 2

    [bad] = [b for b in two.listed() if b.alias == "app"]
    (two.path(bad) / "globals.sql").write_bytes(b"other")
    two.extra["NAAP_OPS_LOG__FILE"] = str(two.folder / "log")
    answer = two.run("drill", "--all-databases", "--json")
    assert (answer.code, answer.json["error"]) == (21, "Partial")
    assert [d["database"] for d in answer.json["done"]] == ["app_staging"]
    assert {name: error["code"] for name, error in answer.json["failed"].items()} == {"app": 13}
    *_, last = map(json.loads, (two.folder / "log").read_text().splitlines())
    assert (last["status"], [(p["database"], p["status"]) for p in last["parts"]]) == (
        "partial",
        [("app", "failed"), ("app_staging", "ok")],
    )
    assert {b.alias: b.drilled and b.drilled.data["ok"] for b in two.listed()} == {"app": False, "app_staging": True}


def test_a_variable_that_is_not_set(two: Desk) -> None:
    del two.extra["STAGING_URL"]
    answer = two.run("backup", "--all-databases", "--json")
    assert answer.code == 21
    assert answer.json["failed"]["app_staging"]["code"] == 3
    assert "STAGING_URL" in answer.json["failed"]["app_staging"]["message"]


def test_each_has_its_own_patterns(two: Desk) -> None:
    assert two.run("backup", "--database", "app_staging", "--tenant", "acme", "--json").json["rows"] == 1
    assert two.run("backup", "--database", "app", "--tenant", "acme").code == 2


def test_verify_and_keep_by_name(two: Desk) -> None:
    assert two.run("backup", "--all-databases").code == 0
    for words in (("backup.verify", "latest"), ("backup.keep", "latest")):
        assert two.run(*words, "--database", "app_staging", "--json").code == 0
    assert {b.alias: b.kept for b in two.listed()} == {"app": False, "app_staging": True}


def test_the_only_one_there_is_by_all(any_server: ScratchServer, tmp_path: Path) -> None:
    """Without configured databases, --all-databases is the one of the URL; it must never be none."""
    desk = Desk(tmp_path, any_server.info)
    assert len(desk.run("backup", "--all-databases", "--json").json["backups"]) == 1
    nameless = Desk(tmp_path, None, {"PGHOST": str(any_server.info.host), "PGPORT": "5432", "PGUSER": "postgres"})
    answer = nameless.run("backup", "--all-databases", "--json")
    assert len(answer.json["backups"]) == 1, answer.err
