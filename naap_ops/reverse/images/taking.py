"""Take images: before the migration, and once more after it, in the transaction of the migration or around its replay.

The same code takes them in the live database, on a shadow and in a scratch database that was filled from a backup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from naap_ops.postgres.session import SPELLING
from naap_ops.reverse.images.model import SCHEMA, Image, KeptColumn
from naap_ops.reverse.render import literal, quoted

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_SCHEMA = f"create schema if not exists {SCHEMA}"
_GRANTEES = (
    "select distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end "
    "from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a"
)
_PLAIN = {"row_security": "off", **SPELLING}
TEXT = '::pg_catalog.text COLLATE pg_catalog."default"'  # a column's own collation may go with the migration


def before(connection: Connection, images: Iterable[Image], *, lock: bool = False) -> tuple[Image, ...]:
    """What the migration is about to change or take away. An image of the same name that is there is replaced. The images, for
    :func:`after`.

    ``lock``: the tables are locked against writers until the open transaction ends.
    """
    wanted = list(images)
    if not wanted:
        return ()
    with _plainly(connection):
        connection.execute(_SCHEMA.encode())
        if lock:
            tables = ", ".join(relation(image.keep.relation) for image in wanted)
            connection.execute(f"lock table {tables} in share row exclusive mode".encode())
        return tuple(_begun(connection, image) for image in wanted)


def after(connection: Connection, images: Iterable[Image]) -> tuple[Image, ...]:
    """What the migration has left; the images with their sizes."""
    with _plainly(connection):
        return tuple(_finished(connection, image) for image in images)


def drop(connection: Connection, images: Iterable[Image]) -> None:
    """Away with them, and with what waits for its second half."""
    for image in images:
        connection.execute(f"drop table if exists {image.name}, {image.aside}".encode())


def private(connection: Connection, image: Image) -> None:
    """Nobody but its owner reads it, whatever default privileges have given: it holds what others may not see."""
    query = f"{_GRANTEES} where c.oid = {literal(image.name)}::regclass and a.grantee <> c.relowner"
    for (grantee,) in connection.execute(query.encode()).fetchall():
        connection.execute(f"revoke all on {image.name} from {grantee}".encode())


class _plainly:  # noqa: N801  # a context manager that reads as a word
    """Row-level security must not hide rows: an error instead. Values are spelled as wherever they are compared or put back.
    And the script must not find the settings changed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        names = ", ".join(f"current_setting('{name}')" for name in _PLAIN)
        self.was = self.connection.execute(f"select {names}".encode()).fetchone() or ()
        self._set(_PLAIN.values())

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._set(self.was)

    def _set(self, values: Iterable[str]) -> None:
        calls = ", ".join(f"set_config('{name}', %s, false)" for name in _PLAIN)
        self.connection.execute(f"select {calls}".encode(), list(values))


def _begun(connection: Connection, image: Image) -> Image:
    rows = None
    for statement in _before(image):
        done = connection.execute(statement.encode())
        rows = done.rowcount if statement.startswith("CREATE TABLE") else rows
    if not image.keep.compared:
        private(connection, image)
    return replace(image, rows=rows)


def _finished(connection: Connection, image: Image) -> Image:
    """Statistics are for whoever uses it: tables are locked, and writers wait."""
    rows = image.rows
    if image.keep.compared:
        rows = connection.execute(f"CREATE TABLE {image.name} AS {_after(image)}".encode()).rowcount
        private(connection, image)
        connection.execute(f"DROP TABLE {image.aside}".encode())
    size = f"select pg_catalog.pg_total_relation_size({literal(image.name)}::regclass)"
    row = connection.execute(size.encode()).fetchone()
    assert row is not None
    return replace(image, rows=rows, bytes=row[0])


# --- SQL ------------------------------------------------------------------------------------------------------------


def relation(name: tuple[str, str]) -> str:
    """A relation as SQL, with its schema."""
    return ".".join(map(quoted, name))


def value(column: KeptColumn, *, of: str = "t") -> str:
    """A column's value before, as an image holds it."""
    return f"{of}.{quoted(column.name)}{'' if column.plain else TEXT}"


def value_after(column: KeptColumn, *, of: str = "t") -> str:
    """The same after the migration."""
    assert column.after is not None
    return f"{of}.{quoted(column.after)}{'' if column.after_plain else TEXT}"


