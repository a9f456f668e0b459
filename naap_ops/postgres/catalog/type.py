"""Types: enums, composite types, ranges. Domains have a module of their own; a table's row type is the table's."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, acl, comment, not_member


class Type(NamedTuple):
    """``typtype``: e, c or r. ``labels``: an enum's, in order. ``attributes``: a composite's, as ``"name" type``; ``range``:
    what follows
    AS RANGE, in parentheses. ``attribute_comments``: names and comments in turn."""

    key: int
    schema: str
    name: str
    typtype: str
    owner: str
    labels: list[str]
    label_keys: list[int]
    attributes: list[str]
    range: str | None
    attribute_comments: list[str]
    acl: list[str] | None
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select t.oid::bigint, n.nspname::text, t.typname::text, t.typtype::text, pg_get_userbyid(t.typowner)::text,
      array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = t.oid order by e.enumsortorder),
      array(select e.oid::bigint from pg_catalog.pg_enum e where e.enumtypid = t.oid order by e.enumsortorder),
      array(select quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
        || case when a.attcollation <> at.typcollation then ' collate ' || a.attcollation::regcollation::text else '' end
        from pg_catalog.pg_attribute a join pg_catalog.pg_type at on at.oid = a.atttypid
        where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum),
      case when r.rngtypid is not null then 'subtype = ' || format_type(r.rngsubtype, null)
        || ', subtype_opclass = ' || quote_ident(opn.nspname) || '.' || quote_ident(op.opcname)
        || case when r.rngcollation <> 0 then ', collation = ' || r.rngcollation::regcollation::text else '' end
        || case when r.rngcanonical <> 0 then ', canonical = ' || r.rngcanonical::regproc::text else '' end
        || case when r.rngsubdiff <> 0 then ', subtype_diff = ' || r.rngsubdiff::regproc::text else '' end
        || ', multirange_type_name = ' || r.rngmultitypid::regtype::text end,
      array(select unnest(array[quote_ident(a.attname), d.description]) from pg_catalog.pg_attribute a
        join pg_catalog.pg_description d
          on d.objoid = a.attrelid and d.objsubid = a.attnum and d.classoid = 'pg_catalog.pg_class'::regclass
        where t.typtype = 'c' and a.attrelid = t.typrelid order by a.attnum),
      {acl("t.typacl", "T", "t.typowner")}, {comment("pg_type", "t.oid")}
    from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    left join pg_catalog.pg_class c on c.oid = t.typrelid
    left join pg_catalog.pg_range r on r.rngtypid = t.oid
    left join pg_catalog.pg_opclass op on op.oid = r.rngsubopc
    left join pg_catalog.pg_namespace opn on opn.oid = op.opcnamespace
    where (t.typtype in ('e', 'r') or t.typtype = 'c' and c.relkind = 'c') and {SCHEMAS} and {not_member("pg_type", "t.oid")}"""


KIND = Kind(
    "type",
    Type._make,
    _query,
    identity=("schema", "name"),
    own=("schema", "name", "owner", "labels", "attributes", "range", "attribute_comments", "acl", "comment"),
    unseen=("key", "label_keys"),
)
