"""The full-stack template, "Database Guide": podman, cron, rollbacks by hand, drift."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.guides.conftest import Guided

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
INIT, POSTS = "20260101000000_init", "20260201000000_add_posts_table"
SCRIPT = """CREATE TYPE "UserRole" AS ENUM ('USER', 'ADMIN');
CREATE TABLE "User" ("id" TEXT NOT NULL, "email" TEXT NOT NULL, "role" "UserRole" NOT NULL DEFAULT 'USER',
  CONSTRAINT "User_pkey" PRIMARY KEY ("id"));
CREATE UNIQUE INDEX "User_email_key" ON "User"("email");
"""
POST = """CREATE TABLE "Post" ("id" TEXT NOT NULL, "title" TEXT NOT NULL, "authorId" TEXT NOT NULL,
  CONSTRAINT "Post_pkey" PRIMARY KEY ("id"));
CREATE INDEX "Post_authorId_idx" ON "Post"("authorId");
ALTER TABLE "Post" ADD CONSTRAINT "Post_authorId_fkey" FOREIGN KEY ("authorId") REFERENCES "User"("id") ON DELETE CASCADE;
"""
SETTINGS = """
[tools]
exec = ["podman", "exec", "-i", "fullstack-postgres"]
[schedule.snapshot]
trigger = "0 3 * * *"
[reset]
sync = ["naap-ops", "deploy", "--yes"]
seed = ["npx", "prisma", "db", "seed"]
"""


@pytest.fixture
def fullstack(place: Callable[..., Guided]) -> Guided:
    found = place("fullstack", "apps/backend")
    found.env("apps/backend/.env")
    found.npx()
    found.container("podman", "fullstack-postgres")
    found.settings(SETTINGS)
    found.add(INIT, SCRIPT)
    assert found.typed("deploy")["applied"] == [INIT]
    found.sql("""insert into "User" values ('1', 'admin@example.com', 'ADMIN')""")
    return found


def test_manual_backup_and_restore(fullstack: Guided) -> None:
    """`podman exec fullstack-postgres pg_dump ... > backup.sql` and back; and one that somebody took by hand."""
    taken = fullstack.typed("backup")["id"]
    words: list[str | Path] = [
        fullstack.folder / "bin/podman",
        "exec",
        "-i",
        "fullstack-postgres",
        "pg_dump",
        "-U",
        "postgres",
        "fullstack",
    ]
    by_hand = subprocess.run(words, capture_output=True, check=True).stdout
    (fullstack.folder / "backup.sql").write_bytes(by_hand)
    fullstack.sql('delete from "User"')
    fullstack.typed("restore", "--backup", taken, "--swap")
    assert fullstack.ask('select count(*) from "User"') == 1
    fullstack.typed("restore", "--file", "backup.sql", "--into", "fullstack_copy")
    assert fullstack.ask('select count(*) from "User"', dbname="fullstack_copy") == 1


def test_automated_backups(fullstack: Guided) -> None:
    """`crontab -e`, with the line to add; what that line runs does it."""
    line = fullstack.run("schedule.export", "--format", "cron").out
    assert "0 3 * * *" in line
    assert "snapshot" in line
    assert fullstack.run("snapshot").code == 0
    assert fullstack.typed("backup.list", confirm=False)["backups"][0]["verified"]


def test_migrations_in_production(fullstack: Guided, prisma_packages: Path) -> None:
    """Review, deploy; the rollback file written, tested and kept before it: three hand steps that are one command."""
    fullstack.add(POSTS, POST)
    assert "require-lock-timeout" in fullstack.run("lint", "--pending").out  # "Review SQL", and what squawk says of it
    assert fullstack.typed("reverse", "--pending", confirm=False)
    down = (fullstack.migrations / POSTS / "down.sql").read_text()
    assert 'DROP TABLE "Post"' in down
    assert fullstack.typed("deploy")["applied"] == [POSTS]
    fullstack.content(prisma_packages)
    fullstack.typed("rollback", "--migration", "add_posts_table")
    assert fullstack.tables() == ["User"]
    fullstack.content(prisma_packages)


def test_drift(fullstack: Guided, prisma_packages: Path) -> None:
    """ "Drift detected": what differs, and the two ways out; the guide's `resolve --applied` where it is the migration."""
    fullstack.sql('alter table "User" add column nick text')
    found = fullstack.typed("drift", "--sql", "mend", code=23, confirm=False)
    assert [each["name"] for each in found["drift"]] == ["public.User.nick"]
    fullstack.sql((fullstack.folder / "mend.to-migrations.sql").read_text())
    assert fullstack.typed("drift", confirm=False)["drift"] == []
    # Somebody has run the migration's script by hand.
    fullstack.add(POSTS, POST)
    fullstack.sql(POST)
    fullstack.typed("resolve", "--applied", POSTS)
    assert fullstack.typed("status", "--drift", confirm=False)["in_step"]
    fullstack.content(prisma_packages)


def test_reset_and_seed(fullstack: Guided) -> None:
    (fullstack.folder / "seed.sql").write_text("""insert into "User" values ('2', 'seeded@example.com', 'USER')""")
    fullstack.typed("reset")
    assert fullstack.ask('select email from "User"') == "seeded@example.com"
    assert fullstack.typed("status", "--drift", confirm=False)["in_step"]
