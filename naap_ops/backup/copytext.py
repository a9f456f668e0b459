"""Counts rows in COPY text, the form in which pg_dump writes data.

One row is one line: newlines inside values are written as ``\\n`` (PostgreSQL documentation, COPY, "Text Format"), so the
rows of a table are the newlines before the terminator line ``\\.``.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Callable

from naap_ops.errors import OpsError

# What pg_dump puts after the last row of a data file (pg_dump.c, dumpTableData_copy: the terminator and two newlines).
DATA_FILE_END = b"\\.\n\n\n"
_BLOCK_END = b"\n\\.\n"
# Inside a block, bytes that may be the beginning of _BLOCK_END are looked at again with the next piece.
_OVERLAP = len(_BLOCK_END) - 1
# Outside, the end of what was seen is looked at again: more than a comment line or the trailer can be long ...
_REMEMBERED = 1 << 12
# ... and behind a table's comment, more than its COPY statement can be long: 1600 columns of 63 bytes, all quotes, doubled.
_STATEMENT = 1 << 18
_STEP = 1 << 16

# The patterns begin with the line break before them, so that bytes cut off in the middle of a line match nothing.
_DATA_COMMENT = re.compile(rb"\n-- Data for Name: (.*); Type: TABLE DATA; Schema: (.*); Owner: .*(?=\n)")
# A whole COPY statement (group 1), or one that goes on after the last byte. Quoted names may hold line breaks and semicolons.
_COPY = re.compile(rb'\nCOPY (?:"[^"]*"|[^";\n])*+(?:(?<= FROM stdin)(;\n)|;?\Z|"[^"]*\Z)')
_DEFINITION = re.compile(rb"\n-- Name: (.*); Type: TABLE; Schema: (.*); Owner: ")
_ENCODING = re.compile(rb"\nSET client_encoding = '(\w+)';\n")
_TRAILER = re.compile(
    rb"\n--\n-- PostgreSQL database (cluster )?dump complete\n--(?:\n(?:--(?! PostgreSQL ).*|\\unrestrict .*|[ \t\r]*))*\Z"
)
_CLUSTER = b"--\n-- PostgreSQL database cluster dump\n"


class NotCopyText(OpsError):
    """The bytes are not what pg_dump writes. Field ``detail``."""

    exit_code = 13
    name = "damaged"


class DataFileCounter:
    """Rows of one data file of the directory format, fed in pieces."""

    def __init__(self) -> None:
        self._newlines = 0
        self._tail = b"\n"  # the terminator stands on a line of its own, also where there is no row before it

    def feed(self, piece: bytes) -> None:
        self._newlines += piece.count(b"\n")
        self._tail = (self._tail + piece[-len(DATA_FILE_END) - 1 :])[-len(DATA_FILE_END) - 1 :]

    def rows(self) -> int:
        """The count, once all is fed. Raises NotCopyText when the terminator is missing."""
        if self._tail != b"\n" + DATA_FILE_END:
            raise NotCopyText(detail="the data ends before its terminator")
        return self._newlines - DATA_FILE_END.count(b"\n")


class ScriptCounter:
    """Rows per table of a plain SQL script, fed in pieces.

    ``on_table(schema, name, rows)`` is called at the end of each COPY block, with the names as pg_dump's comment gives them
    (line breaks in names are spaces there). A COPY statement is only believed behind that comment, so that a function body that
    happens to hold such a line is not counted; a script without the comments has no rows counted. ``defined`` collects the
    tables, as ``(schema, name)``, that the script makes. After :meth:`finish`, ``complete`` says whether the script ends with
    pg_dump's trailer (with that of pg_dumpall, if it begins as pg_dumpall does).
    """

    def __init__(self, on_table: Callable[[str, str, int], None]) -> None:
        self._on_table = on_table
        self._codec = "utf-8"
        self.defined: set[tuple[str, str]] = set()
        # Outside a block: the SQL remembered. Inside: bytes of which the first has been counted already.
        self._held = b"\n"
        self._head = b""
        self._table: tuple[str, str] | None = None
        self._rows = 0
        self.complete = False

    def feed(self, piece: bytes) -> None:
        if len(self._head) < len(_CLUSTER):
            self._head += piece[: len(_CLUSTER)]
        for start in range(0, len(piece), _STEP):
            data = self._held + piece[start : start + _STEP]
            while data:
                data = self._outside(data) if self._table is None else self._inside(data)

    def _outside(self, data: bytes) -> bytes:
        """Look for the start of a block. Returns what is left to look at."""
        comment = _DATA_COMMENT.search(data)
        start = _COPY.search(data, comment.end()) if comment else None
        self._note(data, start.start() if start else len(data))
        if comment is None:
            self._held = data[-_REMEMBERED:]
            return b""
        *_, comment = _DATA_COMMENT.finditer(data, comment.start(), start.start() + 1 if start else len(data))
        if start is None or start[1] is None:
            goes_on = len(data) - comment.start() <= _STATEMENT
            self._held = data[comment.start() :] if goes_on else data[-_REMEMBERED:]
            return b""
        self._table = (self._text(comment[2]), self._text(comment[1]))
        self._rows = 0
        return data[start.end() - 1 :]  # with the newline: it stands before the terminator of an empty block

    def _note(self, data: bytes, end: int) -> None:
        """Take what else is of interest from SQL before ``end``."""
        if match := _ENCODING.search(data, 0, end):
            self._codec = codec(match[1].decode())
        self.defined |= {(self._text(m[2]), self._text(m[1])) for m in _DEFINITION.finditer(data, 0, end)}

    def _text(self, name: bytes) -> str:
        return name.decode(self._codec, "surrogateescape")

    def _inside(self, data: bytes) -> bytes:
        """Count lines up to the block's end. Returns what is left to look at."""
        end = data.find(_BLOCK_END)
        if end < 0:
            counted = max(1, len(data) - _OVERLAP)
            self._rows += data.count(b"\n", 1, counted)
            self._held = data[counted - 1 :]
            return b""
        assert self._table is not None
        self._on_table(*self._table, self._rows + data.count(b"\n", 1, end + 1))
        self._table = None
        return data[end + _OVERLAP :]

    def finish(self) -> None:
        """All is fed. Raises NotCopyText when a block is still open."""
        if self._table is not None:
            raise NotCopyText(detail=f"the script ends inside the rows of {self._table[1]}")
        trailer = _TRAILER.search(self._held)
        self.complete = trailer is not None and bool(trailer[1]) == self._head.startswith(_CLUSTER)


def codec(encoding: str) -> str:
    """Python's name for a server encoding, as far as Python knows it: ``LATIN1``, ``WIN1252``, ``EUC_JP``; else utf-8."""
    for name in (encoding, encoding.replace("WIN", "cp"), encoding.replace("KOI8", "KOI8-")):
        with contextlib.suppress(LookupError):
            return codecs.lookup(name).name
    return "utf-8"
