"""`invoke snapshot` as cron runs it: several databases or parts in one run, silent when well, one at a time."""

from __future__ import annotations

import re

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import restored
from tests.desk import Desk, wait_until
from tests.integration.snapshot.conftest import Bucket


def taken(desk: Desk) -> dict[str, list[str]]:
    """What the repository holds of each database: what each backup holds, oldest first."""
    backups = desk.run("backup.list", "--all-databases", "--json").json["backups"]
    found: dict[str, list[str]] = {}
    for each in reversed(backups):
        assert each["verified"] == "read"
        found.setdefault(each["database"], []).append(each["scope"])
    return found


def test_one_failure_neither_stops_nor_hides_the_others(several: Desk, bucket: Bucket) -> None:
    answer = several.run("snapshot", "--all-databases", "--json")
    assert answer.code == 21
    told = answer.json
    assert (told["error"], told["code"]) == ("Partial", 21)
    assert [each["database"] for each in told["done"]] == ["first", "last"]
    assert told["failed"]["gone"]["code"] == 6
    assert taken(several) == {"first": ["all"], "last": ["all"]}
    assert sum(key.endswith("manifest.json") for key in bucket.contents()) == 2
    assert not [key for key in bucket.contents() if ".partial/" in key]


def test_when_all_fail_it_is_partial_too(several: Desk) -> None:
    answer = several.run("snapshot", "--all-databases", "--json", FIRST_URL="postgresql://nobody@127.0.0.1:1/x", LAST_URL="")
    assert answer.code == 21
    assert answer.json["done"] == []
    assert sorted(answer.json["failed"]) == ["first", "gone", "last"]


def test_each_tenant_and_each_plugin(desk: Desk, bucket: Bucket) -> None:
    assert desk.info is not None
    answer = desk.run("snapshot", "--each-tenant", "--each-plugin", "--json")
    assert answer.code == 0, answer.err
    expected = ["schema tenant_acme", "schema tenant_globex", "schema plugin_wallet"]
    assert taken(desk) == {str(desk.info.dbname): expected}
    assert [each["rows"] for each in answer.json["backups"]] == [7, 7, 7]
    desk.sql("insert into tenant_globex.t values (8)", "drop schema tenant_acme cascade")
    back = desk.run("restore", "--backup", answer.json["backups"][1]["id"], "--tenant", "globex", "--yes")
    assert back.code == 0, back.err
    assert desk.ask("select count(*) from tenant_globex.t") == 7


def test_tenants_of_several_databases(several: Desk) -> None:
    """What cannot be asked for its tenants is one of the failed; a database without any is none."""
    answer = several.run("snapshot", "--all-databases", "--each-tenant", "--json")
    assert answer.code == 21
    assert [(each["database"], each["scope"]) for each in answer.json["done"]] == [
        ("first", "schema tenant_acme"),
        ("first", "schema tenant_globex"),
    ]
    assert list(answer.json["failed"]) == ["gone"]


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_silent_when_well(desk: Desk, where: str, request: pytest.FixtureRequest) -> None:
    if where == "bucket":
        request.getfixturevalue("bucket")
    answer = desk.program("snapshot")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    assert taken(desk) == {str(desk.info and desk.info.dbname): ["all"]}


def test_silent_with_several_when_well(several: Desk) -> None:
    first = several.extra["FIRST_URL"]
    answer = several.program("snapshot", "--all-databases", environ={"GONE_URL": first})
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_one_line_when_not(desk: Desk, bucket: Bucket) -> None:
    """What is wrong, and what to do about it."""
    answer = desk.program("snapshot", "--database", "elsewhere")
    assert answer.code != 0
    assert_one_line(answer.out, answer.err)
    answer = desk.program("snapshot", "--lock-wait-timeout", "never")
    assert answer.code == 2
    assert_one_line(answer.out, answer.err)
    answer = desk.program("snapshot", environ={"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert answer.code == 9
    assert_one_line(answer.out, answer.err)
    assert bucket.contents() == []


def test_one_line_when_some_fail(several: Desk) -> None:
    answer = several.program("snapshot", "--all-databases")
    assert answer.code == 21
    assert_one_line(answer.out, answer.err)
    assert "1 of 3 failed: gone: " in answer.err


def assert_one_line(out: str, err: str) -> None:
    assert out == ""
    assert err.startswith("naap_ops: ")
    assert err.count("\n") == 1, err


def test_two_at_once(desk: Desk, bucket: Bucket) -> None:
    """The second one ends at once and says who holds it; the first is not disturbed."""
    assert desk.info is not None
    desk.sql("create table big as select i, repeat(md5(i::text), 30) x from generate_series(1, 40000) i")
    waiting = """select count(*) from pg_locks where locktype = 'advisory' and granted
        and database = (select oid from pg_database where datname = current_database())"""
    first = desk.spawn("snapshot")
    wait_until(lambda: desk.ask(waiting) or first.poll() is not None)
    assert first.poll() is None
    second = desk.run("snapshot", "--json")
    assert (second.code, second.json["error"]) == (15, "Busy")
    assert re.search(r"backup of this database", second.json["message"])
    out, err = first.communicate(timeout=120)
    assert (first.returncode, out, err) == (0, "", "")
    assert taken(desk) == {str(desk.info.dbname): ["all"]}


def test_dry_run_touches_nothing(desk: Desk, bucket: Bucket) -> None:
    assert desk.run("snapshot", "--each-tenant", "--dry-run", "--json").json["backups"][1]["dry_run"] is True
    assert desk.run("snapshot", "--dry-run").out.startswith("would back up")  # silence is for what has been done
    assert bucket.contents() == []


@pytest.mark.parametrize("name", ["ü" * 30 + '%"x', "!1 !0 100%/a"], ids=["63 bytes", "marks"])
def test_any_name_fits_into_a_bucket(desk: Desk, bucket: Bucket, any_server: ScratchServer, name: str) -> None:
    """Stores that keep folders have names of 255 bytes at most, and every byte of this one takes three."""
    with restored.swept(any_server.info):
        desk.info = restored.create(any_server.info, name)
        desk.sql("create table t as select 1 i")
        assert desk.run("snapshot").err == ""
        assert desk.run("backup.verify", "latest").code == 0
        assert desk.run("snapshot").err == ""  # sweeps by the markers' names
        assert not [key for key in bucket.contents() if ".partial" in key]
        found = desk.run("backup.list", "--json").json["backups"]
        assert [each["database"] for each in found] == [name, name]


def test_all_databases_stands_alone(several: Desk) -> None:
    assert several.run("snapshot", "--all-databases", "--database", "first").code == 2
