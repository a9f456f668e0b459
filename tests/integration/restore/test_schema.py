"""One schema restored into a live database: everything in it, what is around it, and what must stop it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from difflib import unified_diff
from pathlib import Path
from string import Template
from typing import Any

import pytest
from psycopg import sql

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.restore.kept_parts import plan_undo_schema
from naap_ops.restore.outcome import RestoreOptions
from tests import restored
from tests.conftest import Servers
from tests.desk import Desk, Run, wait_until

NAMES = ("app", 'We"ird {x} 50% Ünï', "x" * 63, "ü" * 31, "SELECT")

# $s, $t and $o stand for the schema, a table of it, and the schema outside.
SAMPLE = """
create schema $s; create schema $o;
create type $s.status as enum ('new', 'it''s done'); create domain $s.short as varchar(20) check (length(value) < 15);
create table $o.users (id int primary key, name text);
insert into $o.users select i, 'u' || i from generate_series(1, 50) i;
create table $s.$t (id bigint generated always as identity primary key, user_id int references $o.users,
  st $s.status default 'new',
  total numeric, twice numeric generated always as (total * 2) stored, note $s.short, "col ""umn.x" text unique);
insert into $s.$t (user_id, total, note, "col ""umn.x")
  select 1 + i % 50, i, 'n' || i, E'tab\\t\\\\.\\n' || i from generate_series(1, 200) i;
create index on $s.$t (total) where total > 5; create statistics $s.st on user_id, total from $s.$t;
create table $s.item (id serial primary key,
  t_id bigint not null references $s.$t on delete cascade deferrable initially deferred);
insert into $s.item (t_id) select i from generate_series(1, 100) i;
create table $s.empty (i int); create table $s.nothing ();
create table $s.event (at date, what text, primary key (at, what)) partition by range (at);
create table $s.event_2025 partition of $s.event for values from ('2025-01-01') to ('2026-01-01');
create table $s.event_rest partition of $s.event default;
insert into $s.event select date '2025-12-01' + i, 'e' from generate_series(1, 60) i;
create table $s.parent (i int); create table $s.child () inherits ($s.parent); insert into $s.child values (1);
create function $s.f() returns trigger language plpgsql as 'begin return new; end';
create trigger tr before insert on $s.$t for each row execute function $s.f();
alter table $s.$t enable row level security; create policy p on $s.$t for select to "naap reader's 50%" using (user_id = 1);
create view $s.v as select t.id, u.name from $s.$t t join $o.users u on u.id = t.user_id;
create materialized view $s.mv as select st, count(*) from $s.$t group by st;
create sequence $s.loose start 42; select nextval('$loose');
create table $o.audit (id serial primary key, t_id bigint constraint "k ey" references $s.$t,
  i_id int references $s.item on delete set null);
