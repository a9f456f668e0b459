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

# What pg_dump puts after the last row of a data file (pg_backup_archiver.c: the terminator and two newlines).
DATA_FILE_END = b"\\.\n\n\n"
_BLOCK_END = b"\n\\.\n"
# Inside a block, bytes that may be the beginning of _BLOCK_END are looked at again with the next piece.
_OVERLAP = len(_BLOCK_END) - 1
# Outside, this much SQL is remembered so that a block's comment and its COPY statement may arrive in different pieces.
_REMEMBERED = 1 << 16

_COMPLETE = re.compile(rb"^-- PostgreSQL database (?:cluster )?dump complete$", re.MULTILINE)
_DATA_COMMENT = re.compile(rb"^-- Data for Name: (.*); Type: TABLE DATA; Schema: (.*); Owner: .*$", re.MULTILINE)
_COPY_START = re.compile(rb"^COPY .* FROM stdin;\n", re.MULTILINE)
_DEFINITION = re.compile(rb"^-- Name: (.*); Type: TABLE; Schema: (.*); Owner: .*$", re.MULTILINE)
_ENCODING = re.compile(rb"^SET client_encoding = '(\w+)';$", re.MULTILINE)


class NotCopyText(OpsError):
    """The bytes are not what pg_dump writes. Field ``detail``."""

    exit_code = 13
    name = "damaged"


class DataFileCounter:
    """Rows of one data file of the directory format, fed in pieces."""

    def __init__(self) -> None:
        self._newlines = 0
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        self._newlines += piece.count(b"\n")
        self._tail = (self._tail + piece[-len(DATA_FILE_END) :])[-len(DATA_FILE_END) :]

    def rows(self) -> int:
        """The count, once all is fed. Raises NotCopyText when the terminator is missing."""
        if self._tail != DATA_FILE_END:
            raise NotCopyText(detail="the data ends before its terminator")
        return self._newlines - DATA_FILE_END.count(b"\n")


class ScriptCounter:
    """Rows per table of a plain SQL script, fed in pieces.

    ``on_table(schema, name, rows)`` is called at the end of each COPY block, with the names as pg_dump's comment gives them
    (line breaks in names are spaces there). A COPY statement is only believed behind that comment, so that a function body that
    happens to hold such a line is not counted; a script without the comments has no rows counted. ``defined`` collects the
    tables, as ``(schema, name)``, that the script makes.
    """

    def __init__(self, on_table: Callable[[str, str, int], None]) -> None:
        self._on_table = on_table
        self._codec = "utf-8"
        self.defined: set[tuple[str, str]] = set()
        # Outside a block: the SQL remembered. Inside: bytes of which the first has been counted already.
        self._held = b"\n"
        self._table: tuple[str, str] | None = None
        self._rows = 0
        self.complete = False

    def feed(self, piece: bytes) -> None:
        data = self._held + piece
        while data:
            data = self._outside(data) if self._table is None else self._inside(data)

    def _outside(self, data: bytes) -> bytes:
        """Look for the start of a block. Returns what is left to look at."""
        start = _COPY_START.search(data)
        end = start.start() if start else len(data)
        if match := _ENCODING.search(data, 0, end):
            self._codec = codec(match[1].decode())
        self.defined |= {(self._text(m[2]), self._text(m[1])) for m in _DEFINITION.finditer(data, 0, end)}
        comments = list(_DATA_COMMENT.finditer(data, 0, end))
        if start is None:
            self.complete = self.complete or _COMPLETE.search(data) is not None
            keep = comments[-1].start() if comments else len(data) - _REMEMBERED
            self._held = _from_line_start(data, keep)
            return b""
        rest = data[start.end() - 1 :]  # with the newline: it stands before the terminator of an empty block
        if comments:
            self._table = (self._text(comments[-1][2]), self._text(comments[-1][1]))
            self._rows = 0
        return rest

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

    def _text(self, name: bytes) -> str:
        return name.decode(self._codec, "surrogateescape")

    def finish(self) -> None:
        """All is fed. Raises NotCopyText when a block is still open."""
        if self._table is not None:
            raise NotCopyText(detail=f"the script ends inside the rows of {self._table[1]}")


def codec(encoding: str) -> str:
    """Python's name for a server encoding, as far as Python knows it: ``LATIN1``, ``WIN1252``, ``EUC_JP``; else utf-8."""
    for name in (encoding, encoding.replace("WIN", "cp"), encoding.replace("KOI8", "KOI8-")):
        with contextlib.suppress(LookupError):
            return codecs.lookup(name).name
    return "utf-8"


def _from_line_start(data: bytes, position: int) -> bytes:
    """``data`` from the first line start at or before ``position`` (from the beginning, if that is negative)."""
    if position <= 0:
        return data
    return data[data.rfind(b"\n", 0, position) + 1 :]
