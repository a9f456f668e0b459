"""Picks sections out of a plain script: the rows without the tables, say. Understands what pg_dump writes, nothing else.

pg_dump puts a comment before each object that tells its type (pg_backup_archiver.c, _printTocEntry); what stands before the
first comment are settings, and always passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

# The part of a script that fills tables which are there already.
ROWS = frozenset({"TABLE DATA", "SEQUENCE SET"})

_SECTION = re.compile(rb"-- (?:Data for )?Name: .*; Type: ([A-Z ]+); Schema: .*; Owner: .*\n")
_COPY_START = re.compile(rb"COPY .* FROM stdin;\n")
_BLOCK_END = b"\n\\.\n"
_OVERLAP = len(_BLOCK_END) - 1


class Sections:
    """Feed it a script in pieces; it hands the wanted sections, by their types, to ``sink``; with ``but`` all others."""

    def __init__(self, wanted: Collection[str], sink: Callable[[bytes], object], *, but: bool = False) -> None:
        self._wanted = {name.encode() for name in wanted}
        self._but = but
        self._sink = sink
        self._passing = True
        self._in_rows = False
        # Outside rows: a line not yet whole. Inside: bytes of which the first has been passed on already.
        self._held = b""

    def feed(self, piece: bytes) -> None:
        data = self._held + piece
        self._held = b""
        while data:
            data = self._rows(data) if self._in_rows else self._lines(data)

    def _lines(self, data: bytes) -> bytes:
        """Whole lines of SQL, up to the beginning of rows. Returns what is left to look at."""
        start = 0
        while (end := data.find(b"\n", start) + 1) > 0:
            line = data[start:end]
            if match := _SECTION.fullmatch(line):
                self._passing = (match[1] in self._wanted) != self._but
            self._pass(line)
            start = end
            if _COPY_START.fullmatch(line):
                self._in_rows = True
                return data[end - 1 :]
        self._held = data[start:]
        return b""

    def _rows(self, data: bytes) -> bytes:
        """Rows, up to their terminator. Returns what is left to look at."""
        end = data.find(_BLOCK_END)
        if end < 0:
            passed = max(1, len(data) - _OVERLAP)
            self._pass(data[1:passed])
            self._held = data[passed - 1 :]
            return b""
        self._pass(data[1 : end + len(_BLOCK_END)])
        self._in_rows = False
        return data[end + len(_BLOCK_END) :]

    def _pass(self, piece: bytes) -> None:
        if self._passing and piece:
            self._sink(piece)
