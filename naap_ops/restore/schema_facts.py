"""A live schema's own properties, read before it steps aside and given to the one that takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql

from naap_ops.errors import Refused

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_SCHEMA: LiteralString = """
select n.oid::bigint, pg_get_userbyid(n.nspowner), n.nspacl::text[], obj_description(n.oid, 'pg_namespace'),
  (select count(*) from pg_class where relnamespace = n.oid and relkind in ('r', 'p'))
from pg_namespace n where nspname = %s
"""

_BYTES: LiteralString = """
select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class where relnamespace = %s and relkind in ('r', 'm')
"""

_GRANTS: LiteralString = """
select case when grantee <> 0 then pg_get_userbyid(grantee) end, privilege_type, is_grantable from aclexplode(%s::aclitem[])
"""

# Rights given in advance, by schema, are additions to the general ones: there is nothing to revoke (ALTER DEFAULT PRIVILEGES).
_DEFAULTS: LiteralString = """
select pg_get_userbyid(d.defaclrole), d.defaclobjtype::text,
  case when a.grantee <> 0 then pg_get_userbyid(a.grantee) end, a.privilege_type, a.is_grantable
from pg_default_acl d, aclexplode(d.defaclacl) a where d.defaclnamespace = %s
"""
_OBJECTS = {"r": "tables", "S": "sequences", "f": "functions", "T": "types"}

_EXTENSIONS: LiteralString = "select extname, extrelocatable from pg_extension where extnamespace = %s order by extname"


@dataclass(frozen=True)
class LiveSchema:
    """``acl`` is the raw list, None when it was never changed; ``tables`` their number; ``defaults`` default privileges."""

    oid: int
    name: str
    owner: str | None
    acl: list[str] | None
    comment: str | None
    tables: int
    defaults: Sequence[tuple[Any, ...]]
    extensions: Sequence[str]


def live_schema(connection: Connection, name: str) -> LiveSchema | None:
    """The schema, or None. Raises Refused when an extension in it cannot be moved."""
    row = connection.execute(_SCHEMA, [name]).fetchone()
    if row is None:
        return None
    oid, owner, acl, comment, tables = row
    extensions = connection.execute(_EXTENSIONS, [oid]).fetchall()
    fixed = [extension for extension, relocatable in extensions if not relocatable]
    if fixed:
        raise Refused(
            reason=f"schema {name} holds extension {', '.join(fixed)}, which cannot be moved to another schema",
            hint="Restore the whole database (--swap), or its tables one by one (--table).",
        )
    defaults = connection.execute(_DEFAULTS, [oid]).fetchall()
    return LiveSchema(oid, name, owner, acl, comment, tables, defaults, [extension for extension, _ in extensions])


def total_bytes(connection: Connection, oid: int) -> int:
    """Bytes of the schema's tables with their indexes."""
    row = connection.execute(_BYTES, [oid]).fetchone()
    assert row is not None
    return int(row[0])


def create(connection: Connection, schema: LiveSchema) -> None:
    """Create the schema anew, with its owner and comment."""
    name = sql.Identifier(schema.name)
    if schema.owner is None:
        connection.execute(sql.SQL("create schema {}").format(name))
    else:
        connection.execute(sql.SQL("create schema {} authorization {}").format(name, sql.Identifier(schema.owner)))
    if schema.comment is not None:
        connection.execute(sql.SQL("comment on schema {} is {}").format(name, sql.Literal(schema.comment)))


def move_extensions(connection: Connection, extensions: Sequence[str], schema: str) -> None:
    """Take extensions along: their objects are in the schema, but do not belong to it."""
    for extension in extensions:
        statement = sql.SQL("alter extension {} set schema {}")
        connection.execute(statement.format(sql.Identifier(extension), sql.Identifier(schema)))


def grant(connection: Connection, schema: LiveSchema) -> None:
    """Give the schema its rights, and the rights that objects made in it later are to have."""
    name = sql.Identifier(schema.name)
    if schema.acl is not None:
        if schema.owner is not None:
            connection.execute(sql.SQL("revoke all on schema {} from {}").format(name, sql.Identifier(schema.owner)))
        for grantee, privilege, grantable in connection.execute(_GRANTS, [schema.acl]).fetchall():
            statement = sql.SQL("grant {} on schema {} to {}{}")
            connection.execute(statement.format(sql.SQL(privilege), name, _role(grantee), _option(grantable)))
    for role, kind, grantee, privilege, grantable in schema.defaults:
        statement = sql.SQL("alter default privileges for role {} in schema {} grant {} on {} to {}{}")
        what = sql.SQL(_OBJECTS[kind])
        connection.execute(
            statement.format(sql.Identifier(role), name, sql.SQL(privilege), what, _role(grantee), _option(grantable))
        )


def _role(name: str | None) -> sql.Composable:
    return sql.SQL("public") if name is None else sql.Identifier(name)


def _option(grantable: bool) -> sql.SQL:
    return sql.SQL(" with grant option" if grantable else "")
