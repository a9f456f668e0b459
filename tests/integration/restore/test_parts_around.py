"""What is around a schema or table that is restored: rights given in advance, publications, what CASCADE took, late comers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from tests import restored
from tests.desk import Desk, Run, wait_until

AIMS = {"schema": ("--schema", "app"), "table": ("--table", "app.t")}

SAMPLE = """
create schema app; create schema other;
create table app.t (id serial primary key, s text, "n m" int);
insert into app.t (s, "n m") select 'r' || i, i from generate_series(1, 50) i;
create table app.loose (i int);
create table other.r (id serial primary key, t_id int constraint "r's key" references app.t on delete cascade);
insert into other.r (t_id) select i from generate_series(1, 50) i;
"""


@pytest.fixture(params=AIMS)
def aim(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return AIMS[request.param]


@pytest.fixture
def desk(any_live: Desk) -> Desk:
    assert any_live.info is not None
    restored.make_roles(any_live.info)
    any_live.sql(SAMPLE)
    return any_live


def restore(desk: Desk, *words: str) -> Run:
    run = desk.run("restore", "--yes", "--json", *words)
    assert run.code == 0, run.err
    return run


def undo(desk: Desk, *words: str) -> Run:
    run = desk.run("restore.undo", "--yes", "--json", *words)
    assert run.code == 0, run.err
    return run


def plan(desk: Desk, *words: str) -> str:
    run = desk.run("restore", "--dry-run", "--json", *words)
    assert run.code == 0, run.err
    return "\n".join(run.json["plan"])


def as_user(desk: Desk, user: str) -> Desk:
    assert desk.info is not None
    info = desk.info
    return Desk(desk.folder, ConnInfo(info.host, info.port, user, info.dbname, info.password, info.params))


# --- who comes while the first look is behind us --------------------------------------------------------------------


@contextmanager
def late(desk: Desk, aim: tuple[str, ...], statement: str, verb: str = "restore") -> Iterator[subprocess.Popen[str]]:
    """A session has carried out ``statement`` and not committed; the restore has begun and waits for something."""
    assert desk.info is not None
    with closing(connect(desk.info, autocommit=False)) as session:
        session.execute(statement.encode())
        child = desk.spawn(verb, *aim, "--yes", "--json", environ={"NAAP_OPS_RESTORE__LOCK_TIMEOUT": "60s"})
        wait_until(lambda: child.poll() is not None or desk.ask("select count(*) from pg_locks where not granted"))
        session.commit()
        yield child


KEY = 'alter table other.late add constraint "l ate" foreign key (t_id) references app.t'


@pytest.mark.parametrize("verb", ["restore", "restore.undo"])
def test_a_key_that_comes_late_is_turned_too(desk: Desk, aim: tuple[str, ...], verb: str) -> None:
    desk.sql("create table other.late as select 1 as t_id")
    desk.backup()
    if verb == "restore.undo":
        restore(desk, *aim)
    with late(desk, aim, KEY, verb) as child:
        _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    points_at = "select confrelid::regclass::text from pg_constraint where conname = 'l ate'"
    assert desk.ask(points_at) == "app.t"
    with pytest.raises(Exception, match="violates foreign key"):
        desk.sql("insert into other.late values (51)")
    assert desk.ask("select count(*) from pg_constraint where conname like 'naap\\_ops%'") == 0


@pytest.mark.parametrize("verb", ["restore", "restore.undo"])
@pytest.mark.parametrize("what", ["view", "materialized view"])
def test_a_view_that_comes_late_is_refused(desk: Desk, aim: tuple[str, ...], verb: str, what: str) -> None:
    desk.backup()
    if verb == "restore.undo":
        restore(desk, *aim)
    before = desk.ask("select 'app.t'::regclass::oid")
    with late(desk, aim, f"create {what} other.late as select * from app.t", verb) as child:
        out, err = child.communicate(timeout=60)
    assert child.returncode == 17, err
    assert "other.late" in out
    assert desk.ask("select 'app.t'::regclass::oid") == before


def test_a_view_upon_a_view_that_comes_late(desk: Desk) -> None:
    """It locks the view of the schema, and nothing below it."""
    desk.sql("create materialized view app.m as select 1 as i", "create view app.v as select 1 as i")
    desk.backup()
    for inner in ("m", "v"):
        with late(desk, AIMS["schema"], f"create view other.late as select * from app.{inner}") as child:
            out, err = child.communicate(timeout=60)
        assert child.returncode == 17, err
        assert "other.late" in out
        desk.sql("drop view other.late")


def test_drop_old_takes_nobody_along_who_comes_late(desk: Desk) -> None:
    desk.backup()
    previous = restore(desk, *AIMS["schema"]).json["previous"]
    assert desk.info is not None
    with closing(connect(desk.info, autocommit=False)) as session:
        session.execute(f'create view other.late as select * from "{previous}".t')
        child = desk.spawn("restore.drop-old", previous, "--yes", "--json")
        wait_until(lambda: child.poll() is not None or desk.ask("select count(*) from pg_locks where not granted"))
        session.commit()
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 17
    assert "other.late" in out


# --- rights ---------------------------------------------------------------------------------------------------------

DEFAULTS = (
    'alter default privileges grant all on tables to "naap reader\'s 50%", public',
    'alter default privileges grant all on sequences to "naap reader\'s 50%"',
    'alter default privileges grant all on functions to "naap reader\'s 50%"',
    "alter default privileges revoke execute on functions from public",
    'alter default privileges grant all on types to "naap reader\'s 50%"',
    'alter default privileges grant all on schemas to "naap reader\'s 50%"',
    'alter default privileges in schema app grant all on tables to "naap owner"',
)
RIGHTS = """
select coalesce(array_agg(x order by x), '{}') from (
  select n.nspname || ' ' || c.relname || ' ' || a::text as x from pg_class c join pg_namespace n on n.oid = c.relnamespace,
    aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) a
  where n.nspname = 'app' and c.relkind <> 'i'
  union all select p.proname || ' ' || a::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
  where p.pronamespace = 'app'::regnamespace
  union all select t.typname || ' ' || a::text from pg_type t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
  where t.typnamespace = 'app'::regnamespace and t.typtype = 'e'
  union all select a::text from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
  where n.nspname = 'app') r
