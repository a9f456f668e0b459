"""What a restore tells people, and what a refusal gives them to go on with."""

from __future__ import annotations

import os
import pty
import re
import shlex
from contextlib import closing
from datetime import timedelta

import pytest

from naap_ops import clock
from naap_ops.postgres.databases import derived_name
from naap_ops.postgres.session import maintenance
from naap_ops.restore import aside, locking, marks
from naap_ops.restore.failures import first_error, statement
from naap_ops.restore.marks import Mark
from tests import restored
from tests.desk import Desk


def test_a_part_is_not_put_in_the_place_of_the_whole(at_work: Desk) -> None:
    """``latest`` may be what was saved of one table: the newest of the whole database is named."""
    part = at_work.run("backup", "--table", "public.t", "--json").json["id"]
    refused = at_work.run("restore", "--backup", "latest", "--swap", "--yes")
    assert refused.code == 17
    assert f"backup {part} holds only table public.t" in refused.err
    assert "newest of the whole" not in refused.err
    whole = at_work.run("backup", "--json").json["id"]
    assert at_work.run("backup", "--table", "public.t").code == 0
    refused = at_work.run("restore", "--backup", "latest", "--swap", "--yes")
    assert refused.code == 17
    assert f"--backup {whole}" in refused.err
    assert at_work.run("restore", "--backup", whole, "--swap", "--yes").code == 0


def test_notes_are_told(any_filled: Desk) -> None:
    any_filled.sql("create schema apart", "create table apart.t as select 1 i")
    any_filled.backup(parts={"schemas": ["apart"]})
    run = any_filled.run("restore", "--into", "new", "--yes")
    assert run.code == 0, run.err
    assert "note: the backup holds rows of schema apart only" in run.out
    again = any_filled.run("restore", "--into", "newer", "--yes", "--json")
    assert any("schema apart only" in note for note in again.json["notes"])


def test_the_sweep_of_a_leftover_is_told(any_filled: Desk) -> None:
    assert any_filled.info is not None
    name = derived_name(restored.NAME, "restore", clock.now() - timedelta(days=1))
    restored.create(any_filled.info, name)
    with closing(maintenance(any_filled.info)) as session:
        aside.comment_on(session, name, Mark(marks.RESTORE, restored.NAME, "x").text())
    any_filled.backup()
    run = any_filled.run("restore", "--swap", "--yes", "--json")
    assert run.code == 0, run.err
    assert f"dropped {name}, which a restore that died had left" in run.err


def test_a_second_undo_says_how_to_go_on(any_filled: Desk) -> None:
    any_filled.backup()
    assert any_filled.run("restore", "--swap", "--yes").code == 0
    first = any_filled.run("restore.undo", "--yes", "--json")
    assert first.code == 0, first.err
    second = any_filled.run("restore.undo", "--yes", "--json")
    assert second.code == 17
    assert "undone already" in second.json["message"]
    assert f"--kept NAME, with one of {first.json['previous']}" in second.json["hint"]
    assert any_filled.run("restore.undo", "--kept", first.json["previous"], "--yes").code == 0


@pytest.mark.parametrize("table", ["t", "public.t"])
def test_a_table_undone_by_either_name(any_filled: Desk, table: str) -> None:
    any_filled.sql("create schema other", "drop table r")
    any_filled.backup()
    missing = any_filled.run("restore.undo", "--table", "t", "--yes", "--json")
    assert (missing.code, "schema.table" in missing.json["hint"]) == (2, True)
    done = any_filled.run("restore", "--table", table, "--yes")
    assert "restored table" in done.out
    assert f"`invoke restore.undo --table {table}` puts it back" in done.out
    for words in (("--dry-run",), ("--yes",)):
        undone = any_filled.run("restore.undo", "--table", table, *words)
        assert undone.code == 0, undone.err
    second = any_filled.run("restore.undo", "--table", table, "--yes")
    assert (second.code, "undone already" in second.err, "--kept NAME" in second.err) == (17, True, True)


