"""Plexica, "@plexica/database": Prisma 7 with a configuration file of its own place, ``?schema=core``, a schema per tenant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.fleet.conftest import INITIAL, SCRIPTS, SETTINGS, WORKSPACES
from tests.integration.guides.conftest import Guided

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
CONFIG = """import { config } from 'dotenv';
import { resolve } from 'path';
import { defineConfig, env } from 'prisma/config';

// Load .env from monorepo root
config({ path: resolve(__dirname, '../../../.env') });

export default defineConfig({
  schema: './schema.prisma',
  migrations: {
    path: './migrations',
  },
  datasource: {
    url: env('DATABASE_URL'),
  },
});
"""
SETTINGS_FILE = """
[prisma]
config = "packages/database/prisma/prisma.config.ts"
[reset]
sync = ["naap-ops", "deploy", "--yes"]
"""


@pytest.fixture
def plexica(place: Callable[..., Guided]) -> Guided:
    """The guide's two migrations on the disk; ``.env`` in the root of the monorepo; nothing in the database."""
    found = place("plexica", "packages/database", "core")
    found.env(".env", query="core")
    (found.project / "prisma.config.ts").write_text(CONFIG)
    found.settings(SETTINGS_FILE)
    for name in (INITIAL, WORKSPACES):
        found.add(name, SCRIPTS[name])
    return found


def test_its_commands(plexica: Guided, prisma_packages: Path) -> None:
    """Migration history, status, deploy, and a tenant's schema beside it."""
    behind = plexica.typed("status", code=23, confirm=False)
    assert [(each["schema"], each["state"]) for each in behind["migrations"]] == [("core", "pending")] * 2
    # "Migration fails with 'schema does not exist'": it is made, as Prisma makes it.
    assert plexica.typed("deploy")["applied"] == [INITIAL, WORKSPACES]
    assert plexica.tables("core") == ["tenants", "users", "workspaces"]
    assert plexica.typed("status", "--drift", confirm=False)["in_step"]
    plexica.content(prisma_packages)

    plexica.sql("create schema tenant_acme_corp")
    plexica.typed("deploy", "--all-tenants")
    assert plexica.tables("tenant_acme_corp") == ["tenants", "users", "workspaces"]

    plexica.add(SETTINGS, SCRIPTS[SETTINGS])
    plexica.typed("deploy", "--all-tenants")
    plexica.typed("rollback", "--migration", "latest", "--all-tenants")
    assert plexica.columns("tenants") == ["id", "id", "slug", "slug", "name", "name", "status", "status"]
    assert plexica.typed("status", "--all-tenants", "--drift", confirm=False)["in_step"]
    plexica.content(prisma_packages)


def test_migrate_reset(plexica: Guided, prisma_packages: Path) -> None:
    """ "This deletes all data and reapplies migrations": behind a backup, and the old database is kept."""
    plexica.typed("deploy")
    plexica.sql("insert into core.users values ('1', 'k', 'a@example.org', 'Ada')")
    plexica.typed("reset")
    assert plexica.ask("select count(*) from core.users") == 0
    assert plexica.typed("status", "--drift", confirm=False)["in_step"]
    plexica.content(prisma_packages)
    plexica.typed("restore.undo")
    assert plexica.ask("select count(*) from core.users") == 1
