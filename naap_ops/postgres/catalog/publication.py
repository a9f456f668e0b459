"""Publications, with what they publish."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import comment

_GENERATED_COLUMNS = 18  # from this major on they can be published


class Publication(NamedTuple):
    """``members``: what stands after FOR or ADD, one element each, sorted; ``bare``: the same as DROP wants it;
    ``member_keys``: the
    table's or schema's oid; ``member_hashes``: of key, column list and condition, which do not follow a rename. ``operations``:
    insert, update, delete, truncate. ``generated``: publish_generated_columns (18), '' where there is none."""

    key: int
    name: str
    owner: str
    all_tables: bool
    operations: str
    via_root: bool
    generated: str
    members: list[str]
    bare: list[str]
    member_keys: list[int]
    member_hashes: list[str]
    comment: str | None


def _query(major: int) -> str:
    generated = "case p.pubgencols when 's' then 'stored' else 'none' end" if major >= _GENERATED_COLUMNS else "''"
    return f"""
    select p.oid::bigint, p.pubname::text, pg_get_userbyid(p.pubowner)::text, p.puballtables,
      concat_ws(', ', case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
        case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end), p.pubviaroot, {generated},
      coalesce(m.members, '{{}}'), coalesce(m.bare, '{{}}'), coalesce(m.keys, '{{}}'), coalesce(m.hashes, '{{}}'),
      {comment("pg_publication", "p.oid")}
    from pg_catalog.pg_publication p left join (
      select id, array_agg(member order by member) as members, array_agg(bare order by member) as bare,
        array_agg(key order by member) as keys, array_agg(hash order by member) as hashes
      from (
        select r.prpubid as id, 'TABLE ' || r.prrelid::regclass
          || coalesce(' (' || (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_catalog.pg_attribute a
            where a.attrelid = r.prrelid and a.attnum = any(r.prattrs)) || ')', '')
          || coalesce(' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')', '') as member,
          'TABLE ' || r.prrelid::regclass as bare, r.prrelid::bigint as key,
          concat_ws('|', r.prrelid::oid, r.prattrs, md5(r.prqual::text)) as hash
        from pg_catalog.pg_publication_rel r
        union all select s.pnpubid, 'TABLES IN SCHEMA ' || quote_ident(n.nspname),
          'TABLES IN SCHEMA ' || quote_ident(n.nspname), n.oid::bigint, n.oid::text
        from pg_catalog.pg_publication_namespace s join pg_catalog.pg_namespace n on n.oid = s.pnnspid
      ) x group by id
    ) m on m.id = p.oid"""


KIND = Kind(
    "publication",
    Publication._make,
    _query,
    identity=("name",),
    own=("name", "owner", "all_tables", "operations", "via_root", "generated", "member_hashes", "comment"),
    unseen=("key", "member_keys", "member_hashes"),
)
