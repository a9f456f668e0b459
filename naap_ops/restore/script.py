"""A plain SQL script as the source of a whole database: ours or anybody's pg_dump, plain, .gz or .zst.

It is read whole before anything is done with it: the trailer that pg_dump writes last must be there (psql restores half a
script without complaint), and what would leave the database it is loaded into is refused. Rows are counted on the way.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from naap_ops.backup.copytext import NotCopyText, ScriptCounter
from naap_ops.backup.loading import load_script
from naap_ops.backup.manifest import TableFact
from naap_ops.backup.reading import Unreadable, read_stream
from naap_ops.backup.toc import printable
from naap_ops.errors import BackupDamaged, CommandFailed, Refused, UsageError
from naap_ops.events import Events
from naap_ops.postgres.catalog.tables import tables as catalog_tables
from naap_ops.restore import gate, restricted, whole
from naap_ops.restore.failures import load_error
from naap_ops.restore.outcome import Outcome, Plan, RestoreOptions, size_text
from naap_ops.restore.source import Progress
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.databases import DatabaseProps
    from naap_ops.postgres.session import Connection, ServerInfo
    from naap_ops.postgres.tools import Toolset

_TAIL_BYTES = 1 << 10
_COPY = re.compile(rb"^COPY .* FROM stdin;$", re.MULTILINE)
_COMPLETE = re.compile(rb"^-- PostgreSQL database dump complete\n--\s*(?:^\\unrestrict \w+\s*)?\Z", re.MULTILINE)
_CLUSTER = re.compile(rb"^-- PostgreSQL database cluster dump", re.MULTILINE)
_LEAVES = re.compile(rb"^(?:\\c(?:onnect)? .*|CREATE DATABASE .*)$", re.MULTILINE)
_MAJOR = re.compile(rb"^-- Dumped from database version (\d+)", re.MULTILINE)
_ARCHIVE = b"PGDMP"
_PACKED = {b"\xfd7zXZ\0": "xz -dk", b"BZh": "bzip2 -dk", b"PK\x03\x04": "unzip"}  # gzip and zstd are read as they stand


def restore_script(
    path: Path, info: ConnInfo, options: RestoreOptions, tools: Toolset, events: Events, *, into: str | None = None
) -> Outcome:
    """Restore a script ``into`` a new database, or (None) in place of the one ``info`` names.

    Raises BackupDamaged for a script that is cut short, Refused for one that cannot be loaded into one database, and what
    :func:`naap_ops.restore.whole.restore_into` and ``restore_swap`` raise.
    """
    source = ScriptSource(path, tools)
    if into is not None:
        return whole.into(source, info, into, options, events)
    return whole.swap(source, info, options, events)


def plan_script(path: Path, info: ConnInfo, options: RestoreOptions, tools: Toolset, *, into: str | None = None) -> Plan:
    """What :func:`restore_script` would do. Reads the whole script."""
    return whole.plan(ScriptSource(path, tools), info, into or info.dbname or "", options, swap=into is None)


@dataclass
class _Facts:
    """What reading the script found: rows per ``(schema, name)`` as pg_dump's comments print them, and its ends."""

    head: bytes = b""
    tail: bytes = b""
    rows: dict[tuple[str, str], int] = field(default_factory=dict)


