"""Counts a loaded database's rows, by several sessions, and compares them with the manifest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naap_ops.backup.manifest import Manifest, TableFact
from naap_ops.errors import BackupDamaged
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection


@dataclass(frozen=True)
class Difference:
    """A table whose rows are not as many as the manifest says. ``found`` None: the table is not there."""

    table: str
    expected: int
    found: int | None

    def __str__(self) -> str:
        there = "is missing" if self.found is None else f"has {count_of(self.found, 'row')}"
        return f"{self.table} {there}, not {self.expected:,}"


def in_parallel(info: ConnInfo, tasks: Iterable[Callable[[Connection], None]], jobs: int) -> None:
    """Carry out ``tasks`` in their order by ``jobs`` sessions. The first failure is raised, what has not begun is left."""
    from naap_ops.postgres.session import connect

    waiting = deque(tasks)

    def work() -> None:
        with connect(info) as connection:
            while True:
                try:
                    task = waiting.popleft()
                except IndexError:
                    return
                try:
                    task(connection)
                except BaseException:
                    waiting.clear()
                    raise

    workers = max(1, min(jobs, len(waiting)))
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work) for _ in range(workers)]:
            future.result()


def count_rows(info: ConnInfo, tables: Sequence[TableFact], jobs: int) -> dict[str, int | None]:
    """Exact rows per qualified name, counted by ``jobs`` sessions; None for tables that do not exist."""
    counted: dict[str, int | None] = {}
    in_parallel(info, counting(tables, counted), jobs)
    return counted


def counting(tables: Iterable[TableFact], counted: dict[str, int | None]) -> list[Callable[[Connection], None]]:
    """Tasks for :func:`in_parallel` that note each table's exact rows in ``counted``."""

    def task(table: TableFact) -> Callable[[Connection], None]:
        def count(connection: Connection) -> None:
            counted[table.qualified] = _count(connection, table)

        return count

    return [task(table) for table in tables]


def _count(connection: Connection, table: TableFact) -> int | None:
    from psycopg import errors, sql

    try:
        query = sql.SQL("select count(*) from only {}").format(sql.Identifier(table.schema, table.name))
        row = connection.execute(query).fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return None
    assert row is not None
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
    return compare_rows(manifest, count_rows(info, tables, jobs))


def compare_rows(manifest: Manifest, counted: Mapping[str, int | None]) -> int:
    """The same for rows that have been counted."""
    wrong = differences(manifest.tables, counted)
    if wrong:
        raise BackupDamaged(id=manifest.id, problems="; ".join(str(d) for d in wrong[:10]))
    return manifest.rows
