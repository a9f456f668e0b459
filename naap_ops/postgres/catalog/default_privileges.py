"""Default privileges: what ALTER DEFAULT PRIVILEGES has set."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind


class DefaultPrivileges(NamedTuple):
    """``objects``: r tables, S sequences, f functions, T types, n schemas, L large objects. ``schema``: '' for every schema."""

    key: int
    role: str
    schema: str
    objects: str
    acl: list[str]


def _query(_major: int) -> str:
    return """
    select d.oid::bigint, pg_get_userbyid(d.defaclrole)::text, coalesce(n.nspname::text, ''), d.defaclobjtype::text,
      array(select a::text from unnest(d.defaclacl) a order by 1)
    from pg_catalog.pg_default_acl d left join pg_catalog.pg_namespace n on n.oid = d.defaclnamespace"""


KIND = Kind(
    "default_privileges",
    DefaultPrivileges._make,
    _query,
    identity=("role", "schema", "objects"),
    own=("acl",),
)
