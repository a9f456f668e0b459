"""Parts of backups through tools.exec: what is chosen travels as a list file, with a stand-in for `docker exec -i NAME`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from naap_ops.postgres.databases import drop
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import restored
from tests.desk import Desk

SAMPLE = """
create schema "a p"; create schema other;
create table "a p"."t, ä" (id serial primary key, s text);
insert into "a p"."t, ä" (s) select E'\\\\.\\n' || i from generate_series(1, 2000) i;
create table "a p".word as select 'old' as w; create table other.apart as select 1 as i;
create table other.r (id int references "a p"."t, ä"); insert into other.r select i from generate_series(1, 9) i;
create view other.v as select * from "a p".word;
"""


@pytest.fixture
def desk(live: Desk, server: ScratchServer, tmp_path: Path) -> Desk:
    """Its tools are behind the stand-in, which passes on words and standard input: a list file has no other way."""
    program = tmp_path / "docker"
    inside = f"PATH='{server.bindir}:/usr/bin:/bin' PGHOST='{server.info.host}' PGPORT='{server.info.port}'"
    program.write_text(
        f'#!/bin/sh\nshift 3\nprintf "%s\\n" "$*" >>"{tmp_path}/words"\nexec env -i {inside} "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    live.settings(f"[tools]\nexec = ['{program}', 'exec', '-i', 'naap-db']\n")
    live.sql(SAMPLE)
    return live


def run(desk: Desk, *words: str) -> None:
    answer = desk.run(*words, "--yes", "--json")
    assert answer.code == 0, answer.err


def words(desk: Desk) -> str:
    return (desk.folder / "words").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["full", "data"])
def test_one_schema_and_one_table(desk: Desk, kind: str) -> None:
    assert desk.info is not None
    run(desk, "backup", "--kind", kind)
    then = restored.tables(desk.info)
    desk.sql('delete from other.r; delete from "a p"."t, ä" where id > 3; drop table "a p".word cascade')
    run(desk, "restore", "--schema", "a p")
    assert "--use-list" in words(desk)
    assert {n: d for n, d in restored.tables(desk.info).items() if n.startswith("a p.")} == {
        n: d for n, d in then.items() if n.startswith("a p.")
    }
    desk.sql('truncate "a p"."t, ä" cascade')
    run(desk, "restore", "--table", "a p.t, ä")
    assert restored.tables(desk.info)["a p.t, ä"] == then["a p.t, ä"]
    run(desk, "restore.undo", "--table", "a p.t, ä")
    assert desk.ask('select count(*) from "a p"."t, ä"') == 0


def test_what_is_missing_is_named(desk: Desk) -> None:
    run(desk, "backup")
    desk.sql('drop table "a p"."t, ä" cascade; drop table "a p".word cascade')
    answer = desk.run("restore", "--schema", "a p", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert "view other.v" in "\n".join(answer.json["notes"])
    assert desk.ask("select count(*) from pg_constraint where contype = 'f'") == 1


@pytest.mark.parametrize("scope", [("--schema", "a p"), ("--table", "a p.t, ä")])
def test_a_backup_of_a_part_into_a_new_database(desk: Desk, scope: tuple[str, str]) -> None:
    assert desk.info is not None
    run(desk, "backup", *scope)
    then = restored.tables(desk.info)
    try:
        run(desk, "restore", "--into", "naap_ops tests: new")
        found = restored.tables(desk.info, "naap_ops tests: new")
        assert found["a p.t, ä"] == then["a p.t, ä"]
        assert found["other.apart"].rows == 0  # the structure of the whole comes along
    finally:
        with closing(connect(desk.info, dbname="postgres")) as session:
            drop(session, "naap_ops tests: new")
