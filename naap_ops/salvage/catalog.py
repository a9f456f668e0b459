"""The tables of one side, as far as a salvage minds them: columns, keys, constraints, triggers, rights. Read with an empty
``search_path``, so that every expression comes out qualified.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, LiteralString

from naap_ops.restore import marks
from naap_ops.salvage.model import Column, ForeignKey, Key, Name, Table, Trigger, Unique

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

# `rights` are those that are missing; the old side needs only the first.
_TABLES: LiteralString = """
select c.oid::bigint, n.nspname, c.relname, c.relkind::text, obj_description(n.oid, 'pg_namespace'),
  row_security_active(c.oid), exists (select from pg_rewrite where ev_class = c.oid),
  pg_has_role(c.relowner, 'USAGE'),
  array(select r from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) r where not has_table_privilege(c.oid, r)),
  exists (select from pg_partition_tree(c.oid) p join pg_class l on l.oid = p.relid where l.relkind = 'f')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and not c.relispartition
  and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'naap_ops') and c.relname <> '_prisma_migrations'
  and not exists (select from pg_depend where classid = 'pg_class'::regclass and objid = c.oid and deptype = 'e')
order by n.nspname, c.relname
"""
_PARTS: LiteralString = """
select c.oid::bigint, l.oid::bigint, n.nspname, l.relname, pg_get_partition_constraintdef(l.oid)
from pg_class c, pg_partition_tree(c.oid) p join pg_class l on l.oid = p.relid join pg_namespace n on n.oid = l.relnamespace
where c.oid = any(%s) and c.relkind = 'p' and l.relkind = 'r'
"""
_COLUMNS: LiteralString = """
select a.attrelid::bigint, a.attname, format_type(a.atttypid, null), format_type(a.atttypid, a.atttypmod), s.stored,
  a.atttypmod, coalesce(case e.typtype
      when 'e' then (select string_agg(quote_literal(enumlabel), ',' order by enumsortorder) from pg_enum
        where enumtypid = e.oid)
      when 'd' then format_type(e.typbasetype, e.typtypmod) || e.typnotnull || coalesce((select
        string_agg(pg_get_constraintdef(oid), ',' order by conname) from pg_constraint where contypid = e.oid), '')
      when 'c' then (select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ',' order by attnum)
        from pg_attribute where attrelid = e.typrelid and attnum > 0 and not attisdropped) end, ''),
  case when e.typtype = 'e' then array(select enumlabel::text from pg_enum where enumtypid = e.oid) end,
  (select format('%%I.%%I', cn.nspname, co.collname) from pg_collation co join pg_namespace cn on cn.oid = co.collnamespace
    where co.oid = a.attcollation and co.oid <> t.typcollation),
  a.attnotnull, (a.atthasdef or a.attidentity <> '' or t.typdefault is not null) and a.attgenerated = '', a.attidentity::text,
  case when a.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) end
from pg_attribute a join pg_type t on t.oid = a.atttypid
  join pg_type e on e.oid = case when t.typelem <> 0 and t.typcategory = 'A' then t.typelem else t.oid end
  left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
  cross join lateral (with recursive below(oid, modifier) as (
      select a.atttypid, a.atttypmod union all
      select x.typbasetype, x.typtypmod from below b join pg_type x on x.oid = b.oid where x.typtype = 'd')
    select format_type(b.oid, b.modifier) from below b join pg_type x on x.oid = b.oid where x.typtype <> 'd') s(stored)
where a.attrelid = any(%s) and a.attnum > 0 and not a.attisdropped order by a.attrelid, a.attnum
"""
# Of indexes: their columns as expressions, the operator of equality of each one's operator class.
_INDEXES: LiteralString = """
select i.indrelid::bigint, x.relname, i.indisprimary,
  array(select pg_get_indexdef(i.indexrelid, k, true) from generate_series(1, i.indnkeyatts) k order by k),
  array(select a.attname::text from generate_series(0, i.indnkeyatts - 1) k
    join pg_attribute a on (a.attrelid, a.attnum) = (i.indrelid, i.indkey[k]) order by k),
  array(select format('operator(%%I.%%s)', n.nspname, o.oprname) from generate_series(0, i.indnkeyatts - 1) k
    join pg_opclass c on c.oid = i.indclass[k]
    join pg_amop m on m.amopfamily = c.opcfamily and m.amopstrategy = 3 and m.amopmethod = 403
      and m.amoplefttype = c.opcintype and m.amoprighttype = c.opcintype
    join pg_operator o on o.oid = m.amopopr join pg_namespace n on n.oid = o.oprnamespace order by k),
  pg_get_expr(i.indpred, i.indrelid), i.indnullsnotdistinct,
  i.indimmediate and i.indpred is null and i.indexprs is null and not exists (select from pg_attribute a
    where a.attrelid = i.indrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])
      and (not a.attnotnull or a.attgenerated <> ''))
