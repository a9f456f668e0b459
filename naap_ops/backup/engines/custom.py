"""Custom format: one file, which can be streamed; read back whole through pg_restore."""

from __future__ import annotations

from naap_ops import process
from naap_ops.backup.engines.base import ArchiveFacts, DumpJob, ReadJob, compression_words, listed, note_structure
from naap_ops.backup.engines.plain import save_stream, send_stream
from naap_ops.backup.engines.script import StreamReader, rows_of
from naap_ops.backup.reading import Passing, Reading, Unreadable, read_file
from naap_ops.backup.toc import Entry
from naap_ops.wording import count_of


class CustomEngine:
    """pg_dump -Fc. Here pg_dump writes the file itself: its table of contents then has the offsets a parallel restore needs."""

    name = "custom"
    parallel = False

    def archive_name(self, label: str, moment: str, compression: str) -> str:  # noqa: ARG002
        return "backup.dump"

    def dump(self, job: DumpJob) -> ArchiveFacts:
        path = job.folder / job.archive
        words = job.arguments("--format=custom", *compression_words(job.compression, job.tools.major))
        if job.staging.streams:
            return self._send(job, words)
        if job.tools.remote:
            save_stream(job.tools.command("pg_dump", words, job.info), path, job.progressed)
        else:
            command = job.tools.command("pg_dump", [*words, f"--file={path}", "--no-sync"], job.info)
            with process.start(command.argv, env=command.env) as child:
                child.check()
        facts = self.read(ReadJob(job.tools, job.folder, job.archive, job.tables, job.jobs))
        job.staging.complete(job.archive, facts.readings[job.archive].sha256)
        return facts

    def _send(self, job: DumpJob, words: list[str]) -> ArchiveFacts:
        """Past the disk: pg_restore reads what comes by."""
        passing = Passing(job.archive, None)
        with StreamReader(job.tools, job.tables) as reader:
            send_stream(job.tools.command("pg_dump", words, job.info), job, passing.feed, reader.feed)
            entries, rows = reader.finish()
        return _facts(job.archive, passing.finish(), entries, rows)

    def read(self, job: ReadJob) -> ArchiveFacts:
        assert job.tools is not None
        path = job.folder / job.archive
        reading = read_file(path, content=False)
        return _facts(job.archive, reading, listed(job.tools, path), rows_of(job.tools, path, job.tables))


def _facts(archive: str, reading: Reading, entries: list[Entry], rows: dict[int, int]) -> ArchiveFacts:
    facts = ArchiveFacts(readings={archive: reading}, rows=rows)
    note_structure(facts, entries)
    missing = {e.oid for e in entries if e.describes("TABLE DATA")} - rows.keys()
    if missing:
        raise Unreadable(detail=f"the data of {count_of(len(missing), 'table')} could not be read back (oid {min(missing)})")
    return facts
