"""Rows that a deploy destroyed come back with `invoke rollback`: from what the deploy captured, else from the backup."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from tests.desk import wait_until
from tests.integration.prisma.conftest import SCHEMA, Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_rollback import rollback

pytestmark = pytest.mark.also(15, 18)

SHOP, LOSSY = "20260401000000_shop", "20260501000000_lossy"
TABLES = """CREATE TABLE "Shop" ("id" SERIAL NOT NULL, "name" TEXT NOT NULL, "rank" INTEGER,
  CONSTRAINT "Shop_pkey" PRIMARY KEY ("id"));
CREATE TABLE "Item" ("id" SERIAL NOT NULL, "shop" INTEGER NOT NULL, "price" NUMERIC(10,2),
  CONSTRAINT "Item_pkey" PRIMARY KEY ("id"),
  CONSTRAINT "Item_shop_fkey" FOREIGN KEY ("shop") REFERENCES "Shop"("id") ON DELETE CASCADE ON UPDATE CASCADE);
"""
ROWS = (
    "insert into \"Shop\" (name, rank) values ('a', 1), ('b', null), ('c', 3)",
    'insert into "Item" (shop, price) select 1 + n % 3, n * 1.25 from generate_series(1, 9) n',
)
DESTROYS = """ALTER TABLE "Shop" DROP COLUMN "name";
UPDATE "Shop" SET "rank" = 0;
DELETE FROM "Item" WHERE "shop" = 2;
ALTER TABLE "Item" ALTER COLUMN "price" TYPE INTEGER;
"""


@pytest.fixture
def shop(site: Site) -> Site:
    site.add(SHOP, TABLES)
    deploy(site)
    site.sql(*ROWS)
    return site


def contents(site: Site) -> Any:
    return [site.ask(f'select jsonb_agg(to_jsonb(t) order by id) from "{table}" t') for table in ("Shop", "Item")]


def images(site: Site) -> int:
    """Tables that hold an image."""
    query = "select count(*) from pg_tables where schemaname = 'naap_ops' and tablename like 'image\\_%'"
    return int(site.ask(query))


def test_captured_by_the_deploy_and_back_with_the_rollback(shop: Site) -> None:
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    [foreseen] = deploy(shop, "--dry-run")["migrations"]
    done = deploy(shop)
    assert [each["losses"] for each in done["migrations"]] == [foreseen["losses"]]
    assert {each["source"] for each in foreseen["losses"]} == {"capture"}
    assert {(each["table"], each["rows"]) for each in done["captured"]} == {("public.Shop", 3), ("public.Item", 9)}
    assert contents(shop) != was
    before = shop.run("rollback", "--migration", "latest", "--dry-run", "--json").json
    reverse = next(way for way in before["ways"] if way["strategy"] == "reverse")
    assert before["strategy"] == "reverse"
    assert len(reverse["comes_back"]) == 2
    assert reverse["losses"] == []
    outcome = rollback(shop)
    assert contents(shop) == was
    assert outcome["restored"] == {"public.Item": 9, "public.Shop": 3}
    assert outcome["conflicts"] == []
    assert images(shop) == 0
    assert shop.run("status").code == 0


def test_what_was_written_since_stays_and_is_told(shop: Site) -> None:
    shop.add(LOSSY, DESTROYS)
    deploy(shop)
    shop.sql(
        'update "Shop" set rank = 42 where id = 1',
        'insert into "Shop" (rank) values (7)',
        'insert into "Item" values (1, 1, 5)',
    )
    done = shop.run("rollback", "--migration", "latest", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["conflicts"] == [
        {"table": "public.Item", "key": "1", "columns": []}, {"table": "public.Shop", "key": "1", "columns": ["rank"]},
    ]  # fmt: skip
    assert "conflict: public.Shop 1" in done.err
    assert shop.ask('select jsonb_agg(array[name, rank::text] order by id) from "Shop"') == [
        ["a", "42"], ["b", None], ["c", "3"], ["", "7"],
    ]  # fmt: skip
    assert shop.ask('select price::text from "Item" where id = 1') == "5.00"


@pytest.mark.parametrize(("how", "rank"), [("theirs", 42), ("ours", 1)])
def test_somebody_decides_about_conflicts(shop: Site, how: str, rank: int) -> None:
    shop.add(LOSSY, DESTROYS)
    deploy(shop)
    shop.sql('update "Shop" set rank = 42 where id = 1')
    assert rollback(shop, "--conflicts", how)["conflicts"] == []
    assert shop.ask('select rank from "Shop" where id = 1') == rank


def test_a_writer_between_two_statements_of_the_deploy_is_not_missed(shop: Site) -> None:
    """Who writes while it is captured waits until the migration is through, or comes before it and is in the image."""
    shop.add(LOSSY, DESTROYS)
    assert shop.info is not None
    with connect(shop.info) as writer:
        writer.execute('begin; update "Shop" set rank = 11 where id = 1')
        deploying = shop.spawn("deploy", "--yes", "--json")
        wait_until(lambda: shop.ask("select count(*) from pg_locks where mode = 'ShareRowExclusiveLock' and not granted") == 1)
        writer.execute("commit")
    assert deploying.wait(60) == 0
    rollback(shop)
    assert shop.ask('select rank from "Shop" where id = 1') == 11


def test_a_migration_that_fails_leaves_no_image(shop: Site) -> None:
    shop.sql("insert into \"Shop\" (name, rank) values ('x', -1)")
    shop.add(LOSSY, 'ALTER TABLE "Shop" DROP COLUMN "name"; ALTER TABLE "Shop" ADD CONSTRAINT "up" CHECK ("rank" >= 0);\n')
    deploy(shop, "--allow-unproved", LOSSY, code=20)
    assert images(shop) == 0
    assert shop.ask('select name from "Shop" where id = 1') == "a"


def test_without_capture_nothing_is_kept(shop: Site) -> None:
    shop.add(LOSSY, DESTROYS)
    assert deploy(shop, "--no-capture")["captured"] == []
    assert images(shop) == 0


def test_the_ceiling_asks(shop: Site) -> None:
    shop.settings("[capture]\nceiling = 0\n")
    shop.sql('analyze "Shop"', 'analyze "Item"')
    shop.add(LOSSY, DESTROYS)
    refused = deploy(shop, code=17)
    assert "capture.ceiling" in refused["message"]
    assert shop.rows(LOSSY) == 0
    assert deploy(shop, "--capture")["captured"]


def test_a_script_of_two_transactions_is_not_captured_and_that_is_said(shop: Site) -> None:
    shop.add(LOSSY, 'BEGIN;\nALTER TABLE "Shop" DROP COLUMN "rank";\nCOMMIT;\n')
    done = deploy(shop)
    assert done["captured"] == []
    assert any("is not one transaction" in note for note in done["notes"])


def test_what_has_expired_goes_with_the_next_deploy(shop: Site) -> None:
    shop.settings('[capture]\nexpires = "0s"\n')
    shop.add(LOSSY, DESTROYS)
    deploy(shop)
    assert images(shop) == 2
    shop.add("20260601000000_again", 'DELETE FROM "Item";\n')
    deploy(shop)
    assert shop.ask("select jsonb_agg(migration) from naap_ops.images") == ["20260601000000_again"]
    assert images(shop) == 1


def test_another_attempt_of_the_same_migration_has_no_images(shop: Site) -> None:
    """What was captured is of one application; applied again by somebody else, its rows are others."""
    shop.add(LOSSY, DESTROYS)
    deploy(shop)
    shop.sql(f"update _prisma_migrations set id = 'another' where migration_name = '{LOSSY}'")
    shop.sql("delete from naap_ops.images where false")
    before = shop.run("rollback", "--migration", "latest", "--dry-run", "--json").json
    reverse = next(way for way in before["ways"] if way["strategy"] == "reverse")
    assert not any("captured" in line for line in reverse["comes_back"])


# --- from the backup ------------------------------------------------------------------------------------------------


def test_rows_come_back_out_of_the_backup_where_nothing_was_captured(shop: Site) -> None:
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    deploy(shop, "--no-capture")
    shop.sql('update "Shop" set rank = 42 where id = 1', 'insert into "Shop" (rank) values (7)')
    before = shop.run("rollback", "--migration", "latest", "--dry-run", "--json").json
    reverse = next(way for way in before["ways"] if way["strategy"] == "reverse")
    assert all(f"from backup {shop.listed()[0].id}" in line for line in reverse["comes_back"])
    assert images(shop) == 0
    outcome = rollback(shop, "--strategy", "reverse")
    now = contents(shop)
    assert now[1] == was[1]
    assert now[0] == [was[0][0] | {"rank": 42}, *was[0][1:], {"id": 4, "name": "", "rank": 7}]
    assert [each["key"] for each in outcome["conflicts"]] == ["1"]
    assert images(shop) == 0
    assert [each["name"] for each in outcome["steps"]] == ["rows of public", f"{LOSSY} in public", "settle"]


def test_two_migrations_out_of_one_backup(shop: Site) -> None:
    """The first is run on the shadow before the images of the second are taken."""
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    deploy(shop, "--no-capture")
    shop.add("20260601000000_more", 'ALTER TABLE "Shop" DROP COLUMN "rank"; DROP TABLE "Item";\n')
    shop.run("deploy", "--yes", "--no-backup", "--no-capture", "--json")
    rollback(shop, "--cascade", "--strategy", "reverse", migration=LOSSY)
    assert contents(shop) == was


TOTALS = 'INSERT INTO "Total" ("shop", "items") SELECT "shop", count(*) FROM "Item" GROUP BY "shop";\n'


def test_without_a_capture_the_query_is_asked_again_and_that_is_said(shop: Site) -> None:
    """A backup lacks what it gave out of rows that are newer."""
    shop.add("20260410000000_total", 'CREATE TABLE "Total" ("shop" INTEGER PRIMARY KEY, "items" INTEGER NOT NULL);\n')
    deploy(shop)
    shop.add("20260420000000_totals", TOTALS)
    done = deploy(shop, "--no-capture")
    assert [(each["source"], each["since"]) for each in done["migrations"][0]["losses"]] == [("none", True)]
    plan = shop.run("rollback", "--migration", "latest", "--strategy", "reverse", "--dry-run", "--json").json
    assert (plan["ways"][0]["comes_back"], plan["lost"]) == ([], {"public.Total": 3})
    outcome = rollback(shop, "--strategy", "reverse")
    assert [each["name"] for each in outcome["steps"]] == ["20260420000000_totals in public", "settle"]
    assert shop.ask('select count(*) from "Total"') == 0


def test_rows_that_a_query_put_there_are_those_of_then_not_those_it_would_give_now(shop: Site) -> None:
    """Asked again, it would give a row that somebody else has written, and not give one that it did."""
    shop.add("20260410000000_total", 'CREATE TABLE "Total" ("shop" INTEGER PRIMARY KEY, "items" INTEGER NOT NULL);\n')
    deploy(shop)
    shop.sql('insert into "Total" values (9, 0)')
    shop.add("20260420000000_totals", TOTALS)
    done = deploy(shop)
    assert [(each["table"], each["rows"]) for each in done["captured"]] == [("public.Total", 3)]
    assert [each["source"] for each in done["migrations"][0]["losses"]] == ["capture"]
    [image] = shop.ask("select array_agg(format('naap_ops.%I', image)) from naap_ops.images where migration ~ 'totals'")
    assert shop.ask(f"select array[count(*), count(k1), count(p1), count(q1)] from {image}") == [3, 3, 0, 3]  # keys alone tell
    shop.sql(
        'delete from "Item" where shop = 2',
        "insert into \"Shop\" (name) values ('d')",
        'insert into "Item" (shop) values (4)',
        'insert into "Total" values (4, 1)',
        'update "Total" set items = 77 where shop = 3',
    )
    outcome = rollback(shop, "--strategy", "reverse", "--no-park")
    assert shop.ask('select array_agg((shop, items)::text order by shop) from "Total"') == ["(3,77)", "(4,1)", "(9,0)"]
    assert [each["key"] for each in outcome["conflicts"]] == ["3"]


def test_what_was_changed_in_rows_that_a_query_put_there_is_parked_and_comes_back(shop: Site) -> None:
    """Also of a row that the query does not give any more. One that nobody changed is asked for again."""
    shop.add("20260410000000_total", 'CREATE TABLE "Total" ("shop" INTEGER PRIMARY KEY, "items" INTEGER NOT NULL);\n')
    deploy(shop)
    shop.add("20260420000000_totals", TOTALS)
    deploy(shop)
    shop.sql('update "Total" set items = 70 + shop where shop > 1', 'delete from "Item" where shop = 2')
    plan = shop.run("rollback", "--migration", "latest", "--strategy", "reverse", "--dry-run", "--json").json
    assert plan["parked"] == {"public.Total": 2}
    outcome = rollback(shop, "--strategy", "reverse")
    assert (outcome["conflicts"], outcome["parked"]) == ([], {"public.Total": 2})
    assert shop.ask('select count(*) from "Total"') == 0
    shop.sql("insert into \"Shop\" (name) values ('d')", 'insert into "Item" (shop) values (4)')
    back = shop.run("reapply", "--migration", "20260420000000_totals", "--yes", "--json")
    assert back.code == 0, back.err
    totals = shop.ask('select array_agg((shop, items)::text order by shop) from "Total"')
    assert totals == ["(1,3)", "(2,72)", "(3,73)", "(4,1)"]


QUERIED = "20260420000000_queried"


@pytest.fixture
def queried(shop: Site) -> Callable[[str], None]:
    """A table with a row, into which a migration then puts others out of a query."""
    shop.add("20260410000000_total", 'CREATE TABLE "Total" ("shop" INTEGER PRIMARY KEY, "items" INTEGER NOT NULL);\n')
    deploy(shop)
    shop.sql('insert into "Total" values (9, 90)')

    def deployed(script: str) -> None:
        shop.add(QUERIED, script)
        deploy(shop)

    return deployed


def totals(shop: Site) -> Any:
    return shop.ask('select array_agg((shop, items)::text order by shop) from "Total"')


def test_a_row_that_is_newer_than_the_rollback_is_not_overwritten_by_a_parked_one(shop: Site, queried: Any) -> None:
    queried(TOTALS)
    shop.sql('update "Total" set items = 77 where shop = 1')
    rollback(shop, "--strategy", "reverse")
    shop.sql('delete from "Item" where shop = 1', 'insert into "Total" values (1, 1111)')
    back = shop.run("reapply", "--migration", QUERIED, "--yes", "--json")
    assert back.code == 0, back.err
    assert totals(shop)[0] == "(1,1111)"
    assert [(each["key"], each["reason"]) for each in back.json["left"]] == [("1", "written since")]


def test_rows_out_of_a_query_are_parked_whatever_else_is_done_to_their_table(shop: Site, queried: Any) -> None:
    queried(TOTALS + 'UPDATE "Total" SET "items" = "items" + 1 WHERE "shop" = 9;\n')
    shop.sql('update "Total" set items = 77 where shop = 1')
    was = totals(shop)
    for _ in range(2):
        assert rollback(shop, "--strategy", "reverse")["conflicts"] == []
        assert totals(shop) == ["(9,90)"]
        assert shop.run("reapply", "--migration", QUERIED, "--yes").code == 0
        assert totals(shop) == was


def test_nobody_is_asked_about_rows_that_go_anyway(shop: Site, queried: Any) -> None:
    queried('ALTER TABLE "Total" ALTER "items" DROP NOT NULL;\nINSERT INTO "Total" SELECT "id", NULL FROM "Shop";\n')
    was = totals(shop)
    rollback(shop, "--strategy", "reverse")
    assert totals(shop) == ["(9,90)"]
    assert shop.run("reapply", "--migration", QUERIED, "--yes").code == 0
    assert totals(shop) == was


@pytest.mark.parametrize("choice", [("--park-rows",), ("--default", "Total.items=0")])
def test_what_is_chosen_for_rows_out_of_a_query_does_not_come_back_with_them(
    shop: Site, queried: Any, choice: tuple[str, ...]
) -> None:
    queried(TOTALS + 'ALTER TABLE "Total" ALTER "items" DROP NOT NULL;\n')
    shop.sql('update "Total" set items = null where shop in (1, 9)')
    was = totals(shop)
    rollback(shop, "--strategy", "reverse", *choice)
    assert totals(shop) == (["(9,0)"] if "--default" in choice else None)
    back = shop.run("reapply", "--migration", QUERIED, "--yes", "--json")
    assert (back.code, back.json["left"]) == (0, [])
    assert totals(shop) == was


def test_images_are_exported_to_a_backup_and_come_back_from_there(shop: Site) -> None:
    """On request by themselves; every backup of the whole database has them too."""
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    deploy(shop)
    exported = shop.backup(label="images", parts={"schemas": ["naap_ops"]})
    assert {table.schema for table in exported.sound.tables} == {"naap_ops"}
    assert {table.name for table in exported.sound.tables} <= {table.name for table in shop.backup().sound.tables}
    shop.sql("drop schema naap_ops cascade")
    restored = shop.run("restore", "--backup", exported.id, "--schema", "naap_ops", "--yes", "--json")
    assert restored.code == 0, restored.err
    outcome = rollback(shop, "--strategy", "reverse")
    assert outcome["restored"] == {"public.Item": 9, "public.Shop": 3}
    assert contents(shop) == was


def test_of_two_migrations_each_gets_its_rows_out_of_the_newest_backup_before_it(shop: Site) -> None:
    """What was written between the two backups is only in the second one."""
    was = contents(shop)
    shop.add(LOSSY, 'DELETE FROM "Item" WHERE "shop" = 2;\n')
    deploy(shop, "--no-capture")
    first = shop.listed()[0].id
    shop.sql("update \"Shop\" set name = 'between' where name = 'a'")
    shop.add("20260601000000_more", 'UPDATE "Shop" SET "name" = upper("name");\n')
    deploy(shop, "--no-capture")
    second = shop.listed()[0].id
    how = ("--cascade", "--strategy", "reverse")
    plan = shop.run("rollback", "--migration", LOSSY, *how, "--dry-run", "--json").json
    assert [line.partition(", as")[0] for line in plan["ways"][0]["comes_back"]] == [
        f"values of name of public.Shop: from backup {second}",
        f"rows of public.Item: from backup {first}",
    ]
    outcome = rollback(shop, *how, migration=LOSSY)
    assert [each["name"] for each in outcome["steps"]][:2] == [f"rows of public from {each}" for each in (second, first)]
    assert contents(shop) == [[{**row, "name": "between" if row["name"] == "a" else row["name"]} for row in was[0]], was[1]]


def test_only_the_files_of_the_tables_in_question_are_read(shop: Site) -> None:
    shop.sql("create table aside as select generate_series(1, 3) i")
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    deploy(shop, "--no-capture")
    [backup, *_] = shop.listed()
    [fact] = [table for table in backup.sound.tables if table.name == "aside"]
    (shop.path(backup) / str(fact.file)).unlink()
    rollback(shop, "--strategy", "reverse")
    assert contents(shop) == was


def test_a_backup_that_is_a_plain_script_gives_no_rows_and_that_is_said(shop: Site) -> None:
    shop.settings('[backup]\nformat = "plain"\n')
    shop.add(LOSSY, DESTROYS)
    deploy(shop, "--no-capture")
    before = shop.run("rollback", "--migration", "latest", "--dry-run", "--strategy", "reverse", "--json").json
    assert before["ways"][0]["comes_back"] == []
    assert "plain script" in before["ways"][0]["halfway"][0]


# --- tenants, rights --------------------------------------------------------------------------------------------------


def test_every_tenant_has_its_rows_back(shop: Site) -> None:
    shop.settings('tenant_schemas = "tenant_*"\n')
    for tenant in ("tenant_a", "tenant_b"):
        shop.sql(f"create schema {tenant}")
    deploy(shop, "--all-tenants")
    for tenant, rank in (("tenant_a", 5), ("tenant_b", 6)):
        shop.sql(f"insert into {tenant}.\"Shop\" (name, rank) values ('x', {rank})")
    shop.add(LOSSY, DESTROYS)
    done = deploy(shop, "--all-tenants")
    assert {"tenant_a.Item", "tenant_a.Shop", "tenant_b.Item", "tenant_b.Shop"} <= {each["table"] for each in done["captured"]}
    outcome = rollback(shop, "--all-tenants", migration=LOSSY)
    assert {"tenant_a.Shop": 1, "tenant_b.Shop": 1}.items() <= outcome["restored"].items()
    for tenant, rank in (("tenant_a", 5), ("tenant_b", 6)):
        assert shop.ask(f'select jsonb_build_array(name, rank) from {tenant}."Shop"') == ["x", rank]
    assert images(shop) == 0


def test_a_role_that_may_make_no_schema_deploys_without(shop: Site) -> None:
    assert shop.info is not None
    role = f"test_owner_{str(shop.info.dbname)[-6:]}"
    shop.sql(f"create role {role} login createdb", f"grant all on schema public to {role}")
    shop.sql(
        *(
            f'alter table "{table}" owner to {role}'
            for table in ("User", "Profile", "Wallet", "Shop", "Item", "_prisma_migrations")
        )
    )
    owner = Site(shop.folder, dataclasses.replace(shop.info, user=role))
    try:
        shop.add(LOSSY, DESTROYS)
        done = deploy(owner)
        assert done["captured"] == []
        assert any("no rows are captured: permission denied" in note for note in done["notes"])
    finally:
        shop.sql(f"reassign owned by {role} to current_user", f"drop owned by {role}", f"drop role {role}")


# --- every server -----------------------------------------------------------------------------------------------------


def test_on_every_major(database: ConnInfo, tmp_path: Path) -> None:
    site = Site(tmp_path, database)
    site.migrations.mkdir(parents=True)
    (site.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
    (site.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
    site.add(SHOP, TABLES)
    deploy(site)
    site.sql(*ROWS)
    was = contents(site)
    for words in ((), ("--no-capture",)):
        site.add(LOSSY, DESTROYS)
        deploy(site, *words)
        rollback(site, "--strategy", "reverse")
        assert contents(site) == was


UNIQUE = """UPDATE "Shop" SET "rank" = "id"; ALTER TABLE "Shop" ALTER COLUMN "rank" SET NOT NULL;
CREATE UNIQUE INDEX "Shop_rank" ON "Shop" ("rank") WHERE "rank" <> 0;
"""
TURNED = """CREATE TABLE "Turn" AS
  SELECT "id", coalesce(lead("rank") OVER w, first_value("rank") OVER w) AS "rank" FROM "Shop" WINDOW w AS (ORDER BY "id");
