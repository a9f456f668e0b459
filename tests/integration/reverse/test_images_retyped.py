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
        was = journey.contents()
        journey.up(script)
        assert journey.contents() != was
        journey.down(script)
        assert journey.contents() == was
        assert journey.conflicts == []


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