"""


@pytest.mark.parametrize("gone", [False, True])
def test_default_privileges_add_nothing(desk: Desk, aim: tuple[str, ...], gone: bool) -> None:
    desk.sql(
        "create function app.f(int, text) returns int language sql as 'select 1'; create type app.mood as enum ('a')",
        'grant select on app.t to "naap reader\'s 50%"; grant update (s) on app.t to "naap owner"',
    )
    desk.backup()
    then = desk.ask(RIGHTS)
    desk.sql(*DEFAULTS)
    desk.sql(
        "drop schema app cascade"
        if gone and aim[0] == "--schema"
        else "drop table app.t cascade"
        if gone
        else "delete from app.t"
    )
    restore(desk, *aim)
    assert desk.ask(RIGHTS) == then
    assert desk.ask("select has_table_privilege('naap reader''s 50%', 'app.t', 'select')")
    assert not desk.ask("select has_table_privilege('naap reader''s 50%', 'app.t', 'delete')")
    # What is made later still gets them, and so does what is restored without rights.
    desk.sql("create table other.later (i int)")
    assert desk.ask("select has_table_privilege('naap reader''s 50%', 'other.later', 'delete')")


# --- what CASCADE has taken -----------------------------------------------------------------------------------------

LEANING = """
create view other.v as select * from app.t; create view other."v 2" as select * from other.v;
comment on view other.v is 'seen'; grant select on other.v to "naap reader's 50%";
create materialized view other.m as select count(*) from app.t;
create function other.f(app.t) returns int language sql as 'select 1';
create policy p on other.r using (exists (select from app.t));
create publication "pu b" for table app.t where (id > 7);
create view other.apart as select 1 as i from app.loose;
"""


@pytest.mark.parametrize("kind", ["full", "data"])
def test_what_cascade_took_is_put_back_or_named(desk: Desk, aim: tuple[str, ...], kind: str) -> None:
    desk.sql(LEANING)
    backup = desk.backup(kind=kind)
    then = restored.structure(desk.info) if desk.info else ""
    desk.sql("drop view other.apart", "drop table app.t cascade")
    words = ("other.v", "other.v 2", "other.m", "other.f(app.t)", "policy other.r p", "pu b t")
    planned = plan(desk, *aim)

    notes = "\n".join(restore(desk, *aim).json["notes"])

    assert "put foreign key r's key of other.r back" in planned
    for word in (*words, str(desk.path(backup)), "--use-list"):
        assert word in notes
        assert word in planned
    assert "r's key" not in notes
    with pytest.raises(Exception, match="violates foreign key"):
        desk.sql("insert into other.r (t_id) values (51)")

    # What is to be typed does bring it back.
    assert desk.info is not None
    command = next(note for note in notes.splitlines() if "printf" in note).partition("To bring it back: ")[2]
    tools = restored.tools(desk.info)
    environ = {**desk.environ, **tools.command("pg_restore", [], desk.info).env, "PATH": f"{tools.bindir}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", command], env=environ, check=True)
    if aim[0] == "--table":
        desk.sql("create view other.apart as select 1 as i from app.loose")
        assert sorted(restored.structure(desk.info).splitlines()) == sorted(then.splitlines())


# What stands inside of CREATE TABLE other.inside, and needs app.t or what comes and goes with it or its schema.
INSIDE = """
create table other.inside (
  id int primary key,
  "d,e ""f" bigint not null default nextval('app.t_id_seq'),
  "d DEFAULT (" text default 'a, '' DEFAULT (b' || nextval('app.t_id_seq')::text collate "C",
  c text constraint "c, k" check (c <> 'app.other' and (c is null or c not like ')%')),
  kept bigint default 7
);
insert into other.inside (id) values (1);
"""
VALUED = (
    "select array_agg(a.attname || ' ' || pg_get_expr(adbin, adrelid) order by adnum) from pg_attrdef "
    "join pg_attribute a on (attrelid, attnum) = (adrelid, adnum) where adrelid = 'other.inside'::regclass"
)


@pytest.mark.parametrize("kind", ["full", "data"])
def test_defaults_that_cascade_took_are_put_back(desk: Desk, aim: tuple[str, ...], kind: str) -> None:
    """They stand inside of CREATE TABLE, where the archive has no entry for them."""
    desk.sql(INSIDE)
    desk.backup(kind=kind)
    then = desk.ask(VALUED)
    desk.sql("drop table app.t cascade")
    assert desk.ask(VALUED) == ["kept 7"]
    planned = plan(desk, *aim)
    assert 'put default "d,e ""f" of other.inside back' in planned

    notes = "\n".join(restore(desk, *aim).json["notes"])

    assert "other.inside" not in notes
    assert desk.ask(VALUED) == then
    desk.sql("insert into other.inside (id) values (2)")
    assert desk.ask('select "d,e ""f" from other.inside where id = 2') > 50


def test_a_default_that_was_dropped_on_purpose_stays_away(desk: Desk) -> None:
    desk.sql(INSIDE)
    desk.backup()
    desk.sql('alter table other.inside alter "d,e ""f" drop default, alter "d DEFAULT (" drop default')
    assert "other.inside" not in "\n".join(restore(desk, "--schema", "app").json["notes"])
    assert desk.ask(VALUED) == ["kept 7"]


def test_columns_and_checks_that_cascade_took_are_named(desk: Desk) -> None:
    desk.sql(
        "create type app.\"ki nd\" as enum ('a', 'b')",
        "create function app.ok(int, text) returns bool immutable language sql as 'select true'",
        "create table other.typed (id int, k app.\"ki nd\" default 'b' not null, constraint ok check (app.ok(id, ',')), j int)",
    )
    desk.backup()
    desk.sql("drop schema app cascade", "alter table other.typed drop j")
    planned = plan(desk, "--schema", "app")
    notes = restore(desk, "--schema", "app").json["notes"]
    found = [note for note in notes if "other.typed" in note]
    assert len(found) == 2
    assert all(note in planned for note in found)
    desk.sql(*(note.partition("To bring it back: ")[2] for note in found))
    assert (
        desk.ask("select pg_get_constraintdef(oid) from pg_constraint where conname = 'ok'") == "CHECK (app.ok(id, ','::text))"
    )
    assert desk.ask("select format_type(atttypid, -1) from pg_attribute where attname = 'k'") == 'app."ki nd"'


def test_a_default_of_a_table_that_is_not_ours(desk: Desk) -> None:
    """It is named with the command; the restore goes through all the same."""
    own(desk)
    desk.sql(INSIDE)
    desk.backup()
    desk.sql("drop table app.t cascade")
    notes = restore(as_user(desk, "naap owner"), "--table", "app.t").json["notes"]
    [command] = [note.partition("To bring it back: ")[2].partition(" (tried")[0] for note in notes if '"d,e' in note]
    desk.sql(command)
    assert "t_id_seq" in str(desk.ask(VALUED))


def test_names_with_line_breaks(any_live: Desk) -> None:
    """pg_dump's comments and lists have spaces for them: what is there must not be taken for missing, keys must be found."""
    any_live.sql(
        'create schema app; create table app."t\n1" (i int primary key); create table public."t\n2" (i int primary key)',
        'create table public."r\n1" (i int constraint "k\n1" references app."t\n1")',
        'create table public."r\n2" ("j\n1" int constraint "k\n2" references app."t\n1")',
    )
    any_live.backup()
    assert "k 1" not in "\n".join(restore(any_live, "--schema", "app").json["notes"])
    any_live.sql('drop table app."t\n1" cascade')
    assert "k 1" not in "\n".join(restore(any_live, "--schema", "app").json["notes"])
    assert any_live.ask("select count(*) from pg_constraint where contype = 'f'") == 2


