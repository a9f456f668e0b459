"""A file's text into the exact places of its statements, and one statement into the grammar's tree.

Each statement is parsed by itself, so that the positions in its tree count from its own first byte, and so that a file of
megabytes never stands in memory as one tree. Where the scanner's pieces are not statements (semicolons inside BEGIN ATOMIC)
the grammar divides the whole.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any, Final

import postgast
from google.protobuf.message import DecodeError

from naap_ops.reverse.relations import unwrapped

Span = tuple[int, int, int]
"""Offsets in bytes: where the comments before the statement begin, its first byte, the byte after its last."""

_BLANK: Final = re.compile(rb"[ \t\r\n\f\v]*")
_LINE_COMMENT: Final = re.compile(rb"--[^\r\n]*")
_COMMENT_ENDS: Final = re.compile(rb"/\*|\*/")
# A chain of operators becomes a tree as deep as it is long, and the C code that writes it out recurses: on an ordinary stack
# it dies at some 40,000 operators, which need at least two bytes each. protobuf ends at 65,535 levels, two an operator.
_DEEP_BYTES: Final = 32 << 10
_STACK_BYTES: Final = 512 << 20
_LONGEST_CHAIN: Final = 32_000
_LITERAL: Final = re.compile(r"'[^']*'")
_OPERATOR: Final = re.compile(r"[-+*/<>=~!@#%^&|`?]+|\b(?:not|collate|union|intersect|except|join)\b|::|\[", re.IGNORECASE)
_decoding = threading.Lock()


def _too_deep() -> Exception:
    """An expression so long that parsing it could end this very process."""
    return postgast.PgQueryError("an expression is nested too deeply to be read")  # type: ignore[no-any-return]


def skipped(data: bytes, at: int, *, semicolons: bool = False) -> tuple[int, int]:
    """Over white space and comments from ``at``: ``(where the first comment begins, where the next token begins)``."""
    first = -1
    while True:
        blank = _BLANK.match(data, at)
        assert blank is not None
        at = blank.end()
        if data.startswith(b"--", at):
            comment = _LINE_COMMENT.match(data, at)
            assert comment is not None
            first, at = (at if first < 0 else first), comment.end()
        elif data.startswith(b"/*", at):
            first, at = (at if first < 0 else first), _comment_end(data, at)
        elif semicolons and data.startswith(b";", at):
            first, at = -1, at + 1
        else:
            return (at if first < 0 else first), at


def _comment_end(data: bytes, at: int) -> int:
    """The end of a block comment; they nest. One without an end reaches to the end of the text."""
    depth = 0
    for mark in _COMMENT_ENDS.finditer(data, at):
        depth += 1 if mark.group() == b"/*" else -1
        if depth == 0:
            return mark.end()
    return len(data)


def spans(data: bytes, begin: int) -> Iterator[Span]:
    """Where the statements of ``data`` stand, from the scanner: fast, and wrong for BEGIN ATOMIC."""
    at = begin
    for piece in postgast.split(data[begin:].decode(), method="scanner"):
        raw = piece.encode()
        core = raw[skipped(raw, 0)[1] :]
        comment, start = skipped(data, at, semicolons=True)
        if not core:
            continue
        if not data.startswith(core, start):
            raise postgast.PgQueryError("the scanner's pieces are not the text's")
        at = start + len(core)
        yield comment, start, start + _trimmed(core)


def spans_by_grammar(data: bytes, begin: int) -> list[Span]:
    """As :func:`spans`, by the grammar itself. Raises ``postgast.PgQueryError`` where the text is not SQL."""
    found: list[Span] = []
    at = begin
    for raw in _tree(data[begin:].decode()).stmts:
        end = begin + raw.stmt_location + raw.stmt_len if raw.stmt_len else len(data)
        comment, start = skipped(data, at, semicolons=True)
        found.append((comment, start, start + _trimmed(data[start:end])))
        at = end
    return found


def _trimmed(core: bytes) -> int:
    """The length of a statement without the white space and comments at its end."""
    core = core.rstrip(b" \t\r\n\f\v")
    last_line = core[max(core.rfind(b"\n"), core.rfind(b"\r")) + 1 :]
    if b"--" not in last_line and not core.endswith(b"*/"):
        return len(core)
    tokens = postgast.scan(core.decode()).tokens
    comments = (postgast.pg_query_pb2.SQL_COMMENT, postgast.pg_query_pb2.C_COMMENT)
    return max((token.end for token in tokens if token.token not in comments), default=len(core))


def parsed_alone(sql: str) -> Any:
    """The node of a text that is one statement. Raises ``postgast.PgQueryError``, also if it is not exactly one."""
    statements = _tree(sql).stmts
    if len(statements) != 1:
        raise postgast.PgQueryError(f"{len(statements)} statements where one was expected")
    return unwrapped(statements[0].stmt)


def _tree(sql: str) -> Any:
    if len(sql) < _DEEP_BYTES:
        return _decoded(sql)
    pieces = (piece for piece in _LITERAL.sub("", sql).split(",") if len(piece) > 2 * _LONGEST_CHAIN)
    if any(len(_OPERATOR.findall(piece)) > _LONGEST_CHAIN for piece in pieces):
        raise _too_deep()
    return _on_a_large_stack(sql)


def _decoded(sql: str) -> Any:
    try:
        return postgast.parse(sql)
    except DecodeError:  # more than 100 messages deep, protobuf's usual limit
        try:
            return _decoded_deep(sql)
        except (ImportError, DecodeError):
            raise _too_deep() from None


def _decoded_deep(sql: str) -> Any:
    from google._upb import _message

    with _decoding:
        _message.SetAllowOversizeProtos(True)
        try:
            return postgast.parse(sql)
        finally:
            _message.SetAllowOversizeProtos(False)


def _on_a_large_stack(sql: str) -> Any:
    result: list[Any] = []

    def work() -> None:
        try:
            result.append(_decoded(sql))
        except postgast.PgQueryError as error:
            result.append(error)

    before = threading.stack_size(_STACK_BYTES)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]
