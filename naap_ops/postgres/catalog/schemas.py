"""Schemas: owner, privileges, comment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from psycopg import Connection

# Schemas that no backup of user data is about.
USER_SCHEMA: LiteralString = "n.nspname <> 'information_schema' and n.nspname !~ '^pg_'"

_QUERY: LiteralString = f"""
select n.oid::bigint, n.nspname, pg_get_userbyid(n.nspowner), n.nspacl::text[], obj_description(n.oid, 'pg_namespace')
from pg_namespace n where {USER_SCHEMA} order by n.nspname
"""


@dataclass(frozen=True)
class Schema:
    """``acl`` is the raw aclitem list, None when it was never changed."""

    oid: int
    name: str
    owner: str
    acl: list[str] | None
    comment: str | None


def schemas(connection: Connection) -> list[Schema]:
    """Every schema that is not the system's, by name."""
    return [Schema(*row) for row in connection.execute(_QUERY)]
