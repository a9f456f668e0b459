"""Rows that a migration destroys come back from their images; what was written since stays, or is listed as a conflict."""

from __future__ import annotations

import psycopg
import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.reverse.images import taking
from naap_ops.reverse.images.model import images_of
from tests.imaging import MIGRATION, trip

pytestmark = pytest.mark.also(15, 18)

PEOPLE = """
create type "Role" as enum ('USER', 'ADMIN');
create table "Team" (id integer generated always as identity primary key, name text not null);
create table "User" (id serial primary key, email varchar(60) not null unique, role "Role" not null default 'USER',
  team integer references "Team" on delete cascade, age integer, twice integer generated always as (age * 2) stored);
insert into "Team" (name) values ('red'), ('blue');
insert into "User" (email, role, team, age) select 'u' || n || '@x', case when n < 3 then 'ADMIN' else 'USER' end::"Role",
  1 + n % 2, nullif(n, 4) from generate_series(1, 6) n;
"""


@pytest.mark.parametrize(
    "script",
    [
        'alter table "User" drop column email',
        'alter table "User" drop column age cascade, drop column role; drop type "Role"',
        'drop table "User"',
        'drop table "User"; drop table "Team"',
        'drop table "Team" cascade',
        'alter table "User" rename to "Person"; alter table "Person" rename email to mail;'
        ' alter table "Person" drop column mail',
        "update \"User\" set role = 'USER'",
        'update "User" set age = 0 where age is null; alter table "User" alter age set not null',
        'update "User" set age = age + 1; update "User" set age = null where age > 3;'
        ' alter table "User" drop column age cascade',
        'alter table "User" alter email type varchar(2) using left(email, 2)',
        'alter table "User" drop column twice; alter table "User" alter age type boolean using age > 2',
        'delete from "User" where age > 2',
        'delete from "Team"',
        'truncate "Team" cascade',
        'truncate "User" restart identity',
        'update "User" set team = null; delete from "Team"; drop table "Team" cascade',
        # rows that refer to others come back after those, whichever statement took them first
        'alter table "Team" add tag text; alter table "Team" drop column name; update "User" set age = 1;'
        ' delete from "Team" where id = 1',
        'update "Team" set name = upper(name); update "User" set age = 1; delete from "Team" where id = 1',
        'delete from "Team" where id = 1; drop table "User"',
        'update "Team" set name = upper(name); delete from "Team" where id = 1; drop table "User"',
        'update "User" set age = 1; insert into "Team" (name) values (\'green\');'
        ' insert into "User" (email, team) select \'new\', max(id) from "Team"',
        'alter table "User" drop column role; delete from "User" where age > 2; delete from "Team"; drop table "Team" cascade',
        'do $$ begin update "User" set age = 7; delete from "User" where id = 1; end $$',
        'insert into "Team" (name) select name from "Team"',
        "update \"User\" set role = 'USER' where role = 'ADMIN'; create type \"Role_new\" as enum ('USER');"
        ' alter table "User" alter role drop default;'
        ' alter table "User" alter role type "Role_new" using (role::text::"Role_new");'
        ' alter type "Role" rename to "Role_old"; alter type "Role_new" rename to "Role"; drop type "Role_old";'
        " alter table \"User\" alter role set default 'USER'",
    ],
)
def test_there_and_back_nothing_is_lost(any_database: ConnInfo, script: str) -> None:
    with trip(any_database, PEOPLE) as journey:
        was = journey.contents()
        journey.up(script)
        assert journey.contents() != was
        made = journey.down(script)
        assert journey.contents() == was
        assert [
            loss for loss in made.losses if loss["source"] == "none" and not loss["since"] and loss["loss"] != "state"
        ] == []
        assert journey.conflicts == []
        assert journey.restored


