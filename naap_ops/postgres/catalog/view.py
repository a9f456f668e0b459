"""Views and materialised views."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, acl, comment, not_member


class View(NamedTuple):
    """``relkind``: v or m. ``rule_hash``: of the rewrite rule's tree, which does not follow a rename. ``defaults``:
    column, expression pairs. ``column_comments``: column, comment pairs. ``column_acl``: column, aclitem pairs.
    ``column_settings``: of a
    materialised view, pairs of a clause of ALTER COLUMN and whether it is more than the default. ``uses``: keys of the
    relations that it reads."""

    key: int
    schema: str
    name: str
    relkind: str
    owner: str
    definition: str
    rule_hash: str
    columns: list[str]
    options: list[str] | None
    populated: bool
    access_method: str | None
    tablespace: str | None
    defaults: list[str]
    column_comments: list[str]
    column_acl: list[str]
    column_settings: list[str]
    extensions: list[str]
    uses: list[int]
    acl: list[str] | None
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, pg_get_userbyid(c.relowner)::text,
      pg_get_viewdef(c.oid), md5(r.ev_action::text),
      array(select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum),
      c.reloptions, c.relispopulated, am.amname::text, s.spcname::text,
      array(select unnest(array[a.attname::text, pg_get_expr(d.adbin, d.adrelid)]) from pg_catalog.pg_attrdef d
        join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where d.adrelid = c.oid order by a.attnum),
      array(select unnest(array[a.attname::text, d.description]) from pg_catalog.pg_description d join pg_catalog.pg_attribute a
        on a.attrelid = d.objoid and a.attnum = d.objsubid
        where d.classoid = 'pg_catalog.pg_class'::regclass and d.objoid = c.oid and d.objsubid > 0 order by a.attnum),
      array(select unnest(array[a.attname::text, i::text]) from pg_catalog.pg_attribute a, unnest(a.attacl) i
        where a.attrelid = c.oid order by a.attnum, i::text),
      array(select unnest(array[quote_ident(a.attname) || ' SET ' || s.clause, s.special::text]) from pg_catalog.pg_attribute a
        join pg_catalog.pg_type t on t.oid = a.atttypid, lateral (values
          ('STATISTICS ' || coalesce(a.attstattarget, -1), coalesce(a.attstattarget, -1) <> -1),
          ('STORAGE '
            || case a.attstorage when 'p' then 'PLAIN' when 'e' then 'EXTERNAL' when 'm' then 'MAIN' else 'EXTENDED' end,
            a.attstorage <> t.typstorage),
          ('COMPRESSION ' || case a.attcompression when 'p' then 'pglz' when 'l' then 'lz4' else 'default' end,
            a.attcompression <> ''),
          ('(' || array_to_string(a.attoptions, ', ') || ')', true)) s (clause, special)
        where c.relkind = 'm' and a.attrelid = c.oid and a.attnum > 0 and s.clause is not null order by a.attnum, s.clause),
      array(select e.extname::text from pg_catalog.pg_depend x join pg_catalog.pg_extension e on e.oid = x.refobjid
        where x.classid = 'pg_catalog.pg_class'::regclass and x.objid = c.oid and x.deptype = 'x'
        and x.refclassid = 'pg_catalog.pg_extension'::regclass order by 1),
      array(select distinct d.refobjid::bigint from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_rewrite'::regclass
        and d.objid = r.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> c.oid),
      {acl("c.relacl", "r", "c.relowner")}, {comment("pg_class", "c.oid")}
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.rulename = '_RETURN'
    left join pg_catalog.pg_am am on am.oid = c.relam
    left join pg_catalog.pg_tablespace s on s.oid = c.reltablespace
    where c.relkind in ('v', 'm') and c.relpersistence <> 't' and {SCHEMAS} and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "view",
    View._make,
    _query,
    identity=("schema", "name"),
    own=(
        "schema",
        "name",
        "owner",
        "rule_hash",
        "columns",
        "options",
        "populated",
        "access_method",
        "tablespace",
        "defaults",
        "column_comments",
        "column_acl",
        "column_settings",
        "extensions",
        "acl",
        "comment",
    ),
    unseen=("key", "rule_hash", "uses"),
)
