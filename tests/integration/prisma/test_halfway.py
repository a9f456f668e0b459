"""A migration that failed half-way: how far it came, told from the catalog and the log, and the way back from just there."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from naap_ops.postgres.session import connect
from tests.integration.prisma.conftest import INIT, PROFILE, TABLE, WALLET, Site
from tests.integration.prisma.test_deploy import deploy
from tests.integration.prisma.test_rollback import rollback, shape
from tests.prisma.engines import Prisma

pytestmark = pytest.mark.also(15, 18)

HALF = "20260401000000_half"
# Statement 4 fails on the row of the live database, when three have been committed.
COMMITS = """BEGIN;
ALTER TABLE "Wallet" ADD COLUMN "note" TEXT;
COMMIT;
ALTER TABLE "Wallet" ADD CONSTRAINT "positive" CHECK ("id" > 0);
CREATE TABLE "Badge" ("id" INTEGER NOT NULL);
"""


@pytest.fixture
def live(site: Site) -> Site:
    """Three migrations deployed, and a row that some of what follows cannot stand."""
    deploy(site)
    site.sql('insert into "Wallet" values (-1)')
    return site


def failed_at(site: Site, script: str, upto: int, *, logs: str = "null", schema: str = "public") -> None:
    """As if a session had run the first statements of the script one by one, and then it failed."""
    if not (site.migrations / HALF).exists():
        site.add(HALF, script)
    assert site.info is not None
    with connect(site.info) as connection:
        connection.execute(f"set search_path to {schema}".encode())
        for statement in script.split(";\n")[:upto]:
            connection.execute(statement.encode())
    site.book(HALF, hashlib.sha256(script.encode()).hexdigest(), schema, finished_at="null", logs=logs)


def planned(site: Site) -> dict[str, Any]:
    """Its ways back, by strategy, also where somebody has to choose."""
    done = site.run("rollback", "--migration", "failed", "--dry-run", "--json")
    assert done.code in (0, 17), done.err
    return {each["strategy"]: each for each in done.json["ways"]}


def test_what_took_effect_is_undone_and_the_mended_script_deployed(live: Site, prisma: Prisma) -> None:
    before = shape(live)
    live.add(HALF, COMMITS)
    failed = deploy(live, code=20)
    assert (failed["statement"], failed["progress"]["upto"]) == (4, 3)
    assert "Wallet.note text" in shape(live)
    outcome = rollback(live, "--keep-folder", migration="failed")
    assert (outcome["strategy"], outcome["statements"], outcome["losses"]) == ("reverse", 1, [])
    script = live.migrations / HALF / "migration.sql"
    assert outcome["notes"] == [f"mend it before the next `invoke deploy`, which runs it again: {script}"]
    assert shape(live) == before
    assert live.states()[HALF] == "rolled_back"
    script.write_text(COMMITS.replace("> 0", "<> 0"), encoding="utf-8")
    assert deploy(live)["applied"] == [HALF]
    assert (prisma.status(), prisma.deploy()) == ("clean", [])


def test_the_folder_goes_where_it_is_not_kept(live: Site) -> None:
    before = shape(live)
    live.add(HALF, COMMITS)
    deploy(live, code=20)
    plan = live.run("rollback", "--migration", "failed", "--park-rows", "--dry-run", "--json").json["plan"]
    assert any("--park-rows are not for what is undone there" in line for line in plan)
    outcome = rollback(live, migration="failed")
    assert (outcome["strategy"], shape(live), live.rows(HALF)) == ("reverse", before, 0)
    assert not (live.migrations / HALF).exists()
    assert live.run("status", "--json").code == 0


def test_nothing_took_effect(live: Site) -> None:
    """One transaction: only the books are to be put right, and nothing is lost."""
    live.add(HALF, 'CREATE TABLE "Badge" ();\nALTER TABLE "Wallet" ADD CHECK ("id" > 0);\n')
    before = shape(live)
    failed = deploy(live, code=20)
    assert failed["progress"]["upto"] == 0
    assert "none of its 2 statements took effect" in failed["message"]
    way = planned(live)["reverse"]
    assert (way["possible"], way["losses"], way["lost"]) == (True, [], {})
    outcome = rollback(live, migration="failed")
    assert (outcome["strategy"], outcome["statements"], live.rows(HALF)) == ("reverse", 0, 0)
    assert shape(live) == before


def test_all_of_it_took_effect(live: Site) -> None:
    """Whoever ran it was ended before the row was finished."""
    before = shape(live)
    script = 'ALTER TABLE "Wallet" ADD COLUMN "note" TEXT;\nCREATE TABLE "Badge" ("id" INTEGER);\n'
    failed_at(live, script, 2)
    told = planned(live)["reverse"]["halfway"]
    assert told == [f"{HALF} in public: all of its 2 statements took effect"]
    rollback(live, migration="failed")
    assert shape(live) == before


def test_a_statement_at_a_time_is_seen_without_a_log(live: Site) -> None:
    """By psql, say: any statement may be the last. What else differs from the history does not blur it."""
    script = """ALTER TABLE "Wallet" ADD COLUMN "note" TEXT;
