"""PromptStash, "Database Setup Guide": backups, rollbacks, the emergency in seven steps, the four phases without downtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.guides.conftest import Guided

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
INIT, PHONE = "20250101000000_init", "20250201000000_add_column_to_table"
SCRIPT = """CREATE TABLE "User" ("id" TEXT NOT NULL, "firstName" TEXT NOT NULL, "lastName" TEXT NOT NULL, "email" TEXT NOT NULL,
  "status" TEXT, CONSTRAINT "User_pkey" PRIMARY KEY ("id"));
CREATE TABLE "Stash" ("id" TEXT NOT NULL, "name" TEXT NOT NULL, "userId" TEXT NOT NULL,
  CONSTRAINT "Stash_pkey" PRIMARY KEY ("id"));
ALTER TABLE "Stash" ADD CONSTRAINT "Stash_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE CASCADE;
"""
USERS = """insert into "User" values ('1', 'Ada', 'Lovelace', 'a@example.org'), ('2', 'Alan', 'Turing', 'b@example.org')"""
# "Common Rollback Scenarios", in the guide's words.
SCENARIOS = {
    "20250301000000_new_column": 'ALTER TABLE "User" ADD COLUMN "age" INTEGER;\n',
    "20250302000000_new_table": 'CREATE TABLE "Post" ("id" TEXT NOT NULL, CONSTRAINT "Post_pkey" PRIMARY KEY ("id"));\n',
    "20250303000000_constraint": 'ALTER TABLE "User" ADD CONSTRAINT "email_unique" UNIQUE ("email");\n',
}
DATA = "20250304000000_data"
UPDATE = """UPDATE "User" SET "status" = 'active' WHERE "status" IS NULL;\n"""
EXPAND, MIGRATE, CONTRACT = "20250401000000_expand", "20250402000000_migrate", "20250403000000_contract"
PHASES = {
    EXPAND: 'ALTER TABLE "User" ADD COLUMN "full_name" TEXT;\n',
    MIGRATE: 'UPDATE "User" SET "full_name" = CONCAT("firstName", \' \', "lastName") WHERE "full_name" IS NULL;\n',
    CONTRACT: 'ALTER TABLE "User" ALTER COLUMN "full_name" SET NOT NULL;\n'
    'ALTER TABLE "User" DROP COLUMN "firstName";\nALTER TABLE "User" DROP COLUMN "lastName";\n',
}
# They are run where `npx prisma` is.
COMMANDS = """[services]
stop = ["sh", "-c", "echo stopped >> ../../said"]
start = ["sh", "-c", "echo started >> ../../said"]
[maintenance]
on = ["sh", "-c", "echo maintenance >> ../../said"]
off = ["sh", "-c", "echo open >> ../../said"]
"""


@pytest.fixture
def promptstash(place: Callable[..., Guided]) -> Guided:
    """DATABASE_URL in three places; packages/db/.env is Prisma's."""
    found = place("promptstash", "packages/db")
    found.env("apps/web/.env.local", "apps/api/.env", "packages/db/.env")
    found.add(INIT, SCRIPT)
    assert found.typed("deploy")["applied"] == [INIT]
    found.sql(USERS)
    return found


def test_a_new_column_by_the_book(promptstash: Guided, prisma_packages: Path) -> None:
    """Steps 1 and 2: a backup with the time in its name, a rollback that was written before it was needed."""
    taken = promptstash.typed("backup", "--label", "pre_migration")["id"]
    promptstash.add(PHONE, 'ALTER TABLE "User" ADD COLUMN "phone" TEXT;\n')
    plan = promptstash.typed("deploy", "--dry-run")  # the checklist: tested, planned, with a rollback prepared
    assert [(each["name"], each["reverse"]) for each in plan["migrations"]] == [(PHONE, "proved")]
    promptstash.typed("deploy", "--backup", taken)
    assert 'DROP COLUMN "phone"' in (promptstash.migrations / PHONE / "down.sql").read_text()
    promptstash.typed("rollback", "--migration", "latest")
    assert "phone" not in promptstash.columns("User")
    promptstash.content(prisma_packages)


