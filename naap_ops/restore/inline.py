"""What DROP ... CASCADE took out of tables that stayed: defaults, checks and columns that stand inside their CREATE TABLE.

An archive has no entries of their own for them, so they are read from the statement as pg_dump prints it (pg_dump.c,
dumpTableSchema) and compared with the live catalog.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

import psycopg

from naap_ops.backup.toc import printable

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_NAME = r'(?:"(?:[^"]|"")*"|[^\s".,();]+)'
_TABLE = re.compile(rf"^CREATE (?:UNLOGGED |FOREIGN )?TABLE (({_NAME})\.({_NAME})) \(\n", re.MULTILINE)
_CHECK = re.compile(rf"CONSTRAINT ({_NAME}) (CHECK \(.*)", re.DOTALL)
_COLUMN = re.compile(rf"({_NAME}) (.*)", re.DOTALL)
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
_DEFAULT = re.compile(r" DEFAULT (.+?)(?= (?:NOT NULL|CONSTRAINT|COLLATE)\b|$)", re.DOTALL)

_LIVE: LiteralString = """
select n.nspname, c.relname,
  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and (a.atthasdef or a.attidentity <> '')),
  array(select k.conname::text from pg_constraint k where k.conrelid = c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'f')
"""


@dataclass(frozen=True)
class Item:
    """``kind`` is column, default or check; ``name`` the column's or the check's, and all names as SQL has them.

    ``definition`` is what stands behind the name: type and all, the default's expression, ``CHECK (...)``.
    """

    kind: str
    table: str
    name: str
    definition: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.table}"

    @property
    def statement(self) -> str:
        """What brings it back."""
        action = {
            "column": f"ADD COLUMN {self.name} {self.definition}",
            "default": f"ALTER COLUMN {self.name} SET DEFAULT {self.definition}",
            "check": f"ADD CONSTRAINT {self.name} {self.definition}",
        }
        return f"ALTER TABLE {self.table} {action[self.kind]};"

    @property
    def note(self) -> str:
        """That it is missing, with what to type."""
        values = " (its values are in the backup's copy of the table)" if self.kind == "column" else ""
        return (
            f"the backup has {self}{values}, which needs what is restored; it is missing and does not come back by itself."
            f" To bring it back: {self.statement}"
        )

    def mentions(self, names: Iterable[str]) -> bool:
        """Whether one of ``names``, ``schema.name`` without quotes, stands in the definition as a whole."""
        text = printable(_unquoted(self.definition).replace("''", "'"))
        return any(re.search(rf"(?<!\w){re.escape(_unquoted(name))}(?!\w)", text) for name in names)


def missing(connection: Connection, text: str, gone: Collection[str]) -> list[Item]:
    """Items of the CREATE TABLEs in ``text`` that need one of the ``gone`` (``schema.name``), of live tables that lack them."""
    wanted = [(schema, table, item) for schema, table, item in _items(text) if item.mentions(gone)]
    if not wanted:
        return []
    live = {(schema, table): list(map(set, lists)) for schema, table, *lists in connection.execute(_LIVE).fetchall()}
    return [item for schema, table, item in wanted if (schema, table) in live and _lacks(item, *live[schema, table])]


def _lacks(item: Item, columns: set[str], valued: set[str], constraints: set[str]) -> bool:
    name = plain(item.name)
    if item.kind == "check":
        return name not in constraints
    return name not in columns if item.kind == "column" else name in columns - valued


def put_back(connection: Connection, defaults: Sequence[Item]) -> list[str]:
    """Set the defaults again; those that the server refuses are left, and named in what is returned.

    It locks their tables against readers too: to be done last.
    """
    notes = []
    for default in defaults:
        try:
            with connection.transaction():
                connection.execute(default.statement.encode(errors="surrogateescape"))
        except psycopg.ProgrammingError as error:
            notes.append(f"{default.note} (tried, the server says: {error.diag.message_primary})")
    return notes


def _items(text: str) -> Iterator[tuple[str, str, Item]]:
    masked = _masked(text)
    for start in _TABLE.finditer(text):
        table, schema, name = start[1], plain(start[2]), plain(start[3])
        for item in _split(text, masked, start.end()):
            if check := _CHECK.fullmatch(item):
                yield schema, name, Item("check", table, check[1], check[2])
            elif column := _COLUMN.fullmatch(item):
                yield schema, name, Item("column", table, column[1], column[2])
                if default := _DEFAULT.search(_masked(_flat(column[2]))):
                    yield schema, name, Item("default", table, column[1], column[2][slice(*default.span(1))])


def _split(text: str, masked: str, start: int) -> Iterator[str]:
    """The items between the parentheses that are open at ``start``."""
    depth = 0
    begin = start
    for at in range(start, len(masked)):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(masked[at], 0)
        if depth < 0 or (depth == 0 and masked[at] == ","):
            yield text[begin:at].strip()
            begin = at + 1
        if depth < 0:
            return


def _masked(text: str) -> str:
    """Of the same length, without what is quoted."""
    return _QUOTED.sub(lambda quoted: "x" * len(quoted[0]), text)


def _flat(text: str) -> str:
    """Of the same length, without what is in parentheses or quoted."""
    found, depth = [], 0
    for letter in _masked(text):
        depth -= letter in ")]"
        found.append("x" if depth > 0 else letter)
        depth += letter in "(["
    return "".join(found)


def _unquoted(name: str) -> str:
    return name.replace('"', "")


def plain(name: str) -> str:
    """A name as SQL has it, without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