CREATE INDEX "note_idx" ON "Wallet" ("note");
ALTER TABLE "Wallet" ALTER COLUMN "note" SET NOT NULL;
"""
    live.sql("create table drifted (id integer)")
    before = shape(live)
    failed_at(live, script, 2)
    way = planned(live)["reverse"]
    assert way["halfway"][0] == f"{HALF} in public: 2 of its 3 statements took effect"
    assert [line.split(":")[0].strip() for line in way["halfway"][1:]] == ["took effect", "took effect", "did not"]
    rollback(live, migration="failed")
    assert shape(live) == before


@pytest.mark.parametrize(
    ("change", "possible"),
    [('INSERT INTO "User" VALUES (7)', False), ('UPDATE "User" SET "id" = "id" WHERE "id" = 8', True)],
)
def test_a_change_of_rows_at_the_edge_is_in_doubt(live: Site, change: str, possible: bool) -> None:
    """Without a log nobody knows. Where its reverse would change rows as well, that is not done on a guess."""
    script = f'ALTER TABLE "Wallet" ADD COLUMN "note" TEXT;\n{change};\nCREATE TABLE "Badge" ("id" INTEGER);\n'
    live.sql('insert into "User" values (7)')
    failed_at(live, script, 1)
    way = planned(live)["reverse"] if possible else refused(live)
    assert way["possible"] is possible
    assert "whether 2 ran neither the catalog nor a log says" in "\n".join(way["halfway"])
    if not possible:
        assert "statement 2" in way["problem"]
    assert live.ask('select count(*) from "User"') == 1


def refused(site: Site) -> dict[str, Any]:
    """The reverse's plan, where another way is."""
    site.sql(f"delete from _prisma_migrations where migration_name = '{HALF}'")
    backup = site.backup()
    script = (site.migrations / HALF / "migration.sql").read_bytes()
    site.book(HALF, hashlib.sha256(script).hexdigest(), finished_at="null")
    assert backup.id == planned(site)["restore"]["backup"]
    reverse: dict[str, Any] = planned(site)["reverse"]
    return reverse


def test_a_log_decides_what_the_catalog_does_not_show(live: Site) -> None:
    script = 'BEGIN;\nINSERT INTO "User" VALUES (7);\nCOMMIT;\nALTER TABLE "Wallet" ADD CHECK ("id" > 0);\n'
    live.add(HALF, script)
    failed = deploy(live, code=20)
    assert (failed["progress"]["upto"], failed["progress"]["doubt"]) == (3, [])
    assert live.ask('select count(*) from "User"') == 1
    rollback(live, migration="failed")
    assert live.ask('select count(*) from "User"') == 0


def test_an_index_left_invalid_is_dropped(live: Site) -> None:
    live.sql('insert into "Wallet" values (2)')
    before = shape(live)
    script = 'CREATE UNIQUE INDEX CONCURRENTLY "note_idx" ON "Wallet" (("id" / 100));\n'
    live.add(HALF, script)
    with pytest.raises(psycopg.errors.UniqueViolation):
        live.sql(script)
    live.book(HALF, hashlib.sha256(script.encode()).hexdigest(), finished_at="null")
    assert shape(live) != before
    told = planned(live)["reverse"]["halfway"]
    assert told == [f"{HALF} in public: 0 of its 1 statement took effect", '  index "public"."note_idx" was left invalid']
    outcome = rollback(live, migration="failed")
    assert (outcome["strategy"], shape(live), live.rows(HALF)) == ("reverse", before, 0)


