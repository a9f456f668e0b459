"""Rights of what a restore has just made, before the backup's own are given to it.

A backup tells rights as differences from PostgreSQL's built-in ones. Default privileges of the live database (ALTER DEFAULT
PRIVILEGES) give new objects other ones, which would stay: a restore would grant what was never granted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

# Members of extensions have the rights that their script gave them.
_MADE: LiteralString = """
with place as (select oid from pg_namespace where nspname = %(schema)s),
relation as (
  select c.oid from pg_class c join place p on p.oid = c.relnamespace
  where c.relacl is not null and (%(table)s::text is null or c.relname = %(table)s or exists (
    select from pg_depend d join pg_class t on t.oid = d.refobjid
    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_class'::regclass
      and d.deptype in ('a', 'i') and c.relkind = 'S' and t.relname = %(table)s and t.relnamespace = p.oid))
), made(catalog, oid, what, kind, owner, acl) as (
  select 'pg_namespace'::regclass, n.oid, 'schema ' || quote_ident(n.nspname), 'n', n.nspowner, n.nspacl
  from pg_namespace n join place using (oid) where %(table)s::text is null
  union all
  select 'pg_class'::regclass, oid, case relkind when 'S' then 'sequence ' else 'table ' end || oid::regclass,
    case relkind when 'S' then 's' else 'r' end, relowner, relacl
  from pg_class where oid in (table relation)
  union all
  select 'pg_proc'::regclass, f.oid, 'routine ' || f.oid::regprocedure, 'f', f.proowner, f.proacl
  from pg_proc f join place p on p.oid = f.pronamespace where %(table)s::text is null
  union all
  select 'pg_type'::regclass, t.oid, 'type ' || t.oid::regtype, 'T', t.typowner, t.typacl
  from pg_type t join place p on p.oid = t.typnamespace where %(table)s::text is null and t.typtype <> 'm'
), other as (
  select what, acl, acldefault(kind::"char", owner) as builtin from made
  where acl is not null and not (acl @> acldefault(kind::"char", owner) and acl <@ acldefault(kind::"char", owner))
    and not exists (select from pg_depend e where e.classid = made.catalog and e.objid = made.oid and e.deptype = 'e')
)
select format('revoke all on %%s from %%s', what, who), 1 as place from (
  select distinct what, case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as who
  from other, aclexplode(acl)
) r
union all
select format('grant %%s on %%s to %%s', string_agg(privilege_type, ', '), what, who), 2 from (
  select what, privilege_type, case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as who
  from other, aclexplode(builtin)
) g group by what, who
order by place
"""


def reset(connection: Connection, schema: str, table: str | None = None) -> None:
    """Give the schema and all in it (or one table with its sequences) the rights that PostgreSQL itself gives new objects."""
    statements = connection.execute(_MADE, {"schema": schema, "table": table}).fetchall()
    for statement, _ in statements:
        connection.execute(statement.encode())