def test_a_key_that_was_dropped_on_purpose_stays_away(desk: Desk, aim: tuple[str, ...]) -> None:
    """Its table was there all the time: it is named, not put back."""
    desk.backup()
    desk.sql('alter table other.r drop constraint "r\'s key"', "update other.r set t_id = 1000 where id = 1")
    notes = "\n".join(restore(desk, *aim).json["notes"])
    assert "other.r r's key" in notes
    assert desk.ask("select count(*) from pg_constraint where contype = 'f'") == 0


def test_rows_that_do_not_fit_the_key_that_is_put_back(desk: Desk, aim: tuple[str, ...]) -> None:
    desk.backup()
    desk.sql("drop table app.t cascade", "update other.r set t_id = 1000 where id < 4")
    run = desk.run("restore", *aim, "--yes", "--json")
    assert run.code == 17, run.err
    assert "r's key of other.r" in run.json["message"]
    assert "3 of its rows" in run.json["message"]
    assert desk.ask("select to_regclass('app.t')") is None


# --- publications ---------------------------------------------------------------------------------------------------

PUBLICATIONS = (
    'create publication "li st" for table app.t (id, "n m") where (id > 5), table other.r',
    "create publication whole for tables in schema app",
    "create publication every for all tables",
)
MEMBERS = """
select array_agg(x order by x) from (
  select pubname || ' ' || schemaname || '.' || tablename || ' ' || attnames::text || coalesce(rowfilter, '') as x
  from pg_publication_tables where schemaname in ('app', 'other') and pubname <> 'every'
  union all select pubname || ' has ' || pnnspid::regnamespace
  from pg_publication_namespace join pg_publication p on p.oid = pnpubid
  union all select pubname || ' lists ' || prrelid::regclass from pg_publication_rel join pg_publication p on p.oid = prpubid) r
"""


