"""Columns of large tables come back in batches, before the reverse's own transaction, while others go on writing."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests.desk import wait_until
from tests.dying import AT, shadows_gone
from tests.integration.prisma.conftest import Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_rollback import rollback

pytestmark = pytest.mark.also(15, 18)

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
# Dies, in batches of a few hundred rows, when the function of that name is called, or has returned.
DYING: Final = "import naap_ops.reverse.images.staged as small\nsmall.BATCH_ROWS = 300\n" + AT
BACK: Final = ("rollback", "--migration", "latest", "--strategy", "reverse", "--yes")
IN_BATCHES = "[rollback]\nbatches_from = 100\n"
LEFT = """select (select count(*) from pg_attribute where attname like 'naap\\_ops %' and not attisdropped)
  + (select count(*) from pg_class where relname like 'naap\\_ops %')"""


def dying(site: Site, when: str, place: str, *words: str) -> None:
    done = site.program("-c", DYING, when, place, *(words or BACK), argv0=(sys.executable,))
    assert done.code == -signal.SIGKILL, done.err


@pytest.fixture(autouse=True)
def _no_shadow_stays(any_server: ScratchServer) -> Iterator[None]:
    with shadows_gone(any_server):
        yield


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
      pg_get_expr(adbin, adrelid)) order by attname) from pg_attribute left join pg_attrdef
      on (adrelid, adnum) = (attrelid, attnum) where attrelid = '"Big"'::regclass and attnum > 0 and not attisdropped"""
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


# --- while it is under way ------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("how", ["resume", "abort"])
@pytest.mark.parametrize(
    ("when", "place"),
    [
        ("before", "naap_ops.rollback.filling:_Table.fill"),
        ("after", "naap_ops.rollback.filling:_Table._filled"),
        ("after", "naap_ops.rollback.filling:Filling._indexed"),
        ("before", "naap_ops.rollback.unit:Unit._brought"),
    ],
)
def test_killed_between_two_batches_it_goes_on_or_leaves_no_trace(big: Site, when: str, place: str, how: str) -> None:
    was = contents(big)
    deploy(big)
    now = contents(big)
    dying(big, when, place)
    assert big.ask(LEFT) > 0
    done = big.run("rollback", f"--{how}", "--yes", "--json")
    assert done.code == 0, done.err
    assert contents(big) == (was if how == "resume" else now)
    assert big.ask(LEFT) == 0
    if how == "resume":
        assert done.json["restored"] == {"public.Big": 3000}


def test_what_is_written_while_it_is_filled(big: Site) -> None:
    """As with a column that is filled in one transaction: by key, and what is new gets the placeholder or the default."""
    deploy(big)
    dying(big, "after", "naap_ops.rollback.filling:Filling._indexed")
    assert big.run("drift", "--json").json["schemas"][0]["state"] == "none"
    assert big.run("status").code == 0
    big.sql(
        """insert into "Big" ("of") values ('new')""",
        'delete from "Big" where id = 5',
        """insert into "Big" (id, "of", stays) values (5, 'old', 55)""",
        'update "Big" set stays = 6 where id = 6',
        'delete from "Big" where id = 7',
    )
    done = big.run("rollback", "--resume", "--yes", "--json")
    assert done.code == 0, done.err
    query = 'select jsonb_agg(jsonb_build_array(id, plain, must, given, "both", kind, stays) order by id) from "Big" where '
    assert big.ask(query + "id between 3 and 8 or id > 3000") == [
        [3, None, "m3", 3, "b3", None, None],
        [4, "p4", "m4", 4, "b4", "new", None],
        [5, "p5", "m5", None, "b5", None, 55],
        [6, "p6", "m6", 1, "b6", "new", 6],
        [8, "p8", "m8", 3, "b8", "new", None],
        [3001, None, "", 7, "x", None, None],
    ]


@pytest.mark.long
def test_a_row_that_somebody_holds_is_left_to_the_last_transaction(big: Site) -> None:
    was = contents(big)
    deploy(big)
    dying(big, "before", "naap_ops.rollback.filling:_Table.fill")
    assert big.info is not None
    with connect(big.info) as holder:
        holder.execute('begin; update "Big" set stays = null where id = 1500')
        going_on = big.spawn("rollback", "--resume", "--yes", "--json")
        wait_until(lambda: big.ask("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and not granted") == 1)
        filled = f'select count("{_first(big)}") from "Big"'
        assert big.ask(filled) < 3000
        holder.execute("commit")
    assert going_on.wait(60) == 0
    assert contents(big) == was


def _first(site: Site) -> str:
    return str(
        site.ask("select min(attname) from pg_attribute where attname like 'naap\\_ops %' and atttypid = 'int'::regtype")
    )


# --- not in batches ---------------------------------------------------------------------------------------------------


def test_what_sets_off_more_than_the_values_themselves_is_not_filled_in_passing(big: Site) -> None:
    """A trigger that always fires, a subscriber that lacks the column."""
    was = contents(big)
    deploy(big)
    big.sql(
        "create function touch() returns trigger language plpgsql as 'begin new.stays = 1; return new; end'",
        'create trigger touch before update on "Big" for each row execute function touch()',
    )
    assert "in batches" in _comes_back(big)
    big.sql('alter table "Big" enable always trigger touch')
    assert "in batches" not in _comes_back(big)
    big.sql('alter table "Big" enable trigger touch', 'create publication all_of_it for table "Big"')
    assert "in batches" not in _comes_back(big)
    big.sql("drop publication all_of_it")
    assert "in batches" in _comes_back(big)
    rollback(big, "--strategy", "reverse")
    assert contents(big) == was


def _comes_back(site: Site) -> str:
    plan = site.run("rollback", "--migration", "latest", "--strategy", "reverse", "--dry-run", "--json").json
    return str(plan["ways"][0]["comes_back"][0])
