"""The engine contract, and the part of pg_dump's command line that all formats share."""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from naap_ops.backup import toc
from naap_ops.backup.manifest import Scope
from naap_ops.backup.reading import Reading
from naap_ops.errors import (
    Blocked,
    CapabilityMissing,
    CommandFailed,
    NoSpace,
    OpsError,
    PrivilegeMissing,
    ServerUnreachable,
    UsageError,
)
from naap_ops.events import Events

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.tools import Toolset
    from naap_ops.storage.base import Staging


class Relation(Protocol):
    """A table as the catalog or a manifest names it."""

    @property
    def oid(self) -> int: ...
    @property
    def schema(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class DumpJob:
    """One run of pg_dump. ``staging`` is where the archive goes, ``archive`` its name there, ``compression`` e.g. ``zstd:1``.

    ``size`` is that of the database in bytes: more than that no archive of it has.
    """

    tools: Toolset
    info: ConnInfo
    staging: Staging
    archive: str
    snapshot: str
    kind: str
    scope: Scope
    compression: str
    jobs: int
    lock_wait_timeout: float
    tables: Sequence[Relation]
    size: int
    events: Events

    @property
    def folder(self) -> Path:
        """Where files are made before they are complete."""
        return self.staging.path

    @property
    def at_most(self) -> int:
        """A guess, in bytes, that no archive in one file exceeds: the size of the database, as text where not compressed."""
        return self.size * (3 if self.compression.startswith("none") else 1)

    def progressed(self, piece: bytes) -> None:
        """So much more of the archive is there."""
        self.events.emit("backup.progress", bytes=len(piece), added=True)

    def arguments(self, *words: str) -> list[str]:
        """The words every format has in common, then ``words``."""
        kinds = {"full": [], "schema": ["--schema-only"], "data": ["--data-only"]}
        scope = [f"--schema={quoted(name)}" for name in self.scope.schemas]
        for option, names in (("table", self.scope.tables), ("exclude-table-data", self.scope.exclude_table_data)):
            scope += [f"--{option}={quoted(*_parts(name, self.tables))}" for name in names]
        timeout = [f"--lock-wait-timeout={int(self.lock_wait_timeout * 1000)}"] if self.lock_wait_timeout else []
        return ["--no-password", f"--snapshot={self.snapshot}", *timeout, *kinds[self.kind], *scope, *words]


@dataclass(frozen=True)
class ReadJob:
    """One full read of an archive that is there already."""

    tools: Toolset | None
    folder: Path
    archive: str
    tables: Sequence[Relation]
    jobs: int


@dataclass
class ArchiveFacts:
    """What an archive turned out to hold: a reading per file, rows and data file per table oid, and the tables it defines."""

    readings: dict[str, Reading] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    data_files: dict[int, str] = field(default_factory=dict)
    structure: set[int] = field(default_factory=set)


class Engine(Protocol):
    """``name`` is the format's; ``archive_name`` the file or folder a backup of it holds."""

    name: str
    parallel: bool

    def archive_name(self, label: str, moment: str, compression: str) -> str: ...

    def dump(self, job: DumpJob) -> ArchiveFacts:
        """Write the archive and read it whole. Raises Blocked, NoSpace, PrivilegeMissing, CommandFailed, Unreadable."""

    def read(self, job: ReadJob) -> ArchiveFacts:
        """Read an archive whole. Raises Unreadable, NotCopyText, CommandFailed."""


def quoted(*parts: str) -> str:
    """A name as a pg_dump pattern that matches exactly it (documentation of psql, "Patterns")."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def _parts(qualified: str, tables: Sequence[Relation]) -> tuple[str, str]:
    return next((t.schema, t.name) for t in tables if f"{t.schema}.{t.name}" == qualified)


def compression_words(compression: str, major: int) -> list[str]:
    """``zstd:1`` as pg_dump's option. Before 16 there was gzip only, by level. Raises UsageError."""
    method, _, level = compression.partition(":")
    if major >= 16:
        return [f"--compress={compression}"]
    if method not in ("gzip", "none"):
        raise UsageError(detail=f"pg_dump {major} knows no {method}", hint="Give --compression gzip, gzip:LEVEL or none.")
    return [f"--compress={0 if method == 'none' else level or 6}"]


def choose_compression(wanted: str, tools: Toolset, *, plain: bool) -> str:
    """``auto`` resolved to what costs least wall time: zstd:1 where the tool has it, else gzip:1; plain scripts stay readable.

    Raises UsageError for an unknown method, CapabilityMissing for one this build of pg_dump lacks.
    """
    if wanted == "auto":
        if plain:
            return "none"
        return "zstd:1" if tools.supports_compression("zstd") else "gzip:1"
    if not re.fullmatch(r"none|(gzip|zstd|lz4)(:-?\d+)?", wanted):
        raise UsageError(detail=f"compression {wanted!r} is not auto, none, gzip, zstd or lz4 with an optional :level")
    method = wanted.partition(":")[0]
    if plain and method == "lz4":
        raise UsageError(detail="a plain script can be compressed with gzip or zstd, not lz4")
    if method != "none" and not tools.supports_compression(method):
        raise CapabilityMissing(
            tool="pg_dump", path=tools.bindir or tools.origin, capability=method, instead="--compression auto or gzip"
        )
    return wanted


_FULL = re.compile(r"No space left on device|File too large|Disk quota exceeded", re.IGNORECASE)
_QUEUE_MET = "could not obtain lock on relation"
# pg_dump's --lock-wait-timeout is a statement_timeout around LOCK TABLE (pg_dump.c, setup_connection and getTables). Another
# statement that ran out of time waited for no lock.
_LOCKED = re.compile(
    rf"canceling statement due to lock timeout|{_QUEUE_MET}|canceling statement due to statement timeout(?=[\s\S]*LOCK TABLE)"
)
# Where what went wrong begins, behind the many lines of --verbose.
_ERROR = re.compile(r"^pg_\w+: (?:error|fatal): ", re.MULTILINE)
_DENIED = re.compile(r"permission denied for (.*)|must be superuser.*|query would be affected by row-level security.*")
LOST = re.compile(
    r"terminating connection due to .*|server closed the connection unexpectedly|connection to server .*failed: .*"
    r"|the database system is (?:shutting down|starting up|in recovery mode)|could not receive data from server: .*"
)
_SIGXFSZ = 25


def diagnose(error: CommandFailed, where: Path, address: str, user: str) -> OpsError:
    """The failure of a client tool as the kind of failure it is, told by its messages (the C locale is forced).

    A Blocked has the field ``queue_met``: pg_dump did not wait, because somebody else already waited for the table.
    """
    text = str(error.fields["stderr"])
    if begins := _ERROR.search(text):
        text = text[begins.start() :]
        error = CommandFailed(**{**error.fields, "stderr": text})
    last = text.splitlines()[-1] if text else ""
    if _FULL.search(text) or error.fields["status"] == -_SIGXFSZ or _at_size_limit(where):
        return NoSpace(where=where, reason=next((line for line in text.splitlines() if _FULL.search(line)), "file size limit"))
    if lost := LOST.search(text):
        return ServerUnreachable(address=address, reason=lost[0])
    if _LOCKED.search(text):
        return Blocked(what="pg_dump", blockers=last, queue_met=_QUEUE_MET in text)
    if denied := _DENIED.search(text):
        return PrivilegeMissing(user=user, action=f"read everything: {denied[0]}")
    return error


def is_full(error: CommandFailed | NoSpace | OSError) -> bool:
    """Whether it failed because the disk is full."""
    if isinstance(error, CommandFailed):
        return _FULL.search(str(error.fields["stderr"])) is not None
    return isinstance(error, NoSpace) or error.errno in (errno.ENOSPC, errno.EDQUOT)


def _at_size_limit(folder: Path) -> bool:
    """Whether a file has grown to the limit of this process (ulimit -f): a worker of pg_dump dies of that without a word."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return limit != resource.RLIM_INFINITY and any(p.stat().st_size >= limit for p in folder.rglob("*") if p.is_file())


def listed(tools: Toolset, archive: Path) -> list[toc.Entry]:
    """The archive's table of contents, read by pg_restore. Raises CommandFailed when it cannot be read."""
    from naap_ops import process
    from naap_ops.postgres.conninfo import ConnInfo

    nowhere = ConnInfo(host=None, port=None, user=None, dbname=None)
    if not tools.remote:
        command = tools.command("pg_restore", ["--list", str(archive)], nowhere)
        _, output, _ = process.run(command.argv, env=command.env)
        return toc.parse(output.decode(errors="surrogateescape"))
    command = tools.command("pg_restore", ["--list"], nowhere)
    from naap_ops.backup.engines.script import piped

    with piped(command, archive) as child:
        output = child.stdout.read()
        child.check()
    return toc.parse(output.decode(errors="surrogateescape"))


def note_structure(facts: ArchiveFacts, entries: Sequence[toc.Entry]) -> None:
    """Remember which tables the archive defines."""
    facts.structure |= {e.oid for e in entries if e.catalog == toc.PG_CLASS and e.describes("TABLE")}
