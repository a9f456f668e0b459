"""Extended statistics objects."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, comment, not_member


class Statistics(NamedTuple):
    """``target``: of ALTER STATISTICS ... SET STATISTICS, None when the server's."""

    key: int
    table_key: int
    schema: str
    name: str
    owner: str
    definition: str
    target: int | None
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select s.oid::bigint, s.stxrelid::bigint, n.nspname::text, s.stxname::text, pg_get_userbyid(s.stxowner)::text,
      pg_get_statisticsobjdef(s.oid), nullif(s.stxstattarget, -1)::int, {comment("pg_statistic_ext", "s.oid")}
    from pg_catalog.pg_statistic_ext s join pg_catalog.pg_namespace n on n.oid = s.stxnamespace
    where {SCHEMAS} and {not_member("pg_statistic_ext", "s.oid")}"""


KIND = Kind(
    "statistics",
    Statistics._make,
    _query,
    identity=("schema", "name"),
    own=("schema", "name", "owner", "target", "comment"),
    unseen=("key", "table_key"),
    parent="table_key",
    rebuilt=("table_key",),
)