class ScriptSource:
    """A script."""

    props: DatabaseProps | None = None

    def __init__(self, path: Path, tools: Toolset) -> None:
        self.name = path.name
        self.text = f"script {path}"
        self._path = path
        self._tools = tools
        self._facts = _Facts()
        self._identity: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        self._identity = self._look()
        self._facts = _read(self._path)
        rows = sum(self._facts.rows.values())
        held = f"{count_of(len(self._facts.rows), 'table')}, {count_of(rows, 'row')}"
        self.text = f"script {self._path} ({size_text(self._identity[0])}): {held}"
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _look(self) -> tuple[int, ...]:
        """Size and what changes when a file is written or replaced. Raises UsageError for what is no readable file."""
        try:
            facts = self._path.stat()
        except OSError as error:
            raise UsageError(detail=f"{self._path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(facts.st_mode) or not os.access(self._path, os.R_OK):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "not a file that can be read, and read twice"
            hint = "--file wants a script in plain SQL; `pg_restore -f script.sql FOLDER` makes one of a dump in a folder."
            raise UsageError(detail=f"{self._path} is {kind}", hint=hint)
        return facts.st_size, facts.st_mtime_ns, facts.st_ino

    def gate(
        self,
        connection: Connection,
        server: ServerInfo,
        options: RestoreOptions,
        *,
        replaces: bool,  # noqa: ARG002
    ) -> list[str]:
        gate.plain(options, f"script {self.name}")
        major = _MAJOR.search(self._facts.head)
        if major is not None:
            gate.server(connection, server, int(major[1]), f"script {self.name}")
        if not restricted.knows_restrict(self._tools):
            return [f"psql {self._tools.version} does not know \\restrict: commands in the script would run on this machine"]
        return []

    def load(self, info: ConnInfo, options: RestoreOptions, progress: Progress) -> None:
        try:
            load_script(self._path, self._tools, info, options.session(), through=restricted.wrapper(self._tools))
        except CommandFailed as error:
            raise load_error(error, info) from error
        except Unreadable as error:
            raise _damaged(self._path, error.text) from error
        progress(len(self._facts.rows), self._identity[0])

    def tables(self, connection: Connection) -> Sequence[TableFact]:
        """Tables of the script under their real names, those it defines but that did not arrive under the script's."""
        real = {_comment(printable(t.schema), printable(t.name)): t for t in catalog_tables(connection)}
        found = []
        for (schema, name), rows in self._facts.rows.items():
            table = real.get(_comment(schema, name))
            oid, owner = (table.oid, table.owner) if table else (0, "")
            found.append(
                TableFact(table.schema if table else schema, table.name if table else name, oid=oid, owner=owner, rows=rows)
            )
        return found

    def lacking(self, info: ConnInfo) -> list[str]:  # noqa: ARG002 - a script has no table of contents
        return []

    def proven(self) -> None:
        if self._look() != self._identity:
            raise _damaged(self._path, "it was changed while it was being restored")


def _comment(schema: str, name: str) -> str:
    """A table as pg_dump's comment names it: what was taken apart at the wrong place is the same again put together."""
    return f"{name}; Type: TABLE DATA; Schema: {schema}"


def _read(path: Path) -> _Facts:
    """Read the script to its end. Raises BackupDamaged, Refused."""
    facts = _Facts()

    def on_table(schema: str, name: str, rows: int) -> None:
        facts.rows[schema, name] = facts.rows.get((schema, name), 0) + rows

    counter = ScriptCounter(on_table)

    def consume(piece: bytes) -> None:
        if len(facts.head) < restricted.HEAD_BYTES:
            facts.head += piece[: restricted.HEAD_BYTES - len(facts.head)]
        facts.tail = (facts.tail + piece)[-_TAIL_BYTES:]
        counter.feed(piece)

    try:
        read_stream(path, consume)
        counter.finish()
    except (Unreadable, NotCopyText) as error:
        raise _damaged(path, error.text) from error
    first_rows = _COPY.search(facts.head)
    facts.head = facts.head[: first_rows.start() if first_rows else None]
    _refuse(path, facts.head)
    if _COMPLETE.search(facts.tail) is None:
        raise _damaged(path, "its last line is not pg_dump's 'PostgreSQL database dump complete': it is cut short, or no dump")
    return facts


def _refuse(path: Path, head: bytes) -> None:
    """What is no script for one database."""
    if head.startswith(_ARCHIVE):
        raise Refused(
            reason=f"{path} is an archive of pg_dump's custom format, not a script",
            hint=f"pg_restore -f script.sql {path} makes one of it.",
        )
    for magic, unpack in _PACKED.items():
        if head.startswith(magic):
            raise Refused(
                reason=f"{path} is compressed in a way that is not read here",
                hint=f"Unpack it first: {unpack} {shlex.quote(str(path))}",
            )
    if _CLUSTER.search(head):
        raise Refused(
            reason=f"{path} was written by pg_dumpall: it holds roles and several databases and connects to each",
            hint="Restore it with psql into a server of its own, or dump the one database with pg_dump.",
        )
    if leaves := _LEAVES.search(head):
        raise Refused(
            reason=f"{path} was written by pg_dump --create: it would leave the database it is loaded into"
            f" ({leaves[0].decode('utf-8', 'replace')!r})",
            hint="Dump without --create, or delete its CREATE DATABASE, ALTER DATABASE and \\connect lines.",
        )


def _damaged(path: Path, problem: str) -> BackupDamaged:
    return BackupDamaged(id=path.name, problems=problem, hint="Get a whole copy of it. Nothing has been changed.")
