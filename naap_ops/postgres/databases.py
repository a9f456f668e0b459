"""Databases as a whole: made, dropped, named; with what ``properties``, ``carryover`` and ``swap`` know about them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors as server
from psycopg import sql

from naap_ops import clock
from naap_ops.errors import ConfigurationError, PrivilegeMissing, Refused
from naap_ops.postgres.carryover import apply_properties
from naap_ops.postgres.properties import DatabaseProps, Grant, properties
from naap_ops.postgres.swap import Session, rename_swap

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

__all__ = [
    "NAME_BYTES",
    "DatabaseProps",
    "Grant",
    "Session",
    "apply_properties",
    "create",
    "derived_name",
    "drop",
    "exists",
    "properties",
    "rename_swap",
]

NAME_BYTES = 63
_LEAVING_SECONDS = 0.1
_LOOK_SECONDS = 0.002
_SESSIONS = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE datname = %s LIMIT 1"

# What majors 15 to 18 say to an encoding, a locale or a provider they do not have (an option of a newer major: a syntax error).
_UNKNOWN = (
    server.InvalidParameterValue,
    server.WrongObjectType,
    server.FeatureNotSupported,
    server.UndefinedObject,
    server.SyntaxError,
)


def exists(connection: Connection, name: str) -> bool:
    """Whether a database of that exact name is there."""
    return connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone() is not None


def create(connection: Connection, name: str, props: DatabaseProps) -> None:
    """An empty database with the encoding, collation and provider of ``props``, in its tablespace where that exists.

    ``connection`` must be in autocommit. Raises Refused when the name is taken, PrivilegeMissing without CREATEDB,
    ConfigurationError when this server does not know the encoding, the locale or the provider.
    """
    statement = sql.SQL(" ").join([sql.SQL("CREATE DATABASE"), sql.Identifier(name), *_creation(connection, props)])
    try:
        connection.execute(statement)
    except server.DuplicateDatabase:
        raise Refused(reason=f"database {name!r} exists already") from None
    except server.InsufficientPrivilege as error:
        raise _denied(connection, f"create database {name!r} (CREATEDB): {_message(error)}") from None
    except _UNKNOWN as error:
        detail = f"this server cannot hold a database of encoding {props.encoding} and locale {props.locale or props.collate}"
        raise ConfigurationError(
            detail=f"{detail}: {_message(error)}",
            hint="Restore on a server whose system has that locale, and whose build has that collation provider.",
        ) from None


def _creation(connection: Connection, props: DatabaseProps) -> Iterator[sql.Composable]:
    yield sql.SQL("TEMPLATE template0 ENCODING {}").format(props.encoding)
    if connection.info.server_version >= 150000 or props.provider != "libc":
        yield sql.SQL("LOCALE_PROVIDER {}").format(sql.SQL(props.provider))
    yield sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(props.collate, props.ctype)
    if props.locale is not None and props.provider != "libc":
        keyword = "BUILTIN_LOCALE" if props.provider == "builtin" else "ICU_LOCALE"
        yield sql.SQL("{} {}").format(sql.SQL(keyword), props.locale)
    if props.icu_rules is not None:
        yield sql.SQL("ICU_RULES {}").format(props.icu_rules)
    if props.tablespace != "pg_default" and _has_tablespace(connection, props.tablespace):
        yield sql.SQL("TABLESPACE {}").format(sql.Identifier(props.tablespace))


def drop(connection: Connection, name: str) -> None:
    """Drop a database and end its sessions. Harmless when it is not there. Raises PrivilegeMissing, Refused."""
    _leaving(connection, name)
    try:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    except server.InsufficientPrivilege as error:
        raise _denied(connection, f"drop database {name!r}: {_message(error)}") from None
    except (server.ObjectInUse, server.WrongObjectType) as error:
        raise Refused(reason=f"database {name!r} cannot be dropped: {_message(error)}") from None


def _leaving(connection: Connection, name: str) -> None:
    """Give sessions that have just been closed a moment to go: the server looks for them once in a tenth of a second only
    (CountOtherDBBackends in procarray.c)."""
    ends = time.monotonic() + _LEAVING_SECONDS
    while connection.execute(_SESSIONS, [name]).fetchone() is not None and time.monotonic() < ends:
        time.sleep(_LOOK_SECONDS)


def derived_name(base: str, role: str, moment: datetime) -> str:
    """``<base>__<role>_20261121T031500Z``; ``base`` is cut between characters so that the whole fits a name (63 bytes)."""
    suffix = f"__{role}_{clock.stamp(moment)}"
    room = NAME_BYTES - len(suffix.encode())
    return base.encode()[:room].decode("utf-8", "ignore") + suffix


def _has_tablespace(connection: Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_catalog.pg_tablespace WHERE spcname = %s", [name]).fetchone() is not None


def _denied(connection: Connection, action: str) -> PrivilegeMissing:
    return PrivilegeMissing(user=connection.info.user, action=action)


def _message(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)
