"""Rows that the state before a migration cannot hold: a rollback stops and says which, and goes on with a default, or with the
rows parked; forward again everything is as it was."""

from __future__ import annotations

import dataclasses
import os
import signal
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg.errors import RaiseException

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from tests.desk import Run, wait_until
from tests.integration.prisma.conftest import Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_parking import parked, reapply
from tests.integration.prisma.test_rollback import rollback

pytestmark = pytest.mark.also(15, 18)

BASE, LOOSER = "20260401000000_base", "20260501000000_looser"


@dataclass(frozen=True)
class Case:
    """``before``: what the migration finds, with rows; ``script``: the migration; ``writes``: what is written after it.

    ``rows`` of ``Item`` then do not fit, of ``keys``; ``column`` None: a default is of no use. ``value``: one that is, and what
    the column holds of it afterwards (as text); ``wrong``: one that is not.
    """

    before: str
    script: str
    writes: tuple[str, ...]
    keys: tuple[str, ...]
    column: str | None = None
    value: str = ""
    wrong: str | None = None
    absent: bool = False
    from_major: int = 0


def table(columns: str, *, also: str = "") -> str:
    return f'{also}CREATE TABLE "Item" ("id" INTEGER NOT NULL, {columns}, CONSTRAINT "Item_pkey" PRIMARY KEY ("id"));\n'


