"""A migration file, read: the statements byte for byte as they stand there, and what must stand or fall together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import postgast

from naap_ops.errors import MigrationUnreadable
from naap_ops.reverse import unreadable
from naap_ops.reverse.kinds import command_tag, control_of, kinds_of
from naap_ops.reverse.opaque import is_opaque
from naap_ops.reverse.relations import relations_of
from naap_ops.reverse.segments import Segment, segments_of, transactional
from naap_ops.reverse.splitting import Span, parsed_alone, skipped, spans, spans_by_grammar
from naap_ops.reverse.statement import Statement

__all__ = ["Script", "Segment", "Statement", "parse"]

_BOM: Final = b"\xef\xbb\xbf"
_KEPT_BYTES: Final = 1 << 20  # trees take some 60 times the text: those of larger files are built again when asked for
_SUBSELECT: Final = re.compile(r"\b(?:select|table|with)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Script:
    """A migration file. ``text`` is all of it, a BOM included, so that ``text.encode()`` is the file."""

    name: str
    text: str
    sha256: str
    """Of the file's bytes, in hex: what Prisma keeps as ``checksum`` in ``_prisma_migrations``."""
    statements: tuple[Statement, ...]
    """Empty for a file that is empty or holds comments only."""
    segments: tuple[Segment, ...]


def parse(data: bytes, *, name: str) -> Script:
    """Read the bytes of a migration. ``name`` is what errors call it.

    Raises MigrationUnreadable (with the line, the reason and the statement) for what is not a script of PostgreSQL's SQL:
    other encodings, NUL bytes, commands of psql, other dialects, half a statement.
    """
    problem = unreadable.not_text(name, data)
    if problem is not None:
        raise problem
    text = data.decode()
    begin = len(_BOM) if data.startswith(_BOM) else 0
    keep = len(data) <= _KEPT_BYTES
    try:
        statements = tuple(_statements(data, spans(data, begin), keep=keep))
        complete = skipped(data, statements[-1].end if statements else begin, semicolons=True)[1] == len(data)
    except postgast.PgQueryError:
        complete = False
    if not complete:
        statements = _by_grammar(name, data, text, begin, keep=keep)
    return Script(name, text, hashlib.sha256(data).hexdigest(), statements, segments_of(statements))


def _by_grammar(name: str, data: bytes, text: str, begin: int, *, keep: bool) -> tuple[Statement, ...]:
    try:
        return tuple(_statements(data, spans_by_grammar(data, begin), keep=keep))
    except postgast.PgQueryError as error:
        position = max(error.cursorpos - 1, 0) + (1 if begin else 0)
        raise _refused(name, text, position, error.message) from None


def _refused(name: str, text: str, position: int, reason: str) -> MigrationUnreadable:
    return unreadable.refused_by_grammar(name, text, position, reason)


def _statements(data: bytes, places: Iterator[Span] | list[Span], *, keep: bool) -> Iterator[Statement]:
    line, counted = 1, 0
    for index, (comment, start, end) in enumerate(places, 1):
        line, counted = line + data.count(b"\n", counted, start), start
        sql = data[start:end].decode()
        yield _statement(index, sql, data[comment:start].decode().rstrip(), (start, end), line, parsed_alone(sql), keep=keep)


def _statement(index: int, sql: str, comment: str, place: tuple[int, int], line: int, node: Any, *, keep: bool) -> Statement:
    tag = command_tag(node)
    return Statement(
        index=index,
        sql=sql,
        comment=comment,
        start=place[0],
        end=place[1],
        line=line,
        tag=tag,
        kinds=kinds_of(node, tag),
        transactional=transactional(node),
        control=control_of(node),
        relations=relations_of(node, flat=_SUBSELECT.search(sql) is None),
        opaque=is_opaque(node),
        kept=node if keep else None,
    )
