"""Columns of large tables come back in batches, before the reverse's own transaction, while others go on writing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from naap_ops.postgres.session import connect
from tests.desk import wait_until
from tests.integration.prisma.conftest import Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_rollback import rollback

BIG, DROPS = "20260401000000_big", "20260501000000_drops"
TABLES = """CREATE TYPE "Kind" AS ENUM ('old', 'new');
CREATE TABLE "Big" ("id" SERIAL NOT NULL, "of" "Kind" NOT NULL, "plain" TEXT, "must" TEXT NOT NULL, "given" INTEGER DEFAULT 7,
  "both" VARCHAR(9) COLLATE "C" NOT NULL DEFAULT 'x', "kind" "Kind", "code" INTEGER NOT NULL, "stays" INTEGER,
  CONSTRAINT "Big_pkey" PRIMARY KEY ("id", "of"));
CREATE UNIQUE INDEX "Big_code_key" ON "Big" ("code");
"""
ROWS = """insert into "Big" ("of", plain, must, given, "both", kind, code) select 'old', nullif('p' || n, 'p3'), 'm' || n,
  nullif(n % 5, 0), 'b' || n, case when n % 2 = 0 then 'new'::"Kind" end, -n from generate_series(1, 3000) n"""
COLUMNS = ("plain", "must", "given", "both", "kind", "code")
DESTROYS = "".join(f'ALTER TABLE "Big" DROP COLUMN "{name}";\n' for name in COLUMNS)
IN_BATCHES = "[rollback]\nbatches_from = 100\n"
LEFT = """select (select count(*) from pg_attribute where attname like 'naap\\_ops %' and not attisdropped)
  + (select count(*) from pg_class where relname like 'naap\\_ops %')"""


@pytest.fixture
def big(site: Site) -> Site:
    site.settings(IN_BATCHES)
    site.add(BIG, TABLES)
    deploy(site)
    site.sql(ROWS)
    site.add(DROPS, DESTROYS)
    return site


def contents(site: Site) -> Any:
    return site.ask('select jsonb_agg(to_jsonb(t) order by id, "of") from "Big" t')


def definition(site: Site) -> Any:
    query = """select jsonb_agg(jsonb_build_array(attname, format_type(atttypid, atttypmod), attnotnull, attcollation::int,
      pg_get_expr(adbin, adrelid)) order by attname) from pg_attribute left join pg_attrdef on (adrelid, adnum) = (attrelid, attnum)
      where attrelid = '"Big"'::regclass and attnum > 0 and not attisdropped"""
    return site.ask(query)


@pytest.mark.parametrize("words", [(), ("--no-capture",)])
def test_every_kind_of_column_is_back_and_nothing_is_left_beside_it(big: Site, words: tuple[str, ...]) -> None:
    was, shape = contents(big), definition(big)
    deploy(big, *words)
    plan = big.run("rollback", "--migration", "latest", "--strategy", "reverse", "--dry-run", "--json").json
    assert "in batches" in plan["ways"][0]["comes_back"][0]
    assert big.ask(LEFT) == 0
    outcome = rollback(big, "--strategy", "reverse")
    assert contents(big) == was
    assert definition(big) == shape
    assert outcome["restored"] == {"public.Big": 3000}
    assert f"columns of {DROPS} in public" in [each["name"] for each in outcome["steps"]]
    assert big.ask(LEFT) == 0