CASES = {
    "nulls": Case(
        table('"note" TEXT NOT NULL') + """INSERT INTO "Item" VALUES (1, 'a');""",
        'ALTER TABLE "Item" ALTER COLUMN "note" DROP NOT NULL;',
        ('insert into "Item" values (2, null), (3, $$b$$), (4, null)',),
        ("2", "4"), "note", "it's", "NULL",
    ),
    "labels of an enum that grew": Case(
        table('"kind" "Kind" NOT NULL', also="CREATE TYPE \"Kind\" AS ENUM ('A', 'B');")
        + """INSERT INTO "Item" VALUES (1, 'A');""",
        "ALTER TYPE \"Kind\" ADD VALUE 'C';",
        ("insert into \"Item\" values (2, 'C'), (3, 'B')",),
        ("2",), "kind", "B", "C",
    ),
    "labels of an enum that was made anew": Case(
        table('"kind" "Kind"', also="CREATE TYPE \"Kind\" AS ENUM ('A', 'B');") + """INSERT INTO "Item" VALUES (1, 'A');""",
        """CREATE TYPE "Kind_new" AS ENUM ('A', 'C');
ALTER TABLE "Item" ALTER COLUMN "kind" TYPE "Kind_new" USING ("kind"::text::"Kind_new");
ALTER TYPE "Kind" RENAME TO "Kind_old";
ALTER TYPE "Kind_new" RENAME TO "Kind";
DROP TYPE "Kind_old";""",
        ("insert into \"Item\" values (2, 'C'), (3, null), (4, 'C')",),
        ("2", "4"), "kind", "A", "C",
    ),
    "labels in arrays": Case(
        table('"kinds" "Kind"[]', also="CREATE TYPE \"Kind\" AS ENUM ('A');") + """INSERT INTO "Item" VALUES (1, '{A}');""",
        "ALTER TYPE \"Kind\" ADD VALUE 'C';",
        ("insert into \"Item\" values (2, '{A,C}'), (3, '{}')",),
        ("2",), "kinds", "{A,A}", "{C}",
    ),
    "an enum that became text": Case(
        table('"kind" "Kind"', also="CREATE TYPE \"Kind\" AS ENUM ('A');") + """INSERT INTO "Item" VALUES (1, 'A');""",
        'ALTER TABLE "Item" ALTER COLUMN "kind" TYPE TEXT USING "kind"::text; DROP TYPE "Kind";',
        ("insert into \"Item\" values (2, 'else'), (3, null)",),
        ("2",), "kind", "A", "B",
    ),
    "a column that comes back": Case(
        table('"kind" "Kind" NOT NULL, "at" POINT NOT NULL', also="CREATE TYPE \"Kind\" AS ENUM ('A');"),
        'ALTER TABLE "Item" DROP COLUMN "at";',
        ("insert into \"Item\" values (2, 'A'), (3, 'A')",),
        ("2", "3"), "at", "(1,2)", "here", absent=True,
    ),
    "texts that are too long": Case(
        table('"code" VARCHAR(3)') + """INSERT INTO "Item" VALUES (1, 'abc');""",
        'ALTER TABLE "Item" ALTER COLUMN "code" TYPE VARCHAR(20);',
        ("insert into \"Item\" values (2, 'abcd'), (3, 'ab'), (4, null)",),
        ("2",), "code", "xy", "wxyz",
    ),
    "texts without a limit": Case(
        table('"code" VARCHAR(3)') + """INSERT INTO "Item" VALUES (1, 'abc');""",
        'ALTER TABLE "Item" ALTER COLUMN "code" TYPE TEXT;',
        ("insert into \"Item\" values (2, 'abcd'), (3, 'äöü')",),
        ("2",), "code", "xy", "wxyz",
    ),
    "numbers that are too great": Case(
        table('"size" INTEGER') + 'INSERT INTO "Item" VALUES (1, 5);',
        'ALTER TABLE "Item" ALTER COLUMN "size" TYPE BIGINT;',
        ('insert into "Item" values (2, 3000000000), (3, -2147483648), (4, -2147483649)',),
        ("2", "4"), "size", "7", "3000000000",
    ),
    "decimals": Case(
        table('"price" NUMERIC(6,2)') + 'INSERT INTO "Item" VALUES (1, 5.25);',
        'ALTER TABLE "Item" ALTER COLUMN "price" TYPE NUMERIC(10,4);',
        ("insert into \"Item\" values (2, 10000), (3, 9999.99), (4, 1.005), (5, 'NaN')",),
        ("2", "4"), "price", "1.01", "1.001",
    ),
    "texts that are no number": Case(
        table('"size" INTEGER') + 'INSERT INTO "Item" VALUES (1, 5);',
        'ALTER TABLE "Item" ALTER COLUMN "size" TYPE TEXT USING "size"::text;',
        ("insert into \"Item\" values (2, 'many'), (3, '12'), (4, '99999999999'), (5, null)",),
        ("2", "4"), "size", "0", "none",
    ),
    "texts that are no uuid": Case(
        table('"code" UUID'),
        'ALTER TABLE "Item" ALTER COLUMN "code" TYPE TEXT USING "code"::text;',
        ("insert into \"Item\" values (2, 'x'), (3, '6ba7b810-9dad-11d1-80b4-00c04fd430c8')",),
        ("2",), "code", "6ba7b810-9dad-11d1-80b4-00c04fd430c9", "y",
    ),
    "a check": Case(
        table('"size" INTEGER, CONSTRAINT "Item_size" CHECK ("size" > 0)') + 'INSERT INTO "Item" VALUES (1, 5);',
        'ALTER TABLE "Item" DROP CONSTRAINT "Item_size";',
        ('insert into "Item" values (2, -1), (3, null), (4, 3)',),
        ("2",), "size", "1", "-5",
    ),
    "a check of two columns": Case(
        table('"least" INTEGER, "most" INTEGER, CHECK ("least" <= "most")'),
        'ALTER TABLE "Item" DROP CONSTRAINT "Item_check";',
        ('insert into "Item" values (2, 5, 4), (3, 4, 5)',),
        ("2",),
    ),
    "duplicates under an index": Case(
        table('"mail" TEXT') + """CREATE UNIQUE INDEX "Item_mail_key" ON "Item" ("mail");""",
        'DROP INDEX "Item_mail_key";',
        ("insert into \"Item\" values (5, 'a'), (4, 'a'), (3, 'b'), (6, 'a'), (7, null), (8, null)",),
        ("5", "6"),
    ),
    "duplicates under a constraint": Case(
        table('"a" INTEGER, "b" INTEGER, UNIQUE ("a", "b")'),
        'ALTER TABLE "Item" DROP CONSTRAINT "Item_a_b_key";',
        ('insert into "Item" values (2, 1, 1), (3, 1, 1), (4, 1, null), (5, 1, null)',),
        ("3",),
    ),
    "duplicates under an index of some rows": Case(
        table('"mail" TEXT, "gone" DATE')
        + """CREATE UNIQUE INDEX "Item_mail_key" ON "Item" ("mail") WHERE "gone" IS NULL AND "id" <> 9;""",
        'DROP INDEX "Item_mail_key"; ALTER TABLE "Item" RENAME COLUMN "gone" TO "gone at";',
        (
            "insert into \"Item\" values (5, 'a', null), (4, 'a', '2026-01-01'), (3, 'a', null), (6, 'b', null)",
            "insert into \"Item\" values (7, 'a', '2026-01-01'), (9, 'a', null)",
        ),
        ("5",),
    ),
    "duplicates under an index of an expression": Case(
        table('"mail" TEXT, "shop" INTEGER') + 'CREATE UNIQUE INDEX "Item_key" ON "Item" (lower("mail"), "shop");',
        'DROP INDEX "Item_key"; ALTER TABLE "Item" RENAME COLUMN "shop" TO "sh op";',
        ("insert into \"Item\" values (5, 'A', 1), (4, 'a', 1), (3, 'a', 2), (6, 'a', null), (7, 'a', null)",),
        ("5",),
    ),
    "duplicates under an index with more in it": Case(
        table('"mail" TEXT, "name" TEXT') + 'CREATE UNIQUE INDEX "Item_key" ON "Item" ("mail") INCLUDE ("name");',
        'DROP INDEX "Item_key";',
        ("insert into \"Item\" values (5, 'a', 'x'), (4, 'a', 'y'), (3, 'b', 'x')",),
        ("5",),
    ),
    "a check whose column has another name": Case(
        table('"size" INTEGER, "most" INTEGER, CONSTRAINT "Item_size" CHECK ("size" < "most")'),
        """ALTER TABLE "Item" DROP CONSTRAINT "Item_size";
ALTER TABLE "Item" RENAME COLUMN "size" TO "Si ze"; ALTER TABLE "Item" RENAME COLUMN "most" TO "size";""",
        ('insert into "Item" values (2, 3, 2), (3, null, 1), (4, 2, 3)',),
        ("2",),
    ),
    "orphans of which all or nothing must be null": Case(
        'CREATE TABLE "Owner" ("a" INTEGER, "b" INTEGER, PRIMARY KEY ("a", "b")); INSERT INTO "Owner" VALUES (1, 1);'
        + table('"a" INTEGER, "b" INTEGER, CONSTRAINT "fk" FOREIGN KEY ("a", "b") REFERENCES "Owner"("a", "b") MATCH FULL'),
        'ALTER TABLE "Item" DROP CONSTRAINT "fk";',
        ('insert into "Item" values (2, 1, null), (3, null, null), (4, 1, 1), (5, 2, 1)',),
        ("2", "5"),
    ),
    "orphans": Case(
        'CREATE TABLE "Owner" ("id" INTEGER PRIMARY KEY); INSERT INTO "Owner" VALUES (1), (2);'
        + table('"owner" INTEGER, CONSTRAINT "Item_owner_fkey" FOREIGN KEY ("owner") REFERENCES "Owner"("id")'),
        'ALTER TABLE "Item" DROP CONSTRAINT "Item_owner_fkey";',
        ('insert into "Item" values (2, 9), (3, 1), (4, null)',),
        ("2",), "owner", "2", "8",
    ),
    "a name that was changed with it": Case(
        table('"note" VARCHAR(4) NOT NULL') + """INSERT INTO "Item" VALUES (1, 'a');""",
        """ALTER TABLE "Item" ALTER COLUMN "note" DROP NOT NULL;
ALTER TABLE "Item" ALTER COLUMN "note" TYPE TEXT;
ALTER TABLE "Item" RENAME COLUMN "note" TO "Re mark";
ALTER TABLE "Item" ADD COLUMN "more" INTEGER NOT NULL DEFAULT 3;""",
        ("""insert into "Item" values (2, null, 4), (3, 'b', 3), (4, 'too long', 3)""",),
        ("2", "4"), "Re mark", "none", "much too long",
    ),
}  # fmt: skip


