"""Domains, with their constraints."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, acl, comment, not_member


class Domain(NamedTuple):
    """``constraints``: ``"name" CHECK (...)`` each, sorted by name (a NOT NULL is ``not_null``)."""

    key: int
    schema: str
    name: str
    owner: str
    base: str
    collation: str | None
    default: str | None
    not_null: bool
    constraints: list[str]
    acl: list[str] | None
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select t.oid::bigint, n.nspname::text, t.typname::text, pg_get_userbyid(t.typowner)::text, format_type(t.typbasetype, t.typtypmod),
      case when t.typcollation <> b.typcollation then t.typcollation::regcollation::text end,
      t.typdefault, t.typnotnull,
      array(select quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid) from pg_catalog.pg_constraint k
        where k.contypid = t.oid and k.contype = 'c' order by k.conname),
      {acl("t.typacl", "T", "t.typowner")}, {comment("pg_type", "t.oid")}
    from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    join pg_catalog.pg_type b on b.oid = t.typbasetype
    where t.typtype = 'd' and {SCHEMAS} and {not_member("pg_type", "t.oid")}"""


KIND = Kind(
    "domain",
    Domain._make,
    _query,
    identity=("schema", "name"),
    own=("schema", "name", "owner", "default", "not_null", "constraints", "acl", "comment"),
)