def test_rows_that_come_back_are_counted_once(any_database: ConnInfo) -> None:
    with trip(any_database, PEOPLE) as journey:
        script = 'alter table "User" drop column email; delete from "User" where id = 1'
        journey.up(script)
        journey.down(script)
        assert journey.restored == {"public.User": 6}


# --- what was written since -----------------------------------------------------------------------------------------


def test_a_dropped_column_is_filled_and_rows_since_get_the_placeholder(any_database: ConnInfo) -> None:
    with trip(any_database, PEOPLE) as journey:
        script = 'alter table "User" drop column email'
        journey.up(script)
        journey.live.execute(
            'insert into "User" (age) values (50); delete from "User" where id = 2; update "User" set age = 9 where id = 1'
        )
        journey.down(script)
        found = journey.rows('select id, email, age from "User" where id in (1, 2, 3, 7) order by 1')
        assert found[:2] == [(1, "u1@x", 9), (3, "u3@x", 3)]
        assert found[2][1] not in {"u1@x", "u2@x", ""}
        assert journey.restored == {"public.User": 5}


def test_newer_values_stay_and_are_listed(any_database: ConnInfo) -> None:
    with trip(any_database, PEOPLE) as journey:
        script = 'update "User" set age = 0, role = \'USER\'; delete from "User" where id > 4'
        journey.up(script)
        journey.live.execute(
            'update "User" set age = 77 where id = 1;'
            " insert into \"User\" (id, email, age) values (5, 'new@x', 5), (99, 'x@x', 0)"
        )
        journey.down(script)
        assert journey.rows('select id, email, role::text, age from "User" order by 1') == [
            (1, "u1@x", "ADMIN", 77), (2, "u2@x", "ADMIN", 2), (3, "u3@x", "USER", 3), (4, "u4@x", "USER", None),
            (5, "new@x", "USER", 5), (6, "u6@x", "USER", 6), (99, "x@x", "USER", 0),
        ]  # fmt: skip
        assert journey.conflicts == [("public.User", "1", ["age"]), ("public.User", "5", [])]


def test_ours_takes_the_older_values_all_the_same(any_database: ConnInfo) -> None:
    with trip(any_database, PEOPLE) as journey:
        was = journey.contents()
        script = 'update "User" set age = 0; delete from "User" where id > 4'
        journey.up(script)
        journey.live.execute('update "User" set age = 77 where id = 1; insert into "User" (id, email) values (5, \'new@x\')')
        journey.down(script, force=True)
        assert journey.contents() == was
        assert journey.conflicts == []


def test_rows_that_the_migration_put_there_go_unless_they_were_changed(any_database: ConnInfo) -> None:
    with trip(any_database, PEOPLE) as journey:
        script = 'insert into "Team" (name) select name || \'2\' from "Team"'
        journey.up(script)
        journey.live.execute(
            "update \"Team\" set name = 'mine' where name = 'red2'; insert into \"Team\" (name) values ('new')"
        )
        journey.down(script)
        assert journey.rows('select name from "Team" order by id') == ["red", "blue", "mine", "new"]
        assert journey.conflicts == [("public.Team", "3", [])]


def test_a_change_of_type_gives_back_what_was_cut(any_database: ConnInfo) -> None:
    """Compared is what stands there before the type is changed back."""
    before = """create table t (id int primary key, n numeric(10,4), at timestamptz); insert into t values
      (1, 1.2345, '2020-01-01 01:02:03.456+00'), (2, 'NaN', 'infinity'), (3, 7, '4713-01-01 BC'), (4, 3.3333, now())"""
    with trip(any_database, before) as journey:
        was = journey.rows("select id, n::text, at::text from t where id < 4 order by 1")
        script = "alter table t alter n type numeric(8,1), alter at type date, alter id type bigint"
        journey.up(script)
        journey.live.execute("update t set n = 9.9 where id = 4; insert into t values (5000, 1.5, null)")
        journey.down(script)
        assert journey.rows("select id, n::text, at::text from t where id < 4 order by 1") == was
        assert journey.conflicts == [("public.t", "4", ["n"])]
        assert journey.rows("select n::text from t where id > 3 order by id") == ["9.9000", "1.5000"]


