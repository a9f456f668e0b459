"""Who ran what, in the database itself: one row per run in ``naap_ops.runs``, part of the very transaction that it tells of.

A schema of its own, which Prisma does not look into. Where it may not be made, the journal on the disk is all there is.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg

from naap_ops import __version__, redact

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

SCHEMA: Final = "naap_ops"
_THERE: Final = "select pg_catalog.to_regclass('naap_ops.runs') is not null"
_DDL: Final = """
create schema if not exists naap_ops;
comment on schema naap_ops is 'naap_ops: who rolled back what';
create table if not exists naap_ops.runs (
  id bigint generated always as identity primary key,
  journal text not null, what text not null, migration text not null, schema text not null,
  role name not null default session_user, os_user text not null, host text not null, toolkit text not null,
  at timestamptz not null default clock_timestamp(), result text not null, detail jsonb not null default '{}')
"""
_ROW: Final = """
insert into naap_ops.runs (journal, what, migration, schema, os_user, host, toolkit, result, detail)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


def prepare(connection: Connection) -> str | None:
    """Have the table be there; why it cannot be, None when all is well. ``connection`` in autocommit."""
    try:
        if connection.execute(_THERE).fetchone() != (True,):
            with connection.transaction():
                connection.execute(_DDL)
    except psycopg.errors.InsufficientPrivilege as error:
        return f"no audit row is written into the database: {error.diag.message_primary}"
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateObject):
        return None  # somebody else has made it at the same moment
    return None


def add(connection: Connection, *, journal: str, what: str, migration: str, schema: str, result: str, **detail: Any) -> None:
    """One row, in the transaction that is open; nothing where the table is not there or not ours to write."""
    allowed = connection.execute(
        "select coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('naap_ops.runs'), 'INSERT'), false)"
    ).fetchone()
    if allowed == (True,):
        facts = json.dumps(redact.values(detail), default=str)
        connection.execute(_ROW, [journal, what, migration, schema, _user(), socket.gethostname(), __version__, result, facts])


def failed(connection: Connection, **fields: Any) -> None:
    """A row for a run that came to nothing, by itself; never an error on top of the one that it tells of."""
    with suppress(psycopg.Error):
        add(connection, result="failed", **fields)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd
        return str(os.getuid())