def contents(site: Site, *tables: str) -> Any:
    """Every row of tables, all of them without names."""
    names = tables or site.ask("select array_agg(relname::text order by 1) from pg_class where relkind in ('r', 'p')"
                               " and relnamespace = 'public'::regnamespace and relname <> '_prisma_migrations'")  # fmt: skip
    order = "to_jsonb(t)::text"
    return {name: site.ask(f'select jsonb_agg(to_jsonb(t) order by {order}) from "{name}" t') for name in names}


def set_up(site: Site, case: Case) -> Any:
    site.add(BASE, case.before)
    deploy(site)
    site.add(LOOSER, case.script)
    deploy(site)
    site.sql(*case.writes)
    return contents(site)


def refused(site: Site, *words: str, code: int = 17) -> dict[str, Any]:
    done: Run = site.run("rollback", "--migration", "latest", "--strategy", "reverse", "--yes", "--json", *words)
    assert done.code == code, done.out + done.err
    return done.json


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=[pytest.mark.long] if at > 3 else []) for at, (name, case) in enumerate(CASES.items())],
)
def test_it_stops_and_goes_on_as_chosen(site: Site, case: Case) -> None:
    was = set_up(site, case)
    said = refused(site)
    assert said["error"] == "RowsUnfit"
    assert sorted({key for each in said["unfit"] for key in each["keys"]}) == sorted(case.keys)
    assert all((each["table"], each["choice"]) == ("public.Item", None) for each in said["unfit"])
    assert sum(each["rows"] for each in said["unfit"]) == len(case.keys)
    assert "--park-rows" in said["hint"]
    assert contents(site) == was
    with_rows_parked(site, case, was)
    with_a_default(site, case, said, was)


def with_a_default(site: Site, case: Case, said: dict[str, Any], was: Any) -> None:
    if case.column is None:
        assert "--default" not in said["hint"]
        assert all(each["column"] is None for each in said["unfit"])
        return
    assert f"public.Item.{case.column}=VALUE" in said["hint"]
    if case.wrong is not None:
        assert refused(site, "--default", f"Item.{case.column}={case.wrong}")["error"] in ("Refused", "RowsUnfit")
    done = rollback(site, "--default", f"public.Item.{case.column}={case.value}")
    if case.absent:
        assert done["defaulted"] == {}
        assert set(site.ask(f'select array_agg("{case.column}"::text) from "Item"')) == {case.value}
    else:
        assert done["defaulted"] == {"public.Item": len(case.keys)}
    assert set(site.ask('select array_agg(id::text) from "Item"')) == {str(row["id"]) for row in was["Item"]}
    assert reapply(site)["leaving"] == 0
    assert contents(site) == was
    assert parked(site) == 0


def with_rows_parked(site: Site, case: Case, was: Any) -> None:
    shown = site.run("rollback", "--migration", "latest", "--park-rows", "--dry-run", "--json").json
    assert shown["parked"].get("public.Item", 0) >= len(case.keys), shown
    assert {each["choice"] for each in shown["unfit"]} == {"park"}
    done = rollback(site, "--park-rows")
    assert done["parked"]["public.Item"] >= len(case.keys)
    left = site.ask('select array_agg(id::text) from "Item"') or []
    assert set(left) == {str(row["id"]) for row in was["Item"]} - set(case.keys)
    assert reapply(site)["leaving"] == 0
    assert contents(site) == was
    assert parked(site) == 0


EXACT = (
    table('"day" DATE, "at" TIMESTAMP(0), "rate" REAL, "size" INTEGER')
    + """
INSERT INTO "Item" VALUES (1, '2026-01-01', '2026-01-01 10:00', 1.5, 7);"""
)
MORE_EXACT = """ALTER TABLE "Item" ALTER COLUMN "day" TYPE TIMESTAMP(3), ALTER COLUMN "at" TYPE TIMESTAMP(3),
  ALTER COLUMN "rate" TYPE DOUBLE PRECISION, ALTER COLUMN "size" TYPE TEXT USING "size"::text;
ALTER TABLE "Item" RENAME COLUMN "at" TO "A t";
"""
WRITES = """insert into "Item" values (2, '2026-02-02 12:34', '2026-02-02 12:34:56.789', 0.1, '007'),
  (3, '2026-02-03', '2026-02-03 10:00', 0.5, '8'), (4, '2026-02-04 10:00', null, null, '9')"""


@pytest.mark.also(15, 18)
def test_what_is_only_less_exact_then_is_kept_whole_and_nobody_is_asked(site: Site) -> None:
    was = set_up(site, Case(EXACT, MORE_EXACT, (WRITES,), ()))
    shown = site.run("rollback", "--migration", "latest", "--dry-run", "--json").json
    told = {(each["column"], tuple(each["keys"]), each["choice"]) for each in shown["unfit"]}
    assert told == {("day", ("2", "4"), "cut"), ("A t", ("2",), "cut"), ("rate", ("2",), "cut"), ("size", ("2",), "cut")}
    assert (shown["strategy"], shown["lost"]) == ("reverse", {})
    assert rollback(site)["parked"] == {"public.Item": 5}
    assert site.ask("""select array_agg(concat_ws('|', "day", "at", "rate", "size") order by id) from "Item"
        where id > 1""") == ["2026-02-02|2026-02-02 12:34:57|0.1|7", "2026-02-03|2026-02-03 10:00:00|0.5|8", "2026-02-04|9"]
    site.sql("update \"Item\" set day = '2026-03-03' where id = 4")
    back = reapply(site)
    assert [(each["key"], each["columns"], each["reason"]) for each in back["left"]] == [("4", ["day"], "written since")]
    was["Item"][3]["day"] = "2026-03-03T00:00:00"
    assert contents(site) == was


