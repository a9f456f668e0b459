"""Tables: plain, partitioned, partitions, foreign ones."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, acl, comment, not_member


class Table(NamedTuple):
    """``relkind``: r, p or f. ``parents``: qualified names of what it inherits from or is a partition of, in order.

    ``options`` and ``toast_options`` as in pg_class.reloptions. ``replica_identity``: d, n, f or i (its index has the flag).
    ``key_triggers``: on or off (O, D, R, A), the triggers by which the server upholds foreign keys; '' where there are none.
    """

    key: int
    schema: str
    name: str
    relkind: str
    persistence: str
    owner: str
    partition_key: str | None
    bound: str | None
    parents: list[str]
    parent_keys: list[int]
    options: list[str] | None
    toast_options: list[str] | None
    row_security: bool
    force_row_security: bool
    replica_identity: str
    access_method: str | None
    tablespace: str | None
    of_type: str | None
    server: str | None
    key_triggers: str
    acl: list[str] | None
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
      pg_get_userbyid(c.relowner)::text, case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end,
      case when c.relispartition then pg_get_expr(c.relpartbound, c.oid) end,
      coalesce(i.names, '{{}}'), coalesce(i.keys, '{{}}'), c.reloptions, t.reloptions,
      c.relrowsecurity, c.relforcerowsecurity, c.relreplident::text, am.amname::text, s.spcname::text,
      case when c.reloftype <> 0 then c.reloftype::regtype::text end, f.srvname::text,
      coalesce((select string_agg(distinct g.tgenabled::text, '') from pg_catalog.pg_trigger g
        where g.tgrelid = c.oid and g.tgisinternal and g.tgparentid = 0), ''),
      {acl("c.relacl", "r", "c.relowner")}, {comment("pg_class", "c.oid")}
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_class t on t.oid = c.reltoastrelid
    left join pg_catalog.pg_am am on am.oid = c.relam
    left join pg_catalog.pg_tablespace s on s.oid = c.reltablespace
    left join pg_catalog.pg_foreign_table ft on ft.ftrelid = c.oid
    left join pg_catalog.pg_foreign_server f on f.oid = ft.ftserver
    left join (select inhrelid, array_agg(inhparent::regclass::text order by inhseqno) as names,
      array_agg(inhparent::bigint order by inhseqno) as keys from pg_catalog.pg_inherits group by 1) i on i.inhrelid = c.oid
    where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't' and {SCHEMAS} and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "table",
    Table._make,
    _query,
    identity=("schema", "name"),
    own=(
        "schema",
        "name",
        "persistence",
        "owner",
        "bound",
        "parent_keys",
        "options",
        "toast_options",
        "row_security",
        "force_row_security",
        "replica_identity",
        "access_method",
        "tablespace",
        "of_type",
        "key_triggers",
        "acl",
        "comment",
    ),
    unseen=("key", "parent_keys"),
)
