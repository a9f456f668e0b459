"""Plain format: a script for psql, hashed and counted while it streams to disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import files
from naap_ops.backup.copytext import ScriptCounter
from naap_ops.backup.engines.base import ArchiveFacts, DumpJob, ReadJob, compression_words
from naap_ops.backup.engines.script import RowsByOid, piped
from naap_ops.backup.reading import Reading, Unreadable, read_stream

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
        path = job.folder / job.archive
        words = job.arguments("--format=plain", *compression_words(job.compression, job.tools.major))
        command = job.tools.command("pg_dump", words, job.info)
        save_stream(command, path, lambda piece: job.events.emit("backup.progress", bytes=len(piece), added=True))
        return self.read(ReadJob(job.tools, job.folder, job.archive, job.tables, job.jobs))

    def read(self, job: ReadJob) -> ArchiveFacts:
        found = RowsByOid(job.tables)
        counter = ScriptCounter(found)
        reading = read_stream(job.folder / job.archive, counter.feed)
        counter.finish()
        if not counter.complete:
            raise Unreadable(detail=f"{job.archive} lacks the line 'PostgreSQL database dump complete': it is cut short")
        return ArchiveFacts(
            readings={job.archive: Reading(reading.bytes, reading.sha256, None)},
            rows=found.rows,
            structure=found.oids(counter.defined),
        )


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