from pg_index i join pg_class x on x.oid = i.indexrelid
where i.indrelid = any(%s) and i.indisunique and i.indisvalid
order by i.indrelid, i.indisprimary desc, i.indnkeyatts, x.relname
"""
_EXCLUSIONS: LiteralString = """
select k.conrelid::bigint, k.conname,
  array(select pg_get_indexdef(k.conindid, p, true) from generate_series(1, cardinality(k.conexclop)) p order by p),
  array(select format('operator(%%I.%%s)', n.nspname, o.oprname) from unnest(k.conexclop) with ordinality u(oid, p)
    join pg_operator o on o.oid = u.oid join pg_namespace n on n.oid = o.oprnamespace order by u.p),
  pg_get_expr(i.indpred, i.indrelid)
from pg_constraint k join pg_index i on i.indexrelid = k.conindid where k.conrelid = any(%s) and k.contype = 'x'
"""
_CHECKS: LiteralString = """
select conrelid::bigint, conname, pg_get_expr(conbin, conrelid) from pg_constraint k
where conrelid = any(%s) and contype = 'c' and coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
"""
_TRIGGERS: LiteralString = """
select c.oid::bigint, n.nspname, l.relname, t.tgname, t.tgenabled::text
from pg_class c cross join lateral (select c.oid union select relid::oid from pg_partition_tree(c.oid)) p(oid)
  join pg_class l on l.oid = p.oid join pg_namespace n on n.oid = l.relnamespace join pg_trigger t on t.tgrelid = l.oid
where c.oid = any(%s) and not t.tgisinternal and t.tgenabled in ('O', 'A') order by 2, 3, 4
"""
# Sequences that a column owns, or that its default asks.
_SEQUENCES: LiteralString = """
select distinct found.rel::bigint, n.nspname, s.relname, a.attname from (
  select refobjid as rel, refobjsubid as attnum, objid as oid from pg_depend
    where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass
    and deptype in ('a', 'i') and refobjsubid > 0
  union all select d.adrelid, d.adnum, u.refobjid from pg_attrdef d
    join pg_depend u on (u.classid, u.objid) = ('pg_attrdef'::regclass, d.oid) where u.refclassid = 'pg_class'::regclass) found
join pg_class s on s.oid = found.oid join pg_namespace n on n.oid = s.relnamespace
  join pg_attribute a on (a.attrelid, a.attnum) = (found.rel, found.attnum)
where s.relkind = 'S' and found.rel = any(%s) order by 2, 3
"""
_FOREIGN_KEYS: LiteralString = """
select k.conname, cn.nspname, c.relname, pn.nspname, p.relname,
  array(select a.attname::text from unnest(k.conkey) with ordinality u(n, o)
    join pg_attribute a on (a.attrelid, a.attnum) = (k.conrelid, u.n) order by u.o),
  array(select a.attname::text from unnest(k.confkey) with ordinality u(n, o)
    join pg_attribute a on (a.attrelid, a.attnum) = (k.confrelid, u.n) order by u.o),
  array(select format('operator(%I.%s)', n.nspname, o.oprname) from unnest(k.conpfeqop) with ordinality u(oid, o)
    join pg_operator o on o.oid = u.oid join pg_namespace n on n.oid = o.oprnamespace order by u.o), k.confdeltype::text
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace cn on cn.oid = c.relnamespace
  join pg_class p on p.oid = k.confrelid join pg_namespace pn on pn.oid = p.relnamespace
