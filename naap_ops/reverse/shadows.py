"""Shadow databases: made or emptied, marked as ours, filled with a starting state, and gone afterwards in any case.

The mark is the database's comment. It says who made it, so that what a killed run left behind is recognised and swept, and a
database given by URL is emptied only if it was empty before or what is in it is ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from naap_ops import clock
from naap_ops.errors import Busy, ConfigurationError, PrivilegeMissing
from naap_ops.postgres.databases import create, drop, properties
from naap_ops.postgres.session import connect, maintenance, server_info
from naap_ops.reverse.replay import search_path

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

PREFIX = "naap_shadow_"
_MARK = "naap_ops shadow "
_OLD = timedelta(hours=1)
_LOCK = "pg_catalog.hashtextextended('naap_ops shadow', 0)"
_NAME = re.compile(rf"{PREFIX}[0-9a-f]{{12}}")
_CONTENTS = """
select 'schema ' || nspname from pg_catalog.pg_namespace
  where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')
union all select 'relation ' || c.oid::regclass::text from pg_catalog.pg_class c
  where c.relnamespace = to_regnamespace('public') and c.relkind not in ('i', 'I', 't')
union all select 'routine ' || p.proname from pg_catalog.pg_proc p where p.pronamespace = to_regnamespace('public')
union all select 'type ' || t.typname from pg_catalog.pg_type t
  where t.typnamespace = to_regnamespace('public') and t.typrelid = 0 and t.typelem = 0
union all select 'extension ' || extname from pg_catalog.pg_extension where extname <> 'plpgsql'
union all select 'publication ' || pubname from pg_catalog.pg_publication
union all select 'event trigger ' || evtname from pg_catalog.pg_event_trigger
"""
# In the order in which they can be dropped: what reacts to a DROP goes first.
_DROPS = (
    ("event trigger", "select evtname from pg_catalog.pg_event_trigger"),
    ("publication", "select pubname from pg_catalog.pg_publication"),
    ("schema", "select nspname from pg_catalog.pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'"),
    ("extension", "select extname from pg_catalog.pg_extension where extname <> 'plpgsql'"),
    ("foreign data wrapper", "select fdwname from pg_catalog.pg_foreign_data_wrapper"),
    ("language", "select lanname from pg_catalog.pg_language where oid >= 16384 and lanname <> 'plpgsql'"),
)


def session(info: ConnInfo, schema: str) -> Connection:
    """A session in a shadow as a migration's is: unqualified names mean exactly ``schema``, made if it is not there."""
    connection = connect(info, application_name="naap_ops shadow")
    connection.execute("set jit = off; set client_min_messages = error")
    connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
    search_path(connection, schema)
    return connection


# --- a database of our own ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def beside(info: ConnInfo, like: str | None = None) -> Iterator[ConnInfo]:
    """A new database on the server of ``info``, with encoding and locale of the database ``like``; dropped afterwards.

    What earlier runs left there is dropped first. Raises PrivilegeMissing without CREATEDB.
    """
    name = f"{PREFIX}{secrets.token_hex(6)}"
    with maintenance(info) as admin:
        with _alone(admin):
            sweep(admin)
        try:
            with _alone(admin):  # so that no other run takes it, still without mark, for something left over
                create(admin, name, properties(admin, like or "template1"))
                _mark(admin, name)
            yield info.with_dbname(name)
        finally:
            drop(admin, name)


def sweep(admin: Connection) -> list[str]:
    """Drop shadows whose makers are dead. Their names. A database in use, another role's or one made within the hour stays."""
    rows = admin.execute(
        "select d.datname, pg_catalog.shobj_description(d.oid, 'pg_database') from pg_catalog.pg_database d"
        f" where pg_catalog.pg_get_userbyid(d.datdba) = current_user and d.datname ~ '^{PREFIX}'"
        " and not exists (select from pg_catalog.pg_stat_activity a where a.datid = d.oid)".encode()
    ).fetchall()
    dead = [name for name, comment in rows if _NAME.fullmatch(name) and _is_left_over(comment)]
    for name in dead:
        drop(admin, name)
    return dead


def _is_left_over(comment: str | None) -> bool:
    """Of a database that bears our kind of name and has no sessions. One without mark was cut short while it was made."""
    if comment is None:
        return True
    made = _made(comment)
    if made is None or clock.now() - clock.parse(made["at"]) < _OLD:
        return False
    return made["host"] != socket.gethostname() or not _lives(int(made["pid"]))


