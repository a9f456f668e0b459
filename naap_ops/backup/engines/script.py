"""Archives turned into SQL by pg_restore and counted on the way: the full read of what is not a folder of data files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import files, process
from naap_ops.backup.copytext import ScriptCounter
from naap_ops.backup.engines.base import Relation
from naap_ops.backup.toc import printable

if TYPE_CHECKING:
    from naap_ops.postgres.tools import Command, Toolset


class RowsByOid:
    """Collects ScriptCounter's findings under the tables' oids."""

    def __init__(self, tables: Sequence[Relation]) -> None:
        self._oids = {(printable(t.schema), printable(t.name)): t.oid for t in tables}
        self.rows: dict[int, int] = {}

    def __call__(self, schema: str, name: str, rows: int) -> None:
        oid = self._oids.get((schema, name))
        if oid is not None:
            self.rows[oid] = rows

    def oids(self, names: Iterable[tuple[str, str]]) -> set[int]:
        """Those of ``(schema, name)`` that are known."""
        return {self._oids[name] for name in names if name in self._oids}


def rows_of(tools: Toolset, archive: Path, tables: Sequence[Relation]) -> dict[int, int]:
    """Have pg_restore print the whole archive, and count. Raises CommandFailed, NotCopyText."""
    from naap_ops.postgres.conninfo import ConnInfo

    nowhere = ConnInfo(host=None, port=None, user=None, dbname=None)
    found = RowsByOid(tables)
    counter = ScriptCounter(found)
    words = ["--file=-"] if tools.remote else ["--file=-", str(archive)]
    with piped(tools.command("pg_restore", words, nowhere), archive if tools.remote else None) as child:
        while piece := child.stdout.read1(files.CHUNK):  # type: ignore[attr-defined]
            counter.feed(piece)
        child.check()
    counter.finish()
    return found.rows


@contextlib.contextmanager
def piped(command: Command, source: Path | None) -> Iterator[process.Child]:
    """A command whose standard output is ours to read, its input being the preamble and then the file ``source``."""
    feeding = bool(command.preamble) or source is not None
    with process.start(
        command.argv, env=command.env, stdin=process.PIPE if feeding else process.DEVNULL, stdout=process.PIPE
    ) as child:
        feeder = None
        if feeding:
            feeder = threading.Thread(target=feed, args=(child, command.preamble, source), daemon=True)
            feeder.start()
        yield child
        if feeder is not None:
            feeder.join()


def feed(child: process.Child, preamble: bytes, source: Path | None) -> None:
    """Write to the child's input and close it. That the child stops reading early is its exit status's business."""
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(preamble)
        for piece in files.chunks(source) if source else ():
            child.stdin.write(piece)
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