FAMILY = """
create table p (id int primary key, s text); create table c (id int primary key, v text,
  p int references p on delete cascade on update cascade, q int references p on delete set null);
insert into p values (1, 'a'), (2, 'b'); insert into c values (1, 'x', 1, 2), (2, 'y', 2, null), (3, 'z', null, 2)
"""


@pytest.mark.parametrize("column", ["p", "q"])
def test_rows_that_somebody_refers_to_since_stay(any_database: ConnInfo, column: str) -> None:
    """They would take others along, or what these refer to."""
    with trip(any_database, FAMILY) as journey:
        script = "insert into p select id + 100, s from p"
        journey.up(script)
        journey.live.execute(f"insert into c (id, {column}) values (9, 101)".encode())
        journey.down(script)
        assert journey.rows("select id from p order by 1") == [1, 2, 101]
        assert journey.rows(f"select {column} from c where id = 9") == [101]
        assert journey.conflicts == [("public.p", "101", [])]


@pytest.mark.parametrize(
    "script", ["insert into p values (7, 'g')", "insert into p select n, 'g' from generate_series(7, 7) n"]
)
def test_a_structural_reverse_stops_where_somebody_refers_to_what_was_inserted(any_database: ConnInfo, script: str) -> None:
    with trip(any_database, FAMILY) as journey:
        made = journey.up(script)
        journey.live.execute("insert into c (id, p) values (9, 7)")
        with pytest.raises(psycopg.errors.RaiseException, match="would go with them"):
            journey.live.execute(made.text.encode())
        journey.live.execute("rollback; delete from c where id = 9")
        journey.live.execute(made.text.encode())
        assert journey.rows("select id from p order by 1") == [1, 2]


def test_what_refers_to_a_row_that_went_since_does_not_come_back_and_is_listed(any_database: ConnInfo) -> None:
    with trip(any_database, FAMILY) as journey:
        script = "delete from c where id = 1; update c set q = null, v = 'm'"
        journey.up(script)
        journey.live.execute("update c set p = null where id = 2; delete from p where id = 2")
        journey.down(script)
        assert journey.rows("select id, v, p, q from c order by 1") == [(2, "y", None, None), (3, "z", None, None)]
        assert journey.conflicts == [("public.c", "1", []), ("public.c", "3", ["q"])]


def test_a_chain_of_rows_that_hang_on_one_that_went_is_left_out(any_database: ConnInfo) -> None:
    before = """create table t (id int primary key, up int references t);
    create table u (id int primary key, t int references t);
    insert into t values (1, null), (2, 1), (3, 2), (4, null), (5, 4); insert into u values (1, 3), (2, 5)"""
    with trip(any_database, before) as journey:
        script = "delete from u; delete from t where id in (2, 3, 5)"
        journey.up(script)
        journey.live.execute("delete from t where id = 1")
        journey.down(script)
        assert journey.rows("select id from t order by 1") == [4, 5]
        assert journey.rows("select id from u order by 1") == [2]
        assert journey.conflicts == [("public.t", "2", []), ("public.t", "3", []), ("public.u", "1", [])]


@pytest.mark.parametrize("column", ["serial", "int generated by default as identity"])
def test_a_sequence_that_was_restarted_goes_on_after_what_has_come_back(any_database: ConnInfo, column: str) -> None:
    before = f"create table t (id {column} primary key, v text); insert into t (v) values ('a'), ('b')"
    with trip(any_database, before) as journey:
        script = "truncate t restart identity"
        journey.up(script)
        journey.down(script)
        assert journey.rows("insert into t (v) values ('c') returning id") == [3]


