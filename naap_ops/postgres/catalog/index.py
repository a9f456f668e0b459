"""Indexes, those behind constraints included (their flags and options can change, too)."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, comment, not_member


class Index(NamedTuple):
    """``constraint``: it belongs to one, and comes and goes with it. ``statistics``: targets of expression columns, as
    ``2=500``.
    ``parent_key``: the partitioned index that it is a part of."""

    key: int
    table_key: int
    schema: str
    table: str
    name: str
    definition: str
    numbers: list[int]
    unique: bool
    constraint: bool
    valid: bool
    clustered: bool
    replica_identity: bool
    predicate: str | None
    options: list[str] | None
    tablespace: str | None
    statistics: list[str]
    parent_key: int
    depends_on: list[str]
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select i.indexrelid::bigint, i.indrelid::bigint, n.nspname::text, c.relname::text, x.relname::text,
      pg_get_indexdef(i.indexrelid, 0, true), i.indkey::int2[]::int[], i.indisunique, k.oid is not null,
      i.indisvalid, i.indisclustered, i.indisreplident,
      pg_get_expr(i.indpred, i.indrelid, true), x.reloptions, s.spcname::text,
      array(select a.attnum || '=' || a.attstattarget from pg_catalog.pg_attribute a
        where a.attrelid = i.indexrelid and a.attstattarget >= 0 and i.indexprs is not null order by a.attnum),
      coalesce(h.inhparent, 0)::bigint,
      array(select e.extname::text from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
        where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid and d.deptype = 'x' order by 1),
      {comment("pg_class", "i.indexrelid")}
    from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
    join pg_catalog.pg_class c on c.oid = i.indrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_constraint k
      on k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x') and k.conrelid = i.indrelid
    left join pg_catalog.pg_tablespace s on s.oid = x.reltablespace
    left join pg_catalog.pg_inherits h on h.inhrelid = i.indexrelid
    where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and {SCHEMAS} and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "index",
    Index._make,
    _query,
    identity=("schema", "name"),
    own=(
        "name",
        "constraint",
        "depends_on",
        "clustered",
        "replica_identity",
        "options",
        "tablespace",
        "statistics",
        "valid",
        "parent_key",
        "comment",
    ),
    unseen=("key", "numbers", "table_key", "parent_key"),
    parent="table_key",
    rebuilt=("table_key", "numbers"),
)
