"""Sequences, those behind serial and identity columns included. Where a sequence stands is data, and not read here."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, acl, comment, not_member


class Sequence(NamedTuple):
    """``owned_by``: (schema, table, column) or empty; ``column_key``: the same as a key. ``of_identity``: it is the column's
    own."""

    key: int
    schema: str
    name: str
    owner: str
    persistence: str
    type: str
    start: int
    increment: int
    minimum: int
    maximum: int
    cache: int
    cycle: bool
    owned_by: list[str]
    column_key: int | None
    of_identity: bool
    acl: list[str] | None
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select c.oid::bigint, n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text, c.relpersistence::text,
      format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
      case when d.refobjid is null then '{{}}'::text[] else array[tn.nspname::text, t.relname::text, a.attname::text] end,
      (d.refobjid::bigint << 16) | d.refobjsubid, coalesce(d.deptype = 'i', false),
      {acl("c.relacl", "s", "c.relowner")}, {comment("pg_class", "c.oid")}
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_sequence s on s.seqrelid = c.oid
    left join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
      and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
    left join pg_catalog.pg_class t on t.oid = d.refobjid left join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
    left join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where c.relkind = 'S' and c.relpersistence <> 't' and {SCHEMAS} and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "sequence",
    Sequence._make,
    _query,
    identity=("schema", "name"),
    own=(
        "schema",
        "name",
        "owner",
        "persistence",
        "type",
        "start",
        "increment",
        "minimum",
        "maximum",
        "cache",
        "cycle",
        "column_key",
        "of_identity",
        "acl",
        "comment",
    ),
    unseen=("key", "column_key"),
    parent="column_key",
)
