"""`invoke reset` on a real server: empty, as it was around its contents, and the way back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from naap_ops.errors import ProgramMissing
from naap_ops.postgres.scratch import ScratchServer
from tests import restored
from tests.desk import Desk

FILL = "import os, psycopg; psycopg.connect(os.environ['DATABASE_URL'], autocommit=True).execute('create table {} (i int)')"

# Any that the server has.
EXTENSION = """do $$ declare e text;
begin
  select name into e from pg_available_extensions where name <> 'plpgsql' and name in ('pg_trgm', 'citext', 'hstore') limit 1;
  if e is not null then execute format('create extension %I', e); end if;
end $$"""


@pytest.fixture
def desk(any_server: ScratchServer, tmp_path: Path):  # type: ignore[no-untyped-def]
    with restored.swept(any_server.info):
        desk = Desk(tmp_path, restored.create(any_server.info, restored.NAME))
        desk.sql(
            "create table t (i int)",
            "insert into t values (1)",
            'create schema "plug in"',
            'create table "plug in".u (i int)',
            'grant usage on schema "plug in" to public',
            EXTENSION,
        )
        yield desk


def test_it_is_empty_and_can_be_undone(desk: Desk) -> None:
    there = desk.ask("select coalesce(array_agg(extname::text), '{}') from pg_extension where extname <> 'plpgsql'")
    desk.settings(f"[reset]\nsync = ['{sys.executable}', '-c', \"{FILL.format('synced')}\"]\n")
    done = desk.run("reset", "--yes", "--json")
    assert done.code == 0, done.err
    outcome = done.json
    assert desk.ask("select to_regclass('t')") is None
    assert desk.ask("select to_regclass('synced')") == "synced"
    assert desk.ask("select has_schema_privilege('public', 'plug in', 'usage')")
    assert sorted(outcome["extensions"]) == sorted(there)
    assert [ran["command"][0] for ran in outcome["ran"]] == [sys.executable]
    [backup] = desk.listed()
    assert (backup.id, backup.sound.label, backup.verified) == (outcome["backup"], "pre_reset", True)
    undone = desk.run("restore.undo", "--yes", "--json")
    assert undone.code == 0, undone.err
    assert desk.ask("select count(*) from t") == 1


@pytest.mark.parametrize("command", ["sync", "seed"])
def test_a_program_that_is_not_there_is_found_before_the_backup(desk: Desk, command: str) -> None:
    desk.settings(f"[reset]\n{command} = ['no_such_program']\n")
    for words in (("--yes",), ("--dry-run",)):
        refused = desk.run("reset", "--json", *words)
        assert refused.code == ProgramMissing.exit_code, refused.err
        assert "no_such_program" in refused.json["message"]
    assert desk.listed() == []
    assert desk.ask("select count(*) from t") == 1


def test_a_failing_sync_names_the_way_back(desk: Desk) -> None:
    desk.settings(f"[reset]\nsync = ['{sys.executable}', '-c', 'raise SystemExit(4)']\n")
    done = desk.run("reset", "--yes", "--json")
    assert done.code == 20
    assert "status 4" in done.json["message"]
    assert "restore.undo" in done.json["hint"]
    assert desk.ask("select to_regclass('t')") is None


def test_nothing_is_done_without_the_name_or_in_a_dry_run(desk: Desk) -> None:
    assert desk.run("reset", "--json").code == 17
    shown = desk.run("reset", "--dry-run", "--json")
    assert shown.code == 0, shown.err
    assert any("no sync" in line for line in shown.json["plan"])
    assert desk.ask("select count(*) from t") == 1
    assert desk.listed() == []


def test_only_behind_a_backup_of_all_of_it(desk: Desk) -> None:
    part = desk.backup(parts={"schemas": ["plug in"]})
    done = desk.run("reset", "--yes", "--json", "--backup", part.id)
    assert done.code == 17
    assert "does not hold all" in done.json["message"]
    assert desk.ask("select count(*) from t") == 1