def test_the_common_scenarios(promptstash: Guided, prisma_packages: Path) -> None:
    """Each one back as the guide has it; rows that an UPDATE has changed come back as they were, not by a guess."""
    for name, script in SCENARIOS.items():
        promptstash.add(name, script)
        promptstash.typed("deploy")
        gone = promptstash.typed("rollback", "--migration", name)
        assert (gone["strategy"], gone["losses"]) == ("reverse", [])
        assert promptstash.typed("status", "--drift", confirm=False)["in_step"]
    promptstash.sql("""update "User" set status = 'active' where id = '1'""")
    promptstash.add(DATA, UPDATE)
    promptstash.typed("deploy")
    gone = promptstash.typed("rollback", "--migration", DATA)
    assert (gone["strategy"], gone["losses"], gone["restored"]) == ("reverse", [], {"public.User": 1})
    assert promptstash.ask("""select array_agg(status order by id) from "User" """) == ["active", None]
    promptstash.content(prisma_packages)


def test_the_emergency_in_seven_steps(promptstash: Guided, prisma_packages: Path) -> None:
    promptstash.settings(COMMANDS)
    promptstash.add(PHONE, 'ALTER TABLE "User" ADD COLUMN "phone" TEXT;\nDELETE FROM "User" WHERE "id" = \'2\';\n')
    backup = promptstash.typed("deploy")["backup"]
    plan = promptstash.typed("emergency", "--migration", PHONE, "--dry-run")
    done = promptstash.typed("emergency", "--migration", PHONE)
    assert [each["name"] for each in done["steps"]] == [each["name"] for each in plan["steps"]]
    assert promptstash.said == ["maintenance", "stopped", "started", "open"]
    assert done["backup"] == backup
    assert promptstash.ask('select count(*) from "User"') == 2
    assert promptstash.rows(PHONE) == 0
    assert not (promptstash.migrations / PHONE).exists()
    assert promptstash.typed("status", "--drift", confirm=False)["in_step"]
    assert "maintenance" in Path(done["record"]).read_text()
    promptstash.content(prisma_packages)


def test_a_migration_failed(promptstash: Guided, prisma_packages: Path) -> None:
    """Troubleshooting: what failed is named, and goes back without DROP TABLE by hand."""
    script = 'BEGIN;\nCREATE TABLE "new_table" ("id" TEXT NOT NULL);\nCOMMIT;\nALTER TABLE "User" ADD CHECK ("id" <> \'1\');\n'
    promptstash.add(PHONE, script)
    failed = promptstash.typed("deploy", code=20)
    assert (failed["migration"], failed["statement"]) == (PHONE, 4)
    assert "new_table" in promptstash.tables()
    promptstash.typed("rollback", "--migration", "failed", "--strategy", "restore")
    assert "new_table" not in promptstash.tables()
    promptstash.content(prisma_packages)


def test_four_phases_each_rolled_back_by_itself(promptstash: Guided, prisma_packages: Path) -> None:
    """Forward and back and forward, phase by phase; the second is the application's alone."""
    for name in (EXPAND, MIGRATE, CONTRACT):
        before = promptstash.columns("User"), promptstash.ask('select jsonb_agg(to_jsonb(u) order by id) from "User" u')
        promptstash.add(name, PHASES[name])
        promptstash.typed("deploy")
        # What an UPDATE or a DROP COLUMN has taken is in the backup from before it.
        promptstash.typed("rollback", "--migration", name, "--strategy", "reverse" if name == EXPAND else "restore")
        after = promptstash.columns("User"), promptstash.ask('select jsonb_agg(to_jsonb(u) order by id) from "User" u')
        assert after == before, name
        promptstash.content(prisma_packages)
        promptstash.add(name, PHASES[name])
        promptstash.typed("deploy")
        if name == EXPAND:  # dual write
            promptstash.sql("""insert into "User" values ('3', 'Grace', 'Hopper', 'c@example.org', null, 'Grace Hopper')""")
    assert promptstash.columns("User") == ["id", "email", "status", "full_name"]
    names = promptstash.ask('select array_agg(full_name order by id) from "User"')
    assert names == ["Ada Lovelace", "Alan Turing", "Grace Hopper"]
    assert promptstash.typed("status", "--drift", confirm=False)["in_step"]


def test_backup_and_restore(promptstash: Guided) -> None:
    """Full, schema only, data only; back from any of them, and from a script that pg_dump wrote by hand."""
    full = promptstash.typed("backup")["id"]
    structure = promptstash.typed("backup", "--kind", "schema")["id"]
    data = promptstash.typed("backup", "--kind", "data")["id"]
    promptstash.sql('delete from "User"')
    assert promptstash.typed("restore", "--backup", full, "--swap")["rows"] == 3
    assert promptstash.typed("restore", "--backup", structure, "--into", "promptstash_empty")["rows"] == 0
    assert promptstash.ask('select count(*) from "User"', dbname="promptstash_empty") == 0
    assert promptstash.typed("backup.verify", data)["grade"]
