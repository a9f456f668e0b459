"""Tables and columns that are made again, whose parents somebody has taken away since: what refers to them stays away."""

from __future__ import annotations

import psycopg
import pytest

from naap_ops.postgres.conninfo import ConnInfo
from tests.imaging import trip

SHOP = """
create table "A" (id int primary key, s text);
create table "B" (id int primary key, a int not null references "A" on delete cascade, up int references "B" on delete cascade);
create table "C" (id int primary key, b int not null references "B", a int references "A" on delete set null, v text);
create table "Log" (b int references "B" on delete cascade, what text);
insert into "A" values (1, 'x'), (2, 'y'), (3, 'z');
insert into "B" values (1, 1, null), (2, 2, 1), (3, 3, 2), (4, 3, null);
insert into "C" values (1, 1, 2, 'p'), (2, 3, 1, 'q'), (3, 4, 3, 'r'), (4, 4, null, 's');
insert into "Log" values (1, 'one'), (3, 'three'), (3, 'three'), (null, null);
create function loud() returns trigger language plpgsql as $$ begin raise exception 'a trigger of the user'; end $$;
create trigger loud before delete or update on "B" for each row execute function loud();
"""
DROPPED = """alter table "B" drop constraint "B_a_fkey"; alter table "B" drop constraint "B_up_fkey";
alter table "C" drop constraint "C_a_fkey"; alter table "C" drop constraint "C_b_fkey";
alter table "Log" drop constraint "Log_b_fkey"; drop table "B"; drop table "C"; drop table "Log";"""
OTHER = """alter table "Log" drop constraint "Log_b_fkey"; alter table "C" drop constraint "C_b_fkey";
alter table "B" drop constraint "B_up_fkey"; alter table "B" drop constraint "B_a_fkey";
drop table "Log"; drop table "C"; drop table "B";"""


@pytest.mark.parametrize(
    "script", [DROPPED, OTHER, 'drop table "Log", "C", "B"', 'drop table "Log"; drop table "C"; drop table "B"']
)
def test_rows_whose_parents_have_gone_stay_away_and_what_hangs_on_them(any_database: ConnInfo, script: str) -> None:
    with trip(any_database, SHOP) as journey:
        journey.up(script)
        journey.live.execute('delete from "A" where id = 2')
        journey.down(script)
        assert journey.rows('select id from "B" order by 1') == [1, 4]
        assert journey.rows('select b, what from "Log" order by 1') == [(1, "one"), (None, None)]
        assert journey.rows('select id, a from "C" order by 1') == [(1, None), (3, 3), (4, None)]
        assert journey.conflicts == [
            ("public.B", "2", []), ("public.B", "3", []), ("public.C", "1", ["a"]), ("public.C", "2", []),
            ("public.Log", "", []), ("public.Log", "", []),
        ]  # fmt: skip
        assert journey.restored == {"public.B": 2, "public.C": 3, "public.Log": 2}


@pytest.mark.parametrize(
    "script",
    [
        'alter table "C" drop constraint "C_a_fkey"; alter table "C" drop column a',
        'alter table "C" drop column a; alter table "C" add column a text',
    ],
)
def test_a_value_whose_parent_has_gone_is_null_where_it_may_be(any_database: ConnInfo, script: str) -> None:
    with trip(any_database, SHOP) as journey:
        journey.up(script)
        journey.live.execute(
            """alter table "B" disable trigger loud; delete from "C" where id = 2; delete from "B" where id in (2, 3);
            delete from "A" where id = 2; insert into "C" (id, b) values (9, 4)"""
        )
        journey.down(script)
        assert journey.rows('select id, a from "C" order by 1') == [(1, None), (3, 3), (4, None), (9, None)]
        assert journey.conflicts == [("public.C", "1", ["a"])]


def test_a_value_that_may_not_be_null_stops_it_and_its_row_is_named(any_database: ConnInfo) -> None:
    script = 'alter table "B" drop constraint "B_a_fkey"; alter table "B" drop column a'
    with trip(any_database, SHOP) as journey:
        journey.up(script)
        journey.live.execute('delete from "A" where id = 3')
        with pytest.raises(psycopg.errors.RaiseException, match=r'orphans in "B": .*"B_a_fkey".* \(2 rows, of key 3; 4\)'):
            journey.down(script)


def test_rows_that_come_back_later_than_their_table_stay_away_as_well(any_database: ConnInfo) -> None:
    """The table is made again before what its rows refer to has come back, under a foreign key that is there already."""
    script = 'delete from "A" where id = 1; drop table "C"'
    before = SHOP.replace("on delete cascade, up", ", up").replace("create trigger", "-- create trigger")
    with trip(any_database, before.replace("(1, 1, null)", "(1, 3, null)")) as journey:
        journey.up(script)
        journey.live.execute(
            'delete from "Log"; delete from "B" where id = 3; update "B" set a = 3; delete from "A" where id = 2'
        )
        journey.down(script)
        assert journey.rows('select id, b, a, v from "C" order by 1') == [(3, 4, 3, "r"), (4, 4, None, "s")]
        assert journey.conflicts == [("public.C", "1", []), ("public.C", "2", [])]
