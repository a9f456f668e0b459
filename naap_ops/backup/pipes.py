"""A directory archive that pg_restore reads through named pipes: each data file is read once, hashed and decompressed by us.

That spares a second read for the hashes, and ISA-L decompresses gzip twice as fast as the zlib in pg_restore. What pg_restore
sees is a folder with the archive's table of contents and, in place of each ``1234.dat.gz``, a pipe ``1234.dat``: it takes
files for what their names say (``cfopen_read`` in compress_io.c until 15, ``InitDiscoverCompressFileHandle`` since 16). A
pipe is fed once pg_restore, run in parallel and verbosely, says that it begins with the item.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO, Self

from naap_ops.backup.reading import Unreadable, is_table_data, read_stream
from naap_ops.process import PIPE_BYTES, Child

# restore_toc_entries_parallel and _postfork in pg_backup_archiver.c.
_BEGINS = re.compile(r"(?:launching|processing missed) item (\d+) TABLE DATA ")
_POLL_SECONDS = 0.01


class PipedArchive:
    """``with PipedArchive(archive, hashes, jobs) as piped:`` and pg_restore, once started, gets ``piped.path`` for ``archive``.

    ``hashes`` are the SHA-256 by file name. When a file is not what it was, pg_restore is ended before its pipe is closed: it
    would take a file that ends early for a whole one. ``sound`` are the names of the files that went through and were what
    they should be, ``problems`` what was wrong with others.
    """

    def __init__(self, archive: Path, hashes: Mapping[str, str], jobs: int) -> None:
        self._archive = archive
        self._hashes = hashes
        self._folder = tempfile.TemporaryDirectory(prefix="naap_ops_")
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="feed")
        self._files: dict[int, Path] = {}
        self._feeding: dict[int, Future[None]] = {}
        self._reader: Future[Child] = Future()
        self.path = Path(self._folder.name)
        self.sound: set[str] = set()
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        try:
            for entry in self._archive.iterdir():
                self._add(entry)
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def _add(self, entry: Path) -> None:
        """A pipe for table data that we can decompress, a link to anything else."""
        if is_table_data(entry):
            dump_id = int(entry.name.split(".", 1)[0])
            os.mkfifo(self._pipe(dump_id), 0o600)
            self._files[dump_id] = entry
        else:
            (self.path / entry.name).symlink_to(entry.resolve())

    def _pipe(self, dump_id: int) -> Path:
        return self.path / f"{dump_id}.dat"

    def __exit__(self, *_: object) -> None:
        """pg_restore has ended. A thread may still wait for it to open its pipe: we open it instead, and it finds it broken."""
        waiting = dict(self._feeding)
        while waiting:
            for dump_id in waiting:
                os.close(os.open(self._pipe(dump_id), os.O_RDONLY | os.O_NONBLOCK))
            wait(waiting.values(), timeout=_POLL_SECONDS)
            waiting = {dump_id: future for dump_id, future in waiting.items() if not future.done()}
        self._pool.shutdown()
        self._folder.cleanup()

    def started(self, child: Child) -> None:
        """pg_restore runs. It may have been heard before."""
        self._reader.set_result(child)

    def heard(self, line: str) -> None:
        """A line of pg_restore's."""
        match = _BEGINS.search(line)
        if match and (dump_id := int(match[1])) in self._files:
            self._feeding[dump_id] = self._pool.submit(self._feed, dump_id)

    def _feed(self, dump_id: int) -> None:
        file = self._files[dump_id]
        with contextlib.suppress(BrokenPipeError), open(self._pipe(dump_id), "wb") as pipe:
            _enlarge(pipe)
            try:
                reading = read_stream(file, _into(pipe))
                damage = None if reading.sha256 == self._hashes.get(file.name) else f"{file.name} has another hash"
            except Unreadable as error:
                damage = error.text
            except BrokenPipeError:
                raise
            except OSError as error:
                damage = f"{file.name} cannot be read: {error.strerror}"
            if damage is None:
                self.sound.add(file.name)
            else:
                self.problems.append(damage)
                self._reader.result().stop()


def _into(pipe: BinaryIO) -> Callable[[bytes], None]:
    def write(piece: bytes) -> None:
        pipe.write(piece)

    return write


def _enlarge(pipe: BinaryIO) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
