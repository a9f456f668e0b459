"""A backup opened for a part of it: which entries that is, which files they need, and their way into a session of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg

from naap_ops.backup.manifest import Manifest, TableFact
from naap_ops.backup.repository import Backup
from naap_ops.backup.toc import Entry
from naap_ops.errors import BackupDamaged, CommandFailed, Refused, UsageError
from naap_ops.events import Events
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import server_info
from naap_ops.restore import contents, gate
from naap_ops.restore.contents import Contents, Stages
from naap_ops.restore.failures import load_error
from naap_ops.restore.feeding import Printer, RowFeeder, run_structure
from naap_ops.restore.hashes import FileCheck
from naap_ops.restore.outcome import RestoreOptions
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset

_NOWHERE = ConnInfo(host=None, port=None, user=None, dbname=None)


@dataclass
class Archive:
    """A backup opened for a part of it. A context manager; ``start`` begins with the hashes of what will be read."""

    backup: Backup
    tools: Toolset
    options: RestoreOptions

    def __post_init__(self) -> None:
        self.manifest = gate.usable(self.backup)
        self._stack = ExitStack()
        self._folder = Path()
        self._check: FileCheck
        _readable_in_parts(self.manifest, self.options)

    def choose(self, tables: Iterable[TableFact]) -> Self:
        """Say which tables' rows will be read, before entering."""
        self._tables = list(tables)
        left_out = [
            t.qualified for t in self._tables if t.rows is None and t.qualified in self.manifest.scope.exclude_table_data
        ]
        if left_out and not self.options.partial:
            raise Refused(reason=f"the backup was taken without the rows of {', '.join(left_out)}: they would be gone")
        return self

    def __enter__(self) -> Self:
        manifest = self.manifest
        contents_file = f"{manifest.archive}/toc.dat" if manifest.format == "directory" else manifest.archive
        names = [contents_file, *filter(None, [manifest.structure]), *(t.file for t in self._tables if t.file)]
        with ExitStack() as stack:
            self._folder = stack.enter_context(self.backup.storage.local(self.backup.prefix, names))
            self._check = stack.enter_context(FileCheck(self._folder, manifest, names))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def _structure(self) -> Path:
        """Where the structure is: rows alone have theirs beside them."""
        return self._folder / (str(self.manifest.structure) if self.manifest.kind == "data" else self.manifest.archive)

    @property
    def _rows(self) -> Path:
        return self._folder / self.manifest.archive

    def stages(self, choose: Callable[[Contents], list[Entry]], *words: str) -> Stages:
        """The chosen entries in the order of their use. ``words``: see :func:`naap_ops.restore.contents.read`."""
        try:
            chosen = choose(contents.read(self.tools, self._structure, *words))
            if self._rows == self._structure:
                return contents.staged(chosen)
            return contents.staged(chosen, contents.read(self.tools, self._rows).rows_for(chosen))
        except CommandFailed as error:
            raise load_error(error, _NOWHERE) from error

    def everything(self) -> Contents:
        """All of the structure's entries, with what each depends on."""
        return contents.read(self.tools, self._structure, "--verbose")

    def printed(self, entries: Sequence[Entry]) -> str:
        """Entries of the structure as SQL, each under the comment that names it."""
        return (
            Printer(self.tools, owner=True, privileges=True).text(self._structure, entries).decode("utf-8", "surrogateescape")
        )

    @property
    def address(self) -> str:
        """Where the structure's archive is, for commands to be typed."""
        file = str(self.manifest.structure) if self.manifest.kind == "data" else self.manifest.archive
        return f"{self.backup.storage.url.rstrip('/')}/{self.backup.prefix}/{file}"

    def load(self, connection: Connection, stages: Stages, events: Events, plain_rights: Callable[[], None]) -> int:
        """Carry out the stages. The rows in all; raises BackupDamaged where tables do not get the rows they had.

        ``plain_rights`` is called before the backup's rights are given, to take away what was given without them.
        """
        self._check.start()
        self._expect_rows(stages)
        printer = Printer(self.tools, self.options.owner, self.options.privileges)
        try:
            with ThreadPoolExecutor(2) as pool:  # what comes after is printed while the rows go in
                before, after = (pool.submit(printer.text, self._structure, part) for part in (stages.before, stages.after))
                run_structure(connection, before.result())
                total = self._load_rows(connection, printer, stages, events)
                if self.options.privileges:
                    plain_rights()
                run_structure(connection, after.result())
        except CommandFailed as error:
            self._check.passed()  # damaged files explain it better
            raise load_error(error, _NOWHERE) from error
        except psycopg.Error:
            if not connection.broken:
                connection.rollback()  # nobody waits for our locks while the files are read to their end
            self._check.passed()
            raise
        return total

    def _expect_rows(self, stages: Stages) -> None:
        """Every table that is made and had rows gets rows. Raises BackupDamaged."""
        made = {entry.oid for entry in stages.before if entry.describes("TABLE")}
        filled = {entry.oid for entry in stages.rows if entry.describes("TABLE DATA")}
        empty = [t.qualified for t in self._tables if t.rows is not None and t.oid in made - filled]
        if empty:
            raise BackupDamaged(id=self.backup.id, problems=f"the archive has no rows of {', '.join(empty)}")

    def _load_rows(self, connection: Connection, printer: Printer, stages: Stages, events: Events) -> int:
        facts = {table.oid: table for table in self.manifest.tables}
        expected = [facts[e.oid] for e in stages.rows if e.describes("TABLE DATA") and e.oid in facts]
        arrived: list[int] = []

        def on_table(rows: int) -> None:
            arrived.append(rows)
            events.emit("restore.progress", step="load", tables=len(arrived), rows=sum(arrived))

        if stages.rows:
            with RowFeeder(connection, on_table) as feeder, closing(printer.pieces(self._rows, stages.rows)) as pieces:
                for piece in pieces:
                    feeder.feed(piece)
                feeder.finish()
        wrong = [
            f"{t.qualified} got {count_of(n, 'row')}, not {t.rows:,}"
            for t, n in zip(expected, arrived, strict=False)
            if n != t.rows
        ]
        if wrong or len(expected) != len(arrived):
            raise BackupDamaged(id=self.backup.id, problems="; ".join(wrong) or "not every table's rows are in the archive")
        return sum(arrived)

    def read_rows(self, connection: Connection, turned: Callable[[bytes], bytes]) -> int:
        """The chosen tables' rows alone, each COPY as ``turned`` has it; their number. Raises BackupDamaged, after the fact."""
        oids = {table.oid for table in self._tables}
        rows = [e for e in contents.read(self.tools, self._rows).entries if e.describes("TABLE DATA") and e.oid in oids]
        arrived: list[int] = []
        self._check.start()
        try:
            printer = Printer(self.tools, owner=False, privileges=False)
            with RowFeeder(connection, arrived.append, turned) as feeder, closing(printer.pieces(self._rows, rows)) as pieces:
                for piece in pieces:
                    feeder.feed(piece)
                feeder.finish()
        except CommandFailed as error:
            self._check.passed()
            raise load_error(error, _NOWHERE) from error
        self._check.passed()
        return sum(arrived)

    def proven(self) -> None:
        """Return when all that was read is known to be undamaged. Raises BackupDamaged."""
        self._check.passed()

    def gate(self, connection: Connection) -> None:
        """The server can hold it. Raises Refused."""
        major = int(self.manifest.server["version_num"]) // 10000
        gate.server(connection, server_info(connection), major, f"backup {self.backup.id}")


def _readable_in_parts(manifest: Manifest, options: RestoreOptions) -> None:
    if manifest.format == "plain":
        raise UsageError(
            detail="a plain script cannot be taken apart into schemas and tables",
            hint="Restore it whole with --into NAME and copy from there, or restore another backup.",
        )
    if manifest.kind == "schema" and not options.partial:
        raise Refused(reason="the backup holds no rows (kind schema): the tables would be empty")
