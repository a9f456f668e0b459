"""Triggers on tables and views; those that constraints make are theirs. A partition's that came with its parent's has
``parent_key``."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, comment, not_member


class Trigger(NamedTuple):
    """``enabled``: O, D, R or A. ``extensions``: those that it depends on by ALTER ... DEPENDS ON EXTENSION. ``row_hash``: of
    its row but name and state; does not follow the renaming of a column."""

    key: int
    table_key: int
    schema: str
    table: str
    name: str
    definition: str
    row_hash: str
    enabled: str
    parent_key: int
    extensions: list[str]
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select t.oid::bigint, t.tgrelid::bigint, n.nspname::text, c.relname::text, t.tgname::text, pg_get_triggerdef(t.oid, true),
      md5((to_jsonb(t) - '{{oid,tgname,tgenabled,tgparentid}}'::text[])::text), t.tgenabled::text, t.tgparentid::bigint,
      array(select e.extname::text from pg_catalog.pg_depend x join pg_catalog.pg_extension e on e.oid = x.refobjid
        where x.classid = 'pg_catalog.pg_trigger'::regclass and x.objid = t.oid and x.deptype = 'x'
        and x.refclassid = 'pg_catalog.pg_extension'::regclass order by 1),
      {comment("pg_trigger", "t.oid")}
    from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where not t.tgisinternal and {SCHEMAS} and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "trigger",
    Trigger._make,
    _query,
    identity=("schema", "table", "name"),
    own=("name", "row_hash", "enabled", "extensions", "comment"),
    unseen=("key", "table_key", "row_hash", "parent_key"),
    parent="table_key",
)