where k.contype = 'f' and k.conparentid = 0 and not c.relispartition and not p.relispartition
  and coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) and not coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
order by 2, 3, 1
"""
CASCADES = ("c", "n", "d")


def tables(connection: Connection) -> dict[Name, Table]:
    """Ordinary and partitioned tables by schema and name; partitions are part of theirs. Not: Prisma's books, our own schema,
    temporary ones, members of extensions, what a restore has kept."""
    rows = [
        row for row in connection.execute(_TABLES) if marks.read(row[4]) is None and not row[1].startswith("naap_ops_before_")
    ]
    oids = [row[0] for row in rows]
    parts = _by_table(connection, _PARTS, oids)
    columns = _by_table(connection, _COLUMNS, oids)
    indexes = _by_table(connection, _INDEXES, oids)
    exclusions = _by_table(connection, _EXCLUSIONS, oids)
    checks = _by_table(connection, _CHECKS, oids)
    triggers = _by_table(connection, _TRIGGERS, oids)
    sequences = _by_table(connection, _SEQUENCES, oids)
    found = {}
    for oid, schema, name, kind, _, filtered, rules, owned, missing, foreign in rows:
        own = tuple(Trigger((s, t), trigger, state) for s, t, trigger, state in triggers[oid])
        found[schema, name] = Table(
            schema, name, oid, kind,
            columns=tuple(_column(*row) for row in columns[oid]),
            keys=tuple(Key(row[0], tuple(row[3]), tuple(row[4])) for row in indexes[oid] if row[7]),
            uniques=tuple(_uniques(indexes[oid], exclusions[oid])),
            checks=dict(checks[oid]),
            triggers=own,
            parts=tuple((part, s, t) for part, s, t, _ in parts[oid]) if kind == "p" else ((oid, schema, name),),
            bounds=tuple(bound or "true" for *_, bound in parts[oid]),
            unreadable=_unreadable(filtered=filtered, foreign=foreign),
            unwritable=_unwritable(rules=rules, triggers=bool(own) and not owned),
            missing=tuple(missing),
            sequences={(s, sequence): column for s, sequence, column in sequences[oid]},
        )  # fmt: skip
    return found


def foreign_keys(connection: Connection) -> list[tuple[ForeignKey, str]]:
    """All that are enforced, between whole tables, and what they do on DELETE (pg_constraint.confdeltype)."""
    return [
        (ForeignKey(name, (cs, child), (ps, parent), tuple(columns), tuple(referred), tuple(operators)), action)
        for name, cs, child, ps, parent, columns, referred, operators, action in connection.execute(_FOREIGN_KEYS)
    ]


def _by_table(connection: Connection, query: LiteralString, oids: list[int]) -> defaultdict[int, list[tuple[Any, ...]]]:
    found: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for oid, *row in connection.execute(query, [oids]):
        found[oid].append(tuple(row))
    return found


def _column(
    name: str,
    type: str,
    spelled: str,
    stored: str,
    modifier: int,
    shape: str,
    labels: list[str] | None,
    collation: str | None,
    required: bool,
    has_default: bool,
    identity: str,
    value: str | None,
) -> Column:
    known = None if labels is None else tuple(labels)
    return Column(name, type, spelled, stored, modifier, shape, known, collation, required, has_default, identity, value)


def _uniques(indexes: Iterable[tuple[Any, ...]], exclusions: Iterable[tuple[Any, ...]]) -> Iterable[Unique]:
    for name, _, expressions, _, operators, where, nulls_equal, _ in indexes:
        yield Unique(name, tuple(expressions), tuple(operators), where, nulls_equal)
    for name, expressions, operators, where in exclusions:
        yield Unique(name, tuple(expressions), tuple(operators), where, nulls_equal=False)


def _unreadable(*, filtered: bool, foreign: bool) -> str:
    if filtered:
        return "row security hides rows from this user: connect as the owner or with BYPASSRLS"
    return "it has foreign partitions" if foreign else ""


def _unwritable(*, rules: bool, triggers: bool) -> str:
    if rules:
        return "rules rewrite what is written to it"
    return "it has triggers, and only its owner may switch them off meanwhile" if triggers else ""
