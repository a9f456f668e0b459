"""Rewrite rules, other than the one that makes a view a view."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, comment, not_member


class Rule(NamedTuple):
    """``enabled``: O, D, R or A. ``rule_hash``: of its trees, which do not follow a rename."""

    key: int
    table_key: int
    schema: str
    table: str
    name: str
    definition: str
    rule_hash: str
    enabled: str
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select r.oid::bigint, r.ev_class::bigint, n.nspname::text, c.relname::text, r.rulename::text, pg_get_ruledef(r.oid, true),
      md5(r.ev_action::text || r.ev_qual::text || r.ev_type::text || r.is_instead::text), r.ev_enabled::text,
      {comment("pg_rewrite", "r.oid")}
    from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where r.rulename <> '_RETURN' and {SCHEMAS} and {not_member("pg_class", "c.oid")}"""


KIND = Kind(
    "rule",
    Rule._make,
    _query,
    identity=("schema", "table", "name"),
    own=("name", "rule_hash", "enabled", "comment"),
    unseen=("key", "table_key", "rule_hash"),
    parent="table_key",
)