def test_publications_are_turned(desk: Desk, aim: tuple[str, ...]) -> None:
    desk.backup()
    desk.sql(*PUBLICATIONS, "delete from app.t")
    then = desk.ask(MEMBERS)
    planned = plan(desk, *aim)
    notes = "\n".join(restore(desk, *aim).json["notes"])
    assert desk.ask(MEMBERS) == then
    for publication in ("li st", *(["whole"] if aim[0] == "--schema" else [])):
        assert f"publication {publication} holds" in notes
        assert f"publication {publication} will hold" in planned
    assert "publication every is of all tables" in notes
    assert "publication li st holds" in "\n".join(undo(desk, *aim).json["notes"])
    assert desk.ask(MEMBERS) == then


def test_a_publication_that_is_not_ours(desk: Desk, aim: tuple[str, ...]) -> None:
    """The owner of the tables restores; the note says what a superuser has to type, and it is right."""
    own(desk)
    owner = as_user(desk, "naap owner")
    owner.backup()
    desk.sql(*PUBLICATIONS[:2])
    then = desk.ask(MEMBERS)
    notes = [note for note in restore(owner, *aim).json["notes"] if "type:" in note]
    assert notes
    for note in notes:
        desk.sql(note.partition("type: ")[2])
    assert desk.ask(MEMBERS) == then