def test_text_that_was_read_as_json_comes_back_as_json_has_it(any_database: ConnInfo) -> None:
    """What was written since as well: quotes are part of the text."""
    with trip(
        any_database, "create table t (id int primary key, v varchar(99)); insert into t values (1, '{\"b\":  1}')"
    ) as journey:
        script = "alter table t alter v type jsonb using v::jsonb"
        journey.up(script)
        journey.live.execute("insert into t values (2, '\"x\"')")
        journey.down(script)
        assert journey.rows("select v from t order by id") == ['{"b":  1}', '"x"']


@pytest.mark.parametrize("column", ["serial unique", "int unique generated always as identity"])
def test_a_column_that_counts_goes_on_after_what_has_come_back(any_database: ConnInfo, column: str) -> None:
    before = f"""create table t (id int primary key, n {column}); insert into t (id) select generate_series(1, 5);
    delete from t where id < 4"""
    with trip(any_database, before) as journey:
        script = "alter table t drop column n"
        journey.up(script)
        journey.live.execute("insert into t values (0), (1), (2), (3)")
        journey.down(script)
        since = journey.rows("select n from t where id < 4")
        assert journey.rows("select n from t where id > 3 order by id") == [4, 5]
        assert min(since) > 5
        assert journey.rows("insert into t (id) values (6) returning n") == [max(since) + 1]


def test_images_that_bring_nothing_back_are_not_used(any_database: ConnInfo) -> None:
    """The key that others refer to cannot be told, and stays as it is: with theirs put back, no reverse would go through."""
    before = """create table p (id int primary key); insert into p values (1), (2);
    create table c (id int primary key, p int references p on update cascade); insert into c values (1, 1), (2, 2), (3, null)"""
    with trip(any_database, before) as journey:
        script = "update p set id = id + 100"
        plain = journey.up(script)
        assert [each.relation for each in plain.cannot] == [("public", "p")]
        made = journey.made(script, journey.images)
        assert made.status == "proved"
        assert made.unfit
        journey.live.execute(made.text.encode())
        assert journey.rows("select p from c order by id") == [101, 102, None]


def test_what_a_trigger_did_by_sql_that_it_puts_together_is_named(any_database: ConnInfo) -> None:
    before = """create table t (id int primary key, v int); create table total (id int primary key, n int);
    create function f() returns trigger language plpgsql as
      $$ begin execute 'update to' || 'tal set n = n + 1'; return new; end $$;
    create trigger a after update on t for each row execute function f();
    insert into t values (1, 1); insert into total values (1, 1)"""
    with trip(any_database, before) as journey:
        made = journey.made("update t set v = 2")
        assert [(each.relation, each.reason) for each in made.cannot] == [
            (None, "what a trigger did to rows of any table is not known")
        ]


# --- tables of every kind -------------------------------------------------------------------------------------------


