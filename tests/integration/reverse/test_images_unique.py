"""Unique values: those that somebody has taken since stay where they are, those that changed places change back."""

from __future__ import annotations

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from tests.imaging import trip

SEATS = """
create table "Seat" (id int primary key, tag varchar(20) unique, no int not null, hall uuid not null, kind text, key uuid,
  unique (hall, no));
create unique index "Seat_key" on "Seat" (key);
insert into "Seat" select n, 'tag' || n, n, md5((n % 2)::text)::uuid, 'k', md5('key' || n)::uuid from generate_series(1, 6) n;
create table "Guest" (id int primary key, seat int references "Seat" on delete cascade, badge text unique);
insert into "Guest" select n, n, 'b' || n from generate_series(1, 6) n;
"""
TURNED = """create table "Turn" as select id, coalesce(lead({column}) over w, first_value({column}) over w) as v from "Seat"
  window w as (order by id);
{aside}
update "Seat" s set {column} = t.v from "Turn" t where t.id = s.id;
drop table "Turn";"""


@pytest.mark.parametrize(
    ("column", "aside"),
    [
        ("tag", 'update "Seat" set tag = null;'),
        ("no", 'update "Seat" set no = -id;'),
        ("key", 'update "Seat" set key = gen_random_uuid();'),
    ],
)
def test_values_that_changed_places_change_back(any_database: ConnInfo, column: str, aside: str) -> None:
    before = SEATS.replace("unique (hall, no)", "unique (no)") if column == "no" else SEATS
    with trip(any_database, before) as journey:
        was = journey.contents()
        script = TURNED.format(column=column, aside=aside)
        journey.up(script)
        assert journey.contents() != was
        journey.down(script)
        assert journey.contents() == was
        assert journey.conflicts == []


def test_an_older_value_that_somebody_else_has_by_now_stays_away(any_database: ConnInfo) -> None:
    script = "update \"Seat\" set tag = 'new' || id, no = no + 100"
    with trip(any_database, SEATS) as journey:
        journey.up(script)
        journey.live.execute(
            """insert into "Seat" (id, tag, no, hall) values (11, 'tag1', 2, md5('0')::uuid), (12, 'x', 3, md5('5')::uuid);
            update "Seat" set tag = 'tag3' where id = 4"""
        )
        journey.down(script)
        assert journey.rows('select id, tag, no from "Seat" order by 1') == [
            (1, "new1", 1), (2, "tag2", 102), (3, "new3", 3), (4, "tag3", 4), (5, "tag5", 5), (6, "tag6", 6),
            (11, "tag1", 2), (12, "x", 3),
        ]  # fmt: skip
        assert sorted(journey.conflicts) == [
            ("public.Seat", "1", ["tag"]), ("public.Seat", "2", ["no"]), ("public.Seat", "3", ["tag"]),
            ("public.Seat", "4", ["tag"]),
        ]  # fmt: skip


def test_a_chain_of_values_ends_where_somebody_has_the_first(any_database: ConnInfo) -> None:
    """Each would get the value of the one before it; the first of them is not free any more."""
    script = "update \"Seat\" set tag = 'tag7' where id = 6; " + "; ".join(
        f"update \"Seat\" set tag = 'tag{n + 1}' where id = {n}" for n in (5, 4, 3)
    )
    with trip(any_database, SEATS) as journey:
        journey.up(script)
        journey.live.execute("""insert into "Seat" (id, tag, no, hall) values (11, 'tag3', 7, md5('0')::uuid)""")
        journey.down(script)
        assert journey.rows('select id, tag from "Seat" where id > 2 order by 1') == [
            (3, "tag4"), (4, "tag5"), (5, "tag6"), (6, "tag7"), (11, "tag3"),
        ]  # fmt: skip
        assert journey.conflicts == [("public.Seat", str(n), ["tag"]) for n in (3, 4, 5, 6)]


def test_a_row_whose_value_somebody_has_by_now_stays_away_and_what_hangs_on_it(any_database: ConnInfo) -> None:
    script = 'delete from "Seat" where id < 4'
    with trip(any_database, SEATS) as journey:
        journey.up(script)
        journey.live.execute(
            """insert into "Seat" (id, tag, no, hall) values (11, 'tag1', 7, md5('0')::uuid);
            insert into "Guest" values (12, null, 'b2')"""
        )
        journey.down(script)
        assert journey.rows('select id from "Seat" order by 1') == [2, 3, 4, 5, 6, 11]
        assert journey.rows('select id from "Guest" order by 1') == [3, 4, 5, 6, 12]
        assert sorted(journey.conflicts) == [("public.Guest", "1", []), ("public.Guest", "2", []), ("public.Seat", "1", [])]