def test_what_is_cut_and_not_kept_is_lost_and_said(site: Site) -> None:
    set_up(site, Case(EXACT, MORE_EXACT, (WRITES,), ()))
    shown = site.run("rollback", "--migration", "latest", "--strategy", "reverse", "--no-park", "--dry-run", "--json").json
    assert shown["lost"] == {"public.Item": 2}
    site.sql('alter table "Item" drop constraint "Item_pkey"')
    shown = site.run("rollback", "--migration", "latest", "--strategy", "reverse", "--dry-run", "--json").json
    assert shown["lost"] == {"public.Item": 2}


def test_values_of_arrays_domains_and_other_types_are_cut_and_kept_too(site: Site) -> None:
    base = 'CREATE DOMAIN "Day" AS DATE;' + table(
        '"codes" VARCHAR(3)[], "days" DATE[], "day" "Day", "flag" BOOLEAN, "json" JSONB, "price" MONEY, "at" TIME'
    )
    script = """ALTER TABLE "Item" ALTER "codes" TYPE TEXT[], ALTER "days" TYPE TIMESTAMP[], ALTER "day" TYPE TIMESTAMP,
  ALTER "flag" TYPE INTEGER USING "flag"::integer, ALTER "json" TYPE JSON, ALTER "price" TYPE NUMERIC USING "price"::numeric,
  ALTER "at" TYPE TIMESTAMP USING '2020-01-01'::date + "at";"""
    writes = """insert into "Item" values (2, '{abcdef}', '{2026-01-01 10:00}', '2026-01-01 10:00', 7, '{"b":1, "a":1}', 1.239,
  '2020-01-01 11:11')"""
    was = set_up(site, Case(base, script, (writes,), ()))
    shown = site.run("rollback", "--migration", "latest", "--strategy", "reverse", "--dry-run", "--json").json
    assert {each["column"] for each in shown["unfit"]} == {"codes", "days", "day", "flag", "json", "price"}
    rollback(site, "--strategy", "reverse")
    assert site.ask('select concat_ws(\'|\', "codes", "days", "day", "flag", "at") from "Item"') == (
        "{abc}|{2026-01-01}|2026-01-01|t|11:11:00"
    )
    assert reapply(site)["left"] == []
    assert contents(site) == was


def test_what_is_told_by_another_key_then_is_lost_and_not_given_to_other_rows(site: Site) -> None:
    base = 'CREATE TABLE "Item" ("code" TEXT PRIMARY KEY, "day" DATE, "other" INTEGER);'
    base += " INSERT INTO \"Item\" VALUES ('a', '2026-01-01', 1), ('b', '2026-01-01', 1);"
    script = """ALTER TABLE "Item" DROP CONSTRAINT "Item_pkey"; ALTER TABLE "Item" ADD COLUMN "id" SERIAL PRIMARY KEY;
ALTER TABLE "Item" ALTER "day" TYPE TIMESTAMP, ALTER "other" TYPE TEXT USING "other"::text;"""
    writes = """update "Item" set day = '2026-01-01 10:00', other = 'x' where code = 'a'"""
    set_up(site, Case(base, script, (writes,), ()))
    assert "has no key" in refused(site, "--default", "Item.other=0")["message"]
    done = rollback(site, "--strategy", "reverse", "--no-park", "--default", "Item.other=0")
    assert done["lost"] == {"public.Item": 2}
    reapply(site)
    assert set(site.ask('select array_agg("day"::text) from "Item"')) == {"2026-01-01 00:00:00"}


def test_a_key_that_is_cut_itself_tells_nothing(site: Site) -> None:
    set_up(site, Case('CREATE TABLE "Item" ("at" DATE PRIMARY KEY);', 'ALTER TABLE "Item" ALTER "at" TYPE TIMESTAMP;',
                      ("insert into \"Item\" values ('2026-01-01 10:00')",), ()))  # fmt: skip
    done = rollback(site, "--strategy", "reverse")
    assert (done["lost"], done["parked"]) == ({"public.Item": 1}, {})


def test_a_condition_that_speaks_of_what_is_gone_is_not_asked(site: Site) -> None:
    """The function of an index of before went with it."""
    base = """CREATE FUNCTION slug(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'select lower($1)';""" + table(
        '"s" TEXT NOT NULL'
    )
    base += 'CREATE UNIQUE INDEX "Item_slug" ON "Item" (slug("s"));'
    script = 'DROP INDEX "Item_slug"; DROP FUNCTION slug(text); ALTER TABLE "Item" ALTER "s" DROP NOT NULL;'
    was = set_up(site, Case(base, script, ("insert into \"Item\" values (1, 'a'), (2, null)",), ()))
    assert rollback(site, "--park-rows")["parked"] == {"public.Item": 1}
    reapply(site)
    assert contents(site) == was


# --- on every major -----------------------------------------------------------------------------------------------------


@pytest.fixture
def place(site: Site, database: ConnInfo) -> Site:
    """The site, on a server of each major."""
    return dataclasses.replace(site, info=database)


