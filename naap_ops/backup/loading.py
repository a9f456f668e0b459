"""Loads a backup's archive into an empty database and counts what arrived: the common part of proving and restoring."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import process
from naap_ops.backup.manifest import Manifest, TableFact
from naap_ops.backup.reading import read_stream
from naap_ops.errors import BackupDamaged, CommandFailed

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.tools import Toolset

# Only for the sessions that load: what is lost in a crash is an unfinished aside database.
FAST_SESSION = {"synchronous_commit": "off", "maintenance_work_mem": "256MB"}


@dataclass(frozen=True)
class LoadOptions:
    """``session`` are settings of the loading sessions only. ``use_list`` is a list file of entries for pg_restore."""

    jobs: int = 2
    owner: bool = True
    privileges: bool = True
    session: Mapping[str, str] = field(default_factory=lambda: dict(FAST_SESSION))
    use_list: bytes | None = None
    words: Sequence[str] = ()


def load(folder: Path, manifest: Manifest, tools: Toolset, info: ConnInfo, options: LoadOptions) -> None:
    """Load the archive under ``folder`` into the database ``info`` names. Stops at the first error: CommandFailed."""
    if manifest.format == "plain":
        load_script(folder / manifest.archive, tools, info, options.session)
    elif manifest.structure and manifest.kind == "data":
        load_archive(folder / manifest.structure, tools, info, options, "--section=pre-data")
        load_archive(folder / manifest.archive, tools, info, options)
        load_archive(folder / manifest.structure, tools, info, options, "--section=post-data")
    else:
        load_archive(folder / manifest.archive, tools, info, options)


def load_archive(archive: Path, tools: Toolset, info: ConnInfo, options: LoadOptions, *words: str) -> None:
    """Run pg_restore on one archive. Through tools.exec it reads the archive from its input and cannot be parallel."""
    from naap_ops.backup.engines.script import piped

    arguments = ["--exit-on-error", "--no-password", f"--dbname={_conninfo_word(info)}", *options.words, *words]
    arguments += [] if options.owner else ["--no-owner"]
    arguments += [] if options.privileges else ["--no-privileges"]
    session = info.with_settings(options.session)
    if tools.remote:
        files = {} if options.use_list is None else {"list": options.use_list}
        listed = [] if options.use_list is None else ["--use-list=@files/list"]
        command = tools.command("pg_restore", [*arguments, *listed], session, files=files)
        with piped(command, archive) as child:
            child.stdout.read()
            child.check()
        return
    with _list_file(options.use_list) as listed:
        command = tools.command("pg_restore", [*arguments, *listed, f"--jobs={options.jobs}", str(archive)], session)
        with process.start(command.argv, env=command.env) as child:
            child.check()


def _conninfo_word(info: ConnInfo) -> str:
    """The database for ``--dbname``: pg_restore needs the option. The rest comes by the environment."""
    name = (info.dbname or "").replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{name}'"


@contextlib.contextmanager
def _list_file(content: bytes | None) -> Iterator[list[str]]:
    import tempfile

    if content is None:
        yield []
        return
    with tempfile.NamedTemporaryFile(prefix="naap_ops_", suffix=".list") as file:
        file.write(content)
        file.flush()
        yield [f"--use-list={file.name}"]


def load_script(
    path: Path,
    tools: Toolset,
    info: ConnInfo,
    session: Mapping[str, str],
    *,
    before: bytes = b"BEGIN;\n",
    after: bytes = b"COMMIT;\n",
) -> None:
    """Feed a script to psql in one transaction that ends only if all of it was sent. Raises CommandFailed, Unreadable.

    The transaction is written out (not ``--single-transaction``, which commits at end of input): cut off anywhere, nothing stays.
    """
    command = tools.command(
        "psql", ["-X", "-q", "--no-password", "-v", "ON_ERROR_STOP=1", "-f", "-"], info.with_settings(session)
    )
    with process.start(command.argv, env=command.env, stdin=process.PIPE) as child:
        try:
            child.stdin.write(command.preamble + before)
            read_stream(path, child.stdin.write)
            child.stdin.write(after)
            child.stdin.close()
        except BrokenPipeError:
            pass  # psql stopped at an error, which its status tells
        child.check()


@dataclass(frozen=True)
class Difference:
    """A table whose rows are not as many as the manifest says. ``found`` None: the table is not there."""

    table: str
    expected: int
    found: int | None

    def __str__(self) -> str:
        there = "is missing" if self.found is None else f"has {self.found} rows"
        return f"{self.table} {there}, not {self.expected}"


def count_rows(info: ConnInfo, tables: Sequence[TableFact], jobs: int) -> dict[str, int | None]:
    """Exact rows per qualified name, counted by ``jobs`` sessions; None for tables that do not exist."""
    from naap_ops.postgres.session import connect

    waiting = list(tables)
    lock = threading.Lock()
    counted: dict[str, int | None] = {}

    def work() -> None:
        with connect(info) as connection:
            while True:
                with lock:
                    if not waiting:
                        return
                    table = waiting.pop(0)
                counted[table.qualified] = _count(connection.execute, table)

    with ThreadPoolExecutor(max(1, min(jobs, len(tables)))) as pool:
        for future in [pool.submit(work) for _ in range(max(1, min(jobs, len(tables))))]:
            future.result()
    return counted


def _count(execute: Callable[..., object], table: TableFact) -> int | None:
    from psycopg import errors, sql

    try:
        row = execute(sql.SQL("select count(*) from only {}").format(sql.Identifier(table.schema, table.name))).fetchone()  # type: ignore[attr-defined]
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return None
    return int(row[0])


def differences(tables: Sequence[TableFact], counted: Mapping[str, int | None]) -> list[Difference]:
    """Tables whose count is not the manifest's."""
    wanted = [t for t in tables if t.rows is not None]
    return [
        Difference(t.qualified, t.rows, counted.get(t.qualified))
        for t in wanted
        if t.rows is not None and counted.get(t.qualified) != t.rows
    ]


def check_rows(manifest: Manifest, info: ConnInfo, jobs: int) -> int:
    """Compare every table's rows with the manifest. The rows in all; raises BackupDamaged naming the first differences."""
    tables = [t for t in manifest.tables if t.rows is not None]
    wrong = differences(tables, count_rows(info, tables, jobs))
    if wrong:
        raise BackupDamaged(id=manifest.id, problems="; ".join(str(d) for d in wrong[:10]))
    return manifest.rows


_MISSING = re.compile(r'(role|type|schema|function|extension|relation|tablespace) "?(.*?)"? does not exist')


def missing_objects(error: CommandFailed) -> str | None:
    """What a failed load says is not there, for messages."""
    match = _MISSING.search(str(error.fields["stderr"]))
    return f"{match[1]} {match[2]}" if match else None
