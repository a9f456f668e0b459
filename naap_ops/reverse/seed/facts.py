"""What seeding must know of tables, in few round trips: columns, types, keys, checks, of the named tables and those they need.

The closure follows every foreign key of a named table, so that its nullable references can hold something too, and from there
on only those that a row cannot do without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

Name = tuple[str, str]

# Five plain queries, not one for all: that one took 10 ms to plan, and seconds when the server thought it worth compiling.
_WANTED: LiteralString = """
with recursive wanted(oid, named) as (
  select c.oid, true from unnest(%s::name[], %s::name[]) as w(schema, name)
  join pg_namespace n on n.nspname = w.schema join pg_class c on c.relnamespace = n.oid and c.relname = w.name
  where c.relkind in ('r', 'p')
  union
  select k.confrelid, false from wanted w join pg_constraint k on k.conrelid = w.oid and k.contype = 'f'
  where w.named or not exists (
    select from pg_attribute a where a.attrelid = k.conrelid and a.attnum = any(k.conkey) and not a.attnotnull)
)
select c.oid::int8, n.nspname, c.relname, c.relkind::text, bool_or(named),
  case when c.relispartition then array[pg_get_partition_constraintdef(c.oid)]
       when c.relkind = 'p' then array(select pg_get_partition_constraintdef(p.relid) from pg_partition_tree(c.oid) p
                                       where p.isleaf and p.relid <> c.oid order by p.relid limit 16) end
from wanted join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace group by c.oid, n.nspname
"""
_COLUMNS: LiteralString = """
select a.attrelid::int8, a.attnum, a.attname, a.atttypid::int8, a.atttypmod, a.attnotnull,
  pg_get_expr(d.adbin, d.adrelid), a.attidentity::text, a.attgenerated <> ''
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = any(%s::oid[]) and a.attnum > 0 and not a.attisdropped order by a.attrelid, a.attnum
"""
# Of keys to a partitioned table only the one that was declared, not its copies for each partition.
_CONSTRAINTS: LiteralString = """
select k.conrelid::int8, k.contype::text, k.conkey, k.confrelid::int8, k.confkey,
  case when k.contype = 'c' then pg_get_expr(k.conbin, k.conrelid) end, k.condeferred, n.nspname, k.conname
from pg_constraint k join pg_namespace n on n.oid = k.connamespace left join pg_constraint p on p.oid = k.conparentid
where k.conrelid = any(%s::oid[]) and k.contype <> 'n' and p.conrelid is distinct from k.conrelid
order by k.conrelid, k.conname
"""
_INDEXES: LiteralString = """
select indrelid::int8, indimmediate from pg_index where indrelid = any(%s::oid[]) and (indisunique or indisexclusion)
"""
_TYPES: LiteralString = """
select t.oid::int8, t.typname, t.typtype::text, t.typcategory::text, t.typbasetype::int8, t.typtypmod,
  case when t.typcategory = 'A' then t.typelem::int8 else 0 end, t.typdelim::text, t.typnotnull,
  format_type(t.oid, null),
  case t.typtype
    when 'e' then (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid)
    when 'c' then (select json_agg(json_build_array(a.atttypid::int8, a.atttypmod) order by a.attnum) from pg_attribute a
      where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped)
    when 'r' then (select json_agg(r.rngsubtype::int8) from pg_range r where r.rngtypid = t.oid)
    when 'm' then (select json_agg(r.rngtypid::int8) from pg_range r where r.rngmultitypid = t.oid)
    when 'd' then (select json_agg(pg_get_expr(k.conbin, 0)) from pg_constraint k where k.contypid = t.oid and k.contype = 'c')
  end
