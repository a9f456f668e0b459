"""Custom format: one file, which can be streamed; read back whole through pg_restore."""

from __future__ import annotations

from naap_ops import process
from naap_ops.backup.engines.base import ArchiveFacts, DumpJob, ReadJob, compression_words, listed, note_structure
from naap_ops.backup.engines.plain import save_stream
from naap_ops.backup.engines.script import rows_of
from naap_ops.backup.reading import Unreadable, read_file


class CustomEngine:
    """pg_dump -Fc. Here pg_dump writes the file itself: its table of contents then has the offsets a parallel restore needs."""

    name = "custom"
    parallel = False

    def archive_name(self, label: str, moment: str, compression: str) -> str:  # noqa: ARG002
        return "backup.dump"

    def dump(self, job: DumpJob) -> ArchiveFacts:
        path = job.folder / job.archive
        words = job.arguments("--format=custom", *compression_words(job.compression, job.tools.major))
        if job.tools.remote:
            command = job.tools.command("pg_dump", words, job.info)
            save_stream(command, path, lambda piece: job.events.emit("backup.progress", bytes=len(piece), added=True))
        else:
            command = job.tools.command("pg_dump", [*words, f"--file={path}", "--no-sync"], job.info)
            with process.start(command.argv, env=command.env) as child:
                child.check()
        return self.read(ReadJob(job.tools, job.folder, job.archive, job.tables, job.jobs), sync=True)

    def read(self, job: ReadJob, *, sync: bool = False) -> ArchiveFacts:
        assert job.tools is not None
        path = job.folder / job.archive
        facts = ArchiveFacts(readings={job.archive: read_file(path, content=False, sync=sync)})
        entries = listed(job.tools, path)
        note_structure(facts, entries)
        facts.rows = rows_of(job.tools, path, job.tables)
        missing = {e.oid for e in entries if e.describes("TABLE DATA")} - facts.rows.keys()
        if missing:
            raise Unreadable(detail=f"the data of {len(missing)} tables could not be read back (oid {min(missing)})")
        return facts
