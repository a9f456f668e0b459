"""Row security policies."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, comment, not_member


class Policy(NamedTuple):
    """``command``: ALL, SELECT, INSERT, UPDATE or DELETE. ``roles``: quoted, sorted. ``tree_hash``: of both expressions'
    trees."""

    key: int
    table_key: int
    schema: str
    table: str
    name: str
    permissive: bool
    command: str
    roles: list[str]
    using: str | None
    check: str | None
    tree_hash: str
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select p.oid::bigint, p.polrelid::bigint, n.nspname::text, c.relname::text, p.polname::text, p.polpermissive,
      case p.polcmd when 'r' then 'SELECT' when 'a' then 'INSERT' when 'w' then 'UPDATE' when 'd' then 'DELETE' else 'ALL' end,
      array(select case when x = 0 then 'public' else quote_ident(pg_get_userbyid(x)) end from unnest(p.polroles) x order by 1),
      pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
      md5(coalesce(p.polqual::text, '') || '|' || coalesce(p.polwithcheck::text, '')), {comment("pg_policy", "p.oid")}
    from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where {SCHEMAS} and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "policy",
    Policy._make,
    _query,
    identity=("schema", "table", "name"),
    own=("name", "permissive", "command", "roles", "tree_hash", "comment"),
    unseen=("key", "table_key", "tree_hash"),
    parent="table_key",
)
