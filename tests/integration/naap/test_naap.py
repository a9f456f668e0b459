"""A real database of ten schemas and 112 tables, once pushed, taken to migrations: deployed, rolled back both ways, guarded.

The project lies in a monorepo, ``packages/database/prisma``, and the program is called at its root.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import restored, samples
from tests.integration.prisma.conftest import SCHEMA, Site
from tests.prisma.engines import GENERATIONS, Prisma

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
BASELINE = "20260101000000_baseline"
HISTORY = "livepeer__naap"
REPUTATION = "20261120000000_add_reputation"
# As Prisma writes it for two of the schemas: an enum, a table, a column and a foreign key across them.
SCRIPT = """-- CreateEnum
CREATE TYPE "plugin_community"."ReputationLevel" AS ENUM ('NEW', 'TRUSTED');

-- AlterTable
ALTER TABLE "public"."User" ADD COLUMN     "reputation" INTEGER NOT NULL DEFAULT 0;

-- CreateTable
CREATE TABLE "plugin_community"."Reputation" (
    "id" TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "level" "plugin_community"."ReputationLevel" NOT NULL DEFAULT 'NEW',

    CONSTRAINT "Reputation_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "User_reputation_idx" ON "public"."User"("reputation");

-- AddForeignKey
ALTER TABLE "plugin_community"."Reputation" ADD CONSTRAINT "Reputation_userId_fkey" FOREIGN KEY ("userId")
    REFERENCES "public"."User"("id") ON DELETE CASCADE ON UPDATE CASCADE;
"""
# Stands for `prisma db push --accept-data-loss` with a schema.prisma from which a column and a model have gone.
PUSH = """
import os, psycopg
connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
connection.execute('alter table public."User" drop column "displayName"')
connection.execute('drop table plugin_community."CommunityUserBadge" cascade')
print("Your database is now in sync with your Prisma schema.")
"""


class Naap(Site):
    @property
    def project(self) -> Path:
        return self.folder / "packages" / "database" / "prisma"

    def say(self, *words: str, code: int = 0) -> dict[str, Any]:
        done = self.run(*words, "--json", *([] if words[0] in ("status", "drift") else ["--yes"]))
        assert done.code == code, done.err
        return done.json

    def objects(self) -> int:
        """Relations, columns and constraints there are, but for our own."""
        query = """with mine as (select c.oid from pg_class c join pg_namespace n on n.oid = relnamespace
            where nspname !~ '^pg_' and nspname not in ('naap_ops', 'information_schema') and nspname !~ '__before_')
          select (select count(*) from mine) + (select count(*) from pg_constraint where conrelid in (select oid from mine))
            + (select count(*) from pg_attribute where attrelid in (select oid from mine) and attnum > 0 and not attisdropped)
        """
        return int(self.ask(query))

    def content(self, packages: Path) -> None:
        assert self.info is not None
        for generation in GENERATIONS:
            prisma = Prisma(generation, packages, self.project, self.info)
            assert (generation, prisma.status(), prisma.deploy()) == (generation, "clean", [])


@pytest.fixture
def naap(any_server: ScratchServer, tmp_path: Path) -> Iterator[Naap]:
    """Pushed and filled, without any books; the baseline is in the folder."""
    baseline = samples.corpus(HISTORY)
    with restored.swept(any_server.info):
        naap = Naap(tmp_path, restored.create(any_server.info, "naap"))
        naap.add(BASELINE, baseline)
        (naap.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
        (naap.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
        naap.sql(baseline)
        assert naap.info is not None
        samples.fill(naap.info, 40)
        yield naap


def test_from_push_to_migrations_and_back(naap: Naap, prisma_packages: Path) -> None:
    refused = naap.say("deploy", code=17)
    assert refused["prisma"] == "P3005"
    assert "invoke resolve --baseline" in refused["hint"]
    assert naap.say("resolve", "--baseline")["migrations"] == [BASELINE]
    assert naap.say("status", "--drift")["in_step"]
    naap.content(prisma_packages)
    before = naap.objects()

    naap.add(REPUTATION, SCRIPT)
    done = naap.say("deploy")
    assert (done["applied"], done["migrations"][0]["reverse"]) == ([REPUTATION], "proved")
    assert naap.say("status", "--drift")["in_step"]
    naap.content(prisma_packages)

    # By the reverse: what was there before the migration stays as it is.
    naap.sql("""insert into plugin_community."Reputation" select 'r', id from public."User" limit 1""")
    gone = naap.say("rollback", "--migration", "latest", "--strategy", "reverse", "--no-park")
    assert gone["lost"] == {"plugin_community.Reputation": 1, "public.User": 40}
    assert (gone["untracked"], naap.objects()) == ({"public": [REPUTATION]}, before)
    assert naap.say("status", "--drift")["in_step"]
    naap.content(prisma_packages)

    # Once more, and by the backup that the deploy has taken.
    naap.add(REPUTATION, SCRIPT)
    backup = naap.say("deploy")["backup"]
    naap.sql("""delete from public."User" where id in (select id from public."User" limit 1)""")
    users = naap.ask('select count(*) from public."User"')
    back = naap.say("rollback", "--migration", "reputation", "--strategy", "restore")
    assert (back["strategy"], back["untracked"]) == ("restore", {"public": [REPUTATION]})
    assert naap.ask('select count(*) from public."User"') == users + 1
    assert back["backup"] == backup
    assert naap.say("status", "--drift")["in_step"]
    naap.content(prisma_packages)

    # And by an emergency, whose record names the backup.
    naap.add(REPUTATION, SCRIPT)
    naap.say("deploy")
    taken = naap.say("emergency", "--migration", REPUTATION)
    assert (taken["outcome"], taken["untracked"]) == ("done", {"public": [REPUTATION]})
    assert naap.say("status", "--drift")["in_step"]
    naap.content(prisma_packages)


def test_a_destructive_push_behind_guard(naap: Naap) -> None:
    """Structure comes back by its reverse, rows by the backup before it."""
    before = naap.objects()
    names = naap.ask('select array_agg("displayName" order by id) from public."User"')
    done = naap.program("guard", "--json", "--", sys.executable, "-c", PUSH)
    assert done.code == 0, done.err
    outcome = done.json
    assert outcome["reverse"] == "proved"
    assert any("displayName" in line for line in outcome["changed"])
    assert any("Badge" in line for line in outcome["losses"])
    naap.sql(Path(outcome["down"]).read_text(encoding="utf-8"))
    assert naap.objects() == before
    assert naap.ask('select count(*) from plugin_community."CommunityUserBadge"') == 0
    assert naap.say("restore", "--backup", outcome["backup"], "--table", "plugin_community.CommunityUserBadge")["rows"] == 40
    assert naap.say("restore", "--backup", outcome["backup"], "--swap")["backup"] == outcome["backup"]
    assert naap.ask('select array_agg("displayName" order by id) from public."User"') == names
    assert naap.objects() == before


def test_its_own_history(any_server: ScratchServer, tmp_path: Path, prisma_packages: Path) -> None:
    """Every migration that it has, in one deploy; then the last ten back, newest first, each in its turn."""
    scripts = samples.histories()[HISTORY]
    with restored.swept(any_server.info):
        naap = Naap(tmp_path, restored.create(any_server.info, "naap"))
        for each in scripts:
            name = each.parent.name if each.name == "migration.sql" else "20260203180000_pushed"
            naap.add(name, each.read_text(encoding="utf-8"))
        (naap.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
        (naap.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
        allowed = unproved(naap)
        done = naap.say("deploy", *(word for name in allowed for word in ("--allow-unproved", name)))
        assert len(done["applied"]) == len(scripts)
        assert naap.say("status", "--drift")["in_step"]
        naap.content(prisma_packages)
        for name in [each["name"] for each in done["migrations"]][:-11:-1]:
            gone = naap.say("rollback", "--migration", "latest", "--strategy", "reverse")
            assert gone["migration"] == name
        assert naap.say("status", "--drift")["in_step"]
        naap.content(prisma_packages)


def unproved(naap: Naap) -> list[str]:
    """What has no reverse, as a dry run says."""
    shown = naap.say("deploy", "--dry-run")
    return [each["name"] for each in shown["migrations"] if each["reverse"] != "proved"]