comment on constraint "k ey" on $o.audit is 'a key';
insert into $o.audit (t_id, i_id) select i, i from generate_series(1, 100) i;
comment on table $s.$t is 'ü "x"'; comment on column $s.$t."col ""umn.x" is 'c'; comment on schema $s is 'it''s so';
grant usage on schema $s to "naap reader's 50%"; grant select (id) on $s.$t to "naap reader's 50%" with grant option;
grant usage on sequence $s.loose to "naap reader's 50%";
alter default privileges for role "naap owner" in schema $s grant select on tables to "naap reader's 50%";
alter schema $s owner to "naap owner";
"""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(name: str) -> str:
    return name.replace("'", "''")


def sample(name: str) -> str:
    loose = literal(quoted(name) + ".loose")
    return Template(SAMPLE).substitute(s=quoted(name), t='"T ä"', o='"out SIDE"', loose=loose)


@pytest.fixture
def desk(any_live: Desk) -> Desk:
    """A database with the schema ``app`` and its neighbours."""
    assert any_live.info is not None
    restored.make_roles(any_live.info)
    any_live.sql(sample("app"))
    return any_live


def restore(desk: Desk, *words: str) -> Run:
    return desk.run("restore", "--yes", "--json", *words)


def assert_refused(run: Run, code: int, *texts: str) -> None:
    assert run.code == code, run.err
    for text in texts:
        assert text in f"{run.json['message']} {run.json['hint']}"


def look(desk: Desk, schema: str) -> dict[str, Any]:
    """All that can be seen of a schema and its neighbours, without what is kept."""
    assert desk.info is not None
    aside = tuple(f"{name}." for name in kept(desk))
    tables = {name: digest for name, digest in restored.tables(desk.info).items() if not (aside and name.startswith(aside))}
    excluded = [f"--exclude-schema={quoted(each)}" for each in kept(desk)]
    lines = restored.dumped(desk.info, "-s", *excluded).decode().splitlines()
    return {
        "tables": tables,
        # Their order is pg_dump's, and changes with the oids.
        "structure": sorted(line for line in lines if line.strip("- ") and not line.startswith(("\\restrict", "\\unrestrict"))),
        "sequences": desk.ask(
            f"select array_agg(p::text order by p::text) from pg_sequences p where schemaname = '{literal(schema)}'"
        ),
        "view": desk.ask(f"select array_agg(m::text) from {quoted(schema)}.mv m"),
    }


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, list[str]]:
    """What differs, part by part, for people to read."""
    parts = {what: (_lines(found[what]), _lines(wanted[what])) for what in wanted}
    return {what: list(unified_diff(*each, "found", "wanted", n=1)) for what, each in parts.items() if each[0] != each[1]}


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}: {each}" for name, each in sorted(value.items())]
    return list(value or [])


def kept(desk: Desk) -> list[str]:
    assert desk.info is not None
    return restored.column(
        desk.info, "select nspname from pg_namespace where nspname ~ '(__|_ops_)(before|undone)_' order by 1"
    )


@contextmanager
def untouched(desk: Desk, schema: str = "app") -> Iterator[None]:
    before = look(desk, schema), kept(desk)
    yield
    assert (difference(look(desk, schema), before[0]), kept(desk)) == ({}, before[1])


# --- it comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES, ids=["plain", "quotes", "63 bytes", "63 bytes of umlauts", "keyword"])
def test_restore_undo_drop(any_live: Desk, name: str) -> None:
    """All of the schema is as it was, for every kind of name; undo brings the other state back; drop-old leaves nothing."""
    assert any_live.info is not None
    restored.make_roles(any_live.info)
    any_live.sql(sample(name))
    backup = any_live.backup()
    then = look(any_live, name)
    any_live.sql(
        f'delete from "out SIDE".audit where t_id > 50; delete from {quoted(name)}.item; drop view {quoted(name)}.v',
        f"drop table {quoted(name)}.empty; create table {quoted(name)}.later as select 1 as i",
    )
    audit = restored.tables(any_live.info)["out SIDE.audit"]
    now = look(any_live, name)

    run = restore(any_live, "--schema", name)

    assert run.code == 0, run.err
    then["tables"]["out SIDE.audit"] = audit
    assert difference(look(any_live, name), then) == {}
    outcome = run.json
    assert outcome["backup"] == backup.id
    assert outcome["rows"] == sum(t.rows or 0 for t in backup.sound.tables if t.schema == name)
    assert [outcome["previous"]] == kept(any_live)
    assert len(outcome["previous"].encode()) <= 63

    undone = any_live.run("restore.undo", "--schema", name, "--yes", "--json")
    assert undone.code == 0, undone.err
    assert [undone.json["previous"]] == kept(any_live)
    assert difference(look(any_live, name), now) == {}
    assert any_live.run("restore.drop-old", undone.json["previous"], "--yes").code == 0
    assert kept(any_live) == []
    assert difference(look(any_live, name), now) == {}


@pytest.mark.parametrize(("format_", "kind"), [("custom", "full"), ("directory", "data"), ("custom", "data")])
def test_from_every_kind_of_archive(desk: Desk, format_: str, kind: str) -> None:
    desk.backup(backup__format=format_, kind=kind)
    then = look(desk, "app")
    desk.sql('truncate app."T ä" cascade')
    desk.sql('insert into "out SIDE".audit (id) values (1000)')

    run = restore(desk, "--schema", "app")

    assert run.code == 0, run.err
    assert {n: d for n, d in look(desk, "app")["tables"].items() if "audit" not in n} == {
        n: d for n, d in then["tables"].items() if "audit" not in n
    }
    assert look(desk, "app")["structure"] == then["structure"]


def test_on_every_major(live: Desk) -> None:
    assert live.info is not None
    restored.make_roles(live.info)
    live.sql(sample("app"))
    live.backup()
    then = look(live, "app")
    live.sql("delete from app.item", 'update app."T ä" set total = -1', 'delete from "out SIDE".audit')
    run = restore(live, "--schema", "app")
    assert run.code == 0, run.err
    found = look(live, "app")
    for what in (then, found):
        what["tables"].pop("out SIDE.audit")
    assert difference(found, then) == {}


def test_a_schema_that_is_gone(desk: Desk) -> None:
    """Made anew as the backup knows it: owner, rights, comment, default privileges; keys of others that went with it."""
    desk.backup()
    then = look(desk, "app")
    desk.sql("drop schema app cascade")

    run = restore(desk, "--schema", "app")

    assert run.code == 0, run.err
    assert run.json["previous"] is None
    assert difference(look(desk, "app"), then) == {}
    assert run.json["notes"] == []


def test_a_schema_without_tables(any_live: Desk) -> None:
    any_live.sql("create schema nothing; create function nothing.one() returns int language sql as 'select 1'")
    any_live.backup()
    any_live.sql("create or replace function nothing.one() returns int language sql as 'select 2'")
    run = restore(any_live, "--schema", "nothing")
    assert run.code == 0, run.err
    assert any_live.ask("select nothing.one()") == 1


def test_public_with_an_extension_in_it(servers: Servers, any_live: Desk) -> None:
    """The extension is taken along into the new schema; columns of its type still work, inside and outside."""
    available = any_live.ask(
        "select name from pg_available_extensions where name in ('hstore', 'citext', 'vector') order by 1 limit 1"
    )
    if available is None:
        pytest.skip("this server has no extension with a type to try")
    value = {"hstore": "a=>1", "citext": "x", "vector": "[1,2]"}[available]
    any_live.sql(
        f"create extension {available}",
        f"create table public.t as select '{value}'::{available} x",
        f"create schema other; create table other.t as select '{value}'::public.{available} x",
    )
    any_live.backup()
    any_live.sql("delete from public.t")

    run = restore(any_live, "--schema", "public")

    assert run.code == 0, run.err
    assert any_live.ask("select count(*) from public.t a join other.t b on a.x::text = b.x::text") == 1
    assert any_live.ask("select extnamespace::regnamespace::text from pg_extension where extname <> 'plpgsql'") == "public"
    any_live.sql(f"insert into public.t values ('{value}'::public.{available})")
    assert any_live.run("restore.undo", "--schema", "public", "--yes").code == 0
    assert any_live.ask("select count(*) from public.t") == 0
    assert any_live.ask("select extnamespace::regnamespace::text from pg_extension where extname <> 'plpgsql'") == "public"
    any_live.sql("drop schema public cascade")
    assert any_live.ask("select count(*) from pg_extension where extname <> 'plpgsql'") == 0
    any_live.sql("drop schema other cascade")
    again = restore(any_live, "--schema", "public")
    assert again.code == 0, again.err
    assert any_live.ask("select count(*) from public.t") == 1


def test_from_a_backup_of_that_schema_alone(desk: Desk) -> None:
    desk.backup(parts={"schemas": ["app"]})
    desk.sql("truncate app.event")
    assert restore(desk, "--schema", "app").code == 0
    assert desk.ask("select count(*) from app.event") == 60
    assert_refused(restore(desk, "--schema", "out SIDE"), 11, "app")


def test_tenants(any_live: Desk) -> None:
    """By the tenant's name; the other tenant is not touched, and what is kept is no tenant."""
    for tenant in ("acme", "globex"):
        any_live.sql(f"create schema tenant_{tenant}; create table tenant_{tenant}.t as select 1 i")
    any_live.backup()
    any_live.sql("update tenant_acme.t set i = 2", "update tenant_globex.t set i = 2")
    run = restore(any_live, "--tenant", "acme")
    assert run.code == 0, run.err
    assert any_live.ask("select i from tenant_acme.t") == 1
    assert any_live.ask("select i from tenant_globex.t") == 2


