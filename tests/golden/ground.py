"""Where the golden cases run: a database of one server, cleared after each case rather than made anew, which is much faster."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from naap_ops import process
from naap_ops.postgres.catalog.difference import differences
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, connect
from tests.golden.cases import ROLES, TABLESPACE

USER = "golden"  # a superuser other than the server's first, so that DROP OWNED can clear what it made
_NOISE = re.compile(r"^(?:--.*|\\(?:un)?restrict .*|SET .*|SELECT pg_catalog\.set_config.*)?$\n?", re.MULTILINE)
_GRANTS = ("GRANT", "REVOKE")
_LAST_WORD = re.compile(r",$")


class Ground:
    """``with_schema(name)`` gives a session in an empty database in which unqualified names mean that schema."""

    connection: Connection
    blank: Catalog
    dumps: dict[str, str]

    def __init__(self, server: ScratchServer) -> None:
        self.server = server
        self.dumps = {}
        self.name = f"golden_{secrets.token_hex(4)}"
        with connect(server.info) as admin:
            for role in (USER, *ROLES):
                with suppress(psycopg.errors.DuplicateObject):
                    admin.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
            admin.execute(sql.SQL("alter role {} superuser login").format(sql.Identifier(USER)))
            admin.execute("set allow_in_place_tablespaces = on")
            with suppress(psycopg.errors.DuplicateObject):
                admin.execute(sql.SQL("create tablespace {} location ''").format(sql.Identifier(TABLESPACE)))
        self._make()

    @property
    def major(self) -> int:
        """Of the server."""
        return self.connection.info.server_version // 10_000

    def with_schema(self, name: str) -> Connection:
        """An empty database, ``name`` the schema that unqualified names mean."""
        connection = self.connection
        connection.execute(sql.SQL("create schema if not exists {0}; set search_path to {0}").format(sql.Identifier(name)))
        return connection

    def clear(self) -> None:
        """Take away whatever a case has made."""
        with suppress(psycopg.Error):
            self.connection.execute("rollback")
            self.connection.execute("reset session authorization; reset role; reset all")
            owners = sql.SQL(", ").join(map(sql.Identifier, (*ROLES, USER)))
            self.connection.execute(sql.SQL("drop owned by {} cascade; create schema public").format(owners))
            if not differences(self.blank, snapshot(self.connection)):
                return
        self.close()
        self._make()

    def close(self) -> None:
        """Drop the database."""
        self.connection.close()
        with connect(self.server.info) as admin:
            admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(self.name)))

    def _make(self) -> None:
        name, owner = sql.Identifier(self.name), sql.Identifier(USER)
        with connect(self.server.info) as admin:
            admin.execute(sql.SQL("create database {} template template0 owner {}").format(name, owner))
        self.connection = connect(self.server.info.with_dbname(self.name).with_params(user=USER))
        self.connection.execute("drop schema public cascade; create schema public")
        self.blank = snapshot(self.connection)

    def dump(self) -> str:
        """``pg_dump --schema-only`` of the database."""
        info = self.server.info.with_dbname(self.name)
        argv: list[str | Path] = [self.server.bindir / "pg_dump", "--schema-only"]
        return process.run(argv, env=info.tool_env())[1].decode()


def canonical(dump: str, *, ordered: bool = True) -> list[str]:
    """The statements of a dump, sorted. Not ``ordered``: the lines within each (a table's columns) are sorted as well."""
    entries = [_NOISE.sub("", entry).strip() for entry in re.split(r"^--\n-- Name: .*\n--\n", dump, flags=re.MULTILINE)]
    entries = ["\n".join(sorted(entry.splitlines())) if entry.startswith(_GRANTS) else entry for entry in entries]
    if not ordered:
        entries = ["\n".join(sorted(_LAST_WORD.sub("", line) for line in entry.splitlines())) for entry in entries]
    return sorted(filter(None, entries))
