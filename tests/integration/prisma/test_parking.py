"""What a rollback takes away is kept, and comes back when the migration is applied again: round trips lose nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.prisma.conftest import Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_rollback import rollback

BASE, GROWS = "20260401000000_base", "20260501000000_grows"
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