MANY = """CREATE TYPE "Kind" AS ENUM ('A', 'B');
CREATE TABLE "Owner" ("id" INTEGER PRIMARY KEY);
CREATE TABLE "Many" ("id" INTEGER PRIMARY KEY, "note" TEXT NOT NULL, "kind" "Kind", "code" VARCHAR(3), "size" INTEGER,
  "price" NUMERIC(6,2), "number" INTEGER, "token" UUID, "flag" BOOLEAN, "day" DATE, "rate" NUMERIC(4,1),
  "mail" TEXT UNIQUE, "owner" INTEGER REFERENCES "Owner"("id"), "part" INTEGER CHECK ("part" > 0));
INSERT INTO "Owner" VALUES (1);
INSERT INTO "Many" VALUES (0, 'a', 'A', 'abc', 1, 1.5, 2, gen_random_uuid(), true, '2024-02-29', 2.5, 'm0', 1, 1);
"""
WIDER = """CREATE TYPE "Kind_new" AS ENUM ('A', 'C');
ALTER TABLE "Many" ALTER COLUMN "kind" TYPE "Kind_new" USING ("kind"::text::"Kind_new");
DROP TYPE "Kind";
ALTER TYPE "Kind_new" RENAME TO "Kind";
ALTER TABLE "Many" ALTER COLUMN "note" DROP NOT NULL, ALTER COLUMN "code" TYPE TEXT, ALTER COLUMN "size" TYPE BIGINT,
  ALTER COLUMN "price" TYPE NUMERIC(12,3), ALTER COLUMN "number" TYPE TEXT, ALTER COLUMN "token" TYPE TEXT,
  ALTER COLUMN "flag" TYPE TEXT, ALTER COLUMN "day" TYPE TEXT, ALTER COLUMN "rate" TYPE TEXT,
  DROP CONSTRAINT "Many_mail_key", DROP CONSTRAINT "Many_owner_fkey", DROP CONSTRAINT "Many_part_check";
"""
FITS = {"note": "'n'", "kind": "'A'", "code": "'äöü'", "size": "2147483647", "price": "9999.99", "number": "'-2147483648'",
        "token": "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "flag": "'false'", "day": "'1999-12-31'", "rate": "'-999.9'",
        "mail": "'m' || id", "owner": "1", "part": "null"}  # fmt: skip
DOES_NOT = {"note": "null", "kind": "'C'", "code": "'abcd'", "size": "2147483648", "price": "-1.005", "number": "'1.5'",
            "token": "'6ba7b810'", "flag": "'perhaps'", "day": "'31.12.1999'", "rate": "'1000'", "mail": "'m0'",
            "owner": "2", "part": "0"}  # fmt: skip


@pytest.mark.long
def test_all_kinds_at_once(place: Site) -> None:
    """Each row has one value that does not fit, but the last, in which all do."""
    place.add(BASE, MANY)
    deploy(place)
    place.add(LOOSER, WIDER)
    deploy(place)
    names = ", ".join(f'"{name}"' for name in FITS)
    for at, wrong in enumerate([*FITS, None], 1):
        values = ", ".join(DOES_NOT[name] if name == wrong else fine for name, fine in FITS.items())
        place.sql(f'insert into "Many" (id, {names}) select id, {values} from (select {at} as id) i')
    was = contents(place)
    said = refused(place)["unfit"]
    told = {(each["column"] or "mail", *each["keys"]) for each in said}
    assert told == {(name, str(at)) for at, name in enumerate(FITS, 1)}
    done = rollback(place, "--park-rows", "--default", "Many.note=x", "--default", "public.Many.flag=true")
    assert done["defaulted"] == {"public.Many": 2}
    assert done["parked"] == {"public.Many": len(FITS)}
    fitting = place.ask('select array_agg(id order by id) from "Many"')
    assert fitting == [0, 1, 1 + list(FITS).index("flag"), len(FITS) + 1]
    assert reapply(place)["leaving"] == 0
    assert contents(place) == was
    assert parked(place) == 0


# --- what refers to them ------------------------------------------------------------------------------------------------

WEB = """CREATE SCHEMA "other";
CREATE TABLE "Node" ("id" INTEGER PRIMARY KEY, "note" TEXT NOT NULL, "up" INTEGER, "leaf" INTEGER,
  CONSTRAINT "Node_up_fkey" FOREIGN KEY ("up") REFERENCES "Node"("id") ON DELETE SET NULL);
CREATE TABLE "Leaf" ("id" INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "node" INTEGER NOT NULL, "text" TEXT,
  "long" INTEGER GENERATED ALWAYS AS (length("text")) STORED,
  CONSTRAINT "Leaf_node_fkey" FOREIGN KEY ("node") REFERENCES "Node"("id") ON DELETE RESTRICT);
ALTER TABLE "Node" ADD CONSTRAINT "Node_leaf_fkey" FOREIGN KEY ("leaf") REFERENCES "Leaf"("id");
CREATE TABLE "other"."Far" ("text" TEXT,
  "leaf" INTEGER REFERENCES "Leaf"("id") ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE "Part" ("id" INTEGER, "node" INTEGER REFERENCES "Node"("id"), "at" INTEGER, PRIMARY KEY ("id", "at"))
  PARTITION BY RANGE ("at");
CREATE TABLE "Part_low" PARTITION OF "Part" FOR VALUES FROM (0) TO (10);
CREATE TABLE "Part_high" PARTITION OF "Part" FOR VALUES FROM (10) TO (20);
CREATE TABLE "Log" ("text" TEXT);
CREATE FUNCTION "told"() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO "Log" VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER "told" AFTER INSERT OR UPDATE OR DELETE ON "Node" FOR EACH ROW EXECUTE FUNCTION "told"();
CREATE TRIGGER "told" AFTER INSERT OR UPDATE OR DELETE ON "Leaf" FOR EACH ROW EXECUTE FUNCTION "told"();
"""
SINCE = """ALTER TABLE "Node" ALTER COLUMN "note" DROP NOT NULL;
ALTER TABLE "Leaf" ADD COLUMN "more" TEXT;
CREATE TABLE "New" ("id" INTEGER PRIMARY KEY, "node" INTEGER NOT NULL REFERENCES "Node"("id"),
  "before" INTEGER REFERENCES "New"("id"));
"""
ROWS = (
    """insert into "Node" select n, case when n <> 3 then 'n' || n end, nullif(n / 2, 0) from generate_series(1, 9) n""",
    """insert into "Leaf" (node, text, more) select 1 + n % 9, 'l' || n, nullif(n % 2, 0) from generate_series(0, 17) n""",
    """update "Node" set leaf = 4 where id = 8""",  # leaf 4 is of node 4: no circle
    """update "Node" set leaf = 6 where id = 6""",  # leaf 6 is of node 6, and node 6 is below 3: a circle
    """insert into "other"."Far" select 'f', 1 + n % 18 from generate_series(0, 35) n""",
    """insert into "Part" select n, 1 + n % 9, n from generate_series(0, 19) n""",
    """insert into "New" select n, 1 + n % 9, nullif(n - 1, 0) from generate_series(1, 18) n""",
)
ALL = ("Node", "Leaf", 'other"."Far', "Part", "Log", "New")


