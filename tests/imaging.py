"""Round trips, for tests: a database with rows, a migration whose images are taken, writes since, the way back.

What the way back has to give is said by a test itself, or is what the database held before the migration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import Connection, connect
from naap_ops.reverse.document import segments
from naap_ops.reverse.images import taking
from naap_ops.reverse.images.model import Image, images_of
from naap_ops.reverse.images.statements import CONFLICTS, COUNTED
from naap_ops.reverse.make import Reverse, make
from naap_ops.reverse.proof import Shadow
from naap_ops.reverse.render import Sql, quoted
from naap_ops.reverse.replay import search_path
from naap_ops.reverse.script import parse

MIGRATION = "20260101000000_up"


@dataclass
class Trip:
    """One round trip. ``before`` makes the tables; ``live`` is the database in which it happens, ``aside`` another."""

    live: Connection
    aside: Connection
    before: str
    schema: str = "public"
    images: tuple[Image, ...] = ()
    restored: dict[str, int] = field(default_factory=dict)
    conflicts: list[tuple[str, str, list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run(self.live, self.before)

    def afresh(self, before: str) -> None:
        """Begin another one in the same database."""
        self.live.execute(
            sql.SQL("rollback; drop schema if exists {0}, naap_ops cascade; create schema {0}").format(
                sql.Identifier(self.schema)
            )
        )
        self.before, self.images, self.conflicts = before, (), []
        self.run(self.live, before)

    def run(self, connection: Connection, text: str) -> None:
        """A script, with the schema's names."""
        search_path(connection, self.schema)
        connection.execute(text.encode())

    def that_run(self, scripts: Sequence[str]) -> str:
        """As one script those that run one after the other in the live database; nothing of them stays."""
        kept = []
        self.live.execute("begin")
        for script in scripts:
            self.live.execute("savepoint s")
            try:
                self.live.execute(script.encode())
            except psycopg.Error:
                self.live.execute("rollback to savepoint s")
            else:
                kept.append(script)
        self.live.execute("rollback")
        return ";\n".join(kept)

    def made(self, script: str, images: Sequence[Image] = (), *, force: bool = False) -> Reverse:
        """The reverse, proved on the database aside."""
        schema = sql.Identifier(self.schema)
        self.aside.execute(
            sql.SQL("drop schema if exists {} cascade; drop schema if exists naap_ops cascade; create schema {}").format(
                schema, schema
            )
        )
        self.run(self.aside, self.before)
        shadow = Shadow(self.aside, snapshot(self.aside, schema=self.schema))
        parsed = parse(script.encode(), name=MIGRATION)
        return make(shadow, parsed, Sql(self.schema), state="a test", images=images, force=force)

    def up(self, script: str) -> Reverse:
        """Deploy it as `invoke deploy` does, images and all; the structural reverse."""
        plain = self.made(script)
        assert plain.status == "proved", plain.reason
        images = images_of(MIGRATION, plain.keeps)
        self.live.execute("begin")
        images = taking.before(self.live, images, lock=True)
        self.run(self.live, script)
        self.images = taking.after(self.live, images)
        self.live.execute("commit")
        return plain

    def down(self, script: str, *, force: bool = False) -> Reverse:
        """Go back by the reverse with images, proved."""
        made = self.made(script, self.images, force=force)
        assert made.status == "proved", made.reason
        assert made.unfit == ()
        self.live.execute("begin")
        for part in segments(made.text):
            self.live.execute(part.sql.encode())
        if self.images:
            counted = self.live.execute(COUNTED.encode()).fetchall()
            self.restored = {relation: int(rows) for relation, rows in counted if rows}
            self.conflicts = self.live.execute(f"select * from {CONFLICTS} order by 1, 2".encode()).fetchall()
        self.live.execute("commit")
        return made

    def there_and_back(self, script: str) -> None:
        """It changes something; afterwards all is as it was, and nothing is a conflict."""
        was = self.contents()
        self.up(script)
        assert self.contents() != was
        self.down(script)
        assert self.contents() == was
        assert self.conflicts == []

    def rows(self, query: str) -> list[Any]:
        """What a query gives; of one column its values."""
        search_path(self.live, self.schema)
        found = self.live.execute(query.encode()).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def contents(self) -> dict[str, list[str]]:
        """Every row of every table of the schema, as text, with the names of its columns."""
        tables = self.rows(
            f"select c.relname from pg_class c where c.relnamespace = '{self.schema}'::regnamespace and relkind in ('r', 'p')"
        )
        return {name: self.rows(f"select to_jsonb(t)::text from {quoted(name)} t order by 1") for name in tables}


@contextmanager
def trip(info: ConnInfo, before: str) -> Iterator[Trip]:
    """In this database, with a second one for the proofs that is gone afterwards."""
    name = f"{info.dbname}_aside"
    with connect(info) as live:
        live.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        try:
            with connect(info, dbname=name) as aside:
                yield Trip(live, aside, before)
        finally:
            live.execute("rollback")
            live.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
