"""Directory format: parallel, one data file per table, each read whole while the next ones are still being written."""

from __future__ import annotations

import re
import resource
import shutil
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import process
from naap_ops.backup import toc
from naap_ops.backup.engines.base import ArchiveFacts, DumpJob, ReadJob, compression_words, is_full, listed, note_structure
from naap_ops.backup.engines.script import rows_of
from naap_ops.backup.reading import SUFFIXES, Reading, Unreadable, is_table_data, pack, read_file
from naap_ops.errors import CommandFailed, NoSpace, UsageError
from naap_ops.storage.age import SUFFIX as ENCRYPTED
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.storage.base import Staging

# pg_dump --verbose, parallel.c: the leader says so when a worker has closed the item's file.
_FINISHED = re.compile(r"finished item (\d+) ")
_READERS = 2
# Rows or a large object, not compressed.
_DATA = re.compile(r"(?:blob_)?\d+\.dat")
# Bytes of COPY text per byte of a database, at most about: short numbers are longer as text, indexes are not in it.
_TEXT_PER_BYTE = 1.5
# Bytes that may wait whatever the tables' sizes are, so that many small ones do not stop pg_dump again and again.
_LEAST_ROOM = 64 << 20


class DirectoryEngine:
    """pg_dump -Fd."""

    name = "directory"
    parallel = True

    def archive_name(self, label: str, moment: str, compression: str) -> str:  # noqa: ARG002
        return "data"

    def dump(self, job: DumpJob) -> ArchiveFacts:
        if job.tools.remote:
            raise UsageError(
                detail="a folder cannot be dumped through tools.exec, which has one output stream",
                hint="Give --format custom or plain.",
            )
        if not _packs(job):
            return self._dump(job, packing=False)
        try:
            return self._dump(job, packing=True)
        except (CommandFailed, NoSpace, OSError) as error:
            if job.staging.streams or not is_full(error):  # what has been sent off cannot be taken back
                raise
        # PostgreSQL compresses long values, so plain files may be many times the database. pg_dump's compressed ones may fit.
        shutil.rmtree(job.folder / job.archive)
        return self._dump(job, packing=False)

    def _dump(self, job: DumpJob, *, packing: bool) -> ArchiveFacts:
        folder = job.folder / job.archive
        compression = compression_words("none" if packing else job.compression, job.tools.major)
        words = ["--format=directory", f"--file={folder}", f"--jobs={job.jobs}", "--no-sync", "--verbose", *compression]
        command = job.tools.command("pg_dump", job.arguments(*words), job.info)
        running: Future[process.Child] = Future()
        with _Reader(job.folder, folder, job.staging, packing=packing) as reader:

            def finished(line: str) -> None:
                if match := _FINISHED.search(line):
                    reader.item(int(match[1]))
                    job.events.emit("backup.progress", tables=reader.items, bytes=reader.bytes)
                    if reader.behind(job.jobs):
                        with running.result().paused():
                            reader.catch_up(job.jobs)

            with process.start(command.argv, env=command.env, on_stderr=finished) as child:
                running.set_result(child)
                child.check()
            if packing:
                toc.say_gzip(folder / "toc.dat")
            readings = reader.rest()
        facts = _facts(readings, ReadJob(job.tools, job.folder, job.archive, job.tables, job.jobs))
        for name in sorted(readings.keys() - reader.completed):
            job.staging.complete(name, readings[name].sha256)
        return facts

    def read(self, job: ReadJob) -> ArchiveFacts:
        with _Reader(job.folder, job.folder / job.archive) as reader:
            readings = reader.rest()
        return _facts(readings, job)


def _packs(job: DumpJob) -> bool:
    """Whether we compress ourselves: where pg_dump would do it by zlib at its lowest level, and plain files have ample room."""
    if job.compression != "gzip:1":
        return False
    text = _TEXT_PER_BYTE * job.size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return text < shutil.disk_usage(job.folder).free / 2 and (limit == resource.RLIM_INFINITY or text < limit)


