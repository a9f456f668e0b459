"""What belongs to a database without being in it: read from the shared catalogs of its cluster.

``CREATE DATABASE`` and pg_restore bring back the content. Owner, rights, connection limit, comment and the settings of ``ALTER
DATABASE ... SET`` live outside; what is read here, :mod:`naap_ops.postgres.carryover` puts on another database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naap_ops.errors import DatabaseMissing

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


@dataclass(frozen=True)
class Grant:
    """One right on a database. ``grantee`` None is PUBLIC; ``privilege`` is CREATE, CONNECT or TEMPORARY."""

    grantee: str | None
    privilege: str
    grantable: bool
    grantor: str


@dataclass(frozen=True)
class DatabaseProps:
    """What a database is besides its content. ``acl`` None means the rights were never changed from the default.

    ``provider`` is ``libc``, ``icu`` or ``builtin``, ``locale`` the locale of the latter two; ``settings`` pairs a role (None:
    everybody) with ``name=value`` as the catalog has it.
    """

    encoding: str
    provider: str
    collate: str
    ctype: str
    locale: str | None
    icu_rules: str | None
    owner: str
    acl: tuple[Grant, ...] | None
    connection_limit: int
    comment: str | None
    tablespace: str
    is_template: bool
    settings: tuple[tuple[str | None, str], ...]


def properties(connection: Connection, name: str) -> DatabaseProps:
    """Read from any database of the cluster. Raises DatabaseMissing."""
    version = connection.info.server_version
    provider = "datlocprovider" if version >= 150000 else "'c'"
    locale = "datlocale" if version >= 170000 else "daticulocale" if version >= 150000 else "NULL::text"
    rules = "daticurules" if version >= 160000 else "NULL::text"
    row = connection.execute(
        f"SELECT d.oid, pg_encoding_to_char(encoding), {provider}, datcollate, datctype, {locale}, {rules},"
        " pg_get_userbyid(datdba), datacl IS NULL, datconnlimit, shobj_description(d.oid, 'pg_database'), spcname,"
        " datistemplate FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = dattablespace"
        " WHERE datname = %s".encode(),
        [name],
    ).fetchone()
    if row is None:
        raise DatabaseMissing(database=name, address=f"{connection.info.host}:{connection.info.port}")
    (
        oid,
        encoding,
        provider_code,
        collate,
        ctype,
        locale_name,
        icu_rules,
        owner,
        default_acl,
        limit,
        comment,
        space,
        template,
    ) = row
    return DatabaseProps(
        encoding=encoding,
        provider=PROVIDERS[provider_code],
        collate=collate,
        ctype=ctype,
        locale=locale_name,
        icu_rules=icu_rules,
        owner=owner,
        acl=None if default_acl else _grants(connection, oid),
        connection_limit=limit,
        comment=comment,
        tablespace=space,
        is_template=template,
        settings=_settings(connection, oid),
    )


def _grants(connection: Connection, oid: int) -> tuple[Grant, ...]:
    rows = connection.execute(
        "SELECT CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, privilege_type, is_grantable,"
        " pg_get_userbyid(grantor) FROM pg_catalog.pg_database, LATERAL aclexplode(datacl) WITH ORDINALITY"
        " AS a(grantor, grantee, privilege_type, is_grantable, position) WHERE oid = %s ORDER BY position",
        [oid],
    )
    return tuple(Grant(*row) for row in rows)


def _settings(connection: Connection, oid: int) -> tuple[tuple[str | None, str], ...]:
    rows = connection.execute(
        "SELECT rolname, value FROM pg_catalog.pg_db_role_setting LEFT JOIN pg_catalog.pg_roles r ON r.oid = setrole,"
        " LATERAL unnest(setconfig) WITH ORDINALITY AS c(value, position)"
        " WHERE setdatabase = %s AND (setrole = 0 OR rolname IS NOT NULL) ORDER BY rolname NULLS FIRST, position",
        [oid],
    )
    return tuple((role, value) for role, value in rows)
