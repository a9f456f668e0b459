"""`invoke drill`: the newest snapshot restored and questioned, and the outcome kept where everybody finds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.desk import Desk
from tests.integration.snapshot.conftest import Bucket

pyrage = pytest.importorskip("pyrage")


def identity(desk: Desk, name: str = "key.txt") -> str:
    """A fresh secret key in a file; its public key."""
    made = pyrage.x25519.Identity.generate()
    (desk.folder / name).write_text(f"{made}\n")
    return str(made.to_public())


def record(bucket: Bucket, what: str) -> dict[str, Any]:
    """The only record of its kind."""
    body = bucket.client.get_object(Bucket=bucket.name, Key=bucket.one(f"-{what}.json"))["Body"].read()
    loaded: dict[str, Any] = json.loads(body)
    return loaded


def test_the_proof_lies_beside_the_snapshot(desk: Desk, bucket: Bucket) -> None:
    id = desk.run("snapshot", "--json").json["id"]
    desk.settings('[drill]\nchecks = ["select count(*) = 500 from u", { query = "select max(i) from t", expect = "3" }]\n')
    before = desk.ask("select string_agg(datname, ',' order by 1) from pg_database")
    answer = desk.run("drill", "--json")
    assert answer.code == 0, answer.err
    told = answer.json
    assert {name: told[name] for name in ("id", "ok", "rows", "tables", "questions")} == {
        "id": id,
        "ok": True,
        "rows": 524,
        "tables": 5,
        "questions": 2,
    }
    assert told["seconds"] > 0
    kept = record(bucket, "drilled")
    assert (kept["ok"], kept["rows"], kept["seconds"], kept["questions"]) == (True, 524, told["seconds"], 2)
    [listed] = desk.run("backup.list", "--json").json["backups"]
    assert listed["verified"] == "restore"
    assert listed["last_drill"]["ok"] is True
    assert listed["last_drill"]["seconds"] == told["seconds"]
    table = desk.run("backup.list").out
    assert "LAST DRILL" in table
    assert kept["at"][:10] in table
    assert desk.run("check", NAAP_OPS_CHECK__DRILL_AGE="1h").code == 0
    assert desk.ask("select string_agg(datname, ',' order by 1) from pg_database") == before


def test_the_newest_unless_another_is_asked_for(desk: Desk, bucket: Bucket) -> None:
    first, second = (desk.run("snapshot", "--json").json["id"] for _ in range(2))
    assert desk.run("drill", "--json").json["id"] == second
    assert desk.run("drill", "--backup", first, "--json").json["id"] == first
    part = desk.run("backup", "--table", "public.t", "--json").json["id"]
    assert desk.run("drill", "--json").json["id"] == second  # a part saved since proves nothing of the whole
    assert desk.run("drill", "--backup", "latest", "--json").json["id"] == part


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        ('"select count(*) > 3 from t"', "select count(*) > 3 from t gave 'f', not 't'"),
        ('{ query = "select max(i) from t", expect = "4", name = "newest" }', "newest gave '3', not '4'"),
        ('"select i > 0 from nowhere"', 'relation \\"nowhere\\" does not exist'),
        ('"insert into t values (1) returning true"', "read-only transaction"),
    ],
    ids=["false", "another", "error", "writes"],
)
def test_a_question_with_another_answer(desk: Desk, bucket: Bucket, check: str, reason: str) -> None:
    """The drill has failed, the backup is BAD, and monitoring says so."""
    desk.run("snapshot")
    desk.settings(f"[drill]\nchecks = [{check}]\n")
    answer = desk.run("drill", "--json")
    assert (answer.code, answer.json["error"]) == (13, "BackupDamaged")
    assert reason.replace("\\", "") in answer.json["message"]
    kept = record(bucket, "drilled")
    assert kept["ok"] is False
    assert reason.replace("\\", "") in kept["problems"][0]
    checked = desk.run("check")
    assert checked.code == 2
    assert "the last drill" in checked.out
    assert "failed" in checked.out


def test_one_line_of_cron_when_it_fails(desk: Desk, bucket: Bucket) -> None:
    desk.run("snapshot")
    desk.settings('[drill]\nchecks = ["select false"]\n')
    answer = desk.program("drill", "--quiet")
    assert (answer.code, answer.out) == (13, "")
    assert answer.err.startswith("naap_ops: backup ")


def test_encrypted(desk: Desk, bucket: Bucket) -> None:
    """Only who has the identity can drill; that it opens the newest snapshot is a part of what is proved."""
    desk.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = identity(desk)
    desk.run("snapshot")
    answer = desk.run("drill", "--json", NAAP_OPS_ENCRYPTION__IDENTITY_FILE=str(desk.folder / "key.txt"))
    assert (answer.code, answer.json["rows"]) == (0, 524)
    assert record(bucket, "drilled")["ok"] is True


@pytest.mark.parametrize("configured", [False, True], ids=["none", "another"])
def test_the_wrong_identity(desk: Desk, bucket: Bucket, configured: bool) -> None:
    """That says nothing of the backup: it stays as good as it was. But it is an error, and it is told."""
    desk.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = identity(desk)
    desk.run("snapshot")
    if configured:
        identity(desk, "another.txt")
        desk.extra["NAAP_OPS_ENCRYPTION__IDENTITY_FILE"] = str(desk.folder / "another.txt")
    answer = desk.run("drill", "--json")
    assert (answer.code, answer.json["error"]) == (3, "IdentityMissing")
    assert "identity_file" in answer.json["hint"]
    assert not [key for key in bucket.contents() if "/records/" in key]
    [listed] = desk.run("backup.list", "--json").json["backups"]
    assert (listed["verified"], listed["last_drill"]) == ("read", None)
    assert desk.run("check").code == 0
    assert desk.run("check", NAAP_OPS_CHECK__DRILL_AGE="1h").code == 1


@pytest.mark.parametrize(
    "encrypted", [pytest.param(False, id="readable"), pytest.param(True, id="age", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("damage", ["flipped", *(pytest.param(each, marks=pytest.mark.long) for each in ("gone", "shorter"))])
def test_a_damaged_snapshot(desk: Desk, bucket: Bucket, encrypted: bool, damage: str) -> None:
    """Found, recorded, shown and cried about; the next drill takes the one before."""
    if encrypted:
        desk.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = identity(desk)
        desk.extra["NAAP_OPS_ENCRYPTION__IDENTITY_FILE"] = str(desk.folder / "key.txt")
    whole = desk.run("snapshot", "--json").json["id"]
    id = desk.run("snapshot", "--json").json["id"]
    key = largest(bucket, id)
    if damage == "flipped":
        bucket.spoil(key)
    elif damage == "gone":
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    else:
        data = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data[:-1])
    answer = desk.run("drill", "--json")
    assert (answer.code, answer.json["error"]) == (13, "BackupDamaged"), answer.json
    assert Path(key).name.removesuffix(".age") in answer.json["message"]
    assert record(bucket, "drilled")["ok"] is False
    assert record(bucket, "failed")["grade"] == "restore"
    listed = {each["id"]: each for each in desk.run("backup.list", "--json").json["backups"]}
    assert listed[id]["bad"] is True
    assert listed[id]["last_drill"]["ok"] is False
    assert desk.run("check").code == 2
    assert desk.run("drill", "--json").json["id"] == whole


def largest(bucket: Bucket, id: str) -> str:
    """The key of a snapshot's largest file of rows."""
    objects = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    rows = [each for each in objects if f"/{id}/data/" in each["Key"] and "toc.dat" not in each["Key"]]
    return str(max(rows, key=lambda each: each["Size"])["Key"])
