"""`invoke reverse --from-diff`: two databases, or a saved catalog and a database; for projects that `prisma db push`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.postgres.catalog.difference import differences
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from naap_ops.reverse import diff, saved
from tests.desk import Desk

START = """
create type mood as enum ('sad', 'ok');
create table padding (a int, b int);
create table parent (id int primary key, name text not null default 'x', feeling mood, old_name text);
create table child (id serial primary key, parent_id int references parent (id) on delete cascade, note varchar(10));
create index child_note on child (note);
create view names as select id, name from parent;
create function twice(i int) returns int language sql as 'select 2 * i';
comment on table parent is 'parents';
"""
# Each of them changes another kind of object, or drops and makes anew what no ALTER changes.
CHANGES = {
    "column added": "alter table parent add extra int default 3",
    "column dropped": "alter table parent drop old_name",
    "column retyped": "alter table child alter note type text",
    "default": "alter table parent alter name set default 'y'",
    "not null": "alter table child alter note set not null",
    "table added": "create table more (id int primary key references parent (id), m mood)",
    "table dropped": "drop table child",
    "index made anew": "drop index child_note; create index child_note on child (note desc)",
    "key made anew": "alter table child drop constraint child_pkey; alter table child add primary key (id, note)",
    "referenced key": "alter table child drop constraint child_parent_id_fkey; alter table child add constraint"
    " child_parent_id_fkey foreign key (parent_id) references parent (id)",
    "view": "create or replace view names as select id, name from parent where id > 0",
    "view made anew": "drop view names; create view names as select id, name, feeling from parent",
    "enum": "alter type mood add value 'happy' before 'ok'",
    "function": "create or replace function twice(i int) returns int language sql as 'select i + i'",
    "function made anew": "drop function twice; create function twice(i int) returns int8 language sql as 'select 2 * i::int8'",
    "comment": "comment on table parent is null; comment on column parent.name is 'n'",
    "sequence": "alter sequence child_id_seq increment 5",
    "row security": "alter table parent enable row level security; create policy p on parent for select using (id > 0)",
    "schema": "create schema extra; create table extra.t (i int)",
    "table renamed": "alter table child rename to kid",
    "everything": "drop view names; drop table child; drop table padding; alter table parent drop feeling; drop type mood;"
    "create type mood as enum ('a'); alter table parent add feeling mood[]; create table child (other uuid primary key)",
}  # fmt: skip


@pytest.fixture
def other(server: ScratchServer) -> Iterator[ConnInfo]:
    """A second database."""
    name = f"test_other_{secrets.token_hex(4)}"
    with connect(server.info) as admin:
        admin.execute(f"create database {name} template template0".encode())
    yield server.info.with_dbname(name)
    with connect(server.info) as admin:
        admin.execute(f"drop database {name} with (force)".encode())


def run(info: ConnInfo, text: str) -> None:
    with connect(info) as connection:
        connection.execute(text.encode())


@pytest.mark.pg(16, 18)
@pytest.mark.parametrize("change", CHANGES)
def test_a_difference_is_taken_back(database: ConnInfo, other: ConnInfo, tmp_path: Path, change: str) -> None:
    desk = Desk(tmp_path, other)
    run(database, START)
    run(other, f"create table throw_away (i int); drop table throw_away; {START}")  # so that no oid is the same
    with connect(other) as connection:
        connection.execute(CHANGES[change].encode())
    answer = desk.run("reverse", "--from-diff", to_url(database), "live", "--out", "down.sql", "--json")
    assert (answer.code, answer.json["status"]) == (0, "proved"), answer.err
    with connect(database) as connection:
        before = snapshot(connection)
    with connect(other) as connection:
        assert differences(before, snapshot(connection)) != []
        connection.execute((tmp_path / "down.sql").read_text().encode())
        assert differences(before, snapshot(connection)) == []


@pytest.mark.pg(16)
def test_nothing_between_two_of_the_same(database: ConnInfo, other: ConnInfo, tmp_path: Path) -> None:
    run(database, START)
    run(other, f"create table throw_away (i int); drop table throw_away; {START}")
    with connect(database) as one, connect(other) as two:
        before, after = snapshot(one), snapshot(two)
    assert diff.rekeyed(before, after).rows == before.rows


@pytest.mark.pg(16)
def test_from_a_saved_catalog(database: ConnInfo, tmp_path: Path) -> None:
    """Before `prisma db push` save, after it go back."""
    desk = Desk(tmp_path, database)
    desk.sql(START)
    assert desk.run("reverse.catalog", "--out", "before.json").code == 0
    first = (tmp_path / "before.json").read_bytes()
    desk.run("reverse.catalog", "--out", "before.json")
    assert (tmp_path / "before.json").read_bytes() == first
    with connect(database) as connection:
        assert saved.read(tmp_path / "before.json").rows == snapshot(connection).rows
    desk.sql("alter table parent drop old_name")
    assert desk.run("reverse.catalog", "--out", "after.json").code == 0
    run = desk.run("reverse", "--from-diff", "before.json", "live", "--json")
    assert (run.code, run.json["status"], [loss["loss"] for loss in run.json["losses"]]) == (0, "proved", ["values"])
    assert 'ALTER TABLE "parent" ADD COLUMN "old_name" text;' in run.err
    unproved = desk.run("reverse", "--from-diff", "before.json", "after.json", "--json")
    assert (unproved.code, unproved.json["status"]) == (19, "unproved")


@pytest.mark.pg(16)
def test_a_rename_is_offered_and_not_assumed(database: ConnInfo, tmp_path: Path) -> None:
    desk = Desk(tmp_path, database)
    desk.sql(START)
    desk.run("reverse.catalog", "--out", "before.json")
    desk.sql("alter table padding rename to stuffing", "alter table parent rename old_name to new_name")
    run = desk.run("reverse", "--from-diff", "before.json", "live", "--out", "down.sql", "--json")
    assert (run.code, len(run.json["renames"])) == (0, 2)
    text = (tmp_path / "down.sql").read_text()
    assert '-- Perhaps a rename: table "public"."stuffing" may be "public"."padding"' in text
    assert 'ALTER TABLE "public"."parent" RENAME COLUMN "new_name" TO "old_name"' in text
    assert 'DROP TABLE "stuffing"' in text


@pytest.mark.pg(16)
def test_files_that_are_no_catalog(database: ConnInfo, tmp_path: Path) -> None:
    desk = Desk(tmp_path, database)
    (tmp_path / "bad.json").write_text("{}")
    assert "no saved catalog" in desk.run("reverse", "--from-diff", "bad.json", "live").err
    desk.run("reverse.catalog", "--out", "good.json")
    known = json.loads((tmp_path / "good.json").read_text())
    (tmp_path / "newer.json").write_text(json.dumps(known | {"version": 99}))
    assert desk.run("reverse", "--from-diff", "newer.json", "live").code == 3
    assert desk.run("reverse", "--from-diff", "nosuch.json", "live").code == 3
    (tmp_path / "old.json").write_text(json.dumps(known | {"major": 12}))
    assert desk.run("reverse", "--from-diff", "old.json", "live").code == 2
    assert desk.run("reverse.catalog", "--out", "nosuch/file.json").code == 9
