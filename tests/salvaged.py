"""A place where rows are salvaged: a backup, writes after it, the backup restored by swap, writes after that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import sql

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import restored
from tests.desk import Desk, Run

WORDS = ("salvage", "--since-backup", "--yes", "--json")


class Ground(Desk):
    """``kept`` is the old database's name."""

    kept: str = ""

    def laid(self, base: str, old: str, live: str = "", *words: str) -> Ground:
        """Statements of before the backup, of between backup and restore, of after the restore."""
        assert self.info is not None
        self.sql(base)
        assert self.run("backup", *words).code == 0
        self.sql(old)
        answer = self.run("restore", "--swap", "--yes", "--json")
        assert answer.code == 0, answer.err
        self.kept = answer.json["previous"]
        if live:
            self.sql(live)
        return self

    def salvage(self, *words: str) -> Run:
        return self.run(*WORDS, *words)

    def done(self, *words: str) -> dict[str, Any]:
        """The tables of a salvage that succeeds, each as (inserted, updated, deleted, left)."""
        answer = self.salvage(*words)
        assert answer.code == 0, answer.err
        tables = answer.json["tables"]
        return {name: tuple(each[k] for k in ("inserted", "updated", "deleted", "left")) for name, each in tables.items()}

    @property
    def quoted(self) -> str:
        """The live database's name, for SQL."""
        assert self.info is not None
        return sql.Identifier(self.info.dbname or "").as_string(None)

    def rows(self, query: str, dbname: str | None = None) -> list[Any]:
        assert self.info is not None
        with connect(self.info, dbname=dbname) as connection:
            return connection.execute(query.encode()).fetchall()

    def texts(self, table: str, dbname: str | None = None) -> list[str]:
        """Every row as text."""
        return sorted(row for (row,) in self.rows(f'select "its row"::text from {table} "its row"', dbname))

    def same(self, tables: Sequence[str]) -> None:
        """The live tables hold what the old ones do."""
        for table in tables:
            assert self.texts(table) == self.texts(table, self.kept), table


@contextmanager
def ground(server: ScratchServer, folder: Path, name: str = restored.NAME) -> Iterator[Ground]:
    """An empty database; all that comes up on the server meanwhile is dropped."""
    with restored.swept(server.info):
        yield Ground(folder, restored.create(server.info, name))