def test_drop_old_does_not_ask_about_what_is_not_there(any_filled: Desk) -> None:
    """At a terminal: the question would be answered in vain."""
    parent, child = pty.openpty()
    try:
        process = any_filled.spawn("restore.drop-old", "nope", stdin=child)
        _, err = process.communicate(timeout=60)
    finally:
        os.close(parent)
        os.close(child)
    assert process.returncode == 17
    assert "there is no database, schema or table 'nope'" in err
    assert "Type" not in err


def test_drop_old_of_what_is_no_restores(any_filled: Desk) -> None:
    run = any_filled.run("restore.drop-old", restored.NAME)
    assert run.code == 17
    assert "bears no mark" in run.err


@pytest.mark.parametrize("words", [("--schema", "nope"), ("--tenant", "nope")])
def test_a_schema_that_is_not_in_the_backup(any_filled: Desk, words: tuple[str, str]) -> None:
    backup = any_filled.backup()
    run = any_filled.run("restore", *words, "--yes", "--json")
    assert run.code == 11
    name = "nope" if words[0] == "--schema" else "tenant_nope"
    assert run.json["message"] == f"backup {backup.id} holds no schema {name}"
    assert "public" in run.json["hint"]


def test_what_puts_it_back_can_be_typed_as_it_is_told(any_filled: Desk) -> None:
    """With the database that was named, and quoted for a shell."""
    any_filled.sql('create schema "o\'ne two"; create table "o\'ne two".t (i int)')
    any_filled.backup()
    database = str(any_filled.info and any_filled.info.dbname)
    run = any_filled.run("restore", "--schema", "o'ne two", "--database", database, "--yes")
    words = shlex.split(run.out.partition("`")[2].partition("`")[0])
    assert words == ["invoke", "restore.undo", "--database", database, "--schema", "o'ne two"]
    assert any_filled.run(*words[1:], "--yes").code == 0


def test_a_script_or_a_backup(any_filled: Desk) -> None:
    run = any_filled.run("restore", "--file", "x.sql", "--backup", "nightly", "--into", "new", "--json")
    assert run.code == 2
    assert "--file and --backup" in run.json["message"]


def test_one_is_not_many(any_live: Desk) -> None:
    any_live.sql("create table one as select 1 i")
    said = [any_live.run(*words) for words in (("backup", "--dry-run"), ("backup",), ("backup.verify", "latest"))]
    said += [any_live.run(*words, "--yes") for words in (("restore", "--swap", "--dry-run"), ("restore", "--schema", "public"))]
    said += [any_live.run("backup.show", "latest"), any_live.run("drill")]
    told = " ".join(run.out for run in said)
    assert [run.code for run in said] == [0] * len(said), [run.err for run in said]
    assert told.count("1 table") == 6
    assert not re.search(r"\b1 (?:tables|rows|files)\b", told)


def test_tables_are_counted_alike_everywhere(any_filled: Desk) -> None:
    """A partitioned table holds no rows: its partitions are counted."""
    any_filled.sql(
        "create table p (i int) partition by list (i)",
        "create table p1 partition of p for values in (1)",
        "insert into p values (1)",
    )
    dry = any_filled.run("backup", "--dry-run", "--json")
    made = any_filled.run("backup", "--json")
    shown = any_filled.run("backup.show", "latest")
    checked = any_filled.run("backup.verify", "latest", "--json")
    plan = any_filled.run("restore", "--swap", "--dry-run", "--json")
    done = any_filled.run("restore", "--into", "new", "--yes", "--json")
    part = any_filled.run("restore", "--schema", "public", "--yes", "--json")
    found = [each.json["tables"] for each in (dry, made, checked, done, part)]
    assert found == [4, 4, 4, 4, 4]
    assert "4 tables, 202 rows" in "\n".join(plan.json["plan"])
    [line] = [line for line in shown.out.splitlines() if line.startswith("public.p ")]
    assert "partitioned, its rows are in its partitions" in line
    assert "not in it" not in shown.out