def web(site: Site) -> Any:
    """Nodes below one another, of which 3 has no note; what is below 3 is 6 and 7."""
    site.add(BASE, WEB)
    deploy(site)
    site.add(LOOSER, SINCE)
    deploy(site)
    site.sql(*ROWS)
    return contents(site, *ALL)


TAKEN = {"public.Node": 3, "public.Leaf": 6, "other.Far": 12, "public.Part": 6}


def test_what_refers_to_them_goes_with_them_and_comes_back(place: Site) -> None:
    """Over self-references, a circle, another schema, partitions and keys of any action; tables that go are no matter."""
    was = web(place)
    shown = place.run("rollback", "--migration", "latest", "--park-rows", "--dry-run", "--json").json
    whole = {"public.New": 18}
    assert {table: rows for table, rows in shown["parked"].items() if table != "public.Leaf"} == {
        table: rows for table, rows in {**TAKEN, **whole}.items() if table != "public.Leaf"
    }
    done = rollback(place, "--park-rows")
    values = 6  # of the other leaves, those with a value in the column that goes
    assert done["parked"] == {**TAKEN, **whole, "public.Leaf": 6 + values}
    assert place.ask('select array_agg(id order by id) from "Node"') == [1, 2, 4, 5, 8, 9]
    assert place.ask('select count(*) from "Leaf" where node in (3, 6, 7)') == 0
    assert reapply(place)["leaving"] == 0
    assert contents(place, *ALL) == was
    assert parked(place) == 0
    place.sql(
        'insert into "Leaf" (node) values (1)', 'insert into "other"."Far" values (null, 19)'
    )  # identities go on, keys hold
    assert place.ask("select tgenabled from pg_trigger where tgname = 'told' limit 1") == "O"


def test_a_default_for_them_leaves_the_others_alone(site: Site) -> None:
    was = web(site)
    done = rollback(site, "--default", "Node.note=none", "--park-rows")
    assert (done["defaulted"], done["parked"]["public.Node"]) == ({"public.Node": 1}, 1)
    assert site.ask('select note from "Node" where id = 3') == "none"
    assert reapply(site)["leaving"] == 0
    assert contents(site, *ALL) == was


def test_what_is_written_in_between_stays(site: Site) -> None:
    """A default that somebody has replaced, a key that somebody has taken: they stay, and what was parked is listed."""
    site.add(BASE, table('"note" TEXT NOT NULL'))
    deploy(site)
    site.add(LOOSER, 'ALTER TABLE "Item" ALTER COLUMN "note" DROP NOT NULL;')
    deploy(site)
    site.sql('insert into "Item" values (1, null), (2, null), (3, null)')
    rollback(site, "--default", "Item.note=none")
    site.sql("update \"Item\" set note = 'newer' where id = 2", 'delete from "Item" where id = 3')
    back = reapply(site)
    assert [(each["key"], each["reason"]) for each in back["left"]] == [("2", "written since"), ("3", "its row is gone")]
    assert site.ask('select array_agg(note order by id) from "Item"') == [None, "newer"]
    rollback(site, "--park-rows")
    site.sql("insert into \"Item\" values (1, 'another')")
    back = reapply(site)
    assert ("1", "something else is in its place") in [(each["key"], each["reason"]) for each in back["left"]]
    assert site.ask('select array_agg(note order by id) from "Item"') == ["another", "newer"]


def test_rows_without_a_key(site: Site) -> None:
    """They can be parked whole, also one of two that are the same; a value that is replaced could not be put back."""
    site.add(BASE, 'CREATE TABLE "Bag" ("a" INTEGER, "b" TEXT NOT NULL); CREATE UNIQUE INDEX "Bag_a" ON "Bag" ("a");')
    deploy(site)
    site.add(LOOSER, 'DROP INDEX "Bag_a"; ALTER TABLE "Bag" ALTER COLUMN "b" DROP NOT NULL;')
    deploy(site)
    site.sql("insert into \"Bag\" values (1, 'x'), (1, 'x'), (1, 'x'), (2, null), (2, null), (3, 'y')")
    was = contents(site, "Bag")
    said = refused(site, "--park-rows", "--default", "Bag.b=z")
    assert "has no key" in said["message"]
    rollback(site, "--park-rows")
    assert site.ask('select array_agg(a order by a) from "Bag"') == [1, 3]
    assert reapply(site)["restored"] == {"public.Bag": 4}
    assert contents(site, "Bag") == was
    done = rollback(site, "--park-rows", "--no-park", code=2)
    assert done["error"] == "UsageError"


# --- flags ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--default", "Item.nota=x"], 17, "Those are: public.Item.note."),
        (["--default", "other.Item.note=x"], 17, "Those are: public.Item.note."),
        (["--default", "Item.note"], 17, "Those are: public.Item.note."),
        (["--default", "Item.note=x", "--strategy", "restore"], 2, "for the reverse"),
        (["--park-rows", "--backup", "latest"], 2, "for the reverse"),
        (["--park-rows", "--no-park"], 2, "--no-park keeps nothing"),
        ([], 17, "--default public.Item.note=VALUE, or --park-rows"),
    ],
)
def test_wrong_flags(loose: Site, words: list[str], code: int, told: str) -> None:
    done = loose.run("rollback", "--migration", "latest", "--yes", "--json", *words)
    assert (done.code, told in done.json["message"] + done.json["hint"]) == (code, True), done.out
    assert loose.rows(LOOSER) == 1


@pytest.fixture
def loose(site: Site) -> Site:
    """One row does not fit, as its note is null."""
    site.add(BASE, table('"note" TEXT NOT NULL'))
    deploy(site)
    site.add(LOOSER, 'ALTER TABLE "Item" ALTER COLUMN "note" DROP NOT NULL;')
    deploy(site)
    site.sql("insert into \"Item\" values (1, null), (2, 'b')")
    return site