# --- who looks on ---------------------------------------------------------------------------------------------------


def test_readers_see_the_old_schema_until_the_commit(desk: Desk) -> None:
    """The restore is held up at its end by a lock on a neighbour; meanwhile the old rows are read, and no reader waits."""
    desk.backup()
    desk.sql("delete from app.item where id > 10")
    assert desk.info is not None
    with closing(connect(desk.info, autocommit=False)) as holder, closing(connect(desk.info)) as reader:
        holder.execute('lock table "out SIDE".audit in share mode')  # against the key's ALTER TABLE, not against reading
        reader.execute("set statement_timeout = '5s'")
        child = desk.spawn("restore", "--schema", "app", "--yes", "--json")
        wait_until(lambda: desk.ask("select count(*) from pg_locks where not granted"))
        assert reader.execute("select count(*) from app.item").fetchone() == (10,)
        assert kept(desk) == []
        holder.rollback()
        _, err = child.communicate()
        assert child.returncode == 0, err
        assert reader.execute("select count(*) from app.item").fetchone() == (100,)


def test_a_lock_that_does_not_go_away(desk: Desk) -> None:
    desk.settings("[restore]\nlock_timeout = '1500ms'\n")
    desk.backup()
    assert desk.info is not None
    with untouched(desk), closing(connect(desk.info, application_name="sleepy", autocommit=False)) as holder:
        holder.execute('lock table "out SIDE".audit in share mode')
        assert_refused(restore(desk, "--schema", "app"), 16, "sleepy", "lock table")


