"""What a rollback takes away is kept, and comes back when the migration is applied again: round trips lose nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from naap_ops.reverse.images.unparking import bring_back
from tests.desk import wait_until
from tests.integration.prisma.conftest import SCHEMA, Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_rollback import rollback
from tests.integration.prisma.test_untrack import git
from tests.prisma.engines import Prisma

pytestmark = pytest.mark.also(15, 18)

BASE, GROWS, CHANGES = "20260401000000_base", "20260501000000_grows", "20260601000000_changes"
TABLES = """CREATE TYPE "Tier" AS ENUM ('FREE', 'PAID');
CREATE TABLE "Shop" ("id" SERIAL NOT NULL, "name" TEXT NOT NULL, CONSTRAINT "Shop_pkey" PRIMARY KEY ("id"));
"""
SCRIPT = """CREATE TYPE "Kind" AS ENUM ('A', 'B');
ALTER TABLE "Shop" ADD COLUMN "note" TEXT, ADD COLUMN "rank" INTEGER NOT NULL DEFAULT 5, ADD COLUMN "kind" "Kind" DEFAULT 'A',
  ADD COLUMN "seen" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, ADD COLUMN "tier" "Tier" NOT NULL DEFAULT 'FREE';
CREATE TABLE "Order" ("id" SERIAL NOT NULL, "shop" INTEGER NOT NULL, "before" INTEGER, "kind" "Kind"[], "total" NUMERIC(10,2),
  "label" TEXT GENERATED ALWAYS AS ('n' || "shop"::text) STORED,
  CONSTRAINT "Order_pkey" PRIMARY KEY ("id"),
  CONSTRAINT "Order_shop_fkey" FOREIGN KEY ("shop") REFERENCES "Shop"("id") ON DELETE CASCADE,
  CONSTRAINT "Order_before_fkey" FOREIGN KEY ("before") REFERENCES "Order"("id"));
CREATE TABLE "Line" ("id" INTEGER GENERATED ALWAYS AS IDENTITY, "order" INTEGER NOT NULL, "text" TEXT,
  CONSTRAINT "Line_pkey" PRIMARY KEY ("id"),
  CONSTRAINT "Line_order_fkey" FOREIGN KEY ("order") REFERENCES "Order"("id"));