UPDATE "Shop" SET "rank" = 0;
UPDATE "Shop" s SET "rank" = t."rank" FROM "Turn" t WHERE t."id" = s."id";
DROP TABLE "Turn";
"""


def test_what_will_not_come_back_is_said_before_the_deploy(shop: Site) -> None:
    """The proof of the deploy tries the way back with images as well: this one meets values that are still taken."""
    shop.add("20260402000000_unique", UNIQUE)
    deploy(shop)
    shop.add(LOSSY, TURNED)
    [foreseen] = deploy(shop, "--dry-run")["migrations"]
    assert {each["source"] for each in foreseen["losses"] if each["object"] == "public.Shop.rank"} == {"cannot"}
    done = deploy(shop)
    assert done["captured"] == []
    assert [each["losses"] for each in done["migrations"]] == [foreseen["losses"]]
    assert any(LOSSY in note and "do not come back" in note for note in done["notes"]), done["notes"]


KINDS = """CREATE TYPE "Kind" AS ENUM ('simple', 'complex');
ALTER TABLE "Shop" ADD COLUMN "kind" "Kind" NOT NULL DEFAULT 'simple', ADD COLUMN "code" TEXT;
CREATE UNIQUE INDEX "Shop_code_key" ON "Shop"("code");
"""
RENAMED = """CREATE TYPE "Kind_new" AS ENUM ('versionless', 'versioned');
ALTER TABLE "Shop" ALTER COLUMN "kind" DROP DEFAULT;
ALTER TABLE "Shop" ALTER COLUMN "kind" TYPE "Kind_new"
  USING (CASE "kind" WHEN 'simple' THEN 'versionless'::"Kind_new" ELSE 'versioned'::"Kind_new" END);
