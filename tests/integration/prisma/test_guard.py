"""`invoke guard -- COMMAND` on a real server: backup before, difference after, a reverse that works."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from naap_ops.errors import ProgramMissing
from naap_ops.postgres.conninfo import ConnInfo
from tests.desk import Desk, Run, wait_until

# Stands for `prisma db push`: connects by the URL that it is given and changes the schema.
PUSH = (
    "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL'], autocommit=True);"
    " c.execute('alter table t add column \"a b\" text'); c.execute('create table u (i int)'); print('pushed')"
)


@pytest.fixture
def desk(any_database: ConnInfo, tmp_path: Path) -> Desk:
    desk = Desk(tmp_path, any_database)
    desk.sql("create table t (i int primary key)", "insert into t values (1)")
    return desk


def guard(desk: Desk, script: str, *flags: str) -> Run:
    return desk.program("guard", "--json", *flags, "--", sys.executable, "-c", script)


def columns(desk: Desk) -> str:
    return str(
        desk.ask(
            "select string_agg(table_name || '.' || column_name, ' ' order by 1, column_name)"
            " from information_schema.columns where table_schema = 'public'"
        )
    )


def test_what_it_changed_can_be_taken_back(desk: Desk) -> None:
    before = columns(desk)
    done = guard(desk, PUSH)
    assert done.code == 0, done.err
    outcome = done.json
    assert "pushed" in done.out
    assert columns(desk) != before
    assert (outcome["status"], outcome["reverse"]) == (0, "proved")
    assert any("a b" in line for line in outcome["changed"])
    [backup] = desk.listed()
    assert (backup.id, backup.sound.label) == (outcome["backup"], "guard")
    assert json.loads((Path(outcome["folder"]) / "record.json").read_bytes())["backup"] == backup.id
    desk.sql(Path(outcome["down"]).read_text(encoding="utf-8"))
    assert columns(desk) == before


def test_one_that_fails_says_what_it_changed_all_the_same(desk: Desk) -> None:
    done = guard(desk, f"{PUSH}; raise SystemExit(3)")
    assert done.code == 20
    assert "status 3" in done.json["message"]
    assert "objects all the same" in done.json["message"]
    assert f"--backup {desk.listed()[0].id}" in done.json["hint"]
    assert "down.sql" in done.json["hint"]


def test_nothing_changed(desk: Desk) -> None:
    outcome = guard(desk, "pass").json
    assert (outcome["changed"], outcome["reverse"], outcome["down"]) == ([], "none", None)


def test_no_reverse_is_made_where_none_is_wanted(desk: Desk) -> None:
    outcome = guard(desk, PUSH, "--no-reverse").json
    assert (outcome["reverse"], outcome["down"]) == ("none", None)
    assert outcome["changed"]


def test_a_program_that_is_not_there(desk: Desk) -> None:
    """Found before the backup."""
    done = desk.program("guard", "--json", "--", "no-such-program")
    assert done.code == ProgramMissing.exit_code
    assert "no-such-program" in done.json["message"]
    assert desk.listed() == []


def test_a_dry_run_runs_nothing(desk: Desk) -> None:
    before = columns(desk)
    done = guard(desk, PUSH, "--dry-run")
    assert done.code == 0, done.err
    assert columns(desk) == before
    assert desk.listed() == []


def test_no_command(desk: Desk) -> None:
    done = desk.run("guard", "--json")
    assert done.code == 2
    assert "behind two dashes" in done.json["message"]


def test_interrupted_it_still_says_what_was_changed(desk: Desk) -> None:
    half = "import os, psycopg, time, pathlib; psycopg.connect(os.environ['DATABASE_URL'], autocommit=True)"
    half += ".execute('create table half (i int)'); pathlib.Path('there').touch(); time.sleep(600)"
    child = desk.spawn("guard", "--json", "--", sys.executable, "-c", half)
    wait_until((desk.folder / "there").exists)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 20, err
    told = json.loads(out.splitlines()[-1])
    assert "status 130" in told["message"]
    assert "it changed 2 objects" in told["message"]  # its columns count as well
    assert "invoke restore --backup" in told["hint"]
