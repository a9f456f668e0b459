"""What outside a schema or a table leans on it: foreign keys, which can be put back, and everything else, which cannot.

Read from pg_depend. *Inside* is what comes along when the schema is renamed or the table moved: what is in the schema, and what
depends automatically or internally on that (indexes, constraints, defaults, triggers, policies, row types, owned sequences).
Members of extensions are not inside: an extension is moved as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from naap_ops.errors import Refused

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_INSIDE: LiteralString = """
with recursive inside(classid, objid) as (
  values (%(catalog)s::regclass::oid, %(oid)s::oid)
  union
  select d.classid, d.objid from inside i join pg_depend d on d.refclassid = i.classid and d.refobjid = i.objid
  where (d.deptype in ('i', 'a', 'P', 'S') or (d.deptype = 'n' and i.classid = 'pg_namespace'::regclass))
    and d.classid <> 'pg_extension'::regclass
    and not exists (select from pg_depend e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e')
), relation as (select objid as oid from inside where classid = 'pg_class'::regclass)
"""

# A rule says less than the view it belongs to.
_LEANING: LiteralString = f"""
{_INSIDE}, leaning as (
  select distinct d.classid, d.objid, d.objsubid from inside i
  join pg_depend d on d.refclassid = i.classid and d.refobjid = i.objid
  where d.deptype in ('n', 'x') and i.classid <> 'pg_namespace'::regclass and (d.classid, d.objid) not in (select * from inside)
)
select distinct coalesce(
  pg_describe_object('pg_class'::regclass, r.ev_class, 0), pg_describe_object(l.classid, l.objid, l.objsubid)
) from leaning l
left join pg_rewrite r on l.classid = 'pg_rewrite'::regclass and r.oid = l.objid
left join pg_constraint k on l.classid = 'pg_constraint'::regclass and k.oid = l.objid
where k.contype is distinct from 'f'
order by 1
"""

# Inside by their dependency but in another schema (a partition, extended statistics), and the other way round.
_STRAY: LiteralString = f"""
{_INSIDE}
select pg_describe_object(i.classid, i.objid, 0) from inside i
left join pg_class c on i.classid = 'pg_class'::regclass and c.oid = i.objid and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
left join pg_statistic_ext x on i.classid = 'pg_statistic_ext'::regclass and x.oid = i.objid
where coalesce(c.relnamespace, x.stxnamespace) <> %(schema)s
union
select pg_describe_object('pg_class'::regclass, h.inhparent, 0) || ', which has a part in it: '
  || pg_describe_object('pg_class'::regclass, h.inhrelid, 0)
from pg_inherits h join pg_class c on c.oid = h.inhrelid and c.relkind not in ('i', 'I')
where h.inhrelid in (table relation) and h.inhparent not in (table relation)
order by 1
"""

_KEYS: LiteralString = f"""
{_INSIDE}
select k.oid::bigint, k.conname, cn.nspname, c.relname, rn.nspname, r.relname, pg_get_constraintdef(k.oid),
  obj_description(k.oid, 'pg_constraint'), k.confmatchtype::text,
  array(select a.attname::text from unnest(k.conkey) with ordinality u(n, i)
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n order by i),
  array(select a.attname::text from unnest(k.confkey) with ordinality u(n, i)
    join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.n order by i),
  array(
    with recursive copies(oid) as (
      select k.oid union all select p.oid from copies join pg_constraint p on p.conparentid = copies.oid)
    select array[pn.nspname::text, pc.relname::text, p.confrelid::regclass::text, p.conname::text]
    from copies join pg_constraint p using (oid)
    join pg_class pc on pc.oid = p.conrelid join pg_namespace pn on pn.oid = pc.relnamespace where p.conparentid <> 0)
from pg_constraint k
join pg_class c on c.oid = k.conrelid join pg_namespace cn on cn.oid = c.relnamespace
join pg_class r on r.oid = k.confrelid join pg_namespace rn on rn.oid = r.relnamespace
where k.contype = 'f' and k.conparentid = 0
  and (k.conrelid in (table relation)) = %(outbound)s and (k.confrelid in (table relation)) <> %(outbound)s
order by cn.nspname, c.relname, k.conname
"""

_PUBLICATIONS: LiteralString = f"""
{_INSIDE}
select pubname from pg_publication where oid in (
  select prpubid from pg_publication_rel where prrelid in (table relation)
  union select pnpubid from pg_publication_namespace where pnnspid = %(schema)s and %(whole)s
) order by 1
"""


@dataclass(frozen=True)
class ForeignKey:
    """``definition`` is what stands behind ADD CONSTRAINT, with qualified names; ``refers_to`` is schema and table.

    ``copies`` are the key's copies for partitions on either side: schema, table, the qualified table it refers to, its name.
    """

    oid: int
    name: str
    schema: str
    table: str
    refers_to: tuple[str, str]
    definition: str
    comment: str | None
    match: str
    columns: tuple[str, ...]
    referred: tuple[str, ...]
    copies: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.name} of {self.schema}.{self.table}"

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> ForeignKey:
        """The inverse of dataclasses.asdict after JSON."""
        lists = {name: tuple(raw[name]) for name in ("refers_to", "columns", "referred")}
        return cls(**{**raw, **lists, "copies": tuple(map(tuple, raw.get("copies", ())))})


@dataclass(frozen=True)
class Around:
    """What is around the thing: keys that point at it, keys by which it points elsewhere, publications that hold it."""

    inbound: list[ForeignKey]
    outbound: list[ForeignKey]
    publications: list[str]


def around(connection: Connection, catalog: str, oid: int, schema_oid: int, what: str) -> Around:
    """Look around ``oid`` of ``catalog`` (``pg_namespace`` or ``pg_class``). Raises Refused, naming what leans on it.

    The session's search_path must be empty, so that names come out qualified.
    """
    thing = {"catalog": f"pg_catalog.{catalog}", "oid": oid, "schema": schema_oid, "whole": oid == schema_oid}
    found = [text for query in (_LEANING, _STRAY) for (text,) in connection.execute(query, thing)]
    if found:
        raise Refused(
            reason=f"{what} cannot be replaced, because this outside of it depends on it: {'; '.join(found)}",
            hint="Restore the whole database (--swap), or drop these first and make them again afterwards.",
        )
    return Around(
        inbound=_keys(connection, thing, outbound=False),
        outbound=_keys(connection, thing, outbound=True),
        publications=[name for (name,) in connection.execute(_PUBLICATIONS, thing)],
    )


def _keys(connection: Connection, thing: dict[str, Any], *, outbound: bool) -> list[ForeignKey]:
    rows = connection.execute(_KEYS, {**thing, "outbound": outbound})
    return [
        ForeignKey(
            oid,
            name,
            schema,
            table,
            (to_schema, to_table),
            definition,
            comment,
            match,
            tuple(lists[0]),
            tuple(lists[1]),
            tuple(map(tuple, lists[2])),
        )
        for oid, name, schema, table, to_schema, to_table, definition, comment, match, *lists in rows
    ]
