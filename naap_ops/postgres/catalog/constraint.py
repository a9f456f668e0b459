"""Constraints of tables: keys, checks, foreign keys, exclusions. NOT NULL is the column's; a domain's are the domain's."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, comment, not_member

NOT_ENFORCED = 18  # from this major on, a constraint can be declared and not enforced


class Constraint(NamedTuple):
    """``type``: p, u, c, f, x or t. ``index_key``: the index behind a key or an exclusion. ``parent_key``: the partitioned
    table's
    constraint that it was made for. ``local``: declared here, not (only) inherited."""

    key: int
    table_key: int
    schema: str
    table: str
    name: str
    type: str
    definition: str
    columns: list[str]
    numbers: list[int]
    deferrable: bool
    deferred: bool
    validated: bool
    enforced: bool
    no_inherit: bool
    local: bool
    inherited: int
    index_key: int
    referenced_key: int
    parent_key: int
    comment: str | None


def _query(major: int) -> str:
    enforced = "k.conenforced" if major >= NOT_ENFORCED else "true"
    return f"""
    select k.oid::bigint, k.conrelid::bigint, n.nspname::text, c.relname::text, k.conname::text, k.contype::text,
      pg_get_constraintdef(k.oid),
      array(select a.attname::text from unnest(k.conkey) with ordinality x(num, pos)
        join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = x.num order by x.pos),
      k.conkey::int[], k.condeferrable, k.condeferred, k.convalidated, {enforced},
      k.contype = 'c' and k.connoinherit, k.conislocal, k.coninhcount::int,
      case when k.contype in ('p', 'u', 'x') then k.conindid::bigint else 0 end, k.confrelid::bigint, k.conparentid::bigint,
      {comment("pg_constraint", "k.oid")}
    from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where k.contype not in ('n', 't') and c.relpersistence <> 't' and {SCHEMAS} and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "constraint",
    Constraint._make,
    _query,
    identity=("schema", "table", "name"),
    own=(
        "name",
        "deferrable",
        "deferred",
        "validated",
        "enforced",
        "no_inherit",
        "local",
        "inherited",
        "parent_key",
        "comment",
    ),
    unseen=("key", "numbers", "table_key", "index_key", "referenced_key", "parent_key"),
    parent="table_key",
    rebuilt=("table_key", "numbers"),
)