CREATE TABLE "Log" ("at" INTEGER, "text" TEXT);
ALTER TABLE "Shop" ADD COLUMN "best" INTEGER;
ALTER TABLE "Shop" ADD CONSTRAINT "Shop_best_fkey" FOREIGN KEY ("best") REFERENCES "Order"("id");
"""
SHOPS = ("insert into \"Shop\" (name) select 'shop ' || n from generate_series(1, 4) n",)
WRITES = (
    """insert into "Order" (shop, kind, total) select 1 + n % 4, '{A,B}', n * 1.25 from generate_series(1, 8) n""",
    'update "Order" set before = id - 1 where id > 1',
    """insert into "Line" ("order", text) select n, 'line ' || n from generate_series(1, 8) n""",
    """insert into "Log" select n % 2, 'x' from generate_series(1, 5) n""",
    """update "Shop" set note = 'first', best = 3 where id = 1""",
    """update "Shop" set rank = 7, kind = null where id = 2""",
    """update "Shop" set kind = 'B', tier = 'PAID' where id = 3""",
)
TABLE_NAMES = ("Shop", "Order", "Line", "Log")


@pytest.fixture
def shop(site: Site) -> Site:
    """Deployed, with rows, and a migration deployed on top into whose tables and columns something was written."""
    site.add(BASE, TABLES)
    deploy(site)
    site.sql(*SHOPS)
    site.add(GROWS, SCRIPT)
    deploy(site)
    site.sql(*WRITES)
    return site


def contents(site: Site, schema: str = "public", tables: tuple[str, ...] = TABLE_NAMES) -> Any:
    order = "to_jsonb(t)::text"
    return [site.ask(f'select jsonb_agg(to_jsonb(t) order by {order}) from {schema}."{table}" t') for table in tables]


def parked(site: Site) -> int:
    """Tables that hold something that is parked."""
    return int(site.ask("select count(*) from pg_tables where schemaname = 'naap_ops' and tablename like 'parked\\_%'"))


def reapply(site: Site, *words: str, migration: str = "latest", code: int = 0, **environ: str) -> dict[str, Any]:
    done = site.run("reapply", "--migration", migration, "--yes", "--json", *words, **environ)
    assert done.code == code, done.err
    return done.json


def test_what_was_written_since_comes_back_when_it_is_applied_again(shop: Site) -> None:
    was = contents(shop)
    shown = shop.run("rollback", "--migration", "latest", "--dry-run", "--json").json
    assert shown["parked"] == {"public.Line": 8, "public.Log": 5, "public.Order": 8, "public.Shop": 4}
    assert shown["ways"][0]["losses"] == []
    done = rollback(shop)
    assert done["parked"] == shown["parked"]
    assert parked(shop) == 4
    back = reapply(shop)
    assert back["applied"] == [GROWS]
    assert contents(shop) == was
    assert parked(shop) == 0
    assert (shop.migrations / GROWS / "migration.sql").exists()
    assert shop.run("status").code == 0


SPELLINGS = (
    "datestyle = 'German, DMY'",
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
)


def test_values_come_back_however_the_database_spells_them(site: Site) -> None:
    """A database's own settings hold for a migration's script, and for nothing that is kept or compared around it."""
    site.add(BASE, TABLES)
    deploy(site)
    own = site.ask("select quote_ident(current_database())")
    site.sql(*SHOPS, *(f"alter database {own} set {each}" for each in SPELLINGS))
    columns = '"at" TIMESTAMPTZ, ADD COLUMN "took" INTERVAL, ADD COLUMN "share" FLOAT8, ADD COLUMN "raw" BYTEA'
    days = 'CREATE DOMAIN "Day" AS TIMESTAMP; ALTER TABLE "Shop" ADD COLUMN "day" "Day" DEFAULT \'03.04.2026\';'
    site.add(GROWS, f'ALTER TABLE "Shop" ADD COLUMN {columns}; {days}')
    deploy(site)
    assert site.ask('select extract(month from min(day)) from "Shop"') == 4  # as the database reads it
    site.sql(
        "update \"Shop\" set at = '2026-02-01 03:04:05.678901+02', took = '-1 month 2 days 03:04:05', share = 0.1 + id / 3.0,"
        " raw = '\\x00ff5c27', day = '2026-05-06 07:08:09.123456'"
    )
    grown = contents(site, tables=("Shop",))
    site.add(CHANGES, 'UPDATE "Shop" SET "share" = 1, "took" = \'1 day\', "day" = "day" + \'1 day\', "raw" = NULL;\n')
    deploy(site)
    changed = contents(site, tables=("Shop",))
    outcome = rollback(site)
    assert (outcome["conflicts"], contents(site, tables=("Shop",))) == ([], grown)
    rollback(site)
    assert reapply(site)["leaving"] == 0
    assert contents(site, tables=("Shop",)) == grown
    assert reapply(site, migration=CHANGES)["applied"] == [CHANGES]
    assert contents(site, tables=("Shop",)) == changed


def test_what_is_written_in_between_stays(shop: Site) -> None:
    """Rows of before and rows of meanwhile; a parent that is gone, whose children cannot come back, and theirs neither."""
    rollback(shop)
    shop.sql(
        'delete from "Shop" where id = 1', "insert into \"Shop\" (name) values ('new')", 'update "Shop" set name = name || 2'
    )
    back = reapply(shop)
    # Orders of shop 1 are 4 and 8, and each refers to the one before it: 4 and all behind it cannot come, nor can their lines.
    assert back["restored"] == {"public.Line": 3, "public.Log": 5, "public.Order": 3, "public.Shop": 3}
    left = {(each["table"], each["key"]): each["reason"] for each in back["left"]}
    assert left["public.Order", "4"] == "what it refers to is gone"
    assert left["public.Shop", "1"] == "its row is gone"
    assert shop.ask('select array_agg(array[id::text, name, rank::text, kind::text] order by id) from "Shop"') == [
        ["2", "shop 22", "7", None], ["3", "shop 32", "5", "B"], ["4", "shop 42", "5", "A"], ["5", "new2", "5", "A"],
    ]  # fmt: skip
    # Once the parent is there again, the rest comes. The parent itself is another one.
    shop.sql("insert into \"Shop\" values (1, 'again')")
    again = reapply(shop, migration=GROWS)
    assert again["applied"] == []
    assert shop.ask('select count(*) from "Order"') == 8
    assert shop.ask('select array_agg("before" order by id) from "Order"') == [None, 1, 2, 3, 4, 5, 6, 7]
    assert [(each["key"], each["reason"]) for each in again["left"]] == [("1", "written since")]
    assert parked(shop) == 1


def test_deployed_by_hand_it_comes_back_as_well(shop: Site) -> None:
    """The folder was put back by somebody, or a commit was reverted: the deploy knows what is parked, and says so before."""
    was = contents(shop)
    [kept] = rollback(shop)["archive"]
    shutil.copytree(f"{kept}/{GROWS}", shop.migrations / GROWS)
    shown = shop.run("deploy", "--dry-run", "--json").json["plan"]
    assert sum(line.startswith("brings back") for line in shown) == 4
    assert deploy(shop)["restored"] == {"public.Line": 8, "public.Log": 5, "public.Order": 8, "public.Shop": 4}
    assert contents(shop) == was


def test_sequences_go_on_where_they_were(shop: Site) -> None:
    shop.sql('delete from "Line"')
    rollback(shop)
    reapply(shop)
    shop.sql('insert into "Line" ("order") values (1)', 'insert into "Order" (shop) values (2)')
    assert shop.ask('select (select max(id) from "Line") || \' \' || (select max(id) from "Order")') == "9 9"
    identity = "select attidentity from pg_attribute where attrelid = '\"Line\"'::regclass and attname = 'id'"
    assert shop.ask(f"select ({identity})::text") == "a"


def test_triggers_see_nothing_of_it(shop: Site) -> None:
    """A trigger of the application is off meanwhile, and on again, as it was."""
    rollback(shop)
    shop.sql(
        "create function no() returns trigger language plpgsql as $$ begin raise exception 'not these'; end $$",
        'create trigger no before update on "Shop" for each row execute function no()',
        'alter table "Shop" enable always trigger no',
    )
    assert reapply(shop)["left"] == []
    assert shop.ask("select tgenabled::text from pg_trigger where tgname = 'no'") == "A"


def test_a_column_nobody_wrote_to_leaves_nothing(site: Site) -> None:
    site.add(BASE, TABLES)
    deploy(site)
    site.sql(*SHOPS)
    site.add(GROWS, 'ALTER TABLE "Shop" ADD COLUMN "rank" INTEGER NOT NULL DEFAULT 5, ADD COLUMN "note" TEXT;\n')
    deploy(site)
    done = rollback(site)
    assert (done["parked"], done["losses"], parked(site)) == ({}, [], 0)
    assert reapply(site)["restored"] == {}


def test_an_enum_value_that_was_added_and_used(site: Site) -> None:
    """The old enum cannot hold it: the column that the migration added can be parked, another one cannot."""
    site.add(BASE, TABLES)
    deploy(site)
    site.sql(*SHOPS)
    site.add("20260410000000_team", "ALTER TYPE \"Tier\" ADD VALUE 'TEAM';\n")
    site.add(GROWS, 'ALTER TABLE "Shop" ADD COLUMN "tier" "Tier" NOT NULL DEFAULT \'FREE\';\n')
    deploy(site)
    site.sql("update \"Shop\" set tier = 'TEAM' where id = 2")
    was = contents(site, tables=("Shop",))
    rollback(site, "--cascade", migration="20260410000000_team")
    assert reapply(site)["migration"] == "20260410000000_team"
    reapply(site)
    assert contents(site, tables=("Shop",)) == was


def test_what_the_old_schema_cannot_hold_is_counted_with_its_keys(site: Site) -> None:
    """Before anything is done: how many rows, and which."""
    site.add(BASE, TABLES)
    deploy(site)
    site.sql(*SHOPS)
    site.add(GROWS, 'ALTER TABLE "Shop" ALTER COLUMN "name" DROP NOT NULL;\n')
    deploy(site)
    site.sql('insert into "Shop" select n, null from generate_series(11, 17) n')
    [reverse, _] = site.run("rollback", "--migration", "latest", "--dry-run", "--json").json["ways"]
    told = "7 rows of public.Shop.name (key 11; 12; 13; 14; 15, ...): it is null, and was NOT NULL"
    assert reverse["problem"] == f"rows do not fit: {told} (--default public.Shop.name=VALUE, or --park-rows)"


def test_rows_that_the_migration_inserts_itself(site: Site) -> None:
    """What the application made of them is what comes back, with the rows of its own."""
    site.add(
        BASE,
        'CREATE TABLE "Plan" ("id" INTEGER PRIMARY KEY, "name" TEXT);\nINSERT INTO "Plan" VALUES (1, \'a\'), (2, \'b\');\n',
    )
    deploy(site)
    site.sql("update \"Plan\" set name = 'changed' where id = 2", "insert into \"Plan\" values (3, 'own')")
    was = contents(site, tables=("Plan",))
    rollback(site)
    assert reapply(site)["restored"] == {"public.Plan": 3}
    assert contents(site, tables=("Plan",)) == was


PLANS = 'CREATE TABLE "Plan" ("id" INTEGER PRIMARY KEY, "name" TEXT, "of" INTEGER REFERENCES "Plan");\n'
PUT = """ALTER TABLE "Plan" RENAME "name" TO "title";
INSERT INTO "Plan" ("id", "title") VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO "Plan" ("id", "title") VALUES (4, 'd');
ALTER TABLE "Plan" RENAME "title" TO "label";
"""


def test_what_is_written_into_rows_that_it_puts_into_a_table_that_was_there(site: Site) -> None:
    site.add("20260301000000_plans", PLANS)
    deploy(site)
    site.sql("insert into \"Plan\" values (9, 'own')")
    site.add(GROWS, PUT)
    deploy(site)
    site.sql('update "Plan" set label = \'changed\', "of" = 9 where id in (2, 4)', 'delete from "Plan" where id = 3')
    done = rollback(site, "--strategy", "reverse")
    assert (done["losses"], done["lost"]) == ([], {})
    assert done["parked"] == {"public.Plan": 3}
    assert site.ask('select array_agg(id) from "Plan"') == [9]
    assert reapply(site)["restored"] == {"public.Plan": 3}
    assert site.ask('select jsonb_object_agg(id, array[label, "of"::text]) from "Plan"') == {
        "1": ["a", None], "2": ["changed", "9"], "3": ["c", None], "4": ["changed", "9"], "9": ["own", None],
    }  # fmt: skip


def test_by_a_command_of_ones_own_what_was_written_into_rows_that_it_puts_there_is_listed(site: Site) -> None:
    """Whose values those are that are there now, nothing tells."""
    site.add("20260301000000_plans", PLANS)
    deploy(site)
    site.add(GROWS, PUT)
    deploy(site)
    site.sql("update \"Plan\" set label = 'changed' where id = 2")
    rollback(site, "--strategy", "reverse")
    assert site.info is not None
    with connect(site.info) as connection, connection.transaction():
        connection.execute(PUT.encode())
        back = bring_back(connection, GROWS, "public", fresh=False)
    assert back.left == [{"table": "public.Plan", "key": "2", "columns": [], "reason": "written since"}]
    assert site.ask('select label from "Plan" where id = 2') == "b"


def test_a_mended_script_that_has_another_column(shop: Site) -> None:
    """With --keep-folder the folder is mended: what it has no place for stays parked, and is named."""
    rollback(shop, "--keep-folder")
    script = shop.migrations / GROWS / "migration.sql"
    script.write_text(SCRIPT.replace('"Log" ("at" INTEGER, "text" TEXT)', '"Log" ("at" INTEGER)'), encoding="utf-8")
    done = deploy(shop)
    assert done["left"] == [{"table": "public.Log", "key": "", "columns": [], "reason": "it has no column text any more"}]
    assert (done["restored"]["public.Order"], parked(shop)) == (8, 1)


def test_the_ceiling_asks_and_without_parking_it_is_lost(shop: Site) -> None:
    shop.settings("[park]\nceiling = 0\n")
    refused = shop.run("rollback", "--migration", "latest", "--yes", "--json")
    assert (refused.code, "park.ceiling" in refused.json["message"]) == (17, True)
    assert shop.rows(GROWS) == 1
    done = rollback(shop, "--no-park", "--strategy", "reverse")
    assert (done["parked"], parked(shop)) == ({}, 0)
    assert {loss.split(":")[0] for loss in done["losses"]} >= {"rows of public.Order (8 rows)", "rows of public.Line (8 rows)"}


def test_what_has_expired_is_named_before_it_goes(shop: Site) -> None:
    shop.settings('[park]\nexpires = "0s"\n')
    rollback(shop)
    assert any("expired" in note for note in shop.run("status", "--json").json["notes"])
    shop.add("20260601000000_next", 'CREATE TABLE "Next" ("id" INTEGER PRIMARY KEY);\n')
    shown = shop.run("deploy", "--dry-run", "--json").json["notes"]
    assert sum("dropped by this deploy" in note for note in shown) == 4
    assert parked(shop) == 4
    deploy(shop)
    assert parked(shop) == 0


def test_a_deploy_that_fails_puts_the_folder_away_again(shop: Site) -> None:
    [kept] = rollback(shop)["archive"]
    before = parked(shop)
    shop.settings('[deploy]\ncommand = ["false"]\n')
    assert reapply(shop, code=20)["error"]
    assert not (shop.migrations / GROWS).exists()
    assert (Path(kept) / GROWS / "migration.sql").exists()
    assert parked(shop) == before
    shop.settings("")
    assert reapply(shop)["applied"] == [GROWS]
    assert not Path(kept).exists()


def test_by_a_command_of_ones_own_and_what_was_written_since_stays(shop: Site) -> None:
    """Its transaction is not ours: a writer may come between. Here it is the command itself that writes."""
    rollback(shop)
    assert shop.info is not None
    script = f"""