def test_a_reader_who_does_not_go_away(desk: Desk) -> None:
    """At the end the kept tables are locked: a transaction that has read them must end first."""
    desk.settings("[restore]\nlock_timeout = '1500ms'\n")
    desk.backup()
    assert desk.info is not None
    with untouched(desk), closing(connect(desk.info, application_name="sleepy", autocommit=False)) as holder:
        holder.execute("select 1 from app.item limit 1")
        assert_refused(restore(desk, "--schema", "app"), 16, "sleepy", "app.item")


def test_a_lock_table_that_is_too_small(any_server: ScratchServer, tmp_path: Path) -> None:
    """Told before anything is done where it is certain, else when it happens."""
    config = {"max_connections": "10", "max_worker_processes": "0", "max_wal_senders": "0", "autovacuum": "off"}
    with ScratchServer(any_server.bindir, tmp_path / "server", config=config) as server:
        desk = Desk(tmp_path, server.info)
        desk.sql("create schema app", *(f"create table app.t{i} (i int primary key, j int unique)" for i in range(60)))
        function = "create function many.f{}() returns int language sql as 'select 1'"
        desk.sql("create schema many", *(function.format(i) for i in range(1500)))
        desk.backup()  # which needs locks, too: how many at a time is chance
        desk.sql("alter system set max_locks_per_transaction = 10")
        server.stop()
        server.start()
        refused = restore(desk, "--schema", "app")
        assert_refused(refused, 17, "this needs locks on at least 240", "max_locks_per_transaction")
        assert_refused(restore(desk, "--schema", "many"), 17, "lock table was full", "max_locks_per_transaction")
        assert desk.ask("select count(*) from pg_proc where pronamespace = 'many'::regnamespace") == 1500


def test_statistics_are_there_at_once(desk: Desk) -> None:
    desk.backup()
    assert restore(desk, "--schema", "app").code == 0
    assert desk.ask("select reltuples from pg_class where oid = 'app.\"T ä\"'::regclass") == 200


# --- keys across the border -----------------------------------------------------------------------------------------


