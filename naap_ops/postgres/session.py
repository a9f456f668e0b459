"""Sessions of our own: opened with every failure named, without timeouts, and asked what server they reached.

libpq gives no SQLSTATE for a connection that was refused, only text. Its own texts are English here (no locale is set), the
server's are in the server's language. So what is not recognised is found out by asking: can another database be reached with
the same user and password, and what does it know of the one wanted?
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
from psycopg.conninfo import make_conninfo

from naap_ops.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DatabaseMissing,
    OpsError,
    PrivilegeMissing,
    ServerUnreachable,
)

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo

Connection = psycopg.Connection[tuple[Any, ...]]

MAINTENANCE = ("postgres", "template1")
CONNECT_SECONDS = 15
_TRANSACTION_TIMEOUT_SINCE = 170000
_LIFT_ATTEMPTS = 10

_MISSING = re.compile(r'database ".*" does not exist', re.DOTALL)
_NO_CONNECT = re.compile(r"permission denied for database|is not currently accepting connections")
_AUTHENTICATION = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects|is not permitted to log in"
    r'|role ".*" does not exist|SCRAM|fe_sendauth|authentication method requirement|channel binding'
)
_TLS = re.compile(
    r"does not support SSL|SSL error|certificate|sslmode|SSL support is not compiled in|private key|sslrootcert|TLS",
    re.IGNORECASE,
)
_SETTINGS = re.compile(
    r"definition of service|service file|invalid (?:port|integer) |invalid connection option|invalid .* value"
)
_FULL = re.compile(r"too many (?:clients|connections)|connection slots are reserved")
_NOT_SERVING = re.compile(r"the database system is ")  # starting up, shutting down, in recovery
_ANSWERED = re.compile(r"failed: \w+:  ")  # `FATAL:  text`, the severity in the server's language
_NOISE = re.compile(r"^connection (?:failed|is bad): |\s*Multiple connection attempts failed.*", re.DOTALL)


@dataclass(frozen=True)
class ServerInfo:
    """What was reached, and what the session's user may do there. ``system_identifier`` is None where its reading is denied."""

    version_num: int
    version: str
    major: int
    system_identifier: str | None
    in_recovery: bool
    is_superuser: bool
    can_createdb: bool
    user: str


def connect(
    info: ConnInfo, *, dbname: str | None = None, application_name: str = "naap_ops", autocommit: bool = True
) -> Connection:
    """A session in ``dbname`` (default: the connection's own), UTF-8, without the server's timeouts, dates as ISO has them.

    What it commits is on the server's disk, even where ``synchronous_commit`` is off: procedures go on from there.

    Raises ServerUnreachable, AuthenticationFailed, DatabaseMissing, PrivilegeMissing (CONNECT) and ConfigurationError (TLS
    demanded and not to be had, words libpq does not know).
    """
    overrides = {"application_name": application_name, "client_encoding": "UTF8", **({"dbname": dbname} if dbname else {})}
    try:
        connection = psycopg.connect(_words(info, **overrides), autocommit=True)
    except psycopg.OperationalError as error:
        raise _named(str(error), info if dbname is None else info.with_dbname(dbname)) from None
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(detail=f"libpq refuses the connection settings: {str(error).strip()}") from None
    try:
        _lift_timeouts(connection)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def maintenance(
    info: ConnInfo, *, avoid: Collection[str | None] = (), application_name: str = "naap_ops", autocommit: bool = True
) -> Connection:
    """A session from which databases can be created, renamed and dropped: in ``postgres``, else ``template1``, else its own.

    ``avoid``: databases it must not be connected to. Raises as :func:`connect`, and PrivilegeMissing when none is left.
    """
    names = [name for name in dict.fromkeys((*MAINTENANCE, info.dbname)) if name and name not in avoid]
    failure: OpsError = PrivilegeMissing(
        user=info.user or "(default)", action=f"connect to a database other than {', '.join(filter(None, avoid))}"
    )
    for name in names:
        try:
            return connect(info, dbname=name, application_name=application_name, autocommit=autocommit)
        except (DatabaseMissing, PrivilegeMissing, AuthenticationFailed) as refused:
            failure = refused
    raise failure


