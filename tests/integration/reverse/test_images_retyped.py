"""Values that the migration put there, and whose type the type of before does not know, come back from their images."""

from __future__ import annotations

import psycopg
import pytest

from naap_ops.postgres.conninfo import ConnInfo
from tests.imaging import trip

PROJECTS = """
create type "Kind" as enum ('simple', 'complex');
create table "Project" (id serial primary key, kind "Kind" not null default 'simple', kinds "Kind"[], other "Kind");
insert into "Project" (kind, kinds, other) values
  ('simple', '{simple,complex}', null), ('complex', '{{simple},{NULL}}', 'simple'),
  ('simple', null, 'complex'), ('complex', '{}', 'simple');
"""
ANEW = """create type "Kind_new" as enum ('versionless', 'versioned');
alter table "Project" alter kind drop default;
alter table "Project"
  alter kind type "Kind_new" using (case kind when 'simple' then 'versionless'::"Kind_new" else 'versioned' end),
  alter other type "Kind_new" using (case when other is null then null else 'versioned'::"Kind_new" end),
  alter kinds type "Kind_new"[] using (case when kinds is null then null else array['versioned'::"Kind_new"] end);
alter type "Kind" rename to "Kind_old"; alter type "Kind_new" rename to "Kind"; drop type "Kind_old";
"""
COPIED = """select * into "_kept" from "Project"; delete from "Project";
create type "Kind_new" as enum ('simple', 'composed');
alter table "Project" alter kind drop default;
alter table "Project" alter kind type "Kind_new" using (kind::text::"Kind_new");
alter table "Project" drop column kinds, drop column other;
alter type "Kind" rename to "Kind_old"; alter type "Kind_new" rename to "Kind";
insert into "Project" (select id, case when kind = 'complex' then 'composed' else kind::text::"Kind" end from "_kept");
drop table "_kept"; drop type "Kind_old";
"""
TEXTS = """alter table "Project" alter kind drop default;
alter table "Project" alter kind type text, alter kinds type text[] using kinds::text[];
update "Project" set kind = 'n/a', kinds = '{n/a,NULL,x}' where id > 1;
alter table "Project" drop column other; drop type "Kind";"""
SEVERAL = "update \"Project\" set other = null where other = 'complex';" + ANEW


@pytest.mark.parametrize("script", [ANEW, COPIED, SEVERAL, TEXTS])
def test_labels_that_the_migration_made_up(any_database: ConnInfo, script: str) -> None:
    with trip(any_database, PROJECTS) as journey:
        journey.there_and_back(script)


def test_a_newer_label_stops_it_and_its_rows_are_named(any_database: ConnInfo) -> None:
    with trip(any_database, PROJECTS) as journey:
        journey.up(ANEW)
        journey.live.execute("""insert into "Project" (kind) values ('versioned'), ('versionless')""")
        left = journey.contents()
        with pytest.raises(psycopg.errors.RaiseException, match=r'rows of "Project" hold .* in kind.*\(2 rows, of key 5; 6\)'):
            journey.down(ANEW)
        journey.live.execute("rollback")
        assert journey.contents() == left


def test_a_newer_label_that_the_enum_had_stays(any_database: ConnInfo) -> None:
    with trip(any_database, PROJECTS) as journey:
        journey.up(COPIED)
        journey.live.execute("""update "Project" set kind = 'simple' where id = 2""")
        journey.down(COPIED)
        assert journey.rows('select id, kind::text from "Project" order by id') == [
            (1, "simple"), (2, "simple"), (3, "simple"), (4, "complex"),
        ]  # fmt: skip
        assert journey.conflicts == [("public.Project", "2", ["kind"])]


@pytest.mark.parametrize("kept", [True, False])
def test_a_text_that_is_no_label_stops_it_and_its_rows_are_named(any_database: ConnInfo, *, kept: bool) -> None:
    script = TEXTS if kept else TEXTS.replace("update", "-- update")
    with trip(any_database, PROJECTS) as journey:
        journey.up(script)
        journey.live.execute("""insert into "Project" (kind) values ('simple'), ('')""")
        with pytest.raises(psycopg.errors.RaiseException, match=r'rows of "Project" hold .* in kind,? which the enum'):
            journey.down(script)


SIZES = """
create table "Box" (id int primary key, size numeric(6,2) not null, made date, weight real not null);
insert into "Box" values (1, 1.5, '2020-02-29', 0.1), (2, 22.25, null, 'NaN'), (3, 0, '-infinity', 3);
"""
WORDS = """alter table "Box" alter size type text using size || ' m', alter made type varchar(40) using 'on ' || made,
  alter weight type text using case when weight > 1 then 'much' else weight::text end;"""


def test_texts_of_which_the_type_of_before_cannot_read_some(any_database: ConnInfo) -> None:
    with trip(any_database, SIZES) as journey:
        was = journey.contents()
        journey.up(WORDS)
        journey.down(WORDS)
        assert journey.contents() == was


def test_a_newer_text_that_is_no_number_stops_it_and_its_row_is_named(any_database: ConnInfo) -> None:
    with trip(any_database, SIZES) as journey:
        journey.up(WORDS)
        journey.live.execute("""update "Box" set weight = '7.5' where id = 1; insert into "Box" values (4, '4', null, 'x')""")
        with pytest.raises(psycopg.errors.RaiseException, match=r'rows of "Box" hold values in weight .*\(1 row, of key 4\)'):
            journey.down(WORDS)
        journey.live.execute("""rollback; update "Box" set weight = '8' where id = 4""")
        journey.down(WORDS)
        assert journey.rows('select id, size::text, weight::text from "Box" order by 1') == [
            (1, "1.50", "7.5"), (2, "22.25", "NaN"), (3, "0.00", "3"), (4, "4.00", "8"),
        ]  # fmt: skip
        assert journey.conflicts == []  # the migration had not changed that value
