"""Dropped columns of large tables, filled before the reverse's own transaction: that has only to give them their names.

The column is added under a name of its own, without a default, which takes a short lock; then it gets its values from the image
in batches, ranges of the image's pages, each a transaction by itself; then an index is built concurrently on what has no value,
so that the last transaction finds the few rows written meanwhile without reading the table. The same runs on the shadow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors

from naap_ops.reverse.images.model import SCHEMA, Name
from naap_ops.reverse.images.taking import relation
from naap_ops.reverse.render import literal, quoted

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

BATCH_ROWS: Final = 20_000  # whoever writes to one of them waits for the end of its batch: tenths of a second
PREFIX: Final = "naap_ops column "
_PAGE: Final = "pg_catalog.current_setting('block_size')::bigint"
_BY_KEY: Final = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")  # else each batch may read the whole table
_NULLS_SHOWN: Final = 100_000


@dataclass(frozen=True)
class StagedColumn:
    """``name``: what it is called meanwhile. ``type``, ``value`` (of the image ``i``): SQL."""

    name: str
    type: str
    value: str


@dataclass(frozen=True)
class Staged:
    """Columns of one table. ``image``: its table in ``naap_ops``; ``label``: the table as people name it.

    ``relation``: its name in the state that the migration left; ``key``: the columns of its key there, ``keys`` those of the
    image; ``join``: SQL between ``t`` and ``i``; ``only``: SQL, the rows of the image that are meant."""

    image: str
    label: str
    relation: Name
    key: tuple[str, ...]
    keys: tuple[str, ...]
    join: str
    only: str
    columns: tuple[StagedColumn, ...]

    @property
    def table(self) -> str:
        """As SQL."""
        return relation(self.relation)

    @property
    def source(self) -> str:
        """The image, as SQL."""
        return f"{SCHEMA}.{quoted(self.image)}"

    def index(self, column: StagedColumn) -> str:
        """The index on what has no value, as SQL."""
        return relation((self.relation[0], column.name))

    def joined(self, other: Staged) -> Staged:
        """The other's columns of the same table, too: they are filled in one go."""
        return replace(self, columns=(*self.columns, *other.columns))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Staged:
        """What :meth:`as_dict` gave."""
        columns = tuple(StagedColumn(**each) for each in data["columns"])
        lists = {name: tuple(data[name]) for name in ("relation", "key", "keys")}
        return cls(**{**data, **lists, "columns": columns})


def name_of(image: str, number: int) -> str:
    """What the column with that number is called until it has its own name: the same wherever it is filled."""
    return PREFIX + hashlib.sha256(f"{image}\0{number}".encode()).hexdigest()[:24]


# --- statements -----------------------------------------------------------------------------------------------------


def adding(staged: Staged) -> str:
    """Harmless where they are there."""
    parts = ", ".join(f"ADD COLUMN IF NOT EXISTS {quoted(column.name)} {column.type}" for column in staged.columns)
    return f"ALTER TABLE {staged.table} {parts}"


def filling(staged: Staged, first: int, last: int) -> str:
    """Values out of pages ``first`` to ``last`` (not included) of the image, where none has been put yet."""
    names = [quoted(column.name) for column in staged.columns]
    sets = ", ".join(f"{name} = {column.value}" for name, column in zip(names, staged.columns, strict=True))
    lacking = " OR ".join(
        f"t.{name} IS NULL AND {column.value} IS NOT NULL" for name, column in zip(names, staged.columns, strict=True)
    )
    return (
        f"UPDATE {staged.table} t SET {sets} FROM {staged.source} i WHERE i.ctid >= '({first},0)' AND i.ctid < '({last},0)' "
        f"AND {staged.join} AND {staged.only} AND ({lacking})"
    )


def counting(staged: Staged) -> str:
    """How many rows have got a value."""
    some = " OR ".join(f"{quoted(column.name)} IS NOT NULL" for column in staged.columns)
    return f"SELECT count(*) FROM {staged.table} WHERE {some}"


def dropping(staged: Staged) -> str:
    """Away with them, whether they are there or not. Indexes go with their columns."""
    parts = ", ".join(f"DROP COLUMN IF EXISTS {quoted(column.name)}" for column in staged.columns)
    return f"ALTER TABLE IF EXISTS {staged.table} {parts}"


# --- sessions and steps -----------------------------------------------------------------------------------------------


def prepare(connection: Connection) -> None:
    """Settings of a session that fills: rows are found by their key, and nothing of the user's is set off by them.

    Nobody waits for the disk: what a crash of the server takes away again is lacking, and is completed in the end."""
    off = (*_BY_KEY, "row_security", "synchronous_commit")
    connection.execute("; ".join(f"set {name} = off" for name in off).encode())
    with suppress(errors.InsufficientPrivilege):  # then the table has no triggers: else it would not be staged
        connection.execute("set session_replication_role = replica")


def pages(connection: Connection, staged: Staged) -> tuple[int, int]:
    """How many pages the image has, and how many of them are a batch."""
    connection.execute(f"analyze {staged.source}".encode())
    name = literal(staged.source)
    query = (
        f"select pg_relation_size(c.oid) / {_PAGE}, reltuples::float8 from pg_catalog.pg_class c where oid = {name}::regclass"
    )
    count, rows = connection.execute(query.encode()).fetchone() or (0, 0.0)
    return int(count), max(1, round(BATCH_ROWS * count / max(rows, 1)))


def indexes(connection: Connection, staged: Staged) -> None:
    """Have what is still without a value be found at once. ``connection`` in autocommit. Where a lock is not to be had,
    without: it is found all the same."""
    for column in staged.columns:
        key = ", ".join(map(quoted, staged.key))
        what = f"CREATE INDEX CONCURRENTLY {quoted(column.name)} ON {staged.table} ({key}) WHERE {quoted(column.name)} IS NULL"
        with suppress(errors.LockNotAvailable, errors.DeadlockDetected):  # half an index goes with the last transaction, too
            connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {staged.index(column)}".encode())
            connection.execute(what.encode())
    names = ", ".join(quoted(column.name) for column in staged.columns)
    connection.execute(f"ANALYZE {staged.table} ({names})".encode())
    if _some_are_null(connection, staged):
        name = quoted(f"{staged.image} key")
        columns = ", ".join(map(quoted, staged.keys))
        connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {staged.source} ({columns})".encode())


def _some_are_null(connection: Connection, staged: Staged) -> bool:
    """A few rows, which are best looked up in the image by their key."""
    for column in staged.columns:
        query = f"select count(*) from (select from {staged.table} where {quoted(column.name)} is null limit {_NULLS_SHOWN}) n"
        if connection.execute(query.encode()).fetchone() not in ((0,), (_NULLS_SHOWN,)):
            return True
    return False


def batches(count: int, size: int, begin: int = 0) -> Iterator[tuple[int, int]]:
    """Ranges of pages."""
    return ((at, min(at + size, count)) for at in range(begin, count, size))


def stage(connection: Connection, several: Iterable[Staged]) -> None:
    """All of it, one after the other, on this session: for a shadow."""
    for staged in several:
        unstage(connection, [staged])
        connection.execute(adding(staged).encode())
        count, size = pages(connection, staged)
        for first, last in batches(count, size):
            connection.execute(filling(staged, first, last).encode())
        indexes(connection, staged)


def unstage(connection: Connection, several: Iterable[Staged]) -> None:
    """As if it had not been begun."""
    for staged in several:
        connection.execute(dropping(staged).encode())
