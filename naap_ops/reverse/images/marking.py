"""Mark rows that have to go, and all that refer to them over foreign keys, in whatever table or schema: in temporary tables of
the open transaction, by where the rows are.

Rows of partitioned tables are marked under the partitioned one, and told by partition and place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from naap_ops.reverse.images.model import Name
from naap_ops.reverse.images.taking import relation
from naap_ops.reverse.render import literal, quoted

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.reverse.unfit import Unfit

_TABLE: Final = """
select c.oid::int8, n.nspname, c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.oid = {}
"""
_ROOT: Final = "(coalesce(pg_catalog.pg_partition_root({0}), {0}))"
_KEYS: Final = f"""
select k.conrelid::regclass::text, {_ROOT.format("k.conrelid")}::int8, k.confrelid::regclass::text,
  {_ROOT.format("k.confrelid")}::int8,
  array(select a.attname::text from unnest(k.conkey) with ordinality n (number, nth)
    join pg_catalog.pg_attribute a on (a.attrelid, a.attnum) = (k.conrelid, n.number) order by n.nth),
  array(select a.attname::text from unnest(k.confkey) with ordinality n (number, nth)
    join pg_catalog.pg_attribute a on (a.attrelid, a.attnum) = (k.confrelid, n.number) order by n.nth)
from pg_catalog.pg_constraint k where k.contype = 'f' and k.conparentid = 0 order by k.conrelid, k.conname
"""


@dataclass(frozen=True)
class Key:
    """A foreign key: tables as SQL, and the oids of what they are partitions of, or their own."""

    child: str
    child_root: int
    parent: str
    parent_root: int
    columns: tuple[str, ...]
    referenced: tuple[str, ...]


@dataclass(frozen=True)
class Marked:
    """A table, rows of which are marked. ``direct``: how many of ``rows`` were not marked because they refer to others."""

    oid: int
    name: Name
    rows: int = 0
    direct: int = 0

    @property
    def places(self) -> str:
        """The temporary table with ``part`` and ``at``, as SQL."""
        return f"pg_temp.{quoted(f'naap_ops unfit {self.oid}')}"

    @property
    def joined(self) -> str:
        """SQL to stand behind FROM: the marked rows, as ``t``."""
        return f"{relation(self.name)} t JOIN {self.places} w ON w.part = t.tableoid AND w.at = t.ctid"


@dataclass
class Marking:
    """``lock``: against writers, table by table, so that no row can come that refers to a marked one."""

    connection: Connection
    lock: bool
    tables: dict[int, Marked] = field(default_factory=dict)

    def mark(self, several: Iterable[Unfit]) -> None:
        """All of them. Raises psycopg.Error."""
        unfit = list(several)
        for each in unfit:
            table = self._named(each.relation)
            added = self._add(table, f"SELECT r.tableoid, r.ctid FROM {relation(each.relation)} r WHERE {each.condition}")
            self.tables[table.oid] = Marked(table.oid, table.name, table.rows + added, table.direct + added)
        self._follow(self._keys(unfit))

    def _follow(self, keys: list[Key]) -> None:
        """Whatever refers to what is marked, until nothing more does."""
        todo = [oid for oid, table in self.tables.items() if table.rows]
        while todo:
            oid = todo.pop(0)
            for key in keys:
                if key.parent_root == oid and self._refer(key) and key.child_root not in todo:
                    todo.append(key.child_root)

    def _refer(self, key: Key) -> bool:
        parent, child = self.tables[key.parent_root], self._table(str(key.child_root))
        pairs = zip(key.columns, key.referenced, strict=True)
        same = " AND ".join(f"c.{quoted(one)} = p.{quoted(other)}" for one, other in pairs)
        added = self._add(
            child,
            f"SELECT c.tableoid, c.ctid FROM {key.child} c JOIN {key.parent} p ON {same} "
            f"JOIN {parent.places} w ON w.part = p.tableoid AND w.at = p.ctid",
        )
        self.tables[child.oid] = Marked(child.oid, child.name, child.rows + added, child.direct)
        return added > 0

    def _keys(self, unfit: Iterable[Unfit]) -> list[Key]:
        """Those that there are, and those that return."""
        rows = self.connection.execute(_KEYS.encode()).fetchall()
        found = [Key(a, b, c, d, tuple(columns), tuple(referenced)) for a, b, c, d, columns, referenced in rows]
        for each in unfit:
            if each.parent is not None:
                child, parent = self._named(each.relation), self._named(each.parent)
                names = relation(child.name), relation(parent.name)
                found.append(Key(names[0], child.oid, names[1], parent.oid, each.columns, each.parent_columns))
        return found

    def _named(self, name: Name) -> Marked:
        return self._table(f"pg_catalog.to_regclass({literal(relation(name))})")

    def _table(self, which: str) -> Marked:
        """The table of that oid, which is SQL; locked, and with room for its marks."""
        row = self.connection.execute(_TABLE.format(which).encode()).fetchone()
        assert row is not None
        oid, schema, name = row
        table = self.tables.get(oid)
        if table is None:
            table = self.tables[oid] = Marked(oid, (schema, name))
            if self.lock:
                self.connection.execute(f"LOCK TABLE {relation(table.name)} IN SHARE ROW EXCLUSIVE MODE".encode())
            self.connection.execute(
                f"CREATE TEMPORARY TABLE {quoted(f'naap_ops unfit {oid}')} (part oid, at tid, PRIMARY KEY (part, at)) "
                "ON COMMIT DROP".encode()
            )
        return table

    def _add(self, table: Marked, query: str) -> int:
        return self.connection.execute(f"INSERT INTO {table.places} {query} ON CONFLICT DO NOTHING".encode()).rowcount
