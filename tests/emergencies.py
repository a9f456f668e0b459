"""A place where an emergency happens: three migrations deployed, a backup from before the last, rows written since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import restored
from tests.integration.prisma.conftest import INIT, PROFILE, SCHEMA, SCRIPTS, TABLE, WALLET, Site

SETTINGS = """
[services]
stop = ["./say.sh", "stop"]
start = ["./say.sh", "start"]
[maintenance]
on = ["./say.sh", "on"]
off = ["./say.sh", "off"]
"""


@dataclass
class Scene(Site):
    """``said`` is what the configured commands were called with."""

    @property
    def said(self) -> list[str]:
        log = self.folder / "said"
        return log.read_text().split() if log.exists() else []

    @property
    def folders(self) -> list[str]:
        return sorted(path.name for path in self.migrations.iterdir() if path.is_dir())

    @property
    def books(self) -> list[str]:
        """Names that Prisma takes for applied."""
        assert self.info is not None
        query = "select migration_name from _prisma_migrations where rolled_back_at is null order by 1"
        return restored.column(self.info, query)

    @property
    def users(self) -> int:
        return int(self.ask('select count(*) from "User"'))

    def deploy(self, name: str) -> None:
        script = SCRIPTS[name]
        self.sql(script)
        self.book(name, hashlib.sha256(script.encode()).hexdigest())

    def commands(self, more: str = "") -> None:
        """Have the four commands be configured. ``more``: shell that the script runs first, its word in ``$1``."""
        script = self.folder / "say.sh"
        script.write_text(f'#!/bin/sh\n{more}\necho "$1" >> "{self.folder}/said"\necho "told $1"\n')
        script.chmod(0o755)
        self.settings(SETTINGS)

    def journals(self) -> list[Path]:
        return sorted((self.folder / ".naap_ops" / "journal").glob("*.jsonl"))

    def events(self) -> list[dict[str, Any]]:
        """Of the newest journal, as far as its lines are whole."""
        lines = self.journals()[-1].read_bytes().splitlines() if self.journals() else []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def reached(self, step: str, state: str) -> bool:
        return any((each.get("name"), each.get("state")) == (step, state) for each in self.events())

    def assert_before(self) -> None:
        """The live database, the folders and the server are as before the emergency."""
        assert self.info is not None
        assert (self.users, self.books, self.folders) == (5, [INIT, PROFILE, WALLET], [INIT, PROFILE, WALLET])
        assert self.ask('select count(*) from "Wallet"') == 2
        assert (
            restored.ours(self.info, "restore") == restored.ours(self.info, "ready") == restored.ours(self.info, "before") == []
        )
        assert self.put_away() == []

    def assert_taken_back(self, *, held: bool = False) -> None:
        """The live database is the backup's, the folder is in the archive with its row, nothing is left half-made."""
        assert self.info is not None
        assert (self.users, self.folders) == (3, [INIT, PROFILE])
        assert self.books == [INIT, PROFILE, *([WALLET] if held else [])]
        assert self.ask("select to_regclass('\"Wallet\"')::text") is None
        assert restored.ours(self.info, "restore") == restored.ours(self.info, "ready") == []
        [old] = restored.ours(self.info, "before")
        assert self.ask('select count(*) from "User"', dbname=old) == 5
        [record] = self.put_away()
        assert record["migration"] == WALLET
        assert record["state"] == ("held" if held else "done")
        assert [row["migration_name"] for row in record["rows"]["public"]] == [WALLET]

    def put_away(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_bytes()) for path in self.app().archive.glob("*/untracked.json")]

    def accepts(self) -> bool:
        assert self.info is not None
        with connect(self.info, dbname="postgres") as session:
            row = session.execute("select datallowconn from pg_database where datname = %s", [self.info.dbname]).fetchone()
        return bool(row and row[0])


@contextmanager
def scene(server: ScratchServer, folder: Path, *statements: str) -> Iterator[Scene]:
    """The backup has three users, and what ``statements`` make; since then came a migration, two wallets and two users."""
    with restored.swept(server.info):
        site = Scene(folder, restored.create(server.info, restored.NAME))
        for name, script in SCRIPTS.items():
            site.add(name, script)
        (site.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
        (site.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
        site.sql(TABLE.format("public"))
        for name in (INIT, PROFILE):
            site.deploy(name)
        site.sql('insert into "User" select generate_series(1, 3)', *statements)
        site.backup()
        site.deploy(WALLET)
        site.sql('insert into "User" select generate_series(4, 5)', 'insert into "Wallet" values (1), (2)')
        yield site