from pg_type t where t.oid = any(%s::oid[])
"""


@dataclass(frozen=True)
class Type:
    """A type. ``kind`` as pg_type.typtype; ``base`` and ``modifier`` of a domain; ``element`` of an array, else 0.

    ``parts``: an enum's labels, a composite's (type, modifier) pairs, a range's subtype, a multirange's range, a domain's
    checks. ``sql``: the name to cast to.
    """

    oid: int
    name: str
    kind: str = "b"
    category: str = "U"
    base: int = 0
    modifier: int = -1
    element: int = 0
    delimiter: str = ","
    not_null: bool = False
    sql: str = ""
    parts: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Column:
    """``default``: its expression. ``identity``: '' | 'a' | 'd'. ``not_null``: also by its domain."""

    number: int
    name: str
    type: int
    modifier: int
    not_null: bool
    default: str | None
    identity: str
    generated: bool

    @property
    def sequence(self) -> bool:
        """Its values come from a sequence."""
        return bool(self.identity) or (self.default or "").startswith("nextval(")


@dataclass(frozen=True)
class Key:
    """A foreign key: ``columns`` refer to ``targets`` (column numbers) of the table with oid ``table``."""

    table: int
    columns: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Check:
    """A condition every row must meet, over columns by number. ``domain``: it speaks of one column as ``VALUE``."""

    columns: tuple[int, ...]
    expression: str
    domain: bool = False


@dataclass(frozen=True)
class Table:
    """One table, as seeding sees it.

    ``arbitrable``: ON CONFLICT can be used (no deferrable constraint is unique). ``bounds``: its partitions' conditions, or its
    own if it is a partition. ``deferred``: constraints initially deferred.
    """

    oid: int
    name: Name
    kind: str
    named: bool
    columns: Mapping[int, Column]
    keys: tuple[Key, ...]
    arbitrable: bool
    checks: tuple[Check, ...]
    bounds: tuple[str, ...]
    deferred: tuple[Name, ...]

    def required(self, key: Key) -> bool:
        """No row can be without the row this key refers to."""
        return all(self.columns[number].not_null for number in key.columns)


@dataclass(frozen=True)
class Facts:
    """Tables and types by oid."""

    tables: Mapping[int, Table]
    types: Mapping[int, Type]


def read(connection: Connection, names: Iterable[Name]) -> Facts:
    """The facts of those of ``names`` that are tables, and of the tables their foreign keys need."""
    wanted = list(names)
    relations = connection.execute(_WANTED, [[name[0] for name in wanted], [name[1] for name in wanted]]).fetchall()
    oids = [each[0] for each in relations]
    if not oids:
        return Facts({}, {})
    with connection.pipeline():
        answers = [connection.execute(query, [oids]) for query in (_COLUMNS, _CONSTRAINTS, _INDEXES)]
    columns, constraints, indexes = (_by_oid(answer.fetchall()) for answer in answers)
    types = _types(connection, {each[2] for own in columns.values() for each in own})
    tables = {
        each[0]: _table(each, columns.get(each[0], []), constraints.get(each[0], []), indexes.get(each[0], []), types)
        for each in relations
    }
    return Facts(tables, types)


def _by_oid(rows: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for oid, *rest in rows:
        found.setdefault(oid, []).append(rest)
    return found


def _types(connection: Connection, wanted: set[int]) -> dict[int, Type]:
    """These types and those they are made of."""
    known: dict[int, Type] = {}
    while wanted:
        for row in connection.execute(_TYPES, [list(wanted)]).fetchall():
            known[row[0]] = Type(*(*row[:-1], tuple(_frozen(part) for part in row[-1] or ())))
        wanted = {oid for each in known.values() for oid in _made_of(each)} - known.keys()
    return known


def _made_of(known: Type) -> list[int]:
    inner = known.parts if known.kind in {"r", "m"} else [oid for oid, _ in known.parts] if known.kind == "c" else []
    return [oid for oid in (known.base, known.element, *inner) if oid]


def _frozen(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


def _table(relation: Any, columns: Any, constraints: Any, indexes: Any, types: Mapping[int, Type]) -> Table:
    oid, schema, name, kind, named, bounds = relation
    own = {each[0]: _column(each, types) for each in columns}
    checks = [Check((n,), text, domain=True) for n, column in own.items() for text in _domain_checks(column.type, types)]
    keys: list[Key] = []
    deferred: list[Name] = []
    for contype, numbers, target, targets, expression, late, its_schema, its_name in constraints:
        if contype == "f":
            keys.append(Key(target, tuple(numbers), tuple(targets)))
        elif contype == "c":
            checks.append(Check(tuple(numbers or ()), expression))
        if late:
            deferred.append((its_schema, its_name))
    return Table(
        oid=oid,
        name=(schema, name),
        kind=kind,
        named=named,
        columns=own,
        keys=tuple(keys),
        arbitrable=all(immediate for (immediate,) in indexes),
        checks=tuple(checks),
        bounds=tuple(bound for bound in bounds or () if bound),
        deferred=tuple(deferred),
    )


def _column(each: Any, types: Mapping[int, Type]) -> Column:
    number, name, oid, modifier, not_null, default, identity, generated = each
    return Column(number, name, oid, modifier, not_null or _never_null(oid, types), default, identity, generated)


def _domains(oid: int, types: Mapping[int, Type]) -> list[Type]:
    """The chain of domains a type is made of, itself first."""
    found = []
    while oid in types and types[oid].kind == "d":
        found.append(types[oid])
        oid = types[oid].base
    return found


def _never_null(oid: int, types: Mapping[int, Type]) -> bool:
    return any(domain.not_null for domain in _domains(oid, types))


def _domain_checks(oid: int, types: Mapping[int, Type]) -> list[str]:
    return [text for domain in _domains(oid, types) for text in domain.parts if text]
