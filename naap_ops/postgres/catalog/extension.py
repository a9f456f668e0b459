"""Extensions. Their members are not objects of their own here: they come and go with the extension."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import comment


class Extension(NamedTuple):
    """``version`` as installed; ``schema``: where its members are; ``configured``: it has tables whose rows are the user's."""

    key: int
    name: str
    schema: str
    version: str
    relocatable: bool
    configured: bool
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select e.oid::bigint, e.extname::text, n.nspname::text, e.extversion, e.extrelocatable, e.extconfig is not null,
      {comment("pg_extension", "e.oid")}
    from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace"""


KIND = Kind("extension", Extension._make, _query, identity=("name",), own=("schema", "version", "comment"))
