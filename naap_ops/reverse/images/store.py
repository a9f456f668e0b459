"""The register of images in the database itself, ``naap_ops.images``: which there are, of which migration, until when.

An image and its row come and go in one transaction. A row without its table, or a table without its row, is nobody's doing, and
is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from naap_ops.reverse.images.model import SCHEMA, Image, Keep

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_THERE: Final = "select pg_catalog.to_regclass('naap_ops.images') is not null"
_DDL: Final = f"""
create schema if not exists {SCHEMA};
create table if not exists {SCHEMA}.images (
  image name primary key, migration text not null, schema text not null, attempt text not null, source text not null,
  keep jsonb not null, rows bigint not null, bytes bigint not null,
  taken_at timestamptz not null default clock_timestamp(), expires_at timestamptz not null);
comment on table {SCHEMA}.images is 'naap_ops: rows as they were before a migration, for its reverse'
"""
_ROW: Final = f"""
insert into {SCHEMA}.images (image, migration, schema, attempt, source, keep, rows, bytes, expires_at)
values (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp() + %s)
on conflict (image) do update set migration = excluded.migration, schema = excluded.schema, attempt = excluded.attempt,
  source = excluded.source, keep = excluded.keep, rows = excluded.rows, bytes = excluded.bytes, taken_at = excluded.taken_at,
  expires_at = excluded.expires_at
"""
_FIND: Final = f"""
select image, source, keep::text, rows, bytes from {SCHEMA}.images
where migration = %s and schema = %s and attempt = %s
  and pg_catalog.to_regclass(pg_catalog.format('{SCHEMA}.%%I', image)) is not null
order by image
"""
_EXPIRED: Final = f"delete from {SCHEMA}.images where expires_at < clock_timestamp() and source <> 'parked' returning image"


def there(connection: Connection) -> bool:
    """Whether there is a register."""
    return connection.execute(_THERE).fetchone() == (True,)


def enter(connection: Connection, values: Sequence[Any]) -> None:
    """One row of it: image, migration, schema, attempt, source, keep as JSON, rows, bytes, how long it lasts."""
    connection.execute(_ROW, values)


def prepare(connection: Connection) -> None:
    """Have the register be there. ``connection`` in autocommit. Raises what psycopg raises: InsufficientPrivilege, say."""
    if not there(connection):
        with connection.transaction():
            connection.execute(_DDL.encode())


def register(
    connection: Connection, images: Iterable[Image], *, migration: str, schema: str, attempt: str, lasting: timedelta
) -> None:
    """Enter images that were taken, in the transaction that is open. ``schema``: whose migration; ``attempt``: the
    id of its row in Prisma's books: what another attempt left is another matter."""
    for image in images:
        keep = json.dumps(image.keep.as_dict())
        values = [image.table, migration, schema, attempt, image.source, keep, image.rows or 0, image.bytes or 0, lasting]
        enter(connection, values)


def find(connection: Connection, migration: str, schema: str, attempt: str) -> tuple[Image, ...]:
    """The images that were taken when this attempt applied the migration, those that are there."""
    if not there(connection):
        return ()
    rows = connection.execute(_FIND, [migration, schema, attempt]).fetchall()
    return tuple(Image(Keep.of(json.loads(keep)), table, source, rows, size) for table, source, keep, rows, size in rows)


def prune(connection: Connection) -> list[str]:
    """Drop what has expired, but for what is parked; the names of those tables. ``connection`` in autocommit."""
    if not there(connection):
        return []
    from psycopg import sql

    with connection.transaction():
        names = [name for (name,) in connection.execute(_EXPIRED.encode()).fetchall()]
        for name in names:
            connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(SCHEMA, name)))
    return names


def forget(connection: Connection, migration: str, schema: str) -> None:
    """Drop the images of a migration that is undone, in the transaction that is open: its rows are back. Parked ones stay."""
    if not there(connection):
        return
    from psycopg import sql

    query = f"delete from {SCHEMA}.images where migration = %s and schema = %s and source <> 'parked' returning image"
    for (name,) in connection.execute(query.encode(), [migration, schema]).fetchall():
        connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(SCHEMA, name)))
