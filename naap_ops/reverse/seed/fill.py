"""Rows as SQL: what each column of each row gets, and the statement that inserts them.

References are sub-selects of the table referred to, so that no key has to be known here. Only where tables need one another
(or a table itself) the key is written out on both sides, and all rows go in by one statement: foreign keys are checked at its
end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from naap_ops.reverse.seed.checks import Row
from naap_ops.reverse.seed.facts import Column, Facts, Key, Table
from naap_ops.reverse.seed.order import Group, entangled
from naap_ops.reverse.seed.quoting import identifier, literal, qualified
from naap_ops.reverse.seed.values import Text, value

_OTHER_TABLES = 3_000  # keys that are text differ from table to table: migrations join rows of several in one
_COUNT = 32_000  # what `n` of a value stays below: smallint
_FAR_FROM_SEQUENCES = {"int2": 20_000}
_FAR = 1_000_000


class Unfillable(Exception):
    """A column of a type we have no value for, that must have one. Caught in :mod:`naap_ops.reverse.seeding`."""


@dataclass(frozen=True)
class Shape:
    """How to make rows: ``bare`` leaves out what can be left out, ``full`` nothing; ``salt`` gives other values."""

    bare: bool = False
    full: bool = False
    salt: int = 0


@dataclass
class Filler:
    """Statements for the tables of ``facts``; ``solved``: values found for conditions, by oid and row."""

    facts: Facts
    rows: int
    solved: Mapping[int, Mapping[int, Row]]
    text: Text = Text.UNICODE
    _written_out: set[tuple[int, int]] = field(default_factory=set)
    """Columns (oid, number) that others of their group refer to by value."""

    def statements(self, group: Group, rows: Sequence[int], shape: Shape = Shape()) -> list[str]:
        """What inserts these rows into the tables of the group. Raises Unfillable."""
        tables = [self.facts.tables[oid] for oid in group]
        if not entangled(group, self.facts.tables):
            (table,) = tables
            if any(key.table == table.oid for key in table.keys) or not self._columns(table):
                return [self._insert(table, [row], group, shape) for row in rows]
            return [self._insert(table, rows, group, shape)]
        for table in tables:
            self._written_out |= {(key.table, n) for key in table.keys if key.table in group for n in key.targets}
        parts = [self._insert(table, rows, group, shape) for table in tables]
        ahead = [f"filled{position} AS ({part})" for position, part in enumerate(parts[:-1])]
        return [f"WITH {', '.join(ahead)} {parts[-1]}" if ahead else parts[-1]]

    def late_links(self, table: Table) -> list[str]:
        """References that could not be set when the row went in, as their table was filled later: set in one row."""
        found = []
        for key in table.keys:
            if table.required(key) or key.table == table.oid or key.table not in self.facts.tables:
                continue
            name, free = qualified(table.name), [n for n in key.columns if not table.columns[n].not_null]
            empty = " AND ".join(f"{identifier(table.columns[n].name)} IS NULL" for n in key.columns if n in free)
            if len(free) < len(key.columns) or any(self._solved(table, 0, n) for n in free):
                continue
            sets = ", ".join(f"{identifier(table.columns[n].name)} = {self._reference(table, key, n, 0, {})}" for n in free)
            found.append(
                f"UPDATE {name} SET {sets} WHERE (tableoid, ctid) = (SELECT tableoid, ctid FROM {name} WHERE {empty} LIMIT 1)"
                f" AND NOT EXISTS (SELECT FROM {name} WHERE NOT ({empty}))"
            )
        return found

    # --- one statement --------------------------------------------------------------------------------------------

    def _insert(self, table: Table, rows: Sequence[int], group: Group, shape: Shape) -> str:
        columns = self._columns(table)
        head = f"INSERT INTO {qualified(table.name)}"
        tail = " ON CONFLICT DO NOTHING" if table.arbitrable else ""
        if not columns:
            return f"{head} DEFAULT VALUES{tail}"
        names = ", ".join(identifier(column.name) for column in columns)
        lines = []
        for row in rows:
            made = self._row(table, row, group, shape)
            lines.append("(" + ", ".join(made[column.number] for column in columns) + ")")
        own_keys = any(column.identity == "a" and (table.oid, column.number) in self._written_out for column in columns)
        overriding = " OVERRIDING SYSTEM VALUE" if own_keys else ""
        return f"{head} ({names}){overriding} VALUES {', '.join(lines)}{tail}"

    @staticmethod
    def _columns(table: Table) -> list[Column]:
        return [column for column in table.columns.values() if not column.generated]

    # --- one row --------------------------------------------------------------------------------------------------

    def _row(self, table: Table, row: int, group: Group, shape: Shape) -> dict[int, str]:
        made: dict[int, str] = {}
        # Required references first, then those of many columns: the others must agree with them.
        for key in sorted(table.keys, key=lambda key: (not table.required(key), -len(key.columns))):
            self._refer(table, key, row, group, shape, made)
        for position, column in enumerate(self._columns(table)):
            if column.number not in made:
                made[column.number] = self._plain(table, column, position, row, shape)
        return made

    def _refer(self, table: Table, key: Key, row: int, group: Group, shape: Shape, made: dict[int, str]) -> None:
        new = [n for n in key.columns if n not in made and not table.columns[n].generated]
        inside = key.table in group and entangled(group, self.facts.tables) and table.required(key)
        absent = not inside and self._is_null(table.columns[key.columns[0]], key.columns[0], row, shape)
        for number in new:
            column = table.columns[number]
            solution = self._solved(table, row, number)
            if (absent and not column.not_null and solution is None) or (solution is not None and solution[0] is None):
                made[number] = "NULL"
            elif inside:
                made[number] = self._written(key.table, key.targets[key.columns.index(number)], row, group, shape)
            elif key.table in self.facts.tables:
                made[number] = self._reference(table, key, number, row, {n: made[n] for n in key.columns if n not in new})
            elif not column.not_null:
                made[number] = "NULL"

    def _reference(self, table: Table, key: Key, number: int, row: int, fixed: Mapping[int, str]) -> str:
        """The value of one referencing column: of the ``row``-th row of the other table, else of its first."""
        parent = self.facts.tables[key.table]
        names = {
            own: "p." + identifier(parent.columns[target].name) for own, target in zip(key.columns, key.targets, strict=True)
        }
        wanted = [f"{names[n]} = {fixed[n]}" for n in fixed if fixed[n] not in {"DEFAULT", "NULL"}]
        conditions = " AND ".join([f"{name} IS NOT NULL" for name in names.values()] + wanted)
        # A second reference to the same table gets another row of it: friends of oneself are often forbidden.
        same = [each for each in table.keys if each.table == key.table]
        offset = row + same.index(key)
        order = f" ORDER BY {', '.join(names.values())}" if len(names) > 1 else ""
        source = f"SELECT {names[number]} FROM {qualified(parent.name)} AS p WHERE {conditions}{order}"
        if offset == 0:
            return f"({source} LIMIT 1)"
        return f"coalesce(({source} OFFSET {offset} LIMIT 1), ({source} LIMIT 1))"

    def _written(
        self, oid: int, number: int, row: int, group: Group, shape: Shape, seen: frozenset[tuple[int, int]] = frozenset()
    ) -> str:
        """The key that a row of the group has, written out; followed where it is itself a reference within the group."""
        table = self.facts.tables[oid]
        for key in table.keys:
            if number in key.columns and table.required(key) and (oid, number) not in seen:
                target = key.targets[key.columns.index(number)]
                if key.table in group:
                    return self._written(key.table, target, row, group, shape, seen | {(oid, number)})
                return self._reference(table, key, number, row, {})
        return self._own(table, table.columns[number], row, shape)

    def _plain(self, table: Table, column: Column, position: int, row: int, shape: Shape) -> str:
        solution = self._solved(table, row, column.number)
        if (table.oid, column.number) in self._written_out:
            return self._own(table, column, row, shape)
        if column.sequence:
            return "DEFAULT"
        if solution is not None:
            return literal(solution[0])
        if self._is_null(column, position, row, shape):
            return "NULL"
        if column.default is not None and (
            shape.bare or (not shape.full and row > 0 and row == 1 + (position + 1) % max(self.rows - 1, 1))
        ):
            return "DEFAULT"
        return self._own(table, column, row, shape)

    def _is_null(self, column: Column, position: int, row: int, shape: Shape) -> bool:
        """The first row is whole; every column that may be null is so in one of the others."""
        if column.not_null or shape.full:
            return False
        return (shape.bare and column.default is None) or (row > 0 and row == 1 + position % (self.rows - 1))

    def _own(self, table: Table, column: Column, row: int, shape: Shape) -> str:
        n = (column.number * 10 + row + 1 + shape.salt) % _COUNT
        known = self.facts.types.get(column.type)
        if column.sequence and known is not None:
            n = n % 10_000 + _FAR_FROM_SEQUENCES.get(known.name, _FAR)
        elif known is not None and (known.category == "S" or known.name == "uuid"):
            n += _COUNT * (crc32("\0".join(table.name).encode()) % _OTHER_TABLES + 1)
        text = value(self.facts.types, column.type, column.modifier, n, row + shape.salt, text=self.text)
        text = _as_default(text, column)
        if text is not None:
            return literal(text)
        if column.default is not None:
            return "DEFAULT"
        if not column.not_null:
            return "NULL"
        raise Unfillable(f"column {column.name} is of a type without known values: {known.sql if known else column.type}")

    def _solved(self, table: Table, row: int, number: int) -> tuple[str | None] | None:
        """The value found for a condition, in a tuple of its own as it can be NULL."""
        values = self.solved.get(table.oid, {}).get(row, {})
        return (values[number],) if number in values else None


def _as_default(text: str | None, column: Column) -> str | None:
    """JSON is a list where the default is one: migrations walk through it."""
    if text is not None and text.startswith("{") and (column.default or "").startswith("'["):
        return f"[{text}]"
    return text