import hashlib, psycopg
sql = open("prisma/migrations/{GROWS}/migration.sql").read()
checksum = hashlib.sha256(sql.encode()).hexdigest()
with psycopg.connect(host="{shop.info.host}", port={shop.info.port}, user="{shop.info.user}", dbname="{shop.info.dbname}",
                     autocommit=True) as c:
    with c.transaction():
        c.execute(sql)
        c.execute("insert into _prisma_migrations (id, checksum, migration_name, finished_at, started_at) values "
                  "(gen_random_uuid(), '" + checksum + "', '{GROWS}', now(), now())")
    c.execute('update "Shop" set rank = 42 where id = 2')
"""
    (shop.folder / "deploy.py").write_text(script, encoding="utf-8")
    shop.settings(f'[deploy]\ncommand = ["{sys.executable}", "deploy.py"]\n')
    done = reapply(shop)
    assert done["left"] == [
        {"table": "public.Shop", "key": "2", "columns": ["note", "rank", "kind", "seen", "tier", "best"],
         "reason": "written since"},
    ]  # fmt: skip
    assert shop.ask('select rank from "Shop" where id = 2') == 42
    assert shop.ask('select note from "Shop" where id = 1') == "first"
    assert parked(shop) == 1


# --- ended in the middle ----------------------------------------------------------------------------------------------


def test_aborted_it_is_as_if_nothing_had_been(shop: Site) -> None:
    """Two migrations, the reverse of the older one waits when it is killed: --abort runs the newer again, with all it had."""
    shop.add("20260601000000_more", 'CREATE TABLE "More" ("id" INTEGER PRIMARY KEY, "text" TEXT);\n')
    deploy(shop)
    shop.sql("insert into \"More\" values (1, 'x')")
    was = contents(shop, tables=(*TABLE_NAMES, "More"))
    assert shop.info is not None
    with connect(shop.info, autocommit=False) as other:
        other.execute('select from "Log"')
        child = shop.spawn("rollback", "--migration", GROWS, "--cascade", "--yes", "--json")
        wait_until(lambda: shop.ask("select count(*) from pg_locks where not granted") > 0)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        other.rollback()
    assert shop.ask("select to_regclass('\"More\"')") is None
    done = shop.run("rollback", "--abort", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["unparked"] == {"public.More": 1}
    assert contents(shop, tables=(*TABLE_NAMES, "More")) == was
    assert parked(shop) == 0


@pytest.mark.parametrize("what", ["rollback", "reapply"])
def test_killed_while_it_waits_in_its_transaction(shop: Site, what: str) -> None:
    """All or nothing: run again, it goes on, and nothing is lost."""
    was = contents(shop)
    if what == "reapply":
        rollback(shop)
    assert shop.info is not None
    words = ["--resume"] if what == "rollback" else ["--migration", GROWS]
    with connect(shop.info, autocommit=False) as other:
        other.execute('select from "Shop"' if what == "reapply" else 'select from "Log"')
        child = shop.spawn(what, "--migration", GROWS, "--yes", "--json")
        wait_until(lambda: shop.ask("select count(*) from pg_locks where not granted") > 0)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        other.rollback()
    wait_until(lambda: shop.ask("select count(*) from pg_stat_activity where application_name like 'naap\\_ops %'") == 0)
    if what == "rollback":
        assert parked(shop) == 0
        assert shop.run("rollback", *words, "--yes", "--json").code == 0
        assert parked(shop) == 4
        reapply(shop)
    else:
        assert (shop.migrations / GROWS).exists()
        assert "resolve --rolled-back" in reapply(shop, migration=GROWS, code=17)["hint"]
        assert shop.run("resolve", "--rolled-back", GROWS, "--yes").code == 0
        assert shop.run("reapply", *words, "--yes", "--json").code == 0
    assert contents(shop) == was
    assert parked(shop) == 0


# --- tenants, rights, git ---------------------------------------------------------------------------------------------


def test_tenants_each_with_their_own(site: Site) -> None:
    for tenant in ("tenant_a", "tenant_b"):
        site.sql(f"create schema {tenant}")
    site.add(BASE, TABLES)
    site.add(GROWS, SCRIPT)
    deploy(site, "--all-tenants")
    was = {}
    for at, tenant in enumerate(("tenant_a", "tenant_b")):
        site.sql(*(f"set search_path to {tenant}; {text}" for text in (*SHOPS, *WRITES)))
        site.sql(f'update {tenant}."Order" set total = {at}')
        was[tenant] = contents(site, tenant)
    rollback(site, "--tenant", "b", migration=GROWS)
    assert (site.migrations / GROWS).exists()  # the other one still has it
    reapply(site, "--tenant", "b", migration=GROWS)
    assert contents(site, "tenant_b") == was["tenant_b"]
    rollback(site, "--all-tenants", migration=GROWS)
    back = reapply(site, "--all-tenants", migration=GROWS)
    assert {f"{tenant}.Order": 8 for tenant in was}.items() <= back["restored"].items()
    assert {tenant: contents(site, tenant) for tenant in was} == was
    assert parked(site) == 0


def test_held_it_is_let_go(shop: Site) -> None:
    was = contents(shop)
    rollback(shop, "--hold")
    assert shop.rows(GROWS) == 1
    assert reapply(shop)["applied"] == [GROWS]
    assert contents(shop) == was
    assert shop.run("status").code == 0


def test_a_role_that_may_make_no_schema_is_told_what_it_loses(shop: Site) -> None:
    assert shop.info is not None
    shop.sql("drop schema if exists naap_ops cascade")
    role = f"test_owner_{str(shop.info.dbname)[-6:]}"
    tables = (*TABLE_NAMES, "User", "Profile", "Wallet", "_prisma_migrations")
    shop.sql(
        f"create role {role} login",
        f"grant all on schema public to {role}",
        *(f'alter table "{table}" owner to {role}' for table in tables),
    )
    owner = Site(shop.folder, dataclasses.replace(shop.info, user=role))
    try:
        shown = owner.run("rollback", "--migration", "latest", "--dry-run", "--json").json
        assert any("nothing is parked" in line for line in shown["plan"])
        assert (shown["parked"], shown["lost"]["public.Order"]) == ({}, 8)
    finally:
        shop.sql(f"reassign owned by {role} to current_user", f"drop owned by {role}", f"drop role {role}")


def test_what_others_may_not_read_is_parked_where_they_may_not_either(shop: Site) -> None:
    shop.sql("alter default privileges grant select on tables to public")
    rollback(shop)
    query = "select count(*) from information_schema.table_privileges where table_schema = 'naap_ops' and grantee = 'PUBLIC'"
    assert shop.ask(query + " and table_name like 'parked%'") == 0


def test_git_has_nothing_left_to_commit(shop: Site) -> None:
    git(shop, "init", "-q")
    (shop.folder / ".gitignore").write_text(".naap_ops/\nbackups/\n", encoding="utf-8")
    git(shop, "add", ".")
    git(shop, "commit", "-qm", "all")
    rollback(shop)
    assert reapply(shop)["commit"] == []
    assert git(shop, "diff", "--cached", "--name-only") == ""
    git(shop, "commit", "-qam", "proved again")
    rollback(shop)
    git(shop, "commit", "-qm", "rolled back")
    [command] = reapply(shop)["commit"]
    assert f"Reapply migration {GROWS}" in command
    assert f"A  prisma/migrations/{GROWS}/migration.sql" in git(shop, "status", "--porcelain", "--untracked-files=no")


def test_nothing_to_do_is_said(shop: Site) -> None:
    assert "nothing of it is parked" in reapply(shop, migration=GROWS, code=17)["message"]
    assert "nothing was rolled back" in reapply(shop, code=17)["message"]


def test_a_look_moves_nothing(shop: Site) -> None:
    rollback(shop)
    shown = shop.run("reapply", "--migration", "latest", "--dry-run", "--json")
    assert shown.code == 0, shown.err
    assert {each["table"]: each["rows"] for each in shown.json["parked"]}["public.Order"] == 8
    assert any(line.startswith("reverse of") for line in shown.json["plan"])
    assert not (shop.migrations / GROWS).exists()
    assert parked(shop) == 4


def test_real_prisma_is_content(site: Site, prisma: Prisma) -> None:
    prisma.deploy()
    site.sql('insert into "Wallet" select generate_series(1, 3)')
    rollback(site)
    assert prisma.status() == "clean"
    reapply(site)
    assert prisma.status() == "clean"
    assert prisma.deploy() == []
    assert site.ask('select count(*) from "Wallet"') == 3


def test_on_every_major(database: ConnInfo, tmp_path: Path) -> None:
    site = Site(tmp_path, database)
    site.migrations.mkdir(parents=True)
    (site.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
    (site.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
    site.add(BASE, TABLES)
    site.add(GROWS, SCRIPT)
    deploy(site)
    site.sql(*SHOPS, *WRITES)
    was = contents(site)
    rollback(site)
    reapply(site)
    assert contents(site) == was