def test_a_publication_of_what_the_backup_does_not_have(desk: Desk) -> None:
    desk.backup()
    desk.sql("create table app.later (i int); alter table app.t add new int")
    desk.sql("create publication a for table app.later", "create publication b for table app.t (id, new)")
    notes = "\n".join(restore(desk, "--schema", "app").json["notes"])
    assert "publication a still holds" in notes
    assert "publication b still holds" in notes
    undo(desk, "--schema", "app")


# --- keys of partitions ---------------------------------------------------------------------------------------------

PARTITIONED = """
create table other.ev (at int, t_id int constraint "to t" references app.t) partition by list (at);
create table other.ev1 partition of other.ev for values in (1);
create table other.ev2 (at int, t_id int constraint "own name" references app.t);
alter table other.ev attach partition other.ev2 for values in (2);
create table other.sub partition of other.ev for values in (3) partition by list (at);
create table other.sub1 partition of other.sub default;
insert into other.ev values (1, 1), (2, 2), (3, 3);
create table app.pt (at int primary key, r_id int constraint "to r" references other.r) partition by list (at);
create table app.pt1 partition of app.pt for values in (1);
create table app.pt2 (at int primary key, r_id int constraint "mine" references other.r);
alter table app.pt attach partition app.pt2 for values in (2);
create table other.points (at int constraint "to pt" references app.pt);
"""
NAMES = """
select array_agg(conrelid::regclass || ' ' || conname || ' ' || confrelid::regclass order by 1)
from pg_constraint where contype = 'f' and connamespace::regnamespace::text in ('app', 'other')
"""


def test_keys_of_partitions_keep_their_names(live: Desk) -> None:
    """But for app.pt2, whose key pg_dump does not name: a partition's key comes back with its parent's."""
    live.sql(SAMPLE, PARTITIONED)
    live.backup()
    names = "select array_agg(x order by x) from (select unnest((" + NAMES.replace(" order by 1", "") + ")) x) r"
    then = live.ask(names)
    assert any("own name" in name for name in then)
    for words in AIMS.values():
        restore(live, *words)
        assert [name for name in live.ask(names) if "app.pt2" not in name] == [n for n in then if "app.pt2" not in n]
        undo(live, *words)
        assert live.ask(names) == then


# --- who may, and what is in the way --------------------------------------------------------------------------------


def own(desk: Desk) -> None:
    """All of the sample belongs to a role that is no superuser and may make schemas."""
    assert desk.info is not None
    database = (desk.info.dbname or "").replace('"', '""')
    desk.sql(
        'alter role "naap owner" login',
        *(f'alter schema {name} owner to "naap owner"' for name in ("app", "other")),
        *(f'alter table {name} owner to "naap owner"' for name in ("app.t", "app.loose", "other.r")),
        f'grant create on database "{database}" to "naap owner"',
    )


def test_the_owner_restores_without_being_superuser(desk: Desk, aim: tuple[str, ...]) -> None:
    desk.sql("create view app.v as select * from app.loose; create materialized view app.m as select 1 i")
    own(desk)
    desk.sql('alter table app.v owner to "naap owner"; alter table app.m owner to "naap owner"')
    owner = as_user(desk, "naap owner")
    owner.backup()
    owner.sql("update app.t set s = 'x'")
    restore(owner, *aim)
    assert desk.ask("select count(*) from app.t where s = 'x'") == 0
    undo(owner, *aim)
    assert desk.ask("select count(*) from app.t where s = 'x'") == 50


