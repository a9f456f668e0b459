"""`invoke reverse` and `reverse.prove`: what is written, said and refused, and with which exit code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import psycopg
import pytest

from naap_ops.postgres.session import connect
from tests.desk import Desk
from tests.integration.reverse.projects import AGE, Project


def test_a_pending_migration_is_reversed_from_the_live_schema(project: Project) -> None:
    run = project.desk.run("reverse", "--migration", "age", "--json")
    assert run.code == 0, run.err
    found = run.json
    down = project.folder / "20260102000000_age" / "down.sql"
    assert (found["migration"], found["status"], found["down"]) == ("20260102000000_age", "proved", str(down))
    assert found["state"].startswith("the live database")
    assert found["transactional"] is True
    assert [(loss["statement"], loss["loss"], loss["object"]) for loss in found["losses"]] == [(1, "values", "public.User.age")]
    assert found["locks"] == {'"User"': "ACCESS EXCLUSIVE"}
    record = json.loads(down.with_name("down.json").read_bytes())
    assert record["down_sha256"] == hashlib.sha256(down.read_bytes()).hexdigest()
    assert record["sha256"] == hashlib.sha256(AGE.encode()).hexdigest()
    assert project.shadows() == []
    # what was written brings a database back that has had the migration
    project.desk.sql(AGE, down.read_text())
    assert project.desk.ask("select count(*) from information_schema.columns where table_name = 'User'") == 2


def test_an_applied_migration_starts_from_history(project: Project) -> None:
    run = project.desk.run("reverse", "--migration", "20260101000000_init", "--json")
    assert (run.code, run.json["status"]) == (0, "proved")
    assert run.json["state"].startswith("the history before it (0 migrations)")


def test_all_that_is_pending_on_one_shadow(project: Project) -> None:
    run = project.desk.run("reverse", "--pending", "--json")
    assert run.code == 0, run.err
    assert [each["migration"] for each in run.json["migrations"]] == ["20260102000000_age", "20260103000000_no_email"]
    assert [len(each["losses"]) for each in run.json["migrations"]] == [1, 1]
    assert not (project.folder / "20260101000000_init" / "down.sql").exists()


def test_the_latest_starts_after_what_comes_before_it(project: Project) -> None:
    run = project.desk.run("reverse", "--migration", "latest", "--check", "--json")
    assert (run.code, run.json["status"], run.json["down"]) == (0, "proved", None)
    assert "and the 1 migrations that come before it" in run.json["state"]
    assert not list(project.folder.rglob("down.*"))


def test_any_file(project: Project) -> None:
    file = project.desk.folder / "hot fix.sql"
    file.write_text('create index on "User" (email);')
    run = project.desk.run("reverse", "--file", str(file), "--json")
    assert (run.code, run.json["down"]) == (0, str(file.with_name("hot fix.down.sql")))
    assert "DROP INDEX" in file.with_name("hot fix.down.sql").read_text()
    assert file.with_name("hot fix.down.json").exists()


def test_without_a_database(project: Project) -> None:
    """From history, on a server of our own."""
    desk = Desk(project.desk.folder, None, {"PGHOST": "/nonexistent"})
    run = desk.run("reverse", "--migration", "no_email", "--json")
    assert (run.code, run.json["status"]) == (0, "proved"), run.err
    assert run.json["state"] == "the history before it (2 migrations), on a shadow on a server of our own"


def test_from_a_backups_schema(project: Project) -> None:
    project.desk.backup()
    project.desk.sql('drop table "User"')
    run = project.desk.run("reverse", "--migration", "age", "--from", "backup", "--json")
    assert (run.code, run.json["status"]) == (0, "proved"), run.err
    assert run.json["state"].startswith("backup 20")


@pytest.mark.parametrize("format", ["custom", "plain"])
def test_a_backup_of_any_format(project: Project, format: str) -> None:
    project.desk.sql("""insert into "User" values (1, E'a;\\nalter table "User" drop column id')""")
    project.desk.backup(backup__format=format)
    run = project.desk.run("reverse", "--migration", "age", "--from", "backup", "--json")
    assert (run.code, run.json["status"]) == (0, "proved"), run.err


# --- files that a person has edited ---------------------------------------------------------------------------------


def test_an_edited_down_is_not_overwritten(project: Project) -> None:
    desk, down = project.desk, project.folder / "20260102000000_age" / "down.sql"
    assert desk.run("reverse", "--migration", "age").code == 0
    assert desk.run("reverse", "--migration", "age").code == 0  # our own is
    down.write_text(down.read_text() + "-- mine\n")
    run = desk.run("reverse", "--migration", "age")
    assert run.code == 17
    assert "edited by hand" in run.err
    assert down.read_text().endswith("-- mine\n")
    proved = desk.run("reverse.prove", "--migration", "age", "--json")
    assert (proved.code, proved.json["status"]) == (0, "proved"), proved.err
    assert down.read_text().endswith("-- mine\n")
    assert "it was edited by hand" in down.read_text()
    assert desk.run("reverse", "--migration", "age").code == 17, "proved, but still somebody's own"
    assert desk.run("reverse", "--migration", "age", "--force").code == 0
    assert "-- mine" not in down.read_text()


def test_a_wrong_edit_fails_its_proof_and_cannot_be_run(project: Project) -> None:
    desk, down = project.desk, project.folder / "20260102000000_age" / "down.sql"
    desk.run("reverse", "--migration", "age")
    good = down.read_text()
    down.write_text(
        re.sub(r"^ALTER TABLE .*DROP COLUMN .*$", 'ALTER TABLE "User" ALTER COLUMN age TYPE bigint;', good, flags=re.MULTILINE)
    )
    run = desk.run("reverse.prove", "--migration", "age", "--json")
    assert (run.code, run.json["status"]) == (19, "refused"), run.err
    assert "status=refused" in down.read_text()
    assert "column public.User.age: only after" in run.json["reason"]
    desk.sql(AGE)
    assert desk.info is not None
    with connect(desk.info) as connection, pytest.raises(psycopg.errors.RaiseException, match="failed its proof"):
        connection.execute(down.read_text().encode())
    # mended, it is proved again, and nothing of the stop remains
    down.write_text(down.read_text().replace("ALTER COLUMN age TYPE bigint", "DROP COLUMN age"))
    desk.sql('alter table "User" drop column age')
    assert desk.run("reverse.prove", "--migration", "age").code == 0
    assert "failed its proof" not in down.read_text()


def test_a_down_for_another_migration_is_not_proved(project: Project) -> None:
    project.desk.run("reverse", "--migration", "age")
    (project.folder / "20260102000000_age" / "migration.sql").write_text(AGE + "-- changed\n")
    run = project.desk.run("reverse.prove", "--migration", "age")
    assert run.code == 17
    assert "was written for another migration.sql" in run.err
    assert project.desk.run("reverse.prove", "--migration", "init").code == 11


# --- bad input ------------------------------------------------------------------------------------------------------


def test_not_sql(project: Project) -> None:
    project.add("20260104000000_bad", "alter tabel x;\n")
    run = project.desk.run("reverse", "--migration", "bad", "--json")
    assert (run.code, run.json["error"]) == (18, "MigrationUnreadable")


@pytest.mark.parametrize("text", ["", "-- nothing to see\n"])
def test_nothing_to_undo(project: Project, text: str) -> None:
    place = project.add("20260104000000_nothing", text)
    run = project.desk.run("reverse", "--migration", "nothing")
    assert run.code == 0
    assert "the reverse does nothing" in run.out
    project.desk.sql((place / "down.sql").read_text())


def test_a_forward_that_fails_says_where(project: Project) -> None:
    project.add("20260104000000_fails", "create table a ();\ncommit;\ncreate table b ();\nselect 1 / 0;\n")
    run = project.desk.run("reverse", "--migration", "fails")
    assert run.code == 18
    assert "statement 4 (line 4) failed: division by zero" in run.err
    assert "2 statements before it had been committed" in run.err
    assert project.shadows() == []


def test_a_forward_that_would_leave_the_shadow_is_not_run(project: Project) -> None:
    project.add("20260104000000_out", "create database naap_reverse_escaped;\n")
    run = project.desk.run("reverse", "--migration", "out", "--json")
    assert (run.code, run.json["status"]) == (18, "refused")
    assert "it changes the whole server" in run.json["reason"]
    assert project.desk.ask("select count(*) from pg_database where datname = 'naap_reverse_escaped'") == 0
    project.add("20260105000000_after", "create table after ();")
    later = project.desk.run("reverse", "--migration", "after", "--from", "history")
    assert later.code == 18
    assert "comes before it" in later.err
    assert project.desk.ask("select count(*) from pg_database where datname = 'naap_reverse_escaped'") == 0


def test_an_extension_that_the_server_does_not_have(project: Project) -> None:
    place = project.add("20260104000000_vector", "create extension vectorial;\n")
    project.add("20260105000000_after", "create table after ();")
    run = project.desk.run("reverse", "--migration", "vector", "--json")
    assert (run.code, run.json["status"], run.json["down"]) == (19, "unproved", None)
    assert "has no extension vectorial" in run.json["reason"]
    assert not (place / "down.sql").exists()
    later = project.desk.run("reverse", "--pending", "--json")
    assert later.code == 19
    assert [each["status"] for each in later.json["migrations"]] == ["proved", "proved", "unproved", "unproved"]


def test_a_live_schema_with_an_extension_that_the_shadows_server_does_not_have(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs on it is left out and named; nothing is called proved."""
    monkeypatch.setattr("naap_ops.reverse.starting.unavailable", lambda *_: ["postgis"])
    monkeypatch.setattr(
        "naap_ops.reverse.starting.dumped",
        lambda *_, full: (
            "--\n-- Name: map; Type: TABLE; Schema: public; Owner: x\n--\n\ncreate table map (g geometry);\n"
            '--\n-- Name: User; Type: TABLE; Schema: public; Owner: x\n--\n\ncreate table public."User" (id int, email text);\n'
        ),
    )
    run = project.desk.run("reverse", "--migration", "age", "--json")
    assert (run.code, run.json["status"]) == (19, "unproved"), run.err
    assert "no extension postgis" in run.json["reason"]
    assert run.json["notes"] == ["not in the shadow, for want of postgis: table map"]
    down = (project.folder / "20260102000000_age" / "down.sql").read_text()
    assert "status=unproved" in down
    assert "DROP COLUMN" in down


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--migration", "nosuch"), 11, "no migration 'nosuch'"),
        (("--migration", "2026"), 12, "fits 3 migrations"),
        (("--migration", "age", "--migrations", "elsewhere"), 3, "no folder of migrations"),
        (("--migration", "age", "--from", "yesterday"), 2, "--from wants live"),
        (("--migration", "age", "--from", "backup:nosuch"), 11, "no backup"),
        (("--migration", "age", "--shadow-server", "moon"), 2, "--shadow-server"),
        (("--file", "nosuch.sql"), 2, "no file"),
        (("--migration", "age", "--pending"), 2, "exactly one"),
        ((), 2, "exactly one"),
        (("--from-diff", "live"), 2, "from_diff"),
    ],
)
def test_wrong_words(project: Project, words: tuple[str, ...], code: int, said: str) -> None:
    run = project.desk.run("reverse", *words)
    assert run.code == code, run.err
    assert said in run.err


