"""Rows of every kind of table and value come back with `invoke rollback`, captured or out of the backup, whoever deploys."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.prisma.conftest import Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_images import DESTROYS, LOSSY, ROWS, SHOP, TABLES, contents, images
from tests.integration.prisma.test_rollback import rollback
from tests.s3server import WeedServer

pytestmark = pytest.mark.also(15, 18)

KINDS, WORSE = "20260401000000_kinds", "20260501000000_worse"
MAKES = """
CREATE TYPE "Mood" AS ENUM ('SAD', 'OK', 'GLAD');
CREATE TABLE "Edge" ("id" INTEGER PRIMARY KEY, "n" NUMERIC, "f" DOUBLE PRECISION, "at" TIMESTAMPTZ, "ts" TIMESTAMP(3), "d" DATE,
  "b" BYTEA, "a" INTEGER[], "j" JSONB, "k" "Mood", "t" TEXT);
CREATE TABLE "Tree" ("id" INTEGER PRIMARY KEY, "up" INTEGER REFERENCES "Tree" ON DELETE CASCADE, "s" TEXT);
CREATE TABLE "Left" ("id" INTEGER PRIMARY KEY, "other" INTEGER NOT NULL);
CREATE TABLE "Right" ("id" INTEGER PRIMARY KEY, "other" INTEGER NOT NULL REFERENCES "Left" DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE "Left" ADD FOREIGN KEY ("other") REFERENCES "Right" DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE "Part" ("id" INTEGER, "at" DATE, "v" TEXT, PRIMARY KEY ("id", "at")) PARTITION BY RANGE ("at");
CREATE TABLE "Part_old" PARTITION OF "Part" FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE "Part_new" PARTITION OF "Part" FOR VALUES FROM ('2025-01-01') TO (MAXVALUE);
CREATE TABLE "Loose" ("a" INTEGER, "b" TEXT);
CREATE TABLE "Hidden" ("id" INTEGER PRIMARY KEY, "v" TEXT);
ALTER TABLE "Hidden" ENABLE ROW LEVEL SECURITY;
CREATE POLICY "some" ON "Hidden" USING ("id" > 1);
"""
FILLS = """
insert into "Edge" values
  (1, 'NaN', 'NaN', 'infinity', '4713-01-01 BC', '-infinity', '', '{{1,null},{3,4}}', '{"a": 1.00}', 'SAD', ''),
  (2, 'Infinity', '-0', '-infinity', '294276-12-31 23:59:59.999', '5874897-12-31', '\\x00ff', '[0:1]={1,2}',
   'null', 'OK', 'NULL'),
  (3, 1.500, 1e-300, '2024-10-27 01:30+00', null, '4713-01-01 BC', null, '{}', '[]', null, E'a\\tb\\n\\\\N "ü" 😀');
insert into "Tree" values (1, null, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 4, null);
begin; insert into "Left" values (1, 1), (2, 2); insert into "Right" values (1, 2), (2, 1); commit;
insert into "Part" values (1, '2020-05-05', 'x'), (2, '2026-05-05', null), (3, '2026-05-05', 'z');
insert into "Loose" values (1, 'x'), (1, 'x'), (2, null), (null, null);
insert into "Hidden" values (1, 'a'), (2, 'b');
"""
RUINS = """
ALTER TABLE "Edge" DROP COLUMN "n", DROP COLUMN "a", DROP COLUMN "j", DROP COLUMN "b", ALTER COLUMN "at" TYPE DATE;
UPDATE "Edge" SET "k" = 'SAD', "f" = 0, "t" = left("t", 1);
DELETE FROM "Edge" WHERE "id" = 2;
DELETE FROM "Tree" WHERE "id" = 1;
DELETE FROM "Left"; DELETE FROM "Right";
UPDATE "Part" SET "v" = 'gone' WHERE "id" = 3;
DROP TABLE "Part_old";
DELETE FROM "Loose" WHERE "a" = 1;
UPDATE "Hidden" SET "v" = NULL;
"""
NAMES = ("Edge", "Tree", "Left", "Right", "Part", "Loose", "Hidden")


def everything(site: Site) -> dict[str, list[str]]:
    """Every row as text."""
    query = "select coalesce(array_agg(t::text order by t::text), '{{}}') from (select {} from \"{}\") t"
    columns = "id, n, f, at, ts, d, b, a, j, k, t"
    return {name: site.ask(query.format(columns if name == "Edge" else "*", name)) for name in NAMES}


@pytest.fixture
def kinds(site: Site) -> Site:
    site.add(KINDS, MAKES)
    deploy(site)
    site.sql(FILLS)
    return site


@pytest.mark.parametrize("words", [(), ("--no-capture",)], ids=["captured", "from the backup"])
def test_tables_and_values_of_every_kind(kinds: Site, words: tuple[str, ...]) -> None:
    was = everything(kinds)
    kinds.add(WORSE, RUINS)
    deploy(kinds, *words)
    assert kinds.ask('select count(*) from "Loose"') == 2
    outcome = rollback(kinds, "--strategy", "reverse", migration=WORSE)
    assert everything(kinds) == was
    assert outcome["conflicts"] == []
    assert images(kinds) == 0


# --- rights -----------------------------------------------------------------------------------------------------------


@contextmanager
def deployer(site: Site, *, own: bool) -> Iterator[Site]:
    """The same site for a role without any special right: it owns the tables, or is a member of the role that does."""
    assert site.info is not None
    end = str(site.info.dbname)[-6:]
    role, owner = f"test_deployer_{end}", f"test_owner_{end}"
    of = role if own else owner
    site.sql(f"create role {owner}", f"create role {role} login createdb")
    try:
        site.sql(
            f"grant {owner} to {role}", f"grant all on schema public to {role}, {owner}",
            f'grant create on database "{site.info.dbname}" to {role}',
        )  # fmt: skip
        query = "select string_agg(format('alter table %s owner to " + of + "', oid::regclass), ';') from pg_class"
        site.sql(site.ask(f"{query} where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"))
        site.sql(f"alter table _prisma_migrations owner to {role}")
        yield Site(site.folder, dataclasses.replace(site.info, user=role), site.extra)
    finally:
        for name in (role, owner):
            site.sql(f"reassign owned by {name} to current_user", f"drop owned by {name}", f"drop role {name}")


@pytest.fixture
def shop(site: Site) -> Site:
    site.add(SHOP, TABLES)
    deploy(site)
    site.sql(*ROWS)
    site.sql('alter table "Shop" enable row level security', 'create policy few on "Shop" using (id > 1)')
    return site


@pytest.mark.parametrize("own", [True, False], ids=["owner", "member"])
@pytest.mark.parametrize("words", [(), ("--no-capture",)], ids=["captured", "from the backup"])
def test_whoever_deploys_needs_no_special_right(shop: Site, words: tuple[str, ...], *, own: bool) -> None:
    was = contents(shop)
    shop.add(LOSSY, DESTROYS)
    with deployer(shop, own=own) as site:
        done = deploy(site, *words)
        assert bool(done["captured"]) == (not words)
        assert contents(shop) != was
        rollback(site, "--strategy", "reverse")
        assert contents(shop) == was
        assert images(shop) == 0


def test_images_that_do_not_fit_the_history_are_told_of(shop: Site) -> None:
    """Somebody has changed the tables by hand, so that the state before the migration is not to be had any more."""
    shop.sql('alter table "Shop" add column extra integer')
    shop.add(LOSSY, 'ALTER TABLE "Shop" DROP COLUMN IF EXISTS "extra", DROP COLUMN "rank";\n')
    assert deploy(shop)["captured"]
    seen = shop.run("rollback", "--migration", "latest", "--strategy", "reverse", "--dry-run", "--json")
    assert seen.code == 0, seen.err
    assert any("do not fit the state before it" in line for line in seen.json["ways"][0]["halfway"])


# --- S3, size ---------------------------------------------------------------------------------------------------------


def test_out_of_a_backup_in_a_bucket(shop: Site, s3_server: WeedServer) -> None:
    was = contents(shop)
    shop.extra |= s3_server.environment() | {"NAAP_OPS_REPOSITORY": f"s3://{s3_server.bucket()}/naap"}
    shop.add(LOSSY, DESTROYS)
    deploy(shop, "--no-capture")
    outcome = rollback(shop, "--strategy", "reverse")
    assert contents(shop) == was
    assert outcome["steps"][0]["name"] == "rows of public"


_PEAK = """
import sys
from naap_ops.cli import main
try:
    main(["naap-ops", *sys.argv[1:]])
except SystemExit as end:
    assert not end.code, end.code
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def peak(site: Site, *words: str) -> int:
    """Most bytes that the program held at once."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *words, "--yes"], env=site.environ, cwd=site.folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) * 1024


@pytest.mark.long
@pytest.mark.parametrize(
    ("megabytes", "pieces"), [(50, 1), pytest.param(1000, 20, marks=pytest.mark.long)], ids=["50 MB", "1 GB"]
)
def test_large_values_come_back_in_bounded_memory(shop: Site, megabytes: int, pieces: int) -> None:
    """What is captured never leaves the server."""
    shop.add("20260415000000_big", 'ALTER TABLE "Shop" ADD COLUMN "big" BYTEA;\n')
    deploy(shop)
    size = megabytes // pieces
    shop.sql(
        f"""insert into "Shop" (id, name, big) select 1000 + n, 'big', decode(repeat(md5(n::text), {size} * 65536 / 2), 'hex')
        from generate_series(1, {pieces}) n"""
    )
    digest = "select md5(string_agg(md5(big), '' order by id)) from \"Shop\""
    was = shop.ask(digest)
    shop.add(LOSSY, 'ALTER TABLE "Shop" DROP COLUMN "big";\n')
    assert peak(shop, "deploy", "--no-backup") < 200_000_000
    assert peak(shop, "rollback", "--migration", "latest", "--strategy", "reverse") < 200_000_000
    assert shop.ask(digest) == was
