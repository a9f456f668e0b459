"""One transaction in the live database: what restoring a schema and restoring a table have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import errors as server
from psycopg import sql

from naap_ops import clock
from naap_ops.backup.manifest import Manifest, TableFact
from naap_ops.backup.repository import Backup
from naap_ops.errors import BackupDamaged, Blocked, CommandFailed, Refused, UsageError
from naap_ops.events import Events
from naap_ops.postgres.databases import derived_name
from naap_ops.postgres.session import connect, server_info
from naap_ops.restore import contents, gate
from naap_ops.restore.blockers import BlockerWatch
from naap_ops.restore.contents import Contents, Stages
from naap_ops.restore.failures import load_error, missing_roles, server_error
from naap_ops.restore.feeding import Printer, RowFeeder, run_structure
from naap_ops.restore.hashes import FileCheck
from naap_ops.restore.locking import application_name, target_lock
from naap_ops.restore.outcome import RestoreOptions

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset

_SETTINGS = """
set search_path to ''; set row_security to off; set jit to off; set synchronous_commit to on;
set maintenance_work_mem to {}; set lock_timeout to {}
"""


@contextmanager
def live_transaction(info: ConnInfo, options: RestoreOptions, doing: str) -> Iterator[Connection]:
    """A transaction in the live database, under its restore lock; committed when the block ends well, else rolled back.

    Raises Busy, Blocked (naming who was in the way), PrivilegeMissing, Refused, ServerUnreachable.
    """
    assert info.dbname is not None
    with (
        target_lock(info, info.dbname),
        closing(connect(info, application_name=application_name(), autocommit=False)) as connection,
        BlockerWatch(info, connection.info.backend_pid) as watch,
    ):
        try:
            timeout = sql.Literal(f"{options.lock_timeout * 1000:.0f}ms")
            connection.execute(sql.SQL(_SETTINGS).format(sql.Literal(options.maintenance_work_mem), timeout))
            yield connection
            connection.commit()
        except (server.LockNotAvailable, server.DeadlockDetected) as error:
            blockers = "; ".join(watch.seen) or error.diag.message_detail or str(error.diag.message_primary)
            raise Blocked(what=doing, blockers=blockers) from error
        except server.UndefinedObject as error:
            if (error.diag.message_primary or "").startswith("role "):
                raise missing_roles([(error.diag.message_primary or "").split('"')[1]]) from error
            raise server_error(error, info, doing) from error
        except psycopg.Error as error:
            raise server_error(error, info, doing) from error


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

    def stages(self, choose: Callable[[Contents], list[contents.Entry]], *words: str) -> Stages:
        """The chosen entries in the order of their use. ``words`` limit the lists that ``choose`` sees. Raises CommandFailed."""
        try:
            found = contents.staged(choose(contents.read(self.tools, self._structure, *words)))
            if self._rows == self._structure:
                return found
            rows = contents.staged(choose(contents.read(self.tools, self._rows, *words)))
            return Stages(found.before, rows.rows, found.after)
        except CommandFailed as error:
            raise load_error(error, _nowhere()) from error

    def load(self, connection: Connection, stages: Stages, events: Events) -> int:
        """Carry out the stages; the rows in all. Raises BackupDamaged where tables do not get the rows they had, CommandFailed."""
        self._check.start()
        printer = Printer(self.tools, self.options.owner, self.options.privileges)
        try:
            run_structure(connection, printer.text(self._structure, stages.before))
            total = self._load_rows(connection, printer, stages, events)
            run_structure(connection, printer.text(self._structure, stages.after))
        except CommandFailed as error:
            self._check.passed()  # damaged files explain it better
            raise load_error(error, _nowhere()) from error
        except psycopg.Error:
            if not connection.broken:
                connection.rollback()  # nobody waits for our locks while the files are read to their end
            self._check.passed()
            raise
        return total

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
        wrong = [f"{t.qualified} got {n} rows, not {t.rows}" for t, n in zip(expected, arrived, strict=False) if n != t.rows]
        if wrong or len(expected) != len(arrived):
            raise BackupDamaged(id=self.backup.id, problems="; ".join(wrong) or "not every table's rows are in the archive")
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


def free_schema_name(connection: Connection, base: str, role: str) -> str:
    """A derived name that no schema has; its time is now or, if that is taken, a little later."""
    moment = clock.now()
    while schema_oid(connection, name := derived_name(base, role, moment)) is not None:
        moment += timedelta(seconds=1)
    return name


def schema_oid(connection: Connection, name: str) -> int | None:
    """The schema's oid, or None."""
    row = connection.execute("select oid::bigint from pg_namespace where nspname = %s", [name]).fetchone()
    return None if row is None else int(row[0])


def comment_on_schema(connection: Connection, name: str, text: str | None) -> None:
    """Set a schema's comment."""
    connection.execute(sql.SQL("comment on schema {} is {}").format(sql.Identifier(name), sql.Literal(text)))


def analyze(connection: Connection, relations: Sequence[tuple[str, str]]) -> None:
    """Gather statistics, inside the transaction: whoever comes after the commit finds them there."""
    if relations:
        names = sql.SQL(", ").join(sql.Identifier(*relation) for relation in relations)
        connection.execute(sql.SQL("analyze {}").format(names))


def publication_note(publications: Sequence[str]) -> list[str]:
    """What has to be done by hand."""
    if not publications:
        return []
    return [
        f"publications {', '.join(publications)} still hold the old tables, not the restored ones: ALTER PUBLICATION ... ADD"
    ]


def _nowhere() -> ConnInfo:
    from naap_ops.postgres.conninfo import ConnInfo

    return ConnInfo(host=None, port=None, user=None, dbname=None)