def test_the_ceiling_asks_for_rows_that_are_parked_whole(loose: Site) -> None:
    loose.settings("[park]\nceiling = 0\n")
    said = refused(loose, "--park-rows")
    assert "1 row of public.Item, whole" in said["message"]
    assert "park.ceiling" in said["message"]
    assert loose.ask('select count(*) from "Item"') == 2
    assert rollback(loose, "--park-rows", "--park")["parked"] == {"public.Item": 1}


def test_nobody_gets_a_restore_instead_of_being_asked(loose: Site) -> None:
    """There is a backup, which would lose more."""
    shown = loose.run("rollback", "--migration", "latest", "--dry-run", "--json")
    assert (shown.code, shown.json["unfit"]) == (0, [
        {"migration": LOOSER, "table": "public.Item", "column": "note", "rows": 1, "keys": ["1"],
         "reason": "it is null, and was NOT NULL", "choice": None}
    ])  # fmt: skip
    assert any("to be decided" in line for line in shown.json["plan"])
    said = loose.run("rollback", "--migration", "latest", "--yes", "--json")
    assert (said.code, said.json["error"], "--strategy restore" in said.json["hint"]) == (17, "RowsUnfit", True)


def test_without_parking_values_are_replaced_for_good(loose: Site) -> None:
    done = rollback(loose, "--default", "Item.note=none", "--no-park")
    assert (done["defaulted"], done["parked"], parked(loose)) == ({"public.Item": 1}, {}, 0)
    reapply(loose)
    assert loose.ask('select note from "Item" where id = 1') == "none"


def test_a_placeholder_is_overridden(site: Site) -> None:
    """Nobody has to choose where a column gets a harmless value, but may."""
    site.add(BASE, table('"note" TEXT NOT NULL'))
    deploy(site)
    site.add(LOOSER, 'ALTER TABLE "Item" DROP COLUMN "note";')
    deploy(site)
    site.sql('insert into "Item" values (1)')
    assert site.run("rollback", "--migration", "latest", "--dry-run", "--json").json["unfit"] == []
    rollback(site, "--default", "Item.note=it's new")
    assert site.ask('select note from "Item"') == "it's new"


# --- several --------------------------------------------------------------------------------------------------------------


def test_several_migrations_each_with_its_own(loose: Site) -> None:
    loose.add("20260601000000_more", 'ALTER TABLE "Item" ADD COLUMN "size" INTEGER NOT NULL DEFAULT 1 CHECK ("size" > 0);')
    deploy(loose)
    loose.add("20260701000000_any", 'ALTER TABLE "Item" DROP CONSTRAINT "Item_size_check";')
    deploy(loose)
    loose.sql("insert into \"Item\" values (3, 'c', -1), (4, null, -2)")
    was = contents(loose, "Item")
    done = rollback(loose, "--cascade", "--default", "Item.size=7", "--park-rows", migration=LOOSER)
    assert done["defaulted"] == {"public.Item": 2}
    assert loose.ask('select array_agg(id order by id) from "Item"') == [2, 3]
    for name in (LOOSER, "20260601000000_more", "20260701000000_any"):
        assert reapply(loose, migration=name)["leaving"] == 0
    assert contents(loose, "Item") == was
    assert parked(loose) == 0


def test_rows_that_only_a_newer_rollback_brings_to_light_can_be_chosen_for_after_an_abort(loose: Site) -> None:
    """Each goes back by itself; what the older finds then was not there when it was planned."""
    nulls = loose.ask('select count(*) from "Item" where note is null')
    was = contents(loose, "Item")
    loose.add("20260601000000_filled", 'UPDATE "Item" SET "note" = \'\' WHERE "note" IS NULL;')
    deploy(loose)
    stopped = rollback(loose, "--cascade", migration=LOOSER, code=17)
    assert "holds nulls" in stopped["message"]
    assert "--abort" in stopped["hint"]
    assert "--park-rows" in stopped["hint"]
    assert loose.run("rollback", "--abort", "--yes", "--json").code == 0
    rollback(loose)
    assert contents(loose, "Item") == was
    assert rollback(loose, "--default", "Item.note=none")["defaulted"] == {"public.Item": nulls}


def test_every_tenant_its_own(site: Site) -> None:
    for schema in ("t_1", "t_2"):
        site.sql(f"create schema {schema}")
    site.settings('tenant_schemas = "t_*"\n')
    site.add(BASE, table('"note" TEXT NOT NULL') + 'CREATE TABLE "Child" ("item" INTEGER REFERENCES "Item"("id"));')
    words = ("--all-tenants", "--yes", "--json")
    assert site.run("deploy", *words).code == 0
    site.add(LOOSER, 'ALTER TABLE "Item" ALTER COLUMN "note" DROP NOT NULL;')
    assert site.run("deploy", *words).code == 0
    site.sql('insert into t_1."Item" values (1, null)', 'insert into t_1."Child" values (1)')
    site.sql('insert into t_2."Item" values (1, null), (2, null), (3, $$x$$)')
    was = [contents(site, f'{schema}"."{name}') for schema in ("t_1", "t_2") for name in ("Item", "Child")]
    done = site.run("rollback", "--migration", LOOSER, "--default", "t_2.Item.note=none", "--park-rows", *words)
    assert done.code == 0, done.err
    assert done.json["defaulted"] == {"t_2.Item": 2}
    assert done.json["parked"] == {"t_1.Item": 1, "t_1.Child": 1, "t_2.Item": 2}
    assert site.ask('select count(*) from t_1."Item"') == 0
    assert reapply(site, "--all-tenants", migration=LOOSER)["leaving"] == 0
    assert [contents(site, f'{schema}"."{name}') for schema in ("t_1", "t_2") for name in ("Item", "Child")] == was


