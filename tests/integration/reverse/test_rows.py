"""Images of rows: equal data gives no difference, and every kind of difference is found and named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import Connection, connect
from naap_ops.reverse.rows import Image, RowDifference, differences, image

KEYED, PLAIN, LARGE = ("S p", 'Keyed "%s" t'), ("public", "plain"), ("public", "large")
TABLES = (KEYED, PLAIN, LARGE, ("public", "absent"))
SCHEMA = """
create schema "S p"; create type "S p".mood as enum ('low');
create table "S p"."Keyed ""%s"" t" (id int primary key, "Näme" text, at timestamptz, cash money, blob bytea, mood "S p".mood);
insert into "S p"."Keyed ""%s"" t" select i, 'n' || i, '2024-01-01 00:00:00.000001+00', i, '\\x00ff', 'low'
  from generate_series(1, 3) i;
create table plain (a int, b text);
insert into plain values (1, 'x'), (1, 'x'), (2, null);
create table large as select i, i % 7 as j, null::text as n from generate_series(1, 50) i;
"""
K = '"S p"."Keyed ""%s"" t"'
Expected = list[tuple[tuple[str, str], str | None, str, int]]
CASES: dict[str, tuple[str, Expected]] = {
    "rows lost": (f"delete from {K} where id > 1", [(KEYED, None, "rows lost", 2)]),
    "rows added": (f"insert into {K} values (9), (10)", [(KEYED, None, "rows added", 2)]),
    "lost and added": (f"update {K} set id = 7 where id = 1", [(KEYED, None, "rows lost", 1), (KEYED, None, "rows added", 1)]),
    "changed": (f'update {K} set "Näme" = null where id = 1', [(KEYED, "Näme", "values changed", 1)]),
    "by a microsecond": (f"update {K} set at = at + '1 us'", [(KEYED, "at", "values changed", 3)]),
    "null is not empty": ("update plain set b = '' where b is null", [(PLAIN, "b", "values changed", 1)]),
    "one of two like rows": ("delete from plain where ctid = '(0,1)'", [(PLAIN, None, "rows lost", 1)]),
    "one like row more": ("insert into plain values (2, null)", [(PLAIN, None, "rows added", 1)]),
    "exchanged": ("update plain set a = 3 - a", [(PLAIN, "a", "values changed", 1)]),
    "values that moved": (
        "truncate plain; insert into plain values (1, 'x'), (1, null), (2, 'x')",
        [(PLAIN, None, "values changed", 2)],
    ),
    "column missing": ("alter table plain drop b", [(PLAIN, "b", "column missing", 3)]),
    "column added": ("alter table plain add c int", [(PLAIN, "c", "column added", 3)]),
    "type changed": ("alter table plain alter a type bigint", [(PLAIN, "a", "type changed", 3)]),
    "key gone, same rows": (f'alter table {K} drop constraint "Keyed ""%s"" t_pkey"', []),
    "table missing": ("drop table plain", [(PLAIN, None, "table missing", 3)]),
    "table added": ("create table absent as select 1", [(("public", "absent"), None, "table added", 1)]),
    "large, changed": ("update large set j = 9 where i = 3", [(LARGE, "j", "values changed", 50)]),
    "large, null": ("update large set n = '' where i = 3", [(LARGE, "n", "values changed", 50)]),
    "large, lost": ("delete from large where i <= 4", [(LARGE, None, "rows lost", 4)]),
    "large, added": ("insert into large values (0)", [(LARGE, None, "rows added", 1)]),
    "other order": (f"create table c as table {K}; delete from {K}; insert into {K} select * from c order by id desc", []),
    "other order of columns": ("alter table plain add c int; update plain set c = a; alter table plain drop a;"
                               " alter table plain rename c to a", []),
    "other settings": ("set timezone = 'Asia/Tokyo'; set datestyle = 'SQL, DMY'; set bytea_output = 'escape';"
                       " set search_path = public, \"S p\"; set extra_float_digits = -5", []),
}  # fmt: skip


@pytest.fixture
def connection(any_database: ConnInfo) -> Iterator[Connection]:
    with closing(connect(any_database)) as session:
        session.execute(SCHEMA)
        yield session


def taken(connection: Connection) -> Image:
    return image(connection, TABLES, most=20)


@pytest.mark.parametrize("case", CASES)
def test_difference(connection: Connection, case: str) -> None:
    change, expected = CASES[case]
    before = taken(connection)
    assert differences(before, taken(connection)) == []
    connection.execute(change.encode())
    assert differences(before, taken(connection)) == [RowDifference(*each) for each in expected]


def test_the_sessions_settings_and_transaction_stay(connection: Connection) -> None:
    connection.execute("set search_path = \"S p\"; set timezone = 'Asia/Tokyo'; set datestyle = 'SQL, DMY'")
    asked = "select current_setting('search_path'), current_setting('timezone'), current_setting('datestyle')"
    before = connection.execute(asked).fetchone()
    with connection.transaction(force_rollback=True):
        connection.execute("insert into public.plain values (5)")
        assert taken(connection).tables[PLAIN].count == 4
        assert connection.execute(asked).fetchone() == before
    assert taken(connection).tables[PLAIN].count == 3
    assert connection.execute(asked).fetchone() == before


def test_many_images_while_types_change(connection: Connection) -> None:
    for kind in ("bigint", "text", "varchar(9)", "text", "bytea using a::bytea", "text using 'x'", "varchar", "text"):
        before = taken(connection)
        connection.execute(f"alter table plain alter a type {kind}")
        assert {each.kind for each in differences(before, taken(connection))} == {"type changed"}


def test_every_sort_of_relation(any_database: ConnInfo) -> None:
    with closing(connect(any_database)) as connection:
        connection.execute(
            """create table root (k int, v text) partition by list (k);
            create table leaf partition of root for values in (1); insert into root values (1, 'a');
            create table parent (i int); create table child () inherits (parent);
            insert into parent values (1); insert into child values (2);
            create materialized view m as table parent; create materialized view empty as select 1 with no data;
            create view v as table parent; create table nothing (); insert into nothing default values;"""
        )
        names = ("root", "leaf", "parent", "child", "m", "empty", "v", "nothing")
        found = image(connection, [("public", name) for name in names])
    assert {name: rows.count for (_, name), rows in found.tables.items()} == {
        "root": 1, "leaf": 1, "parent": 1, "child": 1, "m": 2, "nothing": 1,
    }  # fmt: skip
