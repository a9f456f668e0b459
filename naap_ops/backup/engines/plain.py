"""Plain format: a script for psql, hashed and counted while it streams to disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import files
from naap_ops.backup.copytext import ScriptCounter
from naap_ops.backup.engines.base import ArchiveFacts, DumpJob, ReadJob, Relation, compression_words
from naap_ops.backup.engines.script import RowsByOid, piped
from naap_ops.backup.reading import Passing, Unreadable

if TYPE_CHECKING:
    from naap_ops.postgres.tools import Command

_SUFFIX = {"gzip": ".gz", "zstd": ".zst", "lz4": ".lz4", "none": ""}


class PlainEngine:
    """pg_dump -Fp, restored by psql."""

    name = "plain"
    parallel = False

    def archive_name(self, label: str, moment: str, compression: str) -> str:
        suffix = _SUFFIX[compression.partition(":")[0]]
        return "_".join(part for part in ("backup", label, moment) if part) + ".sql" + suffix

    def dump(self, job: DumpJob) -> ArchiveFacts:
        words = job.arguments("--format=plain", *compression_words(job.compression, job.tools.major))
        command = job.tools.command("pg_dump", words, job.info)
        if job.staging.streams:
            script = _Script(job.archive, job.tables)
            send_stream(command, job, script.passing.feed)
            return script.facts()
        save_stream(command, job.folder / job.archive, job.progressed)
        facts = self.read(ReadJob(job.tools, job.folder, job.archive, job.tables, job.jobs))
        job.staging.complete(job.archive, facts.readings[job.archive].sha256)
        return facts

    def read(self, job: ReadJob) -> ArchiveFacts:
        script = _Script(job.archive, job.tables)
        for piece in files.chunks(job.folder / job.archive):
            script.passing.feed(piece)
        return script.facts()


class _Script:
    """A script that comes by: hashed, decompressed, its rows counted."""

    def __init__(self, archive: str, tables: Sequence[Relation]) -> None:
        self._archive = archive
        self._found = RowsByOid(tables)
        self._counter = ScriptCounter(self._found)
        self.passing = Passing(archive, self._counter.feed)

    def facts(self) -> ArchiveFacts:
        """What it was, now that it is at its end. Raises Unreadable, NotCopyText."""
        reading = self.passing.finish()
        self._counter.finish()
        if not self._counter.complete:
            raise Unreadable(detail=f"{self._archive} lacks the line 'PostgreSQL database dump complete': it is cut short")
        structure = self._found.oids(self._counter.defined)
        return ArchiveFacts(readings={self._archive: reading}, rows=self._found.rows, structure=structure)


def send_stream(command: Command, job: DumpJob, *seen: Callable[[bytes], None]) -> None:
    """Hand a command's standard output to the storage as it comes, and to ``seen``. Raises CommandFailed, StorageError."""
    with job.staging.sink(job.archive, job.at_most) as sink, piped(command, None) as child:
        while piece := child.stdout.read1(files.CHUNK):  # type: ignore[attr-defined]
            sink.write(piece)
            for each in seen:
                each(piece)
            job.progressed(piece)
        child.check()


def save_stream(command: Command, path: Path, seen: Callable[[bytes], None]) -> None:
    """Write a command's standard output to ``path``, durably; its exit status decides. Raises CommandFailed, OSError."""
    with (
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.PRIVATE_FILE), "wb") as file,
        piped(command, None) as child,
    ):
        while piece := child.stdout.read1(files.CHUNK):  # type: ignore[attr-defined]
            file.write(piece)
            seen(piece)
        child.check()
        file.flush()
        os.fsync(file.fileno())
