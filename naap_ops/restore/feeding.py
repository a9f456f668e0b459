"""Entries of an archive carried out in a session of ours, inside its transaction.

pg_restore turns them into SQL; the structure is sent as it is, the rows go through COPY while they arrive. Doing this in our
own session, not by psql, leaves one transaction around all of it, errors with SQLSTATE, and COPY's own count of the rows.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naap_ops import files
from naap_ops.backup import toc
from naap_ops.backup.copytext import NotCopyText
from naap_ops.backup.engines.script import piped
from naap_ops.backup.toc import Entry

if TYPE_CHECKING:
    from psycopg import Copy, Cursor

    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Command, Toolset

_BLOCK_END = b"\n\\.\n"
# The column list may hold quoted names with anything in them.
_COPY = re.compile(rb'^(COPY (?:"(?:[^"]|"")*"|[^";])* FROM stdin);\n', re.MULTILINE)
_PAIR = re.compile(rb"^\\restrict (\w+)$", re.MULTILINE)
# pg_restore lifts the timeout that keeps us from standing in everybody's way.
_LOCK_TIMEOUT = re.compile(rb"^SET lock_timeout = 0;$", re.MULTILINE)
_HEADER_BYTES = 1 << 11


@dataclass(frozen=True)
class Printer:
    """Has pg_restore print entries as SQL."""

    tools: Toolset
    owner: bool
    privileges: bool

    def text(self, archive: Path, entries: Sequence[Entry]) -> bytes:
        """The SQL of ``entries``, which are not rows. Raises CommandFailed."""
        return b"".join(self.pieces(archive, entries)) if entries else b""

    def pieces(self, archive: Path, entries: Sequence[Entry]) -> Generator[bytes]:
        """The same piece by piece; pg_restore's exit status is checked behind the last one. Raises CommandFailed."""
        with self._command(archive, entries) as (command, source), piped(command, source) as child:
            while piece := child.stdout.read1(files.CHUNK):  # type: ignore[attr-defined]
                yield piece
            child.check()

    @contextlib.contextmanager
    def _command(self, archive: Path, entries: Sequence[Entry]) -> Iterator[tuple[Command, Path | None]]:
        from naap_ops.postgres.conninfo import ConnInfo

        nowhere = ConnInfo(host=None, port=None, user=None, dbname=None)
        words = ["--file=-", *([] if self.owner else ["--no-owner"]), *([] if self.privileges else ["--no-privileges"])]
        chosen = toc.use_list(entries)
        if self.tools.remote:
            words += ["--use-list", "@files/list"]
            yield self.tools.command("pg_restore", words, nowhere, files={"list": chosen}), archive
            return
        with tempfile.NamedTemporaryFile(prefix="naap_ops_", suffix=".list") as file:
            file.write(chosen)
            file.flush()
            words += [f"--use-list={file.name}", str(archive)]
            yield self.tools.command("pg_restore", words, nowhere), None


def run_structure(connection: Connection, text: bytes) -> None:
    """Carry out SQL without rows, as pg_restore printed it."""
    if text:
        connection.execute(_plain(text))
        _own_encoding(connection)


def _plain(text: bytes) -> bytes:
    """Without psql's commands (the pair around the whole) and the header's lock_timeout."""
    head, rest = text[:_HEADER_BYTES], text[_HEADER_BYTES:]
    pair = _PAIR.search(head)
    text = _LOCK_TIMEOUT.sub(b"", head, count=1) + rest
    if pair is None:
        return text
    return re.sub(rb"^\\(?:un)?restrict " + pair[1] + rb"$", b"", text, flags=re.MULTILINE)


def _own_encoding(connection: Connection) -> None:
    """Back from the archive's client encoding to ours."""
    connection.execute("set client_encoding to 'UTF8'")


class RowFeeder:
    """Takes the SQL of rows piece by piece. ``on_table`` is told the rows of each COPY when it is through.

    ``turned`` makes another COPY statement of each, whose rows then go elsewhere.
    """

    def __init__(
        self, connection: Connection, on_table: Callable[[int], None], turned: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._turned = turned or (lambda statement: statement)
        self._connection = connection
        self._on_table = on_table
        self._cursor: Cursor[tuple[Any, ...]] = connection.cursor()
        self._copy: Copy | None = None
        self._open = contextlib.ExitStack()
        self._held = b""
        self._key: bytes | None = None

    def __enter__(self) -> RowFeeder:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._open.__exit__(*exception)

    def feed(self, piece: bytes) -> None:
        """The next bytes."""
        data = self._held + piece
        while data:
            data = self._outside(data) if self._copy is None else self._inside(data)

    def _outside(self, data: bytes) -> bytes:
        start = _COPY.search(data)
        if start is None:
            self._held = data
            return b""
        self._run(data[: start.start()])
        self._copy = self._open.enter_context(self._cursor.copy(self._turned(start[1])))
        self._held = b""
        return data[start.end() - 1 :]  # with the newline: it stands before the terminator of an empty table

    def _inside(self, data: bytes) -> bytes:
        """The first byte has been sent already."""
        assert self._copy is not None
        end = data.find(_BLOCK_END)
        if end < 0:
            sent = max(1, len(data) - len(_BLOCK_END) + 1)
            self._copy.write(data[1:sent])
            self._held = data[sent - 1 :]
            return b""
        self._copy.write(data[1 : end + 1])
        self._open.close()
        self._copy = None
        self._on_table(self._cursor.rowcount)
        return data[end + len(_BLOCK_END) - 1 :]

    def _run(self, text: bytes) -> None:
        pair = _PAIR.search(text) if self._key is None else None
        if pair is not None:
            self._key = pair[1]
        if self._key is not None:
            text = re.sub(rb"^\\(?:un)?restrict " + self._key + rb"$", b"", text, flags=re.MULTILINE)
        self._connection.execute(_LOCK_TIMEOUT.sub(b"", text, count=1))

    def finish(self) -> None:
        """All is fed. Raises NotCopyText when a table's rows have not ended."""
        if self._copy is not None:
            raise NotCopyText(detail="the archive ends inside the rows of a table")
        self._run(self._held)
        _own_encoding(self._connection)