def test_event_triggers_see_it_and_may_forbid_it(desk: Desk, aim: tuple[str, ...]) -> None:
    desk.backup()
    desk.sql(
        "create table other.seen (tag text)",
        "create function other.see() returns event_trigger language plpgsql as"
        " 'begin insert into other.seen values (tg_tag); end'",
        "create event trigger see on ddl_command_end execute function other.see()",
    )
    restore(desk, *aim)
    undo(desk, *aim)
    assert desk.ask("select count(*) from other.seen where tag = 'CREATE TABLE'")
    desk.sql(
        "create or replace function other.see() returns event_trigger language plpgsql as"
        " 'begin if tg_tag = ''CREATE TABLE'' then raise ''not in working hours''; end if; end'",
    )
    before = restored.structure(desk.info) if desk.info else ""
    run = desk.run("restore", *aim, "--yes", "--json")
    assert run.code == 17
    assert "not in working hours" in run.json["message"]
    assert desk.info is not None
    assert restored.structure(desk.info) == before


@pytest.mark.parametrize("name", ["x" * 63, "ü" * 31, 'We"ird {x} 50% Ünï.y'])
def test_long_and_strange_names_of_tables(any_live: Desk, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    any_live.sql(
        f'create schema {quoted}; create table {quoted}.{quoted} ({quoted} serial primary key, {quoted[:-4]}" text)',
        f"insert into {quoted}.{quoted} select from generate_series(1, 9)",
        f"create table public.{quoted} (i int constraint {quoted} references {quoted}.{quoted})",
    )
    any_live.backup()
    any_live.sql(f"drop table {quoted}.{quoted} cascade")
    restore(any_live, "--table", f"{name}.{name}")
    with pytest.raises(Exception, match="violates foreign key"):
        any_live.sql(f"insert into public.{quoted} values (10)")
    any_live.sql(f"delete from {quoted}.{quoted}")
    restore(any_live, "--table", f"{name}.{name}")
    assert any_live.ask(f"select count(*) from {quoted}.{quoted}") == 9
    undo(any_live, "--table", f"{name}.{name}")
    assert any_live.ask(f"select count(*) from {quoted}.{quoted}") == 0


# --- rows written meanwhile -----------------------------------------------------------------------------------------


def test_what_was_written_since_is_kept_by_undo(desk: Desk, aim: tuple[str, ...]) -> None:
    desk.backup()
    desk.sql("update app.t set s = 'damaged'")
    restore(desk, *aim)
    desk.sql("insert into app.t (s) values ('since')")
    kept = undo(desk, *aim).json["previous"]
    assert desk.ask("select count(*) from app.t where s = 'damaged'") == 50
    assert desk.ask(f"select count(*) from \"{kept}\".t where s = 'since'") == 1
    assert desk.ask(f'select count(*) from "{kept}".t') == 51


def test_what_is_written_during_the_load_stays_with_the_kept_schema(desk: Desk) -> None:
    """The plan says so; a writer that has not committed is waited for, and none is lost on the way."""
    desk.backup()
    assert "what is written to app before the restore is through" in plan(desk, "--schema", "app")
    assert desk.info is not None
    with closing(connect(desk.info, autocommit=False)) as writer:
        writer.execute("insert into app.t (s) values ('meanwhile')")
        child = desk.spawn("restore", "--schema", "app", "--yes", "--json")
        wait_until(lambda: desk.ask("select count(*) from pg_locks where not granted"))
        writer.execute("insert into app.t (s) values ('meanwhile')")
        writer.commit()
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    answer: dict[str, Any] = Run(0, out, err).json
    assert desk.ask(f"select count(*) from \"{answer['previous']}\".t where s = 'meanwhile'") == 2
    assert desk.ask("select count(*) from app.t") == 50