def _made(comment: str) -> dict[str, Any] | None:
    """Who made a database, from its mark; None when that is not ours."""
    if not comment.startswith(_MARK):
        return None
    try:
        found: dict[str, Any] = json.loads(comment.removeprefix(_MARK))
        return found if {"at", "host", "pid"} <= found.keys() else None
    except ValueError:
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _mark(connection: Connection, name: str) -> None:
    text = _MARK + json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "at": clock.iso()})
    connection.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(name), text))


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    connection.execute(f"select pg_catalog.pg_advisory_lock({_LOCK})".encode())
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"select pg_catalog.pg_advisory_unlock({_LOCK})".encode())


# --- a database that was given --------------------------------------------------------------------------------------


@contextlib.contextmanager
def given(info: ConnInfo, live: ConnInfo | None) -> Iterator[ConnInfo]:
    """The database of ``shadow_database_url``, emptied before and after.

    Raises ConfigurationError when it is the live one or holds what is not ours, Busy when another run has it.
    """
    with connect(info) as connection:
        name = connection.info.dbname
        if live is not None:
            _must_be_another(connection, info, live)
        row = connection.execute(f"select pg_catalog.pg_try_advisory_lock({_LOCK})".encode()).fetchone()
        if row != (True,):
            raise Busy(what=f"a run on the shadow database {name!r}", holder="see pg_stat_activity there")
        _must_be_ours(connection, name)
        try:
            _mark(connection, name)
            clear(connection)
            yield info.with_dbname(name)
        except psycopg.errors.InsufficientPrivilege as error:
            action = f"empty the shadow database {name!r}: {error.diag.message_primary}"
            raise PrivilegeMissing(user=connection.info.user, action=action) from None
        finally:
            if not connection.closed:
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege):  # told above
                    clear(connection)
                    connection.execute(sql.SQL("comment on database {} is null").format(sql.Identifier(name)))
                # The server ends a session a moment after its client has gone: the next run must not meet the lock still.
                connection.execute(f"select pg_catalog.pg_advisory_unlock({_LOCK})".encode())


def _must_be_another(shadow: Connection, info: ConnInfo, live: ConnInfo) -> None:
    same = info.hosts() == live.hosts() and shadow.info.dbname == live.dbname
    with contextlib.suppress(ConfigurationError), connect(live) as other:
        same = same or _identity(shadow) == _identity(other)
    if same:
        raise ConfigurationError(
            detail=f"shadow_database_url names the live database {shadow.info.dbname!r}, which a shadow would empty",
            hint="Give a database of its own, or none: `create database naap_shadow`.",
        )


def _identity(connection: Connection) -> tuple[Any, ...]:
    """The server and the database, also where the system identifier may not be read: by the postmaster's start."""
    row = connection.execute("select pg_catalog.pg_postmaster_start_time(), current_database()").fetchone()
    assert row is not None
    identifier = server_info(connection).system_identifier
    return (identifier or row[0], row[1])


def _must_be_ours(connection: Connection, name: str) -> None:
    row = connection.execute(
        "select pg_catalog.shobj_description(oid, 'pg_database') from pg_catalog.pg_database where datname = current_database()"
    ).fetchone()
    if row is not None and row[0] is not None and _made(row[0]) is not None:
        return
    found = [what for (what,) in connection.execute(f"{_CONTENTS} limit 4".encode()).fetchall()]
    if found:
        shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise ConfigurationError(
            detail=f"the shadow database {name!r} is not empty and what it holds is not ours: {shown}",
            hint="A shadow is emptied at every run. Give an empty database, or empty this one yourself if nobody needs it.",
        )


def clear(connection: Connection) -> None:
    """Drop everything in the database, and make ``public`` as a new database has it."""
    for what, query in _DROPS:
        for (name,) in connection.execute(query.encode()).fetchall():
            connection.execute(sql.SQL("drop {} if exists {} cascade").format(sql.SQL(what), sql.Identifier(name)))
    connection.execute("create schema public; comment on schema public is 'standard public schema'")
    connection.execute("grant usage on schema public to public")
    if connection.info.server_version >= 150000:
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):  # its owner is then whoever may create in it anyway
            connection.execute("alter schema public owner to pg_database_owner")
    else:
        connection.execute("grant create on schema public to public")
