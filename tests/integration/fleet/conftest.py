"""A schema per tenant, as Plexica has it: ``core`` and ``tenant_*``, each with books of its own, one folder for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from tests import restored
from tests.integration.prisma.conftest import Site

INITIAL, WORKSPACES, SETTINGS, OPTIONAL = (
    "20240113000000_initial",
    "20240114000000_add_workspaces",
    "20240301000000_add_tenant_settings",
    "20240401000000_optional_names",
)
SCRIPTS = {
    INITIAL: """-- CreateEnum
CREATE TYPE "TenantStatus" AS ENUM ('PROVISIONING', 'ACTIVE', 'SUSPENDED');

-- CreateTable
CREATE TABLE "tenants" (
    "id" TEXT NOT NULL,
    "slug" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "status" "TenantStatus" NOT NULL DEFAULT 'PROVISIONING',

    CONSTRAINT "tenants_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "users" (
    "id" TEXT NOT NULL,
    "keycloak_id" TEXT NOT NULL,
    "email" TEXT NOT NULL,
    "name" TEXT NOT NULL,

    CONSTRAINT "users_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "tenants_slug_key" ON "tenants"("slug");

-- CreateIndex
CREATE UNIQUE INDEX "users_email_key" ON "users"("email");
""",
    WORKSPACES: """-- CreateTable
CREATE TABLE "workspaces" (
    "id" TEXT NOT NULL,
    "slug" TEXT NOT NULL,
    "owner_id" TEXT NOT NULL,

    CONSTRAINT "workspaces_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "workspaces_slug_key" ON "workspaces"("slug");

-- AddForeignKey
ALTER TABLE "workspaces" ADD CONSTRAINT "workspaces_owner_id_fkey" FOREIGN KEY ("owner_id")
    REFERENCES "users"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
""",
    SETTINGS: """-- AlterTable
ALTER TABLE "tenants" ADD COLUMN     "settings" JSONB NOT NULL DEFAULT '{}';

-- AlterEnum
ALTER TYPE "TenantStatus" ADD VALUE 'ARCHIVED';

-- CreateIndex
CREATE INDEX "users_keycloak_id_idx" ON "users"("keycloak_id");
""",
    OPTIONAL: """-- AlterTable
ALTER TABLE "users" ALTER COLUMN "name" DROP NOT NULL;
""",
}  # fmt: skip
SCHEMA = """datasource db {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}

generator client {
  provider = "prisma-client-js"
}
"""
USER = """insert into {}.users values ('u1', 'k1', 'ada@example.org', 'Ada')"""


@dataclass
class Fleet(Site):
    """``schemas``: core, and the tenants'."""

    schemas: tuple[str, ...] = ()

    @property
    def tenants(self) -> tuple[str, ...]:
        return self.schemas[1:]

    def having(self, name: str) -> list[str]:
        """The schemas in whose books it is applied."""
        return [each for each in self.schemas if self._applied(each, name)]

    def _applied(self, schema: str, name: str) -> bool:
        query = f"select exists (select from {schema}._prisma_migrations where migration_name = '{name}'"
        return bool(self.ask(query + " and finished_at is not null and rolled_back_at is null)"))

    def with_column(self, table: str, column: str) -> list[str]:
        """The schemas whose table has the column."""
        assert self.info is not None
        found = restored.column(
            self.info,
            "select table_schema::text from information_schema.columns"
            f" where (table_name, column_name) = ('{table}', '{column}') order by 1",
        )
        return [each for each in self.schemas if each in found]

    def write(self, name: str) -> None:
        if not (self.migrations / name).exists():
            self.add(name, SCRIPTS[name])


def make(info: ConnInfo, folder: Path, tenants: int) -> Fleet:
    """The project, and the schemas, with nothing deployed."""
    schemas = ("core", *(f"tenant_{number:02d}" for number in range(tenants)))
    fleet = Fleet(folder, replace(info, schema="core"), {}, schemas)
    for name in (INITIAL, WORKSPACES):
        fleet.add(name, SCRIPTS[name])
    (fleet.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
    (fleet.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
    fleet.sql(*(f"create schema {each}" for each in schemas))
    return fleet


@pytest.fixture
def fleet(any_server: ScratchServer, any_database: ConnInfo, tmp_path: Path) -> Iterator[Fleet]:
    """core and four tenants, on whom nothing is deployed yet."""
    with restored.swept(any_server.info):
        yield make(any_database, tmp_path, 4)