ALTER TYPE "Kind" RENAME TO "Kind_old";
ALTER TYPE "Kind_new" RENAME TO "Kind";
DROP TYPE "Kind_old";
UPDATE "Shop" SET "code" = 'new ' || "code";
ALTER TABLE "Item" DROP CONSTRAINT "Item_shop_fkey";
DROP TABLE "Item";
"""


def test_what_would_have_stopped_it_is_put_right_or_a_conflict(shop: Site) -> None:
    """Labels that the migration made up, a unique value that somebody has by now, rows whose parent has gone."""
    shop.add("20260402000000_kinds", KINDS)
    deploy(shop)
    shop.sql("""update "Shop" set code = 'c' || id, kind = 'complex' where id < 3""")
    shop.add(LOSSY, RENAMED)
    deploy(shop)
    shop.sql("""update "Shop" set code = 'c1' where id = 3""", 'delete from "Shop" where id = 2')
    done = shop.run("rollback", "--migration", "latest", "--yes", "--json")
    assert done.code == 0, done.err
    assert shop.ask('select jsonb_agg(array[id::text, kind::text, code] order by id) from "Shop"') == [
        ["1", "complex", "new c1"], ["3", "simple", "c1"],
    ]  # fmt: skip
    assert shop.ask('select array_agg(id order by id) from "Item" where shop <> 2') == [2, 3, 5, 6, 8, 9]
    assert shop.ask('select count(*) from "Item"') == 6
    assert done.json["conflicts"] == [
        *({"table": "public.Item", "key": str(key), "columns": []} for key in (1, 4, 7)),
        {"table": "public.Shop", "key": "1", "columns": ["code"]},
    ]  # fmt: skip


def test_a_newer_label_stops_the_rollback_its_row_is_named_and_can_be_parked(shop: Site) -> None:
    shop.add("20260402000000_kinds", KINDS)
    deploy(shop)
    shop.add(LOSSY, RENAMED)
    deploy(shop)
    shop.sql("""insert into "Shop" (rank, name, kind) values (5, 'd', 'versioned')""")
    stopped = shop.run("rollback", "--migration", "latest", "--yes", "--json")
    assert (stopped.code, stopped.json["error"]) == (17, "RowsUnfit")
    [unfit] = stopped.json["unfit"]
    assert (unfit["table"], unfit["column"], unfit["rows"], unfit["keys"]) == ("public.Shop", "kind", 1, ["4"])
    kinds = 'select array_agg(kind::text order by id) from "Shop"'
    assert set(shop.ask(kinds)) == {"versioned", "versionless"}
    back = ("rollback", "--migration", "latest", "--yes", "--json")
    refused = shop.run(*back, "--default", "Shop.kind=complex")  # no label is in both
    assert (refused.code, refused.json["error"]) == (17, "Refused")
    assert "--park-rows" in refused.json["hint"]
    done = shop.run(*back, "--park-rows")
    assert done.code == 0, done.err
    assert shop.ask(kinds) == ["simple", "simple", "simple"]
    assert done.json["parked"]["public.Shop"] == 1


def test_a_tenant_with_the_worst_of_names(shop: Site) -> None:
    """There, back, and there again."""
    name = 't_b"% \\ {0}'
    shop.sql('create schema "{}"'.format(name.replace('"', '""')))
    shop.settings('tenant_schemas = "t_*"\n')
    shop.add("20260410000000_tgt", 'CREATE TABLE "Total" ("shop" INTEGER PRIMARY KEY, "items" INTEGER);\n')
    shop.add(QUERIED, 'INSERT INTO "Total" SELECT 1, 2;\n')
    deploy(shop, "--all-tenants")
    table = '"{}"."Total"'.format(name.replace('"', '""'))
    shop.sql(f"update {table} set items = 77")
    rollback(shop, "--all-tenants", "--strategy", "reverse")
    assert shop.ask(f"select count(*) from {table}") == 0
    back = shop.run("reapply", "--migration", QUERIED, "--all-tenants", "--yes", "--json")
    assert back.code == 0, back.err
    assert shop.ask(f"select array_agg(items) from {table}") == [77]
