"""NAAP, "Plugin Database Workflow" and "Database Architecture": start.sh's push, migrations, the container, all anew."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.guides.conftest import Guided

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
INIT_SCHEMAS = "CREATE SCHEMA IF NOT EXISTS plugin_community;\nCREATE SCHEMA IF NOT EXISTS plugin_wallet;\n"
TABLES = """CREATE TABLE IF NOT EXISTS public."User" ("id" TEXT PRIMARY KEY, "email" TEXT);
CREATE TABLE IF NOT EXISTS plugin_community."CommunityPost" ("id" TEXT PRIMARY KEY, "title" TEXT, "score" INTEGER);
CREATE TABLE IF NOT EXISTS plugin_wallet."Wallet" ("id" TEXT PRIMARY KEY, "userId" TEXT REFERENCES public."User");
"""
# start.sh as the guide describes sync_unified_database(); its `npx prisma db push` has got `naap-ops guard --` in front.
START = """#!/bin/sh
set -e
cd "$(dirname "$0")/.."
new=$(md5sum < packages/database/prisma/schema.prisma)
[ "$new" = "$(cat .prisma-synced 2>/dev/null)" ] && exit 0
naap-ops guard --json -- npx prisma db push --skip-generate --accept-data-loss
echo "$new" > .prisma-synced
"""
BASELINE, WIDGET = "20260101000000_baseline", "20260201000000_describe_your_change"


@pytest.fixture
def naap(place: Callable[..., Guided]) -> Guided:
    """docker/init-schemas.sql has run; packages/database/.env has the URL."""
    found = place("naap", "packages/database")
    found.env("packages/database/.env")
    found.npx()
    found.sql(INIT_SCHEMAS)
    (found.folder / "push.sql").write_text(TABLES)
    found.program_file("bin/start.sh", START)
    return found


def start(naap: Guided) -> None:
    done = subprocess.run([naap.folder / "bin/start.sh"], env=naap.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_start_sh_pushes_behind_guard(naap: Guided) -> None:
    start(naap)
    assert naap.tables("plugin_community") == ["CommunityPost"]
    start(naap)  # unchanged: nothing is pushed, no backup is taken
    assert (len(naap.listed()), naap.said) == (1, ["npx prisma db push --skip-generate --accept-data-loss"])
    naap.sql("""insert into plugin_community."CommunityPost" values ('1', 'hello', 7)""")

    # --accept-data-loss drops a column without asking. Its values are in the backup before it.
    (naap.folder / "push.sql").write_text('ALTER TABLE plugin_community."CommunityPost" DROP COLUMN "score";\n')
    (naap.project / "schema.prisma").write_text("// another\n" + (naap.project / "schema.prisma").read_text())
    start(naap)
    assert naap.columns("CommunityPost") == ["id", "title"]
    kept = max((naap.folder / ".naap_ops/guard").iterdir())
    assert 'ADD COLUMN "score"' in (kept / "down.sql").read_text()
    assert naap.typed("restore", "--backup", "guard", "--table", "plugin_community.CommunityPost")["rows"] == 1
    assert naap.ask('select score from plugin_community."CommunityPost"') == 7


def test_a_plugin_schema_of_its_own(naap: Guided) -> None:
    """Step 1 to 3 of "Adding a New Plugin Schema", and its way back."""
    start(naap)
    script = 'CREATE SCHEMA IF NOT EXISTS plugin_mine;\nCREATE TABLE plugin_mine."YourPluginWidget" ("id" TEXT PRIMARY KEY);\n'
    (naap.folder / "push.sql").write_text(script)
    done = naap.program("guard", "--json", "--", "npx", "prisma", "db", "push")
    assert done.code == 0, done.err
    assert naap.tables("plugin_mine") == ["YourPluginWidget"]
    naap.sql(Path(done.json["down"]).read_text())
    assert naap.ask("select to_regnamespace('plugin_mine')::text") is None


def test_formal_migrations(naap: Guided, prisma_packages: Path) -> None:
    """From pushed to migrated: what is there is the baseline, what comes is deployed."""
    start(naap)
    naap.add(BASELINE, INIT_SCHEMAS + TABLES)
    assert naap.typed("deploy", code=17)["prisma"] == "P3005"
    naap.typed("resolve", "--baseline")
    naap.add(WIDGET, 'ALTER TABLE "plugin_wallet"."Wallet" ADD COLUMN "chain" TEXT;\n')
    assert naap.typed("deploy")["applied"] == [WIDGET]
    naap.content(prisma_packages)
    # "Validate the full setup": connectivity, schemas, tables.
    assert naap.typed("status", "--drift", confirm=False)["in_step"]
    naap.typed("rollback", "--migration", "latest")
    assert naap.columns("Wallet") == ["id", "userId"]
    naap.content(prisma_packages)


def test_tools_in_the_container(naap: Guided) -> None:
    """`docker exec -i naap-db`: no client tools of PostgreSQL on this side."""
    start(naap)
    naap.container("docker", "naap-db")
    naap.settings('[tools]\nexec = ["docker", "exec", "-i", "naap-db"]\n')
    taken = naap.typed("backup")
    naap.sql("drop schema plugin_wallet cascade")
    naap.typed("restore", "--backup", taken["id"], "--schema", "plugin_wallet")
    assert naap.tables("plugin_wallet") == ["Wallet"]


def test_the_nuclear_option(naap: Guided) -> None:
    """`docker compose down -v`, push, seed: in one command, and not for good."""
    naap.settings('[reset]\nsync = ["npx", "prisma", "db", "push"]\nseed = ["npx", "tsx", "prisma/seed.ts"]\n')
    start(naap)
    naap.sql("""insert into public."User" values ('mine', 'me@example.org')""")
    (naap.folder / "seed.sql").write_text("""insert into public."User" values ('seeded', 's@example.org')""")
    done = naap.typed("reset")
    assert [each["command"][-1] for each in done["ran"]] == ["push", "prisma/seed.ts"]
    assert naap.ask('select array_agg(id) from public."User"') == ["seeded"]
    naap.typed("restore.undo")
    assert naap.ask('select array_agg(id) from public."User"') == ["mine"]