def test_no_migrations_folder(at_work: Desk) -> None:
    run = at_work.run("reverse", "--pending")
    assert run.code == 3
    assert "prisma/migrations" in run.err


def test_a_folder_that_cannot_be_written(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the system's refusal is put in its place."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr("naap_ops.reverse.files.write_durably", refuse)
    run = project.desk.run("reverse", "--migration", "age")
    assert run.code == 9
    assert "--check writes nothing" in run.err
    assert project.desk.run("reverse", "--migration", "age", "--check").code == 0


def test_not_proved_when_not_asked_for(project: Project) -> None:
    run = project.desk.run("reverse", "--migration", "age", "--no-proof", "--json")
    assert (run.code, run.json["status"]) == (0, "unproved")
    assert "status=unproved" in (project.folder / "20260102000000_age" / "down.sql").read_text()


def test_own_templates_go_first(project: Project) -> None:
    own = project.desk.folder / "templates" / "column"
    own.mkdir(parents=True)
    (own / "drop.sql.j2").write_text("select 'mine'\n")
    run = project.desk.run("reverse", "--migration", "age", "--templates", "templates", "--json")
    assert (run.code, run.json["status"]) == (19, "refused"), "a template that does not undo fails the proof"
    assert "select 'mine'" in (project.folder / "20260102000000_age" / "down.sql").read_text()


# --- lint -----------------------------------------------------------------------------------------------------------


def test_lint(project: Project) -> None:
    run = project.desk.run("lint", "--migration", "no_email", "--json")
    assert run.code == 22
    (file,) = run.json["files"]
    assert "deletes_data" in [each["danger"] for each in file["dangers"]]
    allowed = {each["danger"] for each in file["dangers"]} | {each["rule"] for each in file["findings"]}
    clean = project.desk.run("lint", "--migration", "no_email", *(word for name in allowed for word in ("--allow", name)))
    assert clean.code == 0, clean.out
    project.desk.settings(f"[lint]\nallow = {json.dumps(sorted(allowed))}\n")
    assert project.desk.run("lint", "--migration", "no_email").code == 0
    assert project.desk.run("lint", "--migration", "no_email", "--allow", "nosuch").code == 2


def test_lint_reads_the_reverse_too(project: Project) -> None:
    project.desk.run("reverse", "--migration", "age")
    names = [file["name"] for file in project.desk.run("lint", "--migration", "age", "--json").json["files"]]
    assert names == ["20260102000000_age", "20260102000000_age/down.sql"]