KINDS = {
    "dropped, no key": (
        "create table t (a int, b text); insert into t values (1, 'x'), (1, 'x'), (null, null)",
        "drop table t",
    ),
    "deleted from, no key": (
        "create table t (a int, b text); insert into t values (1, 'x'), (1, 'x'), (2, 'x'), (null, null)",
        "delete from t where a = 1",
    ),
    "truncated, no key": (
        "create table t (a int, b text); insert into t values (1, 'x'), (1, 'x')",
        "truncate t",
    ),
    "composite key": (
        """create table t (a text, b int, c jsonb, d int, primary key (b, a));
        insert into t values ('x', 1, '{"a": [1, 2.50]}', 3), ('y', 1, null, 4)""",
        "alter table t drop column c; update t set d = d + 1",
    ),
    "unique index instead of a key": (
        "create table t (a text not null, b int); create unique index i on t (a); insert into t values ('x', 1), ('y', 2)",
        "alter table t drop column b",
    ),
    "refers to itself": (
        """create table t (id int primary key, up int references t on delete cascade, s text);
        insert into t values (1, null, 'a'), (2, 1, 'b'), (3, 2, 'c')""",
        "delete from t where id = 1",
    ),
    "a circle": (
        """create table a (id int primary key, b int);
        create table b (id int primary key, a int references a on delete cascade);
        insert into a values (1, null); insert into b values (1, 1); update a set b = 1;
        alter table a add foreign key (b) references b on delete cascade""",
        "delete from a",
    ),
    "checked at the end": (
        """create table a (id int primary key); insert into a values (1), (2);
        create table b (id int primary key, a int references a deferrable initially deferred, v int);
        insert into b values (1, 1, 5), (2, 2, 6)""",
        "alter table b drop column v; delete from b where id = 1; delete from a where id = 1",
    ),
    "partitions": (
        """create table t (id int, at date, v text, primary key (id, at)) partition by range (at);
        create table t1 partition of t for values from ('2020-01-01') to ('2021-01-01');
        create table t2 partition of t for values from ('2021-01-01') to ('2022-01-01');
        insert into t values (1, '2020-05-05', 'x'), (2, '2021-05-05', 'y')""",
        "alter table t drop column v; delete from t where id = 1",
    ),
    "partitions, dropped": (
        """create table t (id int, at date, primary key (id, at)) partition by range (at);
        create table t1 partition of t for values from ('2020-01-01') to ('2021-01-01');
        insert into t values (1, '2020-05-05')""",
        "drop table t",
    ),
    "types that go, too": (
        """create domain positive as int check (value > 0); create type pair as (a int, b text);
        create table t (id uuid primary key default gen_random_uuid(), d positive, p pair, ps pair[]);
        insert into t (d, p, ps) values (1, (1, 'a,"b'), array[(2, null)::pair])""",
        "alter table t drop column d, drop column p, drop column ps; drop type pair; drop domain positive",
    ),
    "types of every sort": (
        """create table t (id int primary key, x bytea, j json, i interval, m money, f float, p point, v varbit, r int4range);
        insert into t values (1, '\\x00ff', '{"b":1, "a":2}', '1 day 25 hours', 3, '-0', '(1,2)', b'101', '[1,5)'),
          (2, null, null, '-1 mon', -1, 'nan', null, null, 'empty')""",
        "update t set x = null, j = null, i = null, m = null, f = 0, p = null, v = null, r = null",
    ),
    "a collation of its own": (
        """create collation c (locale = 'C'); create table t (k text collate c primary key, v text collate c);
        insert into t values ('é', 'b')""",
        "update t set v = 'z'; alter table t alter v type text collate \"POSIX\"",
    ),
    "an identity": (
        """create table t (id int generated always as identity primary key, v text);
        insert into t (v) values ('a'), ('b'), ('c'); delete from t where id = 2""",
        "drop table t",
    ),
    "a check that was dropped": (
        "create table t (id int primary key, v int check (v < 10)); insert into t values (1, 5), (2, null)",
        "alter table t drop constraint t_v_check; update t set v = 20",
    ),
    "a constraint in between": (
        "create table t (id int primary key, v int, w int); insert into t values (1, null, 1), (2, 5, 2)",
        "update t set v = 0 where v is null; alter table t alter v set not null; update t set v = v + 1, w = 9",
    ),
    "a column that was not there yet": (
        "create table t (id int primary key, v int); insert into t values (1, 5), (2, 6)",
        "alter table t add w int; update t set w = 1; alter table t alter w set not null; delete from t where id = 1",
    ),
    "values at the edges": (
        """create table t (id int primary key, n numeric, m numeric(6,2), f float8, r real, at timestamptz, ts timestamp,
          d date, a int[], j jsonb, b bytea);
        insert into t values
          (1, 'NaN', 'NaN', 'NaN', '-Infinity', 'infinity', '4713-01-01 BC', '-infinity', '{{1,null},{3,4}}',
           '{"a": 1.00}', ''),
          (2, 'Infinity', 9999.99, '-0', 0.1, '-infinity', '294276-12-31 23:59:59.999999', '5874897-12-31',
           '[0:1]={1,2}', 'null', '\\x00ff'),
          (3, 1.500, null, 1e-300, 1e-37, '2024-10-27 01:30+00', null, '4713-01-01 BC', '{}', '[]', null)""",
        """update t set f = 0, at = now(), m = 1; delete from t where id = 3; alter table t drop column n, drop column r,
          drop column ts, drop column d, drop column a, drop column j, drop column b""",
    ),
    "edges of types that are changed": (
        """create table t (id int primary key, n numeric, f float8, at timestamptz, d date);
        insert into t values (1, 'NaN', '-0', 'infinity', '-infinity'), (2, 1.50, 'Infinity', '4713-01-01 BC', null)""",
        "alter table t alter n type text, alter f type numeric using 1.5, alter at type date, alter d type timestamp",
    ),
    "an identity that is no key, dropped": (
        """create table t (id int primary key, n int generated always as identity);
        insert into t overriding system value values (1, 30), (2, 10), (3, 20)""",
        "alter table t drop column n",
    ),
    "another key instead": (
        """create table t (id serial primary key, a int not null, b int, v text);
        insert into t (a, b, v) values (1, 1, 'x'), (1, 2, null)""",
        """alter table t drop constraint t_pkey, drop column id, add constraint t_pkey primary key (a, b);
        update t set v = 'z'""",
    ),
    "a trigger that changes the row": (
        """create table t (id int primary key, v int, at timestamptz default '2020-01-01');
        create function f() returns trigger language plpgsql as $$ begin new.at := clock_timestamp(); return new; end $$;
        create trigger a before update on t for each row execute function f(); insert into t values (1, 1), (2, 2)""",
        "update t set v = 0 where id = 1",
    ),
    "a trigger that writes elsewhere": (
        """create table p (id int primary key); create table c (id int primary key, p int references p on delete cascade);
        create table total (k int primary key, n int); create table log (id serial primary key, what text);
        create function note(x text) returns void language sql as $$ insert into log (what) values (x) $$;
        create function f() returns trigger language plpgsql as
          $$ begin update total set n = n + 1; perform note(tg_op); return old; end $$;
        create trigger a after insert or delete on c for each row execute function f();
        insert into total values (1, 0); insert into p values (1), (2), (3); insert into c values (1, 1), (2, 2)""",
        "delete from p where id = 1; insert into c values (3, 3); do $$ begin delete from c where id = 2; end $$",
    ),
    "a partition is dropped, another emptied": (
        """create table t (id int primary key, v text) partition by range (id);
        create table t1 partition of t for values from (0) to (10); create table t2 partition of t for values from (10) to (20);
        create table rest partition of t default; insert into t values (1, 'a'), (11, 'b'), (21, 'c'), (22, null)""",
        "drop table t1; truncate t2; update rest set v = 'z'",
    ),
    "a circle of three, none of it null": (
        """create table a (id int primary key, b int not null); create table b (id int primary key, c int not null);
        create table c (id int primary key, a int not null references a deferrable initially deferred); begin;
        insert into a values (1, 1); insert into b values (1, 1); insert into c values (1, 1);
        alter table a add foreign key (b) references b deferrable initially deferred;
        alter table b add foreign key (c) references c deferrable initially deferred; commit""",
        "delete from a; delete from b; delete from c",
    ),
    "refers to itself, and is set null": (
        """create table t (id int primary key, up int references t on delete set null);
        insert into t values (1, null), (2, 1), (3, 2), (4, 4)""",
        "delete from t where id in (1, 2)",
    ),
    "odd names": (
        """create table "o""dd % naïve" ("i d" int primary key, "Ä%s" text);
        insert into "o""dd % naïve" values (1, '%s {} \\ '' ü')""",
        """update "o""dd % naïve" set "Ä%s" = null; alter table "o""dd % naïve" rename "Ä%s" to b""",
    ),
}


