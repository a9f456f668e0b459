"""Columns of tables."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, comment, not_member

NAMED_NOT_NULL = 18  # from this major on, a NOT NULL is a constraint with a name


class Column(NamedTuple):
    """``type`` as SQL spells it; ``type_key`` and ``modifier`` are what an ALTER TYPE changes (a renamed type keeps them).

    ``default``: the expression, also of a generated column; ``default_hash``: of its tree, which does not follow renames.
    ``identity``: '', a (ALWAYS) or d (BY DEFAULT). ``generated``: '', s (stored) or v (virtual). ``storage``, ``collation``:
    None
    when they are the type's own. ``not_null_name`` (from 18 on): the name of the constraint, None before;
    ``not_null_local``: it is declared here, not (only) inherited; ``not_null_comment``: the comment on it.
    """

    key: int
    table_key: int
    schema: str
    table: str
    name: str
    number: int
    type: str
    type_key: int
    modifier: int
    collation: str | None
    not_null: bool
    default: str | None
    default_hash: str | None
    identity: str
    generated: str
    storage: str | None
    type_storage: str
    compression: str
    statistics: int | None
    options: list[str] | None
    local: bool
    inherited: int
    not_null_name: str | None
    not_null_valid: bool
    not_null_local: bool
    not_null_no_inherit: bool
    not_null_comment: str | None
    acl: list[str] | None
    comment: str | None
    type_kind: str


def _query(major: int) -> str:
    not_null, join = "null::text, true, true, false, null::text", ""
    if major >= NAMED_NOT_NULL:
        not_null = (
            "nn.conname::text, coalesce(nn.convalidated, true), coalesce(nn.conislocal, true), "
            f"coalesce(nn.connoinherit, false), {comment('pg_constraint', 'nn.oid')}"
        )
        join = (
            "left join pg_catalog.pg_constraint nn "
            "on nn.conrelid = a.attrelid and nn.contype = 'n' and nn.conkey = array[a.attnum]"
        )
    return f"""
    select (a.attrelid::bigint << 16) | a.attnum, a.attrelid::bigint, n.nspname::text, c.relname::text, a.attname::text,
      a.attnum::int, format_type(a.atttypid, a.atttypmod), a.atttypid::bigint, a.atttypmod::int,
      case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end, a.attnotnull,
      pg_get_expr(d.adbin, d.adrelid), md5(d.adbin::text), a.attidentity::text, a.attgenerated::text,
      case when a.attstorage <> t.typstorage then a.attstorage::text end, t.typstorage::text, a.attcompression::text,
      nullif(a.attstattarget, -1)::int, a.attoptions, a.attislocal, a.attinhcount::int, {not_null},
      case when a.attacl is not null then (select array_agg(x::text order by x::text) from unnest(a.attacl) x) end,
      {comment("pg_class", "a.attrelid", "a.attnum")}, t.typtype::text
    from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_type t on t.oid = a.atttypid
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    {join}
    where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't' and {SCHEMAS}
      and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "column",
    Column._make,
    _query,
    identity=("schema", "table", "name"),
    own=(
        "name",
        "type_key",
        "modifier",
        "collation",
        "not_null",
        "default_hash",
        "identity",
        "generated",
        "storage",
        "compression",
        "statistics",
        "options",
        "local",
        "inherited",
        "not_null_name",
        "not_null_valid",
        "not_null_local",
        "not_null_no_inherit",
        "not_null_comment",
        "acl",
        "comment",
    ),
    unseen=("key", "table_key", "number", "type_key", "modifier", "default_hash", "type_kind", "type_storage"),
    parent="table_key",
)