def test_like_no_state_of_it(live: Site) -> None:
    """Somebody has mended by hand, half: each statement is told by itself, and the reverse is not taken."""
    script = """ALTER TABLE "Wallet" ADD COLUMN "note" TEXT;
ALTER TABLE "Wallet" ADD COLUMN "more" TEXT;
CREATE TABLE "Badge" ("id" INTEGER);
"""
    backup = live.backup()
    failed_at(live, script, 3)
    live.sql('alter table "Wallet" drop column note', 'alter table "Wallet" alter column more type varchar(9)')
    ways = planned(live)
    assert not ways["reverse"]["possible"]
    assert "like none of the states" in ways["reverse"]["problem"]
    marks = [line.strip().split(":")[0] for line in ways["reverse"]["halfway"][1:]]
    assert marks == ["did not", "half", "took effect"]
    assert ways["restore"]["backup"] == backup.id


BOTH = 'ALTER TABLE "Wallet" ADD COLUMN "note" TEXT;\nCREATE TABLE "Badge" ("id" INTEGER);\n'
TENANTS = ("tenant_a", "tenant_b")


@pytest.fixture
def tenants(site: Site) -> Site:
    """Two tenants with books of their own: the first failed after one statement, the second has all of it."""
    for each in TENANTS:
        site.sql(f"create schema {each}", TABLE.format(each))
        for name in (INIT, PROFILE, WALLET):
            script = (site.migrations / name / "migration.sql").read_text("utf-8")
            site.sql(f"set search_path to {each}; {script}")
            site.book(name, hashlib.sha256(script.encode()).hexdigest(), each)
    failed_at(site, BOTH, 2, schema="tenant_b")
    site.sql("update tenant_b._prisma_migrations set finished_at = now() where finished_at is null")
    return site


def test_each_tenant_is_undone_as_far_as_it_came(tenants: Site) -> None:
    before = shape(tenants, "tenant_a")
    failed_at(tenants, BOTH, 1, schema="tenant_a")
    outcome = rollback(tenants, "--all-tenants", migration=HALF)
    assert outcome["tenants"] == dict.fromkeys(TENANTS, "done")
    assert shape(tenants, "tenant_a").count("note") == before.count("note") == 0
    assert shape(tenants, "tenant_a") == before
    assert "Wallet.note text" not in shape(tenants, "tenant_b")
    assert [tenants.rows(HALF, each) for each in TENANTS] == [0, 0]


def test_undone_the_statements_that_had_run_run_again(tenants: Site) -> None:
    failed_at(tenants, BOTH, 1, schema="tenant_a", logs="'boom'")
    query = f"select to_jsonb(t) from tenant_a._prisma_migrations t where migration_name = '{HALF}'"
    before = shape(tenants, "tenant_a"), tenants.ask(query)
    tenants.sql('alter table tenant_b."Badge" add column extra integer')  # its reverse finds another table than it made
    rollback(tenants, "--all-tenants", migration=HALF, code=21)
    assert shape(tenants, "tenant_a") != before[0]
    tenants.sql('alter table tenant_b."Badge" drop column extra')
    done = tenants.run("rollback", "--abort", "--yes", "--json")
    assert done.code == 0, done.err
    assert (shape(tenants, "tenant_a"), tenants.ask(query)) == before


def test_stopped_at_the_same_place_on_a_shadow(live: Site, prisma: Prisma) -> None:
    """It can run nowhere: the log's statement, or its code, and the shadow's agree."""
    live.add(HALF, 'BEGIN;\nCREATE TABLE "Badge" ("id" INTEGER);\nCOMMIT;\nALTER TABLE "Badge" ADD COLUMN "id" TEXT;\n')
    before = shape(live)
    with suppress(AssertionError):  # an engine without a code for it
        prisma.deploy()
    assert live.states()[HALF] == "failed"
    told = planned(live)["reverse"]["halfway"]
    assert told[0] == f"{HALF} in public: 3 of its 4 statements took effect"
    rollback(live, migration="failed")
    assert shape(live) == before


def test_stopped_at_another_place_than_on_a_shadow(live: Site) -> None:
    """What it needs is in the database and not in its history: nothing is guessed."""
    script = 'CREATE TABLE "Badge" ("id" INTEGER);\nCREATE INDEX ON "Unknown" ("id");\nCREATE TABLE "More" ("id" INTEGER);\n'
    live.sql('create table "Unknown" (id integer)')
    live.backup()
    failed_at(live, script, 2)
    reverse = planned(live)["reverse"]
    assert not reverse["possible"]
    assert "stops at another place" in reverse["problem"]


def test_edited_since_it_failed(live: Site) -> None:
    live.add(HALF, COMMITS)
    deploy(live, code=20)
    (live.migrations / HALF / "migration.sql").write_text("SELECT 1;\n", encoding="utf-8")
    assert "edited" in planned(live)["reverse"]["problem"]