def server_info(connection: Connection) -> ServerInfo:
    """Ask the server about itself and about the session's user."""
    row = connection.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),"
        " rolsuper, rolsuper OR rolcreatedb, rolname, has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
        " FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row is not None
    number, version, in_recovery, superuser, createdb, user, may_read_control = row
    identifier = None
    if may_read_control:
        control = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
        identifier = str(control[0]) if control else None
    return ServerInfo(
        version_num=number,
        version=version,
        major=number // 10000,
        system_identifier=identifier,
        in_recovery=in_recovery,
        is_superuser=superuser,
        can_createdb=createdb,
        user=user,
    )


def _words(info: ConnInfo, **overrides: str) -> str:
    # psycopg's own default is 130 s per address.
    return make_conninfo("", **{"connect_timeout": CONNECT_SECONDS, **info.kwargs(**overrides)})


SPELLING: Final = {"datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex"}
"""How values are spelled: exactly, as psycopg reads them, and everywhere the same, whatever a server, a database or a role
prefers. Which of day and month comes first stays as it is."""
_SPELLING = "; ".join(f"SET {name} = {value}" for name, value in SPELLING.items())
# Stronger settings than `on` stay.
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"


def _lift_timeouts(connection: Connection) -> None:
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
    if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        names.append("transaction_timeout")
    for _ in range(_LIFT_ATTEMPTS):  # a statement_timeout of few ms can hit this very statement
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            connection.execute("; ".join([*(f"SET {name} = 0" for name in names), _SPELLING, _DURABLE]).encode())
            return
    raise ConfigurationError(
        detail=f"the statement_timeout of user {connection.info.user} is so short that it cannot even be lifted",
        hint="Raise it: ALTER ROLE ... SET statement_timeout, or ALTER DATABASE ... SET.",
    )


def spell(connection: Connection) -> None:
    """As :data:`SPELLING` says, which is how a session begins."""
    connection.execute(_SPELLING.encode())


def _named(text: str, info: ConnInfo) -> OpsError:
    """The failure that libpq's text tells of."""
    reason = " ".join(_NOISE.sub("", text).split())
    known = _recognised(text, reason, info)
    if known is not None:
        return known
    if _ANSWERED.search(text):
        return _asked_elsewhere(reason, info)
    return ServerUnreachable(address=info.address, reason=reason)


def _recognised(text: str, reason: str, info: ConnInfo) -> OpsError | None:
    user = info.user or "(default)"
    if _MISSING.search(text):
        return DatabaseMissing(database=info.dbname or user, address=info.address)
    if _NO_CONNECT.search(text):
        return PrivilegeMissing(user=user, action=f"connect to database {info.dbname}: {reason}")
    if _AUTHENTICATION.search(text):
        hint = "The server wants TLS here: add sslmode=require to the URL." if re.search("no encryption|SSL off", text) else ""
        return AuthenticationFailed(address=info.address, user=user, reason=reason, hint=hint)
    if _FULL.search(text):
        hint = "All of its connection slots are taken: end idle sessions, or raise max_connections."
        return ServerUnreachable(address=info.address, reason=reason, hint=hint)
    if _NOT_SERVING.search(text):
        return ServerUnreachable(address=info.address, reason=reason)
    if "FATAL" not in text and _TLS.search(text):
        hint = "Does the server offer TLS, with a certificate this machine can check? See sslmode and sslrootcert in the URL."
        return ConfigurationError(detail=f"no TLS connection to {info.address}: {reason}", hint=hint)
    if _SETTINGS.search(text):
        return ConfigurationError(detail=f"libpq refuses the connection settings: {reason}")
    return None


def _asked_elsewhere(reason: str, info: ConnInfo) -> OpsError:
    """The server refused in words that were not recognised. What does it say of the database in another one?"""
    user = info.user or "(default)"
    for name in MAINTENANCE:
        if name == info.dbname:
            continue
        try:
            with psycopg.connect(_words(info, dbname=name), autocommit=True) as connection:
                known = connection.execute(
                    "SELECT datallowconn AND has_database_privilege(oid, 'CONNECT') FROM pg_catalog.pg_database"
                    " WHERE datname = %s",
                    [info.dbname],
                ).fetchone()
        except psycopg.OperationalError:
            continue
        if known is None:
            return DatabaseMissing(database=info.dbname, address=info.address)
        if not cast("bool", known[0]):
            return PrivilegeMissing(user=user, action=f"connect to database {info.dbname}: {reason}")
        return ServerUnreachable(address=info.address, reason=reason)
    return AuthenticationFailed(address=info.address, user=user, reason=reason)