@pytest.mark.parametrize(("before", "script"), KINDS.values(), ids=KINDS)
def test_tables_of_every_kind(any_database: ConnInfo, before: str, script: str) -> None:
    with trip(any_database, before) as journey:
        journey.there_and_back(script)


def test_triggers_do_not_fire_for_what_comes_back_and_are_as_they_were(any_database: ConnInfo) -> None:
    before = """
    create table t (id int primary key, v text); create table log (what text);
    create function note() returns trigger language plpgsql as $$ begin insert into log values (tg_op); return new; end $$;
    create trigger a after insert or update or delete on t for each row execute function note();
    create trigger b before update on t for each row execute function note();
    alter table t disable trigger b, enable always trigger a; insert into t values (1, 'x'), (2, 'y');
    """
    with trip(any_database, before) as journey:
        script = "update t set v = 'z'; delete from t where id = 2"
        journey.up(script)
        journey.down(script)
        assert journey.rows("select v from t order by id") == ["x", "y"]
        assert journey.rows("select * from log") == ["INSERT", "INSERT", "UPDATE", "UPDATE", "DELETE"]
        assert journey.rows("select tgname::text, tgenabled::text from pg_trigger where not tgisinternal order by 1") == [
            ("a", "A"),
            ("b", "D"),
        ]


