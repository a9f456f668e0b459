"""Tables that hold rows, with their size, and the objects that belong to each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from naap_ops.postgres.catalog.schemas import USER_SCHEMA

if TYPE_CHECKING:
    from psycopg import Connection

_TABLES: LiteralString = f"""
select c.oid::bigint, n.nspname, c.relname, c.relkind::text, pg_get_userbyid(c.relowner), c.relpages::bigint,
  case when c.relispartition then (select inhparent::bigint from pg_inherits where inhrelid = c.oid) end,
  exists (select from pg_depend where classid = 'pg_class'::regclass and objid = c.oid and deptype = 'e')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and {USER_SCHEMA} order by n.nspname, c.relname
"""

# What pg_dump writes as entries of their own for a table, as (catalog, oid): indexes, constraints, defaults, triggers,
# policies, rules, extended statistics, and the sequences it owns.
_BELONGINGS: LiteralString = f"""
with t as (
  select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and {USER_SCHEMA}
)
select t.oid::bigint, b.catalog::oid::bigint, b.oid::bigint from t join (
  select indrelid as rel, 'pg_class'::regclass as catalog, indexrelid as oid from pg_index
  union all select conrelid, 'pg_constraint'::regclass, oid from pg_constraint where conrelid <> 0
  union all select adrelid, 'pg_attrdef'::regclass, oid from pg_attrdef
  union all select tgrelid, 'pg_trigger'::regclass, oid from pg_trigger where not tgisinternal
  union all select polrelid, 'pg_policy'::regclass, oid from pg_policy
  union all select ev_class, 'pg_rewrite'::regclass, oid from pg_rewrite
  union all select stxrelid, 'pg_statistic_ext'::regclass, oid from pg_statistic_ext
  union all select refobjid, 'pg_class'::regclass, objid from pg_depend
    where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass and refobjsubid > 0 and deptype in ('a', 'i')
    and objid in (select seqrelid from pg_sequence)
) b on b.rel = t.oid order by 1, 2, 3
"""


@dataclass(frozen=True)
class Table:
    """``kind`` is pg_class.relkind (``p`` is partitioned and holds no rows itself); ``pages`` an estimate, 8 KiB each.

    ``partition_of`` is the oid of the table it is a partition of. ``of_extension``: made by an extension, so pg_dump leaves it.
    """

    oid: int
    schema: str
    name: str
    kind: str
    owner: str
    pages: int
    partition_of: int | None = None
    of_extension: bool = False

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


def tables(connection: Connection) -> list[Table]:
    """Ordinary and partitioned tables outside the system's schemas, by schema and name."""
    return [Table(*row) for row in connection.execute(_TABLES)]


def belongings(connection: Connection) -> dict[int, list[str]]:
    """Per table oid, what belongs to it as ``catalog:oid`` (both numbers)."""
    found: dict[int, list[str]] = {}
    for table, catalog, oid in connection.execute(_BELONGINGS):
        found.setdefault(table, []).append(f"{catalog}:{oid}")
    return found
