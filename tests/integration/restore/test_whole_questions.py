"""Nothing is done unasked: plans that touch nothing, questions at a terminal, a refusal where there is none."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import closing

import pytest

from naap_ops.postgres.session import connect
from tests import restored
from tests.desk import PROGRAM, Desk


@pytest.fixture
def desk(any_filled: Desk) -> Desk:
    """With a backup, a script, and the word ``new`` in the live database."""
    assert any_filled.info is not None
    any_filled.backup()
    (any_filled.folder / "script.sql").write_bytes(restored.dumped(any_filled.info))
    any_filled.sql("update word set w = 'new'")
    return any_filled


def swapped(desk: Desk) -> str:
    """The name of what is kept."""
    return str(desk.run("restore", "--swap", "--yes", "--json").json["previous"])


def state(desk: Desk) -> dict[str, object]:
    assert desk.info is not None
    names = [name for name in restored.databases(desk.info) if name != "template0"]
    return {name: (restored.props(desk.info, name), restored.tables(desk.info, name)) for name in names}


# --- plans ----------------------------------------------------------------------------------------------------------

PLANNED = (
    ["restore", "--swap"],
    ["restore", "--into", "new"],
    ["restore", "--swap", "--file", "script.sql"],
    ["restore", "--into", "new", "--file", "script.sql"],
)


@pytest.mark.parametrize("words", PLANNED, ids=" ".join)
def test_a_plan_changes_nothing(desk: Desk, words: list[str]) -> None:
    before = state(desk)
    run = desk.run(*words, "--dry-run", "--json")
    assert run.code == 0, run.err
    assert run.json["dry_run"] is True
    assert state(desk) == before
    said = "\n".join(run.json["plan"])
    assert said in run.err
    assert "201 rows" in said
    assert "__restore_" in said
    if "--swap" in words:
        assert run.json["database"] == restored.NAME
        assert "__before_" in said
        assert "MB" in said
    else:
        assert run.json["database"] == "new"
        assert "__before_" not in said


def test_the_plan_names_the_sessions_and_what_stays_behind(desk: Desk) -> None:
    assert desk.info is not None
    with closing(connect(desk.info, application_name="payroll")) as application:
        application.execute("select pg_create_logical_replication_slot('slot_1', 'pgoutput')")
        said = "\n".join(desk.run("restore", "--swap", "--dry-run", "--json").json["plan"])
        application.execute("select pg_drop_replication_slot('slot_1')")
    assert "1 x payroll of postgres" in said
    assert "slot_1" in said


def test_the_plan_of_undo_changes_nothing(desk: Desk) -> None:
    kept = swapped(desk)
    before = state(desk)
    run = desk.run("restore.undo", "--dry-run", "--json")
    assert run.code == 0, run.err
    assert state(desk) == before
    said = "\n".join(run.json["plan"])
    assert repr(kept) in said
    assert "__undone_" in said


def test_a_plan_says_what_a_restore_would_refuse(desk: Desk) -> None:
    before = state(desk)
    assert desk.run("restore", "--into", "postgres", "--dry-run").code == 17
    desk.repo.joinpath(desk.listed()[0].prefix, "data", "toc.dat").unlink()
    assert desk.run("restore", "--swap", "--dry-run").code == 13
    assert state(desk) == before


# --- questions ------------------------------------------------------------------------------------------------------


def test_without_a_terminal_and_without_yes_nothing_is_done(desk: Desk) -> None:
    kept = swapped(desk)
    before = state(desk)
    for words in (["restore", "--swap"], ["restore", "--swap", "--file", "script.sql"], ["restore.undo"]):
        run = desk.run(*words, "--json")
        assert run.code == 17, words
        assert "--yes" in run.json["hint"]
    assert desk.run("restore.drop-old", kept).code == 17
    assert state(desk) == before


def test_into_a_new_database_needs_no_yes(desk: Desk) -> None:
    assert desk.run("restore", "--into", "new").code == 0


def asked(desk: Desk, words: list[str], typed: str) -> tuple[int, str]:
    """Run the program at a terminal, type an answer: its exit code, and what it wrote to stderr."""
    leader, terminal = pty.openpty()
    try:
        child = subprocess.Popen(
            [PROGRAM, *words],
            cwd=desk.folder,
            env=desk.environ,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.write(leader, f"{typed}\n".encode())
        _, errors = child.communicate(timeout=120)
        return child.returncode, errors.decode()
    finally:
        os.close(leader)
        os.close(terminal)


@pytest.mark.parametrize("typed", ["", "yes", restored.NAME.upper(), restored.NAME[:-1]])
def test_another_answer_than_the_name(desk: Desk, typed: str) -> None:
    before = state(desk)
    code, errors = asked(desk, ["restore", "--swap"], typed)
    assert code == 17, errors
    assert "__before_" in errors  # the plan was shown
    assert state(desk) == before


def test_the_name_typed(desk: Desk) -> None:
    code, errors = asked(desk, ["restore", "--swap"], restored.NAME)
    assert code == 0, errors
    assert desk.ask("select w from word") == "old"
    [kept] = desk.run("restore.kept", "--json").json["kept"]

    code, errors = asked(desk, ["restore.drop-old", kept["name"]], restored.NAME)
    assert code == 17, errors
    assert desk.ask("select w from word", kept["name"]) == "new"

    code, errors = asked(desk, ["restore.undo"], restored.NAME)
    assert code == 0, errors
    assert desk.ask("select w from word") == "new"
    [kept] = desk.run("restore.kept", "--json").json["kept"]

    code, errors = asked(desk, ["restore.drop-old", kept["name"]], kept["name"])
    assert code == 0, errors
    assert desk.run("restore.kept", "--json").json["kept"] == []
