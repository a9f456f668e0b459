"""Schemas."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, acl, comment, not_member


class Schema(NamedTuple):
    """``public`` is one, too: the server makes it, but it can be dropped, and its privileges changed."""

    key: int
    name: str
    owner: str
    acl: list[str] | None
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select n.oid::bigint, n.nspname::text, pg_get_userbyid(n.nspowner)::text, {acl("n.nspacl", "n", "n.nspowner")},
      {comment("pg_namespace", "n.oid")}
    from pg_catalog.pg_namespace n where {SCHEMAS} and {not_member("pg_namespace", "n.oid")}"""


KIND = Kind("schema", Schema._make, _query, identity=("name",), own=("name", "owner", "acl", "comment"))