# --- ended in the middle ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["--resume", "--abort"])
def test_killed_in_its_transaction(site: Site, end: str) -> None:
    """Nothing is parked then; gone on with, it does what was chosen; given up, everything is there."""
    was = web(site)
    assert site.info is not None
    words = ("--park-rows", "--default", "Node.note=never", "--yes", "--json")
    with connect(site.info, autocommit=False) as other:
        other.execute('select from "New"')
        child = site.spawn("rollback", "--migration", "latest", *words)
        wait_until(lambda: site.ask("select count(*) from pg_locks where not granted") > 0)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        other.rollback()
    wait_until(lambda: site.ask("select count(*) from pg_stat_activity where application_name like 'naap\\_ops %'") == 0)
    assert (contents(site, *ALL), parked(site)) == (was, 0)
    done = site.run("rollback", end, "--yes", "--json")
    assert done.code == 0, done.err
    if end == "--resume":
        assert done.json["defaulted"] == {"public.Node": 1}
        assert site.ask('select note from "Node" where id = 3') == "never"
        reapply(site)
    assert (contents(site, *ALL), parked(site)) == (was, 0)


@pytest.mark.parametrize("choice", [("--park-rows",), ("--default", "Node.note=none")])
def test_undone_after_it_was_committed(site: Site, choice: tuple[str, ...]) -> None:
    """Of two migrations the older one's reverse waits; the newer one's, which has parked rows, is undone."""
    was = web(site)
    site.add("20260601000000_last", 'ALTER TABLE "Leaf" ALTER COLUMN "node" DROP NOT NULL;')
    deploy(site)
    site.sql('insert into "Leaf" (node, text) values (null, $$nowhere$$)')
    was = contents(site, *ALL)
    assert site.info is not None
    words = ("--cascade", *choice, "--default", "Leaf.node=1", "--yes", "--json")
    with connect(site.info, autocommit=False) as other:
        other.execute('select from "New"')
        child = site.spawn("rollback", "--migration", LOOSER, *words)
        wait_until(lambda: site.ask("select count(*) from pg_locks where not granted") > 0)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        other.rollback()
    wait_until(lambda: site.ask("select count(*) from pg_stat_activity where application_name like 'naap\\_ops %'") == 0)
    assert site.ask("select node from \"Leaf\" where text = 'nowhere'") == 1
    done = site.run("rollback", "--abort", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["unparked"]["public.Leaf"] >= 1
    assert (contents(site, *ALL), parked(site)) == (was, 0)


# --- columns that come back, and images -----------------------------------------------------------------------------------


def test_a_column_that_points_at_something(site: Site) -> None:
    """Its foreign key went before it: no placeholder may be put there, though the column itself would take one."""
    site.add(
        BASE,
        'CREATE TABLE "Owner" ("id" INTEGER PRIMARY KEY); INSERT INTO "Owner" VALUES (4), (5);\n'
        + table('"owner" INTEGER NOT NULL, CONSTRAINT "Item_owner_fkey" FOREIGN KEY ("owner") REFERENCES "Owner"("id")'),
    )
    deploy(site)
    site.add(LOOSER, 'ALTER TABLE "Item" DROP CONSTRAINT "Item_owner_fkey";\nALTER TABLE "Item" DROP COLUMN "owner";')
    deploy(site)
    site.sql('insert into "Item" values (1), (2)')
    [said] = refused(site)["unfit"]
    assert (said["column"], said["rows"]) == ("owner", 2)
    rollback(site, "--default", "Item.owner=5")
    assert site.ask('select array_agg(owner) from "Item"') == [5, 5]


def test_a_unique_column_whose_index_went_before_it(site: Site) -> None:
    """Each row gets a placeholder of its own."""
    site.add(BASE, table('"mail" TEXT NOT NULL') + 'CREATE UNIQUE INDEX "Item_mail_key" ON "Item" ("mail");')
    deploy(site)
    site.add(LOOSER, 'DROP INDEX "Item_mail_key";\nALTER TABLE "Item" DROP COLUMN "mail";')
    deploy(site)
    site.sql('insert into "Item" values (1), (2), (3)')
    rollback(site)
    assert site.ask('select count(distinct mail) from "Item"') == 3


def test_what_images_put_back_is_not_counted(site: Site) -> None:
    """The migration itself made nulls of values, which come back; only those written since are in the way."""
    site.add(BASE, table('"note" TEXT NOT NULL') + "INSERT INTO \"Item\" VALUES (1, 'a'), (2, 'b');")
    deploy(site)
    site.add(LOOSER, 'ALTER TABLE "Item" ALTER COLUMN "note" DROP NOT NULL;\nUPDATE "Item" SET "note" = NULL;')
    deploy(site)
    assert site.run("rollback", "--migration", "latest", "--dry-run", "--json").json["unfit"] == []
    site.sql('insert into "Item" values (3, null)')
    [said] = refused(site)["unfit"]
    assert (said["rows"], said["keys"]) == (1, ["3"])
    done = rollback(site, "--park-rows")
    assert (done["parked"], done["conflicts"]) == ({"public.Item": 1}, [])
    assert site.ask('select array_agg(note order by id) from "Item"') == ["a", "b"]


@pytest.mark.parametrize(("old", "new", "value"), [("VARCHAR(3)", "TEXT", "'abcd'"), ("NUMERIC(6,2)", "NUMERIC(9,4)", "1.005")])
def test_run_by_hand_the_reverse_stops_instead_of_cutting(site: Site, old: str, new: str, value: str) -> None:
    """The server's own cast would shorten the one and round the other without a word."""
    site.add(BASE, table(f'"value" {old}'))
    deploy(site)
    site.add(LOOSER, f'ALTER TABLE "Item" ALTER COLUMN "value" TYPE {new};')
    deploy(site)
    site.sql(f'insert into "Item" values (1, {value})')
    down = (site.migrations / LOOSER / "down.sql").read_text(encoding="utf-8")
    with pytest.raises(RaiseException, match="does not hold"):
        site.sql(down)
    site.sql('delete from "Item"', down)