def test_types_are_spoken_of_where_there_are_some(any_filled: Desk) -> None:
    any_filled.sql("create schema plain", "create table plain.t as select 1 i")
    any_filled.sql("create schema typed", "create type typed.mood as enum ('a')", "create table typed.t (m typed.mood)")
    any_filled.backup()
    assert "types" not in any_filled.run("restore", "--schema", "plain", "--dry-run").out
    assert "this schema's types (mood)" in any_filled.run("restore", "--schema", "typed", "--dry-run").out


# --- a right that an owner lacks ------------------------------------------------------------------------------------

LACKING = (
    "create table a (i int primary key)",
    "create schema inner_one",
    "create function inner_one.g() returns int language sql immutable as 'select 1'",
    "create function public.f(int) returns int language sql immutable as 'select $1 + inner_one.g()'",
    "create index by_f on a (public.f(i))",
    f'alter table a owner to "{restored.OWNER}"',
)


def test_a_right_that_the_owner_of_a_table_lacks(any_live: Desk) -> None:
    """The server computes an index with the rights of the table's owner, whoever connects: stock pg_restore fails alike."""
    assert any_live.info is not None
    restored.make_roles(any_live.info)
    any_live.sql(*LACKING)
    any_live.backup()
    run = any_live.run("restore", "--into", "new", "--json")
    assert run.code == 7, run.err
    assert "permission denied for schema inner_one, at the statement: CREATE INDEX by_f ON public.a" in run.json["message"]
    assert "--no-owner --no-privileges" in run.json["hint"]
    assert "new" not in restored.databases(any_live.info)
    assert any_live.run("restore", "--into", "new", "--no-owner", "--no-privileges").code == 0


def test_statistics_that_the_owner_may_not_compute(any_live: Desk) -> None:
    """Stock pg_restore, which computes none, succeeds; so does the restore, and says it."""
    assert any_live.info is not None
    restored.make_roles(any_live.info)
    *before, _, owned = LACKING
    any_live.sql(*before, "insert into a select generate_series(1, 100)", "create statistics s on (public.f(i)) from a", owned)
    any_live.backup()
    run = any_live.run("restore", "--into", "new", "--json")
    assert run.code == 0, run.err
    [note] = run.json["notes"]
    assert "no statistics of public.a" in note
    assert "permission denied for schema inner_one" in note


SAID = """pg_restore: creating TABLE "public.a"
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3; 1259 1 INDEX i postgres
pg_restore: error: could not execute query: ERROR:  division by zero
{context}
Command was: CREATE INDEX i
    ON a (f(x));

pg_restore: error: a worker process died unexpectedly"""


def test_the_failing_statement_is_always_told() -> None:
    text = SAID.format(context="\n".join(f"CONTEXT:  line {n}" for n in range(20)))
    assert statement(text) == "CREATE INDEX i ON a (f(x));"
    assert first_error(text).endswith("Command was: CREATE INDEX i ON a (f(x));")
    assert statement("pg_restore: error: no") == ""
    assert len(statement("Command was: " + "x" * 10_000)) < 400


# --- another restore that does not move -----------------------------------------------------------------------------


def test_a_stopped_restore_does_not_hold_up_the_others_for_ever(any_filled: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the lock under which databases are made; SIGSTOP keeps its session alive."""
    assert any_filled.info is not None
    any_filled.backup()
    monkeypatch.setattr(locking, "MAKING_SECONDS", 0.2)
    with closing(maintenance(any_filled.info, application_name="naap_ops restore 4711@there")) as stopped:
        with locking.making(stopped):
            run = any_filled.run("restore", "--swap", "--yes", "--json")
            pid = stopped.info.backend_pid
        assert run.code == 15, run.err
        assert f"naap_ops restore 4711@there (server process {pid}" in run.json["message"]
    assert any_filled.run("restore", "--swap", "--yes").code == 0


def test_the_wait_for_a_lock_leaves_the_session_without_timeout(any_filled: Desk) -> None:
    assert any_filled.info is not None
    with closing(maintenance(any_filled.info)) as session, locking.making(session):
        assert session.execute("show lock_timeout").fetchone() == ("0",)
