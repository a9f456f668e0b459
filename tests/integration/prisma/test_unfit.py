"""Rows that the state before a migration cannot hold: a rollback stops and says which, and goes on with a default, or with the
rows parked; forward again everything is as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.desk import Run
from tests.integration.prisma.conftest import Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_parking import parked, reapply
from tests.integration.prisma.test_rollback import rollback

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


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
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
