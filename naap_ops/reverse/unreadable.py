"""Why a file cannot be read as a migration, in words that help: which line, which statement, what it looks like."""

from __future__ import annotations

import re
from typing import Final

from naap_ops.errors import MigrationUnreadable

_WINDOW: Final = 20_000  # characters either side of the error that sqlparse may look at: it is slow
_EXCERPT: Final = 300
_REASON: Final = 160
_COPY_DATA: Final = re.compile(r"\bFROM\s+STDIN\b[^;]*;\s*\Z", re.IGNORECASE)
_BACKSLASH: Final = re.compile(r"\\[a-zA-Z.!?]+")
_META: Final = re.compile(r"^[ \t]*(\\[a-zA-Z.!?]+)[^\n]*$", re.MULTILINE)
_ANY_LINE: Final = re.IGNORECASE | re.MULTILINE
_DIALECTS: Final = (
    (
        "MySQL or MariaDB",
        re.compile(
            r"`\w+`|\bAUTO_INCREMENT\b|\bENGINE\s*=\s*\w+|\bUNSIGNED\b|\bMODIFY\s+(COLUMN\b|\")|\bDEFAULT\s+CHARACTER\s+SET\b"
            r"|\bTINYINT\b|\bDATETIME\(\d\)|^\s*DELIMITER\b|\bLOCK\s+TABLES\b",
            _ANY_LINE,
        ),
    ),
    (
        "SQLite",
        re.compile(
            r"^\s*PRAGMA\b|\bAUTOINCREMENT\b|\bWITHOUT\s+ROWID\b|\bINSERT\s+OR\s+(REPLACE|IGNORE)\b",
            _ANY_LINE,
        ),
    ),
    (
        "SQL Server",
        re.compile(
            r"\[dbo\]|^\s*GO\s*$|\bNVARCHAR\b|\bIDENTITY\s*\(\s*1|\bBEGIN\s+TRY\b|\bEXEC\s+sp_|\bCLUSTERED\b",
            _ANY_LINE,
        ),
    ),
    ("Oracle", re.compile(r"\bVARCHAR2\b|\bNUMBER\s*\(|^\s*/\s*$", _ANY_LINE)),
)


def not_text(name: str, data: bytes) -> MigrationUnreadable | None:
    """The error for bytes that are no UTF-8 text, or hold NUL; None if they are fine."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        reason = "it is UTF-16 text (a redirection in Windows PowerShell writes that); save it as UTF-8"
        return MigrationUnreadable(name=name, line=1, reason=reason, excerpt="")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        return _at(name, data, error.start, reason)
    nul = data.find(b"\0")
    return None if nul < 0 else _at(name, data, nul, f"a NUL byte at offset {nul}")


def _at(name: str, data: bytes, offset: int, reason: str) -> MigrationUnreadable:
    line = data.count(b"\n", 0, offset) + 1
    begin = data.rfind(b"\n", 0, offset) + 1
    shown = data[max(begin, offset - 80) : offset + 80].split(b"\n")[0].decode("utf-8", "backslashreplace").replace("\0", "\\0")
    return MigrationUnreadable(name=name, line=line, reason=reason, excerpt=shown.strip())


def refused_by_grammar(name: str, text: str, position: int, reason: str) -> MigrationUnreadable:
    """The error for a text the grammar refuses at ``position`` (in characters, from 0)."""
    begin, statement = _offending(text, position)
    reason = reason.split("\n", 1)[0][:_REASON]
    meta = _meta(text, position)
    if meta is not None:
        place, command = meta
        line = text.count("\n", 0, place) + 1
        what = f"{command} is a command of psql, not SQL: Prisma cannot run it"
        shown = text[place:].split("\n", 1)[0]
        return MigrationUnreadable(name=name, line=line, reason=what, excerpt=shown[:_EXCERPT].strip())
    if _COPY_DATA.search(text, max(0, position - _WINDOW), position):
        reason = f"{reason}: data of COPY FROM stdin; Prisma cannot send it, write INSERT"
    elif "end of input" in reason:
        reason = f"{reason}: the last statement is not complete"
    dialect = next((name for name, marks in _DIALECTS if marks.search(_without_literals(statement))), None)
    dialect = dialect or next((name for name, marks in _DIALECTS if marks.search(_without_literals(text[: 4 * _WINDOW]))), None)
    if dialect:
        reason = f"{reason}; it looks like {dialect}, not PostgreSQL"
    at_line = text.count("\n", 0, min(position, len(text.rstrip()))) + 1
    return MigrationUnreadable(
        name=name, line=at_line, reason=reason, excerpt=_shortened(statement.lstrip("\ufeff"), position - begin)
    )


def _without_literals(text: str) -> str:
    """Without strings and comments, where words of other dialects mean nothing."""
    return re.sub(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)


def _meta(text: str, position: int) -> tuple[int, str] | None:
    """The psql command the grammar stumbled over: at the position, or on the line before (``\\.`` ends the data of a COPY)."""
    inside = _BACKSLASH.match(text, position)
    if inside is not None:
        return position, inside.group()
    for found in _META.finditer(text, max(0, position - _WINDOW)):
        if found.start(1) > position + 1:
            return None
        if found.end() + 1 >= position:
            return found.start(1), found.group(1)
    return None


def _offending(text: str, position: int) -> tuple[int, str]:
    """``(where it begins, its text)``: the statement around a position, as sqlparse divides what stands there."""
    import sqlparse

    begin = 0 if position < _WINDOW else text.rfind(";", 0, position - _WINDOW // 2) + 1
    begin = max(begin, position - _WINDOW)
    for piece in sqlparse.split(text[begin : position + _WINDOW]):
        place = text.find(piece, begin)
        if place >= 0 and place + len(piece) >= min(position, len(text.rstrip()) - 1):
            return place, piece
        begin = place + len(piece) if place >= 0 else begin
    return max(0, position - _EXCERPT // 2), text[max(0, position - _EXCERPT // 2) : position + _EXCERPT // 2]


def _shortened(statement: str, position: int) -> str:
    """Of a long statement, the part around the position."""
    if len(statement) <= _EXCERPT:
        return statement
    begin = min(max(0, position - _EXCERPT // 2), len(statement) - _EXCERPT)
    return ("..." if begin else "") + statement[begin : begin + _EXCERPT] + ("..." if begin + _EXCERPT < len(statement) else "")