class _Reader:
    """Reads files of the archive on threads as they become complete, and hands tables' data on to ``staging``."""

    def __init__(self, root: Path, folder: Path, staging: Staging | None = None, *, packing: bool = False) -> None:
        self._root = root
        self._folder = folder
        self._staging = staging
        self._packing = packing
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        self._pending: dict[Path, Future[Reading]] = {}
        self._sizes: dict[Path, int] = {}
        self._largest = 0
        self.completed: set[str] = set()
        self.items = 0
        self.bytes = 0

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def item(self, dump_id: int) -> None:
        """pg_dump has finished this entry; if it has a data file, that is complete."""
        for suffix in (".dat", ".dat.gz", ".dat.zst", ".dat.lz4"):
            path = self._folder / f"{dump_id}{suffix}"
            if path.exists():
                size = path.stat().st_size
                self.items += 1
                self.bytes += size
                self._sizes[path] = size
                self._largest = max(self._largest, size)
                self._submit(path)
                return  # not also what is made of it meanwhile

    def behind(self, jobs: int) -> bool:
        """Whether more waits to be read and sent off than the disk should hold beside the files that are being written."""
        assert self._staging is not None
        unread = sum(size for path, size in self._sizes.items() if not self._pending[path].done())
        return unread + self._staging.waiting > self._room(jobs)

    def _room(self, jobs: int) -> int:
        return max(_LEAST_ROOM, (jobs - 1) * self._largest)

    def catch_up(self, jobs: int) -> None:
        """Wait until that is no longer so. A failure ends the waiting; :meth:`rest` raises it."""
        assert self._staging is not None
        while self.behind(jobs):
            unread = [future for future in self._pending.values() if not future.done()]
            if unread:
                wait(unread, return_when=FIRST_COMPLETED)
            else:
                self._staging.drain(self._room(jobs))
            if any(future.done() and future.exception() for future in self._pending.values()):
                return

    def rest(self) -> dict[str, Reading]:
        """Read every file not yet read, largest first so that the last one to end is a small one, and wait for all.

        Path relative to the backup -> reading. Raises what a reader raised.
        """
        there = [p for p in self._folder.rglob("*") if p.is_file() and p.suffix != ENCRYPTED]
        known = self._pending.keys() | {self._final(path) for path in self._pending}
        paths = [p for p in there if p not in known]
        for path in sorted(paths, key=lambda p: -p.stat().st_size):
            self._submit(path)
        done = {self._final(path): future.result() for path, future in self._pending.items()}
        return {path.relative_to(self._root).as_posix(): reading for path, reading in sorted(done.items())}

    def _final(self, path: Path) -> Path:
        """What becomes of a file that pg_dump has written."""
        return path.with_name(path.name + ".gz") if self._packing and _DATA.fullmatch(path.name) else path

    def _submit(self, path: Path) -> None:
        self._pending[path] = self._pool.submit(self._read, path)

    def _read(self, path: Path) -> Reading:
        path = pack(path) if self._final(path) != path else path
        reading = read_file(path, content=path.suffix != ".lz4")
        if self._staging is not None and is_table_data(path):  # the rest is needed until all has been read
            name = path.relative_to(self._root).as_posix()
            self._staging.complete(name, reading.sha256)
            self.completed.add(name)
        return reading


def _facts(readings: dict[str, Reading], job: ReadJob) -> ArchiveFacts:
    """Hold the readings against the table of contents: every table's rows must have their file, and the other way round."""
    assert job.tools is not None
    entries = listed(job.tools, job.folder / job.archive)
    facts = ArchiveFacts(readings=readings)
    note_structure(facts, entries)
    data = {e.dump_id: e.oid for e in entries if e.describes("TABLE DATA")}
    by_dump_id = {int(Path(p).name.split(".", 1)[0]): p for p in readings if is_table_data(Path(p)) or _other_suffix(p)}
    _same_keys(data, by_dump_id)
    facts.data_files = {oid: by_dump_id[dump_id] for dump_id, oid in data.items()}
    if any(_other_suffix(path) for path in by_dump_id.values()):
        facts.rows = rows_of(job.tools, job.folder / job.archive, job.tables)
    else:
        facts.rows = {oid: readings[path].rows or 0 for oid, path in facts.data_files.items()}
    return facts


def _other_suffix(path: str) -> bool:
    """Table data that only pg_restore can decompress (lz4)."""
    name = Path(path).name
    return re.fullmatch(r"\d+\.dat\.\w+", name) is not None and Path(path).suffix not in SUFFIXES


def _same_keys(wanted: Iterable[int], found: Iterable[int]) -> None:
    missing, strange = set(wanted) - set(found), set(found) - set(wanted)
    if missing:
        raise Unreadable(detail=f"the data of {count_of(len(missing), 'table')} is not in the archive (entry {min(missing)})")
    if strange:
        raise Unreadable(detail=f"data file {min(strange)} belongs to no entry of the archive")
