"""A Prisma project of three migrations, as files and, where a test wants it, deployed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from tests import restored
from tests.desk import Desk
from tests.prisma.engines import EACH_GENERATION, Prisma

INIT, PROFILE, WALLET = "20260101000000_init", "20260201000000_add_profile", "20260301000000_add_wallet"
SCRIPTS = {
    INIT: 'CREATE TABLE "User" ("id" INTEGER NOT NULL, CONSTRAINT "User_pkey" PRIMARY KEY ("id"));\n',
    PROFILE: 'CREATE TABLE "Profile" ("id" INTEGER NOT NULL, CONSTRAINT "Profile_pkey" PRIMARY KEY ("id"));\n',
    WALLET: 'CREATE TABLE "Wallet" ("id" INTEGER NOT NULL, CONSTRAINT "Wallet_pkey" PRIMARY KEY ("id"));\n',
}
SCHEMA = 'datasource db {\n  provider = "postgresql"\n  url      = env("DATABASE_URL")\n}\n'
TABLE = """create table {}._prisma_migrations (
  id varchar(36) primary key, checksum varchar(64) not null, finished_at timestamptz,
  migration_name varchar(255) not null, logs text, rolled_back_at timestamptz, started_at timestamptz not null default now(),
  applied_steps_count integer not null default 0)"""


@dataclass
class Site(Desk):
    """A desk in whose folder a Prisma project lies."""

    @property
    def project(self) -> Path:
        return self.folder / "prisma"

    @property
    def migrations(self) -> Path:
        return self.project / "migrations"

    def add(self, name: str, script: str) -> Path:
        (self.migrations / name).mkdir(parents=True)
        (self.migrations / name / "migration.sql").write_text(script, encoding="utf-8")
        return self.migrations / name

    def rows(self, name: str, schema: str = "public") -> int:
        return int(self.ask(f"select count(*) from {schema}._prisma_migrations where migration_name = '{name}'"))

    def states(self) -> dict[str, str]:
        """By name, as `invoke status` sees them."""
        return {each["name"]: each["state"] for each in self.run("status", "--json").json["migrations"]}

    def book(self, name: str, checksum: str = "c", schema: str = "public", **columns: str) -> None:
        """One row by hand. Values are SQL."""
        values = {"finished_at": "now()", "started_at": "clock_timestamp()", **columns}
        self.sql(
            f"insert into {schema}._prisma_migrations (id, checksum, migration_name, {', '.join(values)})"
            f" values (gen_random_uuid(), '{checksum}', '{name}', {', '.join(values.values())})"
        )


@pytest.fixture
def site(any_database: ConnInfo, tmp_path: Path) -> Iterator[Site]:
    """Three migrations on the disk, none applied. What restores keep of the database goes when it goes."""
    site = Site(tmp_path, any_database)
    for name, script in SCRIPTS.items():
        site.add(name, script)
    (site.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
    (site.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
    yield site
    with connect(any_database, dbname="postgres") as session:
        for name in restored.databases(any_database):
            if name.startswith(f"{any_database.dbname}__"):
                session.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(params=EACH_GENERATION)
def prisma(request: pytest.FixtureRequest, prisma_packages: Path, site: Site) -> Prisma:
    """Each generation of real Prisma, at work on the site."""
    assert site.info is not None
    return Prisma(request.param, prisma_packages, site.project, site.info)
