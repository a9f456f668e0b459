"""Archives turned into SQL by pg_restore and counted on the way: the full read of what is not a folder of data files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from naap_ops import files, process
from naap_ops.backup import toc
from naap_ops.backup.copytext import ScriptCounter
from naap_ops.backup.engines.base import Relation
from naap_ops.backup.toc import printable

if TYPE_CHECKING:
    from naap_ops.postgres.tools import Command, Toolset

_ROWS_OF = "; Type: TABLE DATA; Schema: "
_TABLE_IN = "; Type: TABLE; Schema: "


class RowsByOid:
    """Collects ScriptCounter's findings under the tables' oids.

    A name may hold what separates names in pg_dump's comments; put together again, they are what the comment said in any case.
    """

    def __init__(self, tables: Sequence[Relation]) -> None:
        names = [(printable(t.schema), printable(t.name), t.oid) for t in tables]
        self._oids = {f"{name}{_ROWS_OF}{schema}": oid for schema, name, oid in names}
        self._defined = {f"{name}{_TABLE_IN}{schema}": oid for schema, name, oid in names}
        self.rows: dict[int, int] = {}

    def __call__(self, schema: str, name: str, rows: int) -> None:
        oid = self._oids.get(f"{name}{_ROWS_OF}{schema}")
        if oid is not None:
            self.rows[oid] = rows

    def oids(self, defined: Iterable[tuple[str, str]]) -> set[int]:
        """Of the tables that a script defines, ``(schema, name)``, those that are known."""
        found = {self._defined.get(f"{name}{_TABLE_IN}{schema}") for schema, name in defined}
        return {oid for oid in found if oid is not None}


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


class StreamReader:
    """pg_restore beside an archive that comes by and is not kept: its table of contents, and the rows of its tables counted."""

    def __init__(self, tools: Toolset, tables: Sequence[Relation]) -> None:
        self._tools = tools
        self._found = RowsByOid(tables)
        self._counter = ScriptCounter(self._found)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="read"))
            self._printer = stack.enter_context(self._start("--file=-"))
            self._lister = stack.enter_context(self._start("--list"))
            self._printed = pool.submit(self._count)
            self._listing = pool.submit(self._lister.stdout.read)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, value, trace)

    def _start(self, word: str) -> process.Child:
        from naap_ops.postgres.conninfo import ConnInfo

        nowhere = ConnInfo(host=None, port=None, user=None, dbname=None)
        command = self._tools.command("pg_restore", [word], nowhere)
        child = process.start(command.argv, env=command.env, stdin=process.PIPE, stdout=process.PIPE)
        _write(child, command.preamble)
        return child

    def _count(self) -> None:
        while piece := self._printer.stdout.read1(files.CHUNK):  # type: ignore[attr-defined]
            self._counter.feed(piece)

    def feed(self, piece: bytes) -> None:
        """The next bytes of the archive. Who lists it has soon seen enough; who stops early says why in :meth:`finish`."""
        _write(self._lister, piece)
        _write(self._printer, piece)

    def finish(self) -> tuple[list[toc.Entry], dict[int, int]]:
        """Entries, and rows by oid, at the archive's end. Raises CommandFailed, NotCopyText."""
        for child in (self._lister, self._printer):
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        self._printed.result()
        listing = self._listing.result()
        self._printer.check()
        self._lister.check()
        self._counter.finish()
        return toc.parse(listing.decode(errors="surrogateescape")), self._found.rows


def _write(child: process.Child, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(data)


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
