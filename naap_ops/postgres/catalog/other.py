"""Everything that has no kind of its own here: operators, casts, collations, text search, foreign servers and the like.

They are read so that no change of one goes unseen. What was created can be dropped by the server's own words for it
(``pg_identify_object``); what was dropped or altered cannot be put back from here, and is refused by name.
"""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import comment

_CATALOGS = (
    "pg_cast",
    "pg_operator",
    "pg_opclass",
    "pg_opfamily",
    "pg_collation",
    "pg_conversion",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_user_mapping",
    "pg_language",
    "pg_transform",
    "pg_am",
    "pg_type",
)
# What only a superuser may read, as its view shows it to everybody.
_READABLE = {"pg_user_mapping": "(select umid as oid, srvid, umuser, umoptions from pg_catalog.pg_user_mappings)"}
# Of types those that the kind "type" leaves out: base types, and shells that wait for one.
_ONLY = {"pg_type": " and o.typtype in ('b', 'p') and o.typcategory <> 'A'"}


class Other(NamedTuple):
    """``type`` and ``identity`` are the server's words for it, ``row_hash`` of its row."""

    key: int
    type: str
    identity: str
    row_hash: str
    comment: str | None


def _query(_major: int) -> str:
    return " union all ".join(
        f"""select o.oid::bigint, i.type, i.identity, md5(o::text), {comment(catalog, "o.oid")} from
        {_READABLE.get(catalog, f"pg_catalog.{catalog}")} o,
        pg_identify_object('pg_catalog.{catalog}'::regclass, o.oid, 0) i
        where o.oid >= 16384 and not exists (select from pg_catalog.pg_depend d
          where d.classid = 'pg_catalog.{catalog}'::regclass and d.objid = o.oid and d.deptype in ('e', 'i'))
          {_ONLY.get(catalog, "")}"""
        for catalog in _CATALOGS
    )


KIND = Kind(
    "other", Other._make, _query, identity=("type", "identity"), own=("row_hash", "comment"), unseen=("key", "row_hash")
)
