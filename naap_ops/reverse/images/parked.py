"""What is parked, in the register of images: rows of the source ``parked``, each with a table of its own.

It is found by migration and schema, whatever attempt it was parked of: what an earlier way forward could not bring back stays
beside what was parked since. It expires by itself, is never dropped unsaid, and goes when all of it is back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from naap_ops.reverse.images.model import SCHEMA
from naap_ops.reverse.images.parks import PARKED, Park
from naap_ops.reverse.images.store import enter, there
from naap_ops.reverse.render import literal, quoted

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_FOUND: Final = f"""
select image, migration, schema, keep::text, rows, bytes, taken_at, expires_at, expires_at < clock_timestamp()
from {SCHEMA}.images where source = '{PARKED}' and pg_catalog.to_regclass(pg_catalog.format('{SCHEMA}.%I', image)) is not null
order by taken_at, image
"""


@dataclass(frozen=True)
class Parked:
    """A table of schema ``naap_ops`` that holds what was parked of another. ``sequences``: by column, how far they had come."""

    table: str
    migration: str
    schema: str
    park: Park
    rows: int
    bytes: int
    taken_at: datetime
    expires_at: datetime
    expired: bool
    sequences: Mapping[str, int]

    @property
    def name(self) -> str:
        """As SQL."""
        return f"{SCHEMA}.{quoted(self.table)}"

    @property
    def relation(self) -> str:
        """Whose rows they are, as people name it."""
        return ".".join(self.park.relation)

    def as_dict(self) -> dict[str, Any]:
        """For people and machines: where it is, of what, how much, until when."""
        return {
            "migration": self.migration,
            "schema": self.schema,
            "table": self.relation,
            "columns": [] if self.park.whole else [column.name for column in self.park.columns],
            "rows": self.rows,
            "bytes": self.bytes,
            "where": f"{SCHEMA}.{self.table}",
            "expires": self.expires_at.isoformat(),
        }


def table_of(migration: str, park: Park, attempt: str) -> str:
    """The name of the table: another one for each attempt, so that nothing that is still parked is written over."""
    own = [str(word) for word in park.part] if park.some else []
    digest = hashlib.sha256("\0".join((migration, *park.relation, attempt, *own)).encode()).hexdigest()
    return f"{PARKED}_{digest[:24]}"


def found(connection: Connection) -> tuple[Parked, ...]:
    """All that is parked, the oldest first. Nothing where this role may not look."""
    from psycopg import errors

    try:
        if not there(connection):
            return ()
        rows = connection.execute(_FOUND.encode()).fetchall()
    except errors.InsufficientPrivilege:
        return ()
    return tuple(map(_parked, rows))


def _parked(row: Sequence[Any]) -> Parked:
    table, migration, schema, keep, rows, bytes, taken_at, expires_at, expired = row
    raw = json.loads(keep)
    sequences = raw.get("sequences", {})
    return Parked(table, migration, schema, Park.of(raw), rows, bytes, taken_at, expires_at, expired, sequences)


def of(every: Iterable[Parked], migration: str, schema: str) -> tuple[Parked, ...]:
    """Those of one migration in one schema."""
    return tuple(each for each in every if (each.migration, each.schema) == (migration, schema))


@dataclass(frozen=True)
class Entry:
    """What is entered of one table. ``attempt``: the id of the migration's row in Prisma's books."""

    table: str
    migration: str
    schema: str
    attempt: str
    park: Park
    sequences: Mapping[str, int]


def register(connection: Connection, entry: Entry, *, rows: int, bytes: int, lasting: timedelta) -> None:
    """Enter what was parked, in the transaction that is open."""
    keep = json.dumps({**entry.park.as_dict(), "sequences": dict(entry.sequences)})
    enter(connection, [entry.table, entry.migration, entry.schema, entry.attempt, PARKED, keep, rows, bytes, lasting])


def left(connection: Connection, parked: Parked) -> int:
    """How much of it is still there; without any it is dropped. In the transaction that is open."""
    row = connection.execute(f"select count(*) from {parked.name}".encode()).fetchone()
    count = int(row[0]) if row else 0
    if not count:
        drop(connection, [parked])
    else:
        connection.execute(f"update {SCHEMA}.images set rows = %s where image = %s".encode(), [count, parked.table])
    return count


def drop(connection: Connection, which: Sequence[Parked]) -> None:
    """Away with them."""
    for each in which:
        connection.execute(f"delete from {SCHEMA}.images where image = {literal(each.table)}".encode())
        connection.execute(f"drop table if exists {each.name}".encode())