def test_a_row_policy_hides_no_rows_from_an_image(any_database: ConnInfo) -> None:
    """The owner is subject to it, too: an error, never an image without the rows that are hidden."""
    role = f"test_owner_{str(any_database.dbname)[-6:]}"
    with trip(any_database, "create table t (id int primary key, v text); insert into t values (1, 'x')") as journey:
        script = "alter table t drop column v"
        plain = journey.made(script)
        journey.live.execute(
            f"create role {role}; grant all on schema public to {role};"
            f' grant create on database "{any_database.dbname}" to {role};'
            f" alter table t owner to {role}; alter table t enable row level security, force row level security;"
            f" create policy p on t using (id > 1); set role {role}".encode()
        )
        try:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                taking.before(journey.live, images_of(MIGRATION, plain.keeps))
        finally:
            journey.live.execute(f"reset role; drop owned by {role} cascade; drop role {role}".encode())


def test_nobody_else_reads_an_image(any_database: ConnInfo) -> None:
    role = f"test_reader_{str(any_database.dbname)[-6:]}"
    with trip(any_database, "create table t (id int primary key, v text); insert into t values (1, 'x')") as journey:
        journey.live.execute(f"create role {role}; alter default privileges grant select on tables to {role}, public".encode())
        try:
            for script in ("update t set v = 'y'", "alter table t drop column v"):
                journey.up(script)
                names = [f"{image.name}" for image in journey.images]
                assert journey.rows(f"select has_table_privilege('{role}', '{names[0]}', 'select')") == [False]
        finally:
            journey.live.execute(f"drop owned by {role}; drop role {role}".encode())


@pytest.mark.parametrize(
    ("before", "script", "reason"),
    [
        ("create table t (a int, b int)", "alter table t drop column b", "it has no key"),
        ("create table t (a int, b int)", "update t set a = 1", "it has no key"),
        ("create table t (a int primary key, b int)", "update t set a = a + 1", "it has no key"),
        (
            "create table t (a int primary key, b int); create rule r as on update to t do also select 1",
            "update t set b = 1",
            "rules",
        ),
        ("create table t (a int primary key, b int); create table u () inherits (t)", "update t set b = 1", "inherit"),
    ],
)
def test_what_cannot_be_kept_is_named(any_database: ConnInfo, before: str, script: str, reason: str) -> None:
    with trip(any_database, before) as journey:
        made = journey.made(script)
        assert made.keeps == ()
        assert [each.relation for each in made.cannot] == [("public", "t")]
        assert reason in made.cannot[0].reason
        assert {loss["source"] for loss in made.losses} == {"cannot"}
