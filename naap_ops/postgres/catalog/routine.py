"""Functions, procedures and aggregates."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import SCHEMAS, acl, comment, not_member


class Routine(NamedTuple):
    """``prokind``: f, p, a or w. ``arguments``: the identity arguments. ``definition``: what would create it (an aggregate's
    is put
    together here). ``signature``: names and defaults of arguments.
    ``extensions``: those that it depends on by ALTER ... DEPENDS ON EXTENSION. ``body_hash``: of everything in its row but
    names and privileges: it does not follow the renaming of a type."""

    key: int
    schema: str
    name: str
    arguments: str
    prokind: str
    owner: str
    definition: str
    signature: str
    extensions: list[str]
    body_hash: str
    acl: list[str] | None
    comment: str | None


_AGGREGATE = """
  'CREATE OR REPLACE AGGREGATE ' || quote_ident(n.nspname) || '.' || quote_ident(p.proname)
  || '(' || coalesce(nullif(pg_get_function_arguments(p.oid), ''), '*') || ') (SFUNC = ' || a.aggtransfn::regproc
    || ', STYPE = ' || a.aggtranstype::regtype
  || case when a.aggfinalfn <> 0 then ', FINALFUNC = ' || a.aggfinalfn::regproc else '' end
  || case when a.aggtransspace <> 0 then ', SSPACE = ' || a.aggtransspace else '' end
  || case when a.aggfinalextra then ', FINALFUNC_EXTRA' else '' end
  || case when a.aggfinalfn <> 0 and a.aggfinalmodify <> case a.aggkind when 'n' then 'r' else 'w' end
    then ', FINALFUNC_MODIFY = '
      || case a.aggfinalmodify when 'r' then 'READ_ONLY' when 's' then 'SHAREABLE' else 'READ_WRITE' end else '' end
  || case when a.aggcombinefn <> 0 then ', COMBINEFUNC = ' || a.aggcombinefn::regproc else '' end
  || case when a.aggserialfn <> 0 then ', SERIALFUNC = ' || a.aggserialfn::regproc else '' end
  || case when a.aggdeserialfn <> 0 then ', DESERIALFUNC = ' || a.aggdeserialfn::regproc else '' end
  || case when a.agginitval is not null then ', INITCOND = ' || quote_literal(a.agginitval) else '' end
  || case when a.aggmtransfn <> 0 then ', MSFUNC = ' || a.aggmtransfn::regproc || ', MINVFUNC = ' || a.aggminvtransfn::regproc
    || ', MSTYPE = ' || a.aggmtranstype::regtype else '' end
  || case when a.aggmtransspace <> 0 then ', MSSPACE = ' || a.aggmtransspace else '' end
  || case when a.aggmfinalfn <> 0 then ', MFINALFUNC = ' || a.aggmfinalfn::regproc else '' end
  || case when a.aggmfinalextra then ', MFINALFUNC_EXTRA' else '' end
  || case when a.aggmfinalfn <> 0 and a.aggmfinalmodify <> case a.aggkind when 'n' then 'r' else 'w' end
    then ', MFINALFUNC_MODIFY = '
      || case a.aggmfinalmodify when 'r' then 'READ_ONLY' when 's' then 'SHAREABLE' else 'READ_WRITE' end else '' end
  || case when a.aggminitval is not null then ', MINITCOND = ' || quote_literal(a.aggminitval) else '' end
  || case when a.aggkind = 'h' then ', HYPOTHETICAL' else '' end
  || case when a.aggsortop <> 0 then (
    select ', SORTOP = OPERATOR(' || quote_ident(s.nspname) || '.' || o.oprname || ')' from pg_catalog.pg_operator o
    join pg_catalog.pg_namespace s on s.oid = o.oprnamespace where o.oid = a.aggsortop) else '' end
  || case p.proparallel when 's' then ', PARALLEL = SAFE' when 'r' then ', PARALLEL = RESTRICTED' else '' end || ')'
"""


def _query(_major: int) -> str:
    return f"""
    select p.oid::bigint, n.nspname::text, p.proname::text, pg_get_function_identity_arguments(p.oid), p.prokind::text,
      pg_get_userbyid(p.proowner)::text, case when p.prokind = 'a' then {_AGGREGATE} else pg_get_functiondef(p.oid) end,
      pg_get_function_arguments(p.oid),
      array(select e.extname::text from pg_catalog.pg_depend x join pg_catalog.pg_extension e on e.oid = x.refobjid
        where x.classid = 'pg_catalog.pg_proc'::regclass and x.objid = p.oid and x.deptype = 'x'
        and x.refclassid = 'pg_catalog.pg_extension'::regclass order by 1),
      md5((to_jsonb(p) - '{{oid,proname,pronamespace,proowner,proacl}}'::text[])::text || coalesce(to_jsonb(a)::text, '')),
      {acl("p.proacl", "f", "p.proowner")}, {comment("pg_proc", "p.oid")}
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    left join pg_catalog.pg_aggregate a on a.aggfnoid = p.oid
    where p.oid >= 16384 and {SCHEMAS} and {not_member("pg_proc", "p.oid")}
      and not exists (select from pg_catalog.pg_depend own
        where own.classid = 'pg_catalog.pg_proc'::regclass and own.objid = p.oid and own.deptype = 'i')"""


KIND = Kind(
    "routine",
    Routine._make,
    _query,
    identity=("schema", "name", "arguments"),
    own=("schema", "name", "owner", "body_hash", "extensions", "acl", "comment"),
    unseen=("key", "body_hash"),
)
