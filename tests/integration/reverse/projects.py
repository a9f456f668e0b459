"""Prisma projects for the tests of reverses: a folder of migrations beside a desk's database."""

from __future__ import annotations

from pathlib import Path

from tests.desk import Desk
from tests.samples import track

INIT = 'create table "User" (id int primary key, email text not null);\n'
AGE = 'alter table "User" add column age int;\n'
DROP = 'alter table "User" drop column email;\n'


class Project:
    """``folder`` of migrations at a desk. ``add`` writes one, ``deploy`` runs some as Prisma would, with its books."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.folder = desk.folder / "prisma" / "migrations"
        self.folder.mkdir(parents=True)
        (self.folder / "migration_lock.toml").write_text('provider = "postgresql"\n')

    def add(self, name: str, sql: str) -> Path:
        place = self.folder / name
        place.mkdir()
        (place / "migration.sql").write_text(sql)
        return place

    def deploy(self, *names: str) -> None:
        assert self.desk.info is not None
        self.desk.sql(*((self.folder / name / "migration.sql").read_text() for name in names))
        track(self.desk.info, "public", *((name, "applied") for name in names))

    def shadows(self) -> list[str]:
        """Shadow databases that are there."""
        found = self.desk.ask(
            "select coalesce(array_agg(datname::text), '{}') from pg_database where datname like 'naap\\_shadow\\_%'"
        )
        assert isinstance(found, list)
        return found
