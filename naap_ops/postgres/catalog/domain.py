"""Domains, with their constraints."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, acl, comment, not_member


class Domain(NamedTuple):
    """``constraints``: ``"name" CHECK (...)`` each, sorted by name (a NOT NULL is ``not_null``); in the same order their
    names, keys
    and comments. ``not_null_name`` (from 18 on): the name of the NOT NULL, None where it is the server's own choice."""

    key: int
    schema: str
    name: str
    owner: str
    base: str
    collation: str | None
    default: str | None
    not_null: bool
    not_null_name: str | None
    constraints: list[str]
    constraint_names: list[str]
    constraint_keys: list[int]
    constraint_comments: list[str | None]
    acl: list[str] | None
    comment: str | None


def _checks(what: str) -> str:
    return (
        f"array(select {what} from pg_catalog.pg_constraint k where k.contypid = t.oid and k.contype = 'c' order by k.conname)"
    )


def _query(_major: int) -> str:
    return f"""
    select t.oid::bigint, n.nspname::text, t.typname::text, pg_get_userbyid(t.typowner)::text,
      format_type(t.typbasetype, t.typtypmod),
      case when t.typcollation <> b.typcollation then t.typcollation::regcollation::text end,
      t.typdefault, t.typnotnull,
      (select k.conname::text from pg_catalog.pg_constraint k
        where k.contypid = t.oid and k.contype = 'n' and k.conname <> left(t.typname || '_not_null', 63)),
      {_checks("quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid)")}, {_checks("quote_ident(k.conname)")},
      {_checks("k.oid::bigint")}, {_checks(comment("pg_constraint", "k.oid"))},
      {acl("t.typacl", "T", "t.typowner")}, {comment("pg_type", "t.oid")}
    from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    join pg_catalog.pg_type b on b.oid = t.typbasetype
    where t.typtype = 'd' and {SCHEMAS} and {not_member("pg_type", "t.oid")}"""


KIND = Kind(
    "domain",
    Domain._make,
    _query,
    identity=("schema", "name"),
    own=(
        "schema",
        "name",
        "owner",
        "default",
        "not_null",
        "not_null_name",
        "constraints",
        "constraint_comments",
        "acl",
        "comment",
    ),
    unseen=("key", "constraint_keys"),
)
