"""What is left, and why: what the live database cannot hold, or what would take along what was written there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.salvaged import Ground

SHOP = """
create table shop (id int generated always as identity primary key, name text not null);
create table item (id int generated always as identity primary key, shop int not null references shop on delete cascade,
  code text unique);
create table note (id int primary key, item int references item on delete set null);
insert into shop (name) select 'base ' || i from generate_series(1, 4) i;
insert into item (shop, code) select i, 'c' || i from generate_series(1, 4) i;
"""


def reasons(found: dict[str, Any], table: str) -> dict[str, list[str]]:
    return {each["reason"]: each["keys"] for each in found["tables"].get(f"public.{table}", {"reasons": []})["reasons"]}


def test_the_children_of_another_row_under_the_same_key_are_left(any_ground: Ground) -> None:
    old = """
        insert into shop (name) values ('old five'), ('old six');
        insert into item (shop, code) values (5, 'of five'), (6, 'of six');
        insert into note values (1, 5), (2, 6)"""
    any_ground.laid(SHOP, old, "insert into shop (name) values ('live five')")
    found = any_ground.salvage().json
    another = "refers to a row of public.shop that is another one in the live database"
    assert reasons(found, "shop") == {"inserted in both: another row under the same key": ["5"]}
    assert reasons(found, "item") == {another: ["5"]}
    assert reasons(found, "note") == {"refers to a row of public.item that is not in the live database": ["1"]}
    assert any_ground.rows("select name from shop where id > 4 order by id") == [("live five",), ("old six",)]
    assert any_ground.rows("select code from item where id > 4") == [("of six",)]
    assert any_ground.ask("insert into shop (name) values ('next') returning id") == 7
    theirs = any_ground.done("--conflicts", "theirs")
    assert theirs == {"public.shop": (0, 1, 0, 0), "public.item": (1, 0, 0, 0), "public.note": (1, 0, 0, 0)}
    any_ground.same(["item", "note"])


def test_no_delete_takes_along_what_was_written_since(any_ground: Ground) -> None:
    any_ground.laid(
        SHOP,
        "delete from shop where id in (1, 2)",
        "insert into item (shop, code) values (1, 'live'); delete from item where id = 2",
    )
    found = any_ground.salvage().json
    assert reasons(found, "shop") == {"rows of public.item that stay refer to it": ["1"]}
    assert any_ground.rows("select id, shop from item order by 1") == [(3, 3), (4, 4), (5, 1)]
    assert [row[0] for row in any_ground.rows("select id from shop order by 1")] == [1, 3, 4]


def test_children_move_before_their_parent_goes(any_ground: Ground) -> None:
    any_ground.laid(SHOP, "update item set shop = 2 where shop = 1; delete from shop where id = 1")
    assert any_ground.done() == {"public.shop": (0, 0, 1, 0), "public.item": (0, 1, 0, 0)}
    any_ground.same(["shop", "item"])


def test_deletes_are_said_and_can_be_kept(any_ground: Ground) -> None:
    any_ground.laid(SHOP, "delete from item where id > 1")
    planned = any_ground.salvage("--dry-run").json["tables"]["public.item"]
    assert planned["deleted"] == 3
    assert any("3 of the 4 rows" in note and "--no-deletes" in note for note in planned["notes"])
    assert any_ground.done("--no-deletes") == {"public.item": (0, 0, 0, 3)}
    assert any_ground.ask("select count(*) from item") == 4


@pytest.mark.pg(15, 16, 18)
def test_values_change_hands(ground: Ground) -> None:
    """Row for row, the unique value is still held by another one; some of it can be put in order, a ring cannot."""
    old = """
        update item set code = null where id in (1, 2, 3);
        update item set code = 'c1' where id = 2; update item set code = 'c2' where id = 3;
        update item set code = 'new' where id = 1;
        delete from item where id = 4; insert into item (shop, code) values (4, 'c4')"""
    ground.laid(SHOP, old)
    assert ground.done() == {"public.item": (1, 3, 1, 0)}
    ground.same(["item"])


def test_a_ring_of_unique_values_is_left_and_the_rest_is_not(any_ground: Ground) -> None:
    ring = """
        update item set code = null where id = 1; update item set code = 'c1' where id = 2;
        update item set code = 'c2' where id = 1;
        update item set code = 'free' where id = 3"""
    any_ground.laid(SHOP, ring)
    found = any_ground.salvage().json
    assert reasons(found, "item") == {"its unique value is held by a row that waits for this one": ["1", "2"]}
    assert any_ground.rows("select code from item order by id") == [("c1",), ("c2",), ("free",), ("c4",)]


def test_what_the_live_table_cannot_hold(any_ground: Ground) -> None:
    base = """
        create type mood as enum ('ok');
        create table t (id int primary key, m mood, w varchar(3), n int, u int, gone int, kind int);
        insert into t select i, 'ok', 'abc', 1, i, i, 1 from generate_series(1, 5) i"""
    old = """
        create type more as enum ('ok', 'new'); alter table t alter m type more using m::text::more; drop type mood;
        alter type more rename to mood;
        alter table t alter w type varchar(9), alter kind type text, add extra int default 7;
        insert into t values (10, 'new', 'a', 1, 10, 1, 'x'), (11, 'ok', 'too long', 1, 11, 1, 'x'),
          (12, 'ok', 'a', -1, 12, 1, 'x'),
          (13, 'ok', 'a', null, 13, 1, 'x'), (14, 'ok', 'a', 1, 99, 1, 'x'), (15, 'ok', 'a', 1, 15, 1, 'x');
        update t set n = 2, kind = 'changed' where id = 1"""
    live = """
        alter table t add check (n > 0), alter n set not null, add unique (u), drop gone,
          add fresh text not null default 'fresh';
        update t set u = 99 where id = 5"""
    any_ground.laid(base, old, live)
    assert any_ground.done() == {"public.t": (0, 0, 0, 11)}  # a migration, as it seems: not by default
    found = any_ground.salvage("--tables", "t").json["tables"]["public.t"]
    assert {each["reason"]: each["keys"] for each in found["reasons"]} == {
        "m is one of new, which public.mood has not got": ["10"],
        "w is longer than character varying(3)": ["11"],
        "check t_n_check does not hold": ["12"],
        "n is NULL, which the live table does not allow": ["13"],
        "t_u_key: another row has that value": ["14"],
        "changed in both": ["5"],  # the migration wrote every row anew
    }
    assert any("gone" in note and "kind" in note and "extra" in note for note in found["notes"])
    assert any_ground.rows("select id, n, fresh, kind from t where id in (1, 15) order by 1") == [
        (1, 2, "fresh", 1),
        (15, 1, "fresh", None),
    ]


def test_numbers_that_a_migration_had_made_larger(any_ground: Ground) -> None:
    base = "create table t (id int primary key, n smallint); insert into t values (1, 1), (2, 2)"
    old = """
        alter table t alter id type bigint, alter n type int; update t set n = 70000 where id = 1;
        update t set n = 9 where id = 2; insert into t values (3, 3), (3000000000, 4)"""
    any_ground.laid(base, old)
    found = any_ground.salvage("--all").json
    assert reasons(found, "t") == {"id is too large for integer": [""], "n is too large for smallint": ["1"]}
    assert any_ground.rows("select * from t order by id") == [(1, 1), (2, 9), (3, 3)]


def test_no_sequence_is_raised_to_its_end(any_ground: Ground) -> None:
    outlier = "insert into shop overriding system value values (2147483647, 'outlier')"
    any_ground.laid(SHOP, f"{outlier}; insert into shop (name) values ('old')")
    answer = any_ground.salvage()
    assert "sequence public.shop_id_seq is not raised to 2147483647" in answer.err
    assert answer.json["sequences"] == [{"name": "public.shop_id_seq", "was": 4, "now": 5}]
    assert any_ground.ask("insert into shop (name) values ('next') returning id") == 6


def test_a_new_column_that_must_be_filled_leaves_what_would_be_inserted(any_ground: Ground) -> None:
    live = "alter table shop add owner text not null default 'x'; alter table shop alter owner drop default"
    any_ground.laid(SHOP, "insert into shop (name) values ('old'); update shop set name = 'changed' where id = 1", live)
    found = any_ground.salvage("--all").json
    assert reasons(found, "shop") == {"owner: NOT NULL without a default, and the old table has not got it": ["5"]}
    assert any_ground.rows("select name, owner from shop where id = 1") == [("changed", "x")]