def test_keys_point_at_the_new_tables_and_not_at_the_kept_ones(desk: Desk) -> None:
    desk.backup()
    previous = restore(desk, "--schema", "app").json["previous"]
    with pytest.raises(Exception, match="violates foreign key"):
        desk.sql('insert into "out SIDE".audit (t_id) values (100000)')
    with pytest.raises(Exception, match="violates foreign key"):
        desk.sql('delete from app."T ä" where id = 5')
    desk.sql(
        'update app."T ä" set user_id = 2 where user_id = 1', 'delete from "out SIDE".users where id = 1'
    )  # the kept copy does not mind
    assert desk.ask(f'select count(*) from {quoted(previous)}."T ä" where user_id = 1') == 4
    run = desk.run("restore.undo", "--schema", "app", "--yes", "--json")
    assert_refused(run, 17, "4 of its rows", "T ä")


def test_rows_that_others_point_at_are_missing(desk: Desk) -> None:
    desk.backup()
    desk.sql('insert into app."T ä" (total) select 1 from generate_series(1, 7)')
    desk.sql('insert into "out SIDE".audit (t_id) select id from app."T ä" where id > 200')
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), 17, '"k ey"'.strip('"'), "out SIDE.audit", "7 of its rows")


def test_rows_that_it_points_at_are_missing(desk: Desk) -> None:
    desk.backup()
    desk.sql('delete from app."T ä" where user_id = 3 and false', 'update app."T ä" set user_id = 2 where user_id = 3')
    desk.sql('delete from "out SIDE".users where id = 3')
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), 17, "user_id_fkey", "(3)")


DEPENDANTS = {
    "view": ('create view "out SIDE".w as select * from app.item', '"out SIDE".w'),
    "materialized view": ('create materialized view "out SIDE".w as select 1 from app.item', '"out SIDE".w'),
    "column": ('create table "out SIDE".w (s app.status)', '"out SIDE".w'),
    "default": ("create table \"out SIDE\".w (i int default nextval('app.loose'))", '"out SIDE".w'),
    "function": ("create function \"out SIDE\".w(app.status) returns int language sql as 'select 1'", '"out SIDE".w'),
    "trigger": ('create trigger w before insert on "out SIDE".users for each row execute function app.f()', "trigger w"),
    "policy": ('create policy w on "out SIDE".users using (exists (select from app.item))', "policy w"),
    "partition": (
        "create table \"out SIDE\".w partition of app.event for values from ('2030-01-01') to ('2031-01-01')",
        '"out SIDE".w',
    ),
    "part of a parent": (
        'create table "out SIDE".w (i int) partition by list (i); create table app.w1 partition of "out SIDE".w default',
        '"out SIDE".w',
    ),
    "child": ('create table "out SIDE".w () inherits (app.parent)', '"out SIDE".w'),
    "statistics": ('create statistics "out SIDE".w on id, t_id from app.item', '"out SIDE".w'),
    "domain": ('create domain "out SIDE".w as app.status', '"out SIDE".w'),
    "cast": (
        "create function app.c(app.status) returns int immutable language sql as 'select 1';"
        " create cast (app.status as int) with function app.c",
        "cast",
    ),
}


@pytest.mark.parametrize("kind", DEPENDANTS)
def test_what_cannot_be_put_back_is_named(desk: Desk, kind: str) -> None:
    statement, text = DEPENDANTS[kind]
    desk.backup()
    desk.sql(statement)
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), 17, text)


# --- the backup -----------------------------------------------------------------------------------------------------


def test_only_its_files_are_looked_at(desk: Desk) -> None:
    """Damage elsewhere in the backup does not matter; damage in one of its files does, and nothing is changed."""
    backup = desk.backup()
    files = {f"{fact.schema}.{fact.name}": desk.path(backup) / str(fact.file) for fact in backup.sound.tables}
    files["out SIDE.users"].write_bytes(b"ruined")
    assert restore(desk, "--schema", "app").code == 0
    path = files["app.item"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = kept(desk)
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), 13, path.name)
    path.unlink()
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), 13, path.name)
    assert kept(desk) == before


def test_damage_that_still_loads_is_found_before_the_commit(desk: Desk) -> None:
    backup = desk.backup(backup__compression="none")
    fact = next(fact for fact in backup.sound.tables if fact.name == "event_rest")
    path = desk.path(backup) / str(fact.file)
    path.write_bytes(path.read_bytes().replace(b"\te\n", b"\tf\n", 1))
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), 13, path.name)