def differ(one: str, other: str, equal: str = "text") -> str:
    """SQL: two values are not the same."""
    if equal == "native":
        return f"{one} IS DISTINCT FROM {other}"
    collated = ' COLLATE pg_catalog."C"'
    return f"{one}::pg_catalog.text{collated} IS DISTINCT FROM {other}::pg_catalog.text{collated}"


def _before(image: Image) -> Iterator[str]:
    keep = image.keep
    listed = [f"{value(column)} AS k{at}" for at, column in enumerate(keep.key, 1)]
    none = "CASE WHEN false THEN {} END" if keep.queried else "{}"  # rows only come: their keys tell which
    listed += [f"{none.format(value(column))} AS p{at}" for at, column in enumerate(keep.columns, 1)]
    only = "" if keep.after is not None else "ONLY "  # of a dropped table the children, if any, are tables of their own
    query = f"SELECT {', '.join([*listed, 'true AS was'])} FROM {only}{relation(keep.relation)} t"
    yield f"DROP TABLE IF EXISTS {image.name}, {image.aside}"
    if keep.compared:
        yield f"CREATE TEMPORARY TABLE {quoted(f'naap_ops before {image.table}')} AS {query}"
        yield f"ANALYZE {image.aside}"
    else:
        yield f"CREATE TABLE {image.name} AS {query}"


def _after(image: Image) -> str:
    return _joined(image) if image.keep.key else _gone(image)


def _joined(image: Image) -> str:
    """Before and after side by side, by key."""
    keep = image.keep
    assert keep.after is not None
    numbers = [at for at, _ in enumerate(keep.key, 1)]
    kept = [(at, column) for at, column in enumerate(keep.columns, 1) if column.after is not None]
    now = [f"{value_after(column)} AS k{at}" for at, column in enumerate(keep.key, 1)]
    now += [f"{value_after(column)} AS q{at}" for at, column in kept]
    listed = [f"coalesce(b.k{at}, a.k{at}) AS k{at}" for at in numbers]
    listed += [f"b.p{at}" for at, _ in enumerate(keep.columns, 1)] + [f"a.q{at}" for at, _ in kept]
    changed = [changed_by(at, column, "b", "a") for at, column in kept] if not keep.queried else []
    if keep.whole:
        changed = ["b.was IS NULL", "a.stays IS NULL", *changed]
    where = "true" if keep.everything else " OR ".join(changed)
    return (
        f"SELECT {', '.join(listed)}, b.was IS NOT NULL AS was, a.stays IS NOT NULL AS stays FROM {image.aside} b "
        f"{'FULL' if keep.whole else 'LEFT'} JOIN (SELECT {', '.join(now)}, true AS stays FROM {relation(keep.after)} t) a "
        f"ON {' AND '.join(f'b.k{at} = a.k{at}' for at in numbers)} WHERE {where}"
    )


def changed_by(at: int, column: KeptColumn, b: str, a: str) -> str:
    """SQL: the migration changed the value of the column that is ``at`` in the image."""
    return differ(f"{b}.p{at}", f"{a}.q{at}", "text" if column.retyped else column.equal)


def _gone(image: Image) -> str:
    """Of a table without a key: the rows that are not there any more, each as often as it is missing."""
    keep = image.keep
    assert keep.after is not None
    places = [f"p{at}" for at, _ in enumerate(keep.columns, 1)]
    as_text = ", ".join(f"{place}::pg_catalog.text" for place in places)
    content = f"(ROW({as_text}))::pg_catalog.text"
    numbered = f"row_number() OVER (PARTITION BY {content}) AS nth, {content} AS content"
    now = ", ".join(f"{value_after(column)} AS p{at}" for at, column in enumerate(keep.columns, 1))
    return (
        f"SELECT {', '.join(f'b.{place}' for place in places)}, true AS was, false AS stays "
        f"FROM (SELECT *, {numbered} FROM {image.aside}) b WHERE NOT EXISTS (SELECT FROM (SELECT {numbered} "
        f"FROM (SELECT {now} FROM {relation(keep.after)} t) n) a WHERE (a.content, a.nth) = (b.content, b.nth))"
    )
