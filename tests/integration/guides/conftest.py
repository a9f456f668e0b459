"""Places as the guides of four projects describe them, and stand-ins for what cannot be here: npx, containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.url import to_url
from tests import restored
from tests.desk import PROGRAM
from tests.integration.prisma.conftest import SCHEMA, Site
from tests.prisma.engines import GENERATIONS, Prisma

# `npx prisma db push` runs push.sql, `npx tsx prisma/seed.ts` and `npx prisma db seed` run seed.sql: at DATABASE_URL.
NPX = """#!{python}
import os, pathlib, sys, psycopg
root = pathlib.Path({root!r})
with open(root / "said", "a") as log:
    print("npx", *sys.argv[1:], file=log)
script = "push.sql" if sys.argv[1:4] == ["prisma", "db", "push"] else "seed.sql"
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    connection.execute((root / script).read_text())
"""
_PATH = os.environ["PATH"]
CONTAINER = """#!/bin/sh
[ "$1 $2 $3" = "exec -i {name}" ] || {{ echo "no such container: $3" >&2; exit 1; }}
shift 3
exec env -i PATH='{bindir}:/usr/bin:/bin' PGHOST='{host}' PGPORT='{port}' "$@"
"""


@dataclass
class Guided(Site):
    """``where``: the package with the Prisma project, below the root of the monorepo."""

    where: str = ""
    server: ScratchServer | None = field(default=None, repr=False)

    @property
    def project(self) -> Path:
        return self.folder / self.where / "prisma"

    @property
    def environ(self) -> dict[str, str]:
        """No URL in the environment: it stands in the project's .env, as the guide says."""
        found = {key: value for key, value in super().environ.items() if key != "DIRECT_URL"}
        return {**found, "PATH": f"{self.folder / 'bin'}:{PROGRAM.parent}:{_PATH}"}

    def env(self, *files: str, query: str = "") -> None:
        """Write DATABASE_URL into these ``.env`` files."""
        assert self.info is not None
        url = to_url(replace(self.info, schema=query or "public"))
        for name in files:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(f'DATABASE_URL="{url}"\n', encoding="utf-8")

    def program_file(self, name: str, text: str) -> None:
        """A program in ``bin`` of the root, which is on PATH, or at a path of its own."""
        path = self.folder / name if "/" in name else self.folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def npx(self) -> None:
        self.program_file("npx", NPX.format(python=sys.executable, root=str(self.folder)))

    def container(self, program: str, name: str) -> None:
        """`docker exec -i NAME` and `podman exec -i NAME`: the server's own tools, with an environment of their own."""
        assert self.server is not None
        words = {"name": name, "bindir": self.server.bindir, "host": self.server.info.host, "port": self.server.info.port}
        self.program_file(program, CONTAINER.format(**words))

    def typed(self, *words: str, code: int = 0, confirm: bool = True) -> dict[str, Any]:
        """What the operator types; --yes where a name would be asked for."""
        done = self.run(*words, "--json", *(["--yes"] if confirm else []))
        assert done.code == code, done.err
        return done.json

    @property
    def said(self) -> list[str]:
        return (self.folder / "said").read_text().splitlines()

    def tables(self, schema: str = "public") -> list[str]:
        assert self.info is not None
        found = restored.column(self.info, f"select tablename::text from pg_tables where schemaname = '{schema}' order by 1")
        return [each for each in found if each != "_prisma_migrations"]

    def columns(self, table: str) -> list[str]:
        assert self.info is not None
        query = (
            f"select column_name::text from information_schema.columns where table_name = '{table}' order by ordinal_position"
        )
        return restored.column(self.info, query)

    def content(self, packages: Path) -> None:
        """Every generation of Prisma has nothing to do and nothing to say."""
        assert self.info is not None
        for generation in GENERATIONS:
            prisma = Prisma(generation, packages, self.project, self.info)
            assert (generation, prisma.status(), prisma.deploy()) == (generation, "clean", [])


@pytest.fixture
def place(any_server: ScratchServer, tmp_path: Path) -> Iterator[Callable[..., Guided]]:
    """Makes the place of one guide: its database, and the Prisma project in ``where``."""
    with restored.swept(any_server.info):

        def make(name: str, where: str, schema: str = "public") -> Guided:
            info: ConnInfo = replace(restored.create(any_server.info, name), schema=schema)
            made = Guided(tmp_path, info, where=where, server=any_server)
            made.migrations.mkdir(parents=True)
            (made.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
            (made.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
            return made

        yield make