def test_rows_other_than_promised(desk: Desk) -> None:
    backup = desk.backup()

    def one_more(raw: dict[str, Any]) -> None:
        next(t for t in raw["tables"] if t["name"] == "item")["rows"] += 1

    desk.edit(backup, one_more)
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), 13, "app.item", "100 rows, not 101")


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"backup__format": "plain"}, 2, "plain script"),
        ({"kind": "schema"}, 17, "no rows"),
        ({"parts": {"tables": ["app.item"]}}, 17, "only"),
        ({"parts": {"exclude_table_data": ["app.item"]}}, 17, "app.item"),
    ],
    ids=["plain", "no rows", "one table", "rows left out"],
)
def test_a_backup_that_does_not_hold_it_whole(desk: Desk, options: dict[str, Any], code: int, text: str) -> None:
    desk.backup(**options)
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), code, text)


def test_a_schema_that_is_not_in_the_backup(desk: Desk) -> None:
    desk.backup()
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "App"), 11, "app")


# --- others ---------------------------------------------------------------------------------------------------------


def test_a_restore_of_the_same_database_is_running(desk: Desk) -> None:
    from naap_ops.restore.locking import target_lock

    desk.backup()
    assert desk.info is not None
    with untouched(desk), target_lock(desk.info, str(desk.info.dbname)):
        assert_refused(restore(desk, "--schema", "app"), 15, "naap_ops restore")


def test_drop_old_drops_only_what_is_marked(desk: Desk) -> None:
    desk.backup()
    previous = restore(desk, "--schema", "app").json["previous"]
    assert_refused(desk.run("restore.drop-old", "app", "--yes", "--json"), 17, "nothing is dropped")
    desk.sql(f'create view "out SIDE".nosy as select * from {quoted(previous)}.item')
    assert_refused(desk.run("restore.drop-old", previous, "--yes", "--json"), 17, "nosy")
    desk.sql('drop view "out SIDE".nosy')
    assert desk.run("restore.drop-old", previous, "--yes").code == 0
    assert kept(desk) == []
    assert_refused(desk.run("restore.undo", "--schema", "app", "--yes", "--json"), 17, "nothing to undo")


def test_the_plan_changes_nothing(desk: Desk) -> None:
    desk.backup()
    desk.sql("delete from app.item")
    with untouched(desk):
        run = desk.run("restore", "--schema", "app", "--dry-run", "--json")
    assert run.code == 0, run.err
    plan = "\n".join(run.json["plan"])
    for text in ("app__before_", "k ey of out SIDE.audit", "user_id_fkey of app.T ä"):
        assert text in plan
    desk.sql('create view "out SIDE".w as select * from app.item')
    assert desk.run("restore", "--schema", "app", "--dry-run", "--json").code == 17


def test_a_role_that_does_not_exist_any_more(desk: Desk, tmp_path: Path) -> None:
    desk.sql('create role "gone for good"; grant select on app.item to "gone for good"')
    desk.backup()
    desk.sql('drop owned by "gone for good"; drop role "gone for good"')
    with untouched(desk):
        assert_refused(restore(desk, "--schema", "app"), 17, "gone for good", "--no-privileges")
    assert restore(desk, "--schema", "app", "--no-privileges", "--no-owner").code == 0


def test_identifiers_in_messages_are_safe(desk: Desk) -> None:
    """A schema whose name is a statement is a name."""
    name = "x; drop schema app cascade"
    desk.sql(sql.SQL("create schema {}").format(sql.Identifier(name)).as_string())
    desk.backup()
    with untouched(desk):
        assert restore(desk, "--schema", name).code == 0
        for each in kept(desk):
            assert desk.run("restore.drop-old", each, "--yes").code == 0


def test_the_plan_of_undo_changes_nothing(desk: Desk) -> None:
    desk.backup()
    previous = restore(desk, "--schema", "app").json["previous"]
    assert desk.info is not None
    with untouched(desk):
        plan = "\n".join(plan_undo_schema(desk.info, "app", RestoreOptions()).lines)
    for text in (previous, "app__undone_", "k ey of out SIDE.audit", "give foreign key"):
        assert text in plan
