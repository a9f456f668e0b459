"""The table of contents of an archive, as ``pg_restore --list`` prints it.

A line is ``dump id; catalog oid, object oid, words``. The words cannot be split safely (names may hold spaces), so entries are
identified by their oids, and where an entry has none (ACL, COMMENT) by comparing the whole text with the one expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"^(\d+); (\d+) (\d+) (.*)$")

PG_CLASS = 1259
PG_NAMESPACE = 2615
# Kinds whose words begin with those of another kind. They stand for no object of their own and have no catalog.
_DERIVED = ("TABLE DATA", "TABLE ATTACH", "INDEX ATTACH", "SEQUENCE SET", "SEQUENCE OWNED BY", "MATERIALIZED VIEW DATA")

# How a directory archive begins (WriteHead in pg_backup_archiver.c): magic, version, bytes of an integer and of an offset,
# format (it says tar, 3: _CloseArchive in pg_backup_directory.c), and how the files are compressed: until 15 the level, a
# sign and an integer; since 16 one byte for the method.
_MAGIC = b"PGDMP"
_NO_LEVEL, _LEVEL_1 = bytes([4, 8, 3, 0, 0, 0, 0, 0]), bytes([4, 8, 3, 0, 1, 0, 0, 0])
_NO_METHOD, _GZIP = bytes([4, 8, 3, 0]), bytes([4, 8, 3, 1])
_AS_GZIP = {14: (_NO_LEVEL, _LEVEL_1), 15: (_NO_METHOD, _GZIP), 16: (_NO_METHOD, _GZIP)}


@dataclass(frozen=True)
class Entry:
    """One entry. ``text`` is ``DESC schema name owner`` (schema ``-`` for none). What is not UTF-8 is surrogate-escaped."""

    dump_id: int
    catalog: int
    oid: int
    text: str

    @property
    def line(self) -> str:
        """The line as ``pg_restore --use-list`` takes it."""
        return f"{self.dump_id}; {self.catalog} {self.oid} {self.text}"

    def describes(self, description: str) -> bool:
        """Whether the entry is of this kind.

        ``TABLE DATA x`` may be the rows of a table or a table in a schema named DATA; the catalog tells which (pg_dump.c,
        makeTableDataInfo: rows have none).
        """
        if not self.text.startswith(description + " "):
            return False
        if any(derived.startswith(description) for derived in _DERIVED):
            return (self.catalog == 0) == (description in _DERIVED)
        return True


def parse(listing: str) -> list[Entry]:
    """The entries in the archive's order."""
    matches = (_LINE.match(line) for line in listing.split("\n"))  # not splitlines(): names may hold what that splits at
    return [Entry(int(m[1]), int(m[2]), int(m[3]), m[4]) for m in matches if m]


def say_gzip(path: Path) -> None:
    """Have the ``toc.dat`` of a dump that was not compressed say gzip, at level 1, as the files beside it have been since.

    pg_restore takes each file for what its name says and would read them either way. But since 16 it looks for the sizes,
    by which ``-j`` takes the largest tables first, under the names that the table of contents tells (_PrepParallelRestore in
    pg_backup_directory.c), and ``--list`` shows it. A header of another version, or a broken one, is left alone.
    """
    with open(path, "r+b") as file:
        head = file.read(8)
        if head[:6] != _MAGIC + b"\1" or head[6:7] == b"" or head[6] not in _AS_GZIP:
            return
        plain, gzip = _AS_GZIP[head[6]]
        if file.read(len(plain)) == plain:
            file.seek(8)
            file.write(gzip)


def use_list(entries: Iterable[Entry]) -> bytes:
    """A list file for ``pg_restore --use-list``."""
    return "".join(entry.line + "\n" for entry in entries).encode(errors="surrogateescape")


def printable(name: str) -> str:
    """A name as pg_dump prints it in comments and lists: line breaks are spaces (dumputils.c, sanitize_line)."""
    return name.replace("\n", " ").replace("\r", " ")
