"""`invoke drift`: every kind of change made by hand is seen, and the SQL of both directions mends it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from tests.desk import Desk, Run
from tests.integration.reverse.projects import Project
from tests.samples import track

FIRST, SECOND = "20260101000000_init", "20260102000000_more"
START = """
create type mood as enum ('sad', 'ok');
create table "User" (id serial primary key, email text not null default 'x', feeling mood, age int check (age > 0));
create table post (id int primary key, author int, title varchar(20) check (title in ('a', 'b')),
  constraint post_author_fkey foreign key (author) references "User" (id));
create index post_title on post (title);
create view names as select id, email from "User";
create function twice(i int) returns int language sql as 'select 2 * i';
create function touch() returns trigger language plpgsql as 'begin return new; end';
create trigger touched before update on post for each row execute function touch();
comment on table "User" is 'people';
"""
MORE = 'alter table post add column "madeAt" timestamptz not null default now();\n'

# What is done by hand -> the objects that are told, in any order.
CHANGES = {
    # What Prisma's own check sees.
    "extra table": (["create table extra (a int primary key, b text)"], ["table public.extra: extra: columns a, b"]),
    "missing table": (["drop table post"], ["table public.post: missing: columns id, author, title, madeAt"]),
    "extra column": (
        ["alter table post add note text not null default 'n'"],
        ["column public.post.note: extra: text not null default 'n'::text"],
    ),
    "extra enum": (["create type shade as enum ('dark', 'light')"], ["enum public.shade: extra: dark, light"]),
    "default": (
        ["""alter table "User" alter email set default 'y'"""],
        ["column public.User.email: changed: default: 'y'::text in the database, 'x'::text by the migrations"],
    ),
    "renamed key": (
        ['alter table "User" rename constraint "User_pkey" to people'],
        ["constraint public.User.User_pkey: missing: PRIMARY KEY", "constraint public.User.people: extra: PRIMARY KEY (id)"],
    ),
    # What it is blind to.
    "check": (
        ["alter table post add constraint odd check (author % 2 = 1)"],
        ["constraint public.post.odd: extra: CHECK (((author % 2) = 1))"],
    ),
    "partial index": (
        ["drop index post_title", "create index post_title on post (title) where author > 0"],
        ["index public.post_title: changed: "],
    ),
    "view": (['create or replace view names as select id, email from "User" where id > 0'], ["view public.names: changed: "]),
    "function": (
        ["create or replace function twice(i int) returns int language sql as 'select i + i'"],
        ["function public.twice(i integer): changed: "],
    ),
    "trigger": (
        ["drop trigger touched on post"],
        ["trigger public.post.touched: missing: CREATE TRIGGER touched BEFORE UPDATE ON post"],
    ),
    "row security": (['alter table "User" enable row level security'], ["table public.User: changed: row security: "]),
    "policy": (["create policy own on post for select using (author > 0)"], ["policy public.post.own: extra: for "]),
    "comment": (
        ["""comment on table "User" is 'persons'"""],
        ["table public.User: changed: comment: persons in the database, people by"],
    ),
    "grant": (["grant select on post to public"], ["table public.post: changed: "]),
    "extension": (["create extension {extension}"], ["extension {extension}: extra"]),
}  # fmt: skip


@pytest.fixture
def deployed(any_database: ConnInfo, tmp_path: Path) -> Project:
    return make(any_database, tmp_path)


def make(info: ConnInfo, folder: Path) -> Project:
    """Two migrations, both applied."""
    made = Project(Desk(folder, info))
    made.add(FIRST, START)
    made.add(SECOND, MORE)
    made.deploy(FIRST, SECOND)
    for name in (FIRST, SECOND):
        digest = hashlib.sha256((made.folder / name / "migration.sql").read_bytes()).hexdigest()
        made.desk.sql(f"update _prisma_migrations set checksum = '{digest}' where migration_name = '{name}'")
    return made


def available(project: Project) -> str:
    """An extension that the server has and the database has not."""
    name = project.desk.ask("select min(name)::text from pg_available_extensions where installed_version is null")
    if name is None:
        pytest.skip("this server has no extension to make")
    return str(name)


def book(project: Project, name: str, *, finished: str = "now()") -> None:
    digest = hashlib.sha256((project.folder / name / "migration.sql").read_bytes()).hexdigest()
    project.desk.sql(
        "insert into _prisma_migrations (id, checksum, migration_name, started_at, finished_at)"
        f" values (gen_random_uuid(), '{digest}', '{name}', now() + interval '1 hour', {finished})"
    )


def told(run: Run) -> list[str]:
    return [f"{each['kind']} {each['name']}: {each['what']}: {each['detail']}" for each in run.json["drift"]]


def mended_both_ways(project: Project, *flags: str) -> None:
    """The two files, each executed where it is meant for, leave no drift."""
    run = project.desk.run("drift", *flags, "--sql", "mend", "--json")
    assert run.code == 23
    assert {name: way["status"] for name, way in run.json["schemas"][0]["ways"].items()} == {
        "to_migrations": "proved",
        "to_database": "proved",
    }, run.out
    assert run.json["files"] == {"public": ["mend.to-migrations.sql", "mend.to-database.sql"]}
    to_migrations, to_database = ((project.desk.folder / name).read_text() for name in run.json["files"]["public"])
    assert (to_migrations, to_database) == (run.json["to_migrations"], run.json["to_database"])
    mend = project.add("20260103000000_as_it_is", to_database)
    book(project, mend.name)
    assert project.desk.run("drift", *flags).code == 0
    shutil.rmtree(mend)
    project.desk.sql(f"delete from _prisma_migrations where migration_name = '{mend.name}'", to_migrations)
    assert project.desk.run("drift", *flags).code == 0


@pytest.mark.parametrize(
    "change", [*list(CHANGES)[:5], *(pytest.param(each, marks=pytest.mark.long) for each in list(CHANGES)[5:])]
)
def test_a_change_by_hand_is_seen_and_mended(deployed: Project, change: str) -> None:
    statements, objects = CHANGES[change]
    if change == "extension":
        statements, objects = ([text.format(extension=available(deployed)) for text in each] for each in (statements, objects))
    assert deployed.desk.run("drift").code == 0
    deployed.desk.sql(*statements)
    run = deployed.desk.run("drift", "--json")
    assert (run.code, run.json["state"]) == (23, "drift"), run.err
    found = told(run)
    assert len(found) == len(objects), found
    for wanted in objects:
        assert any(each.startswith(wanted) for each in found), found
    mended_both_ways(deployed)
    assert deployed.shadows() == []


def test_what_is_no_drift(deployed: Project) -> None:
    """The order of columns is a remark; schemas of others are named and left out, and ours is not looked at."""
    desk = deployed.desk
    desk.sql(
        "create schema plugin create table t (i int)",
        "create schema naap_ops create table t (i int)",
        'alter table post drop column "madeAt", drop column title cascade',
        'alter table post add column "madeAt" timestamptz not null default now()',
        "alter table post add column title varchar(20) check (title in ('a', 'b'))",
        "create index post_title on post (title)",
    )
    run = desk.run("drift", "--json")
    assert (run.code, run.json["drift"], run.json["to_database"]) == (0, [], None)
    assert "columns of public.post are in another order than the migrations make them" in run.json["notes"]
    assert "schemas that no migration makes were left out: plugin (--all-schemas)" in run.json["notes"]
    run = desk.run("drift", "--all-schemas", "--json")
    assert (run.code, [each.partition(": ")[0] for each in told(run)]) == (23, ["schema plugin"])
    mended_both_ways(deployed, "--all-schemas")


def test_for_people(deployed: Project) -> None:
    deployed.desk.sql("create table extra (a int)", "insert into extra values (1)")
    run = deployed.desk.run("drift")
    assert run.code == 23
    assert "table public.extra: extra: columns a" in run.out
    assert "invoke drift --sql PREFIX" in run.out
    run = deployed.desk.run("drift", "--sql", "mend")
    assert "mend.to-migrations.sql: changes the database to what the migrations say: proved" in run.out
    assert "  loses " in run.out
    assert deployed.desk.ask("select count(*) from extra") == 1
    assert deployed.desk.run("drift", "--sql", "nosuch/mend").code == 9


def test_a_restored_database_is_not_drift(deployed: Project) -> None:
    """A dump spells the check of a varchar otherwise than the migration."""
    definition = "select pg_get_constraintdef(oid) from pg_constraint where conname = 'post_title_check'"
    made = deployed.desk.ask(definition)
    deployed.desk.sql(
        "alter table post drop constraint post_title_check", f"alter table post add constraint post_title_check {made}"
    )
    assert deployed.desk.ask(definition) != made
    assert deployed.desk.run("drift").code == 0


def test_edited_and_lost_migrations(deployed: Project) -> None:
    """A folder that is there counts as it is; one that is gone from everywhere makes the drift unknown."""
    desk = deployed.desk
    (deployed.folder / SECOND / "migration.sql").write_text("alter table post add column other int;\n")
    run = desk.run("drift", "--json")
    assert [each.rpartition(": ")[0] for each in told(run)] == [
        "column public.post.madeAt: extra",
        "column public.post.other: missing",
    ]
    assert f"{SECOND} was edited since it was applied: taken as it is now in the folder" in run.json["notes"]
    shutil.rmtree(deployed.folder / SECOND)
    run = desk.run("drift", "--json")
    assert (run.code, run.json["state"], run.json["drift"]) == (23, "unknown", [])
    assert run.json["reason"].endswith(SECOND)
    assert "drift is unknown" in run.err


def test_a_folder_in_the_archive_counts(deployed: Project) -> None:
    """Held, its row stays, and it counts as undone; applied and without a folder, it is replayed from the archive."""
    desk = deployed.desk
    (desk.folder / "prisma" / "schema.prisma").write_text('datasource db {\n  provider = "postgresql"\n}\n')
    assert desk.run("untrack", "--migration", SECOND, "--hold", "--yes").code == 0
    run = desk.run("drift", "--json")
    assert [each["name"] for each in run.json["drift"]] == ["public.post.madeAt"]
    assert f"{SECOND} is untracked and held: counted as undone" in run.json["notes"]
    assert desk.run("untrack", "--migration", SECOND, "--finalise", "--yes").code == 0
    desk.sql(
        "insert into _prisma_migrations (id, checksum, migration_name, started_at, finished_at)"
        f" values ('again', '{hashlib.sha256(MORE.encode()).hexdigest()}', '{SECOND}', now() + interval '1 hour', now())"
    )
    run = desk.run("drift", "--json")
    assert (run.code, run.json["drift"]) == (0, []), run.err
    assert any(note.startswith(f"{SECOND} has no folder: taken from the archive") for note in run.json["notes"])


def test_migrations_count_in_the_order_of_the_books(any_database: ConnInfo, tmp_path: Path) -> None:
    project = Project(Desk(tmp_path, any_database))
    project.add(SECOND, "create table t (i int);\n")
    project.add(FIRST, "alter table t add column j int;\n")
    project.deploy(SECOND, FIRST)
    project.add("20260103000000_pending", "drop table t;\n")
    assert project.desk.run("drift").code == 0


def test_what_failed_half_way_shows(deployed: Project) -> None:
    deployed.add("20260103000000_bad", "create table half (i int);\nselect 1/0;\n")
    deployed.desk.sql("create table half (i int)")
    book(deployed, "20260103000000_bad", finished="null")
    run = deployed.desk.run("drift", "--json")
    assert (run.code, len(run.json["drift"])) == (23, 1)
    assert "20260103000000_bad failed half-way: what of it took effect shows as drift" in run.json["notes"]


def test_without_books_it_is_unknown(any_database: ConnInfo, tmp_path: Path) -> None:
    project = Project(Desk(tmp_path, any_database))
    project.add(FIRST, START)
    run = project.desk.run("drift", "--json")
    assert (run.code, run.json["state"]) == (23, "unknown")
    assert "has no _prisma_migrations" in run.json["reason"]


def test_on_a_server_of_our_own_owners_are_left_out(deployed: Project) -> None:
    role = f"drift_{deployed.desk.ask('select current_database()')}"
    deployed.desk.sql(f"create role {role}", f'alter table post owner to {role}; grant select on "User" to {role}')
    try:
        run = deployed.desk.run("drift", "--shadow-server", "embedded", "--json")
        assert (run.code, run.json["drift"]) == (0, []), run.err
        assert any("owners and privileges were left out" in note for note in run.json["notes"])
        run = deployed.desk.run("drift", "--json")
        assert (run.code, sorted(each["name"] for each in run.json["drift"])) == (23, ["public.User", "public.post"])
    finally:
        deployed.desk.sql(f"drop owned by {role}; drop role {role}")


TENANT = "create table t (id int primary key, n text default 'x');\ncreate index t_n on t (n);\n"
# The schema's name gets into the catalog as a text, which renaming the schema does not change.
NAMED = "do $$ begin execute format('comment on table t is %L', current_schema()); end $$;\n"


@pytest.mark.parametrize("script", [TENANT, TENANT + NAMED], ids=["renamed", "replayed"])
def test_tenants(any_database: ConnInfo, tmp_path: Path, script: str) -> None:
    """Each against the same history: by one replay where nothing names the schema, by one for each where something does."""
    project = Project(Desk(tmp_path, any_database))
    project.desk.settings('tenant_schemas = "tenant_*"\n')
    project.add(FIRST, script)
    for schema in ("tenant_a", "tenant_b", "tenant_c"):
        project.desk.sql(f"create schema {schema}; set search_path = {schema}; {script}")
        track(any_database, schema, (FIRST, "applied"))
    assert project.desk.run("drift", "--all-tenants").code == 0
    project.desk.sql("alter table tenant_b.t alter n set default 'y'", "create view tenant_c.v as select id from tenant_c.t")
    run = project.desk.run("drift", "--all-tenants", "--sql", "mend", "--json")
    assert run.code == 23
    assert [(each["schema"], each["name"], each["what"]) for each in run.json["drift"]] == [
        ("tenant_b", "tenant_b.t.n", "changed"),
        ("tenant_c", "tenant_c.v", "extra"),
    ]
    assert {name: len(paths) for name, paths in run.json["files"].items()} == {"tenant_b": 2, "tenant_c": 2}
    for schema in ("tenant_b", "tenant_c"):
        text = (tmp_path / f"mend.{schema}.to-migrations.sql").read_text()
        project.desk.sql(f"set search_path = {schema}; {text}")
    assert project.desk.run("drift", "--all-tenants").code == 0
    assert project.shadows() == []


@pytest.mark.pg(15, 16, 17, 18)
def test_on_every_major(database: ConnInfo, tmp_path: Path) -> None:
    project = make(database, tmp_path)
    assert project.desk.run("drift").code == 0
    project.desk.sql("alter table post drop column author", "create type shade as enum ('dark')", "drop view names")
    mended_both_ways(project)
