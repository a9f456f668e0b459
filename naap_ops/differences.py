"""The reverse of a difference, for projects without migration files: two databases, or a saved catalog and the live one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import reverses, ways
from naap_ops.app import App
from naap_ops.errors import UsageError
from naap_ops.places import Target
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.session import connect, server_info
from naap_ops.postgres.tools import find_tools
from naap_ops.reverse import diff, saved, verdicts
from naap_ops.reverse.make import Reverse

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.reverses import Wanted


@dataclass(frozen=True)
class State:
    """A state to compare: its catalog, what it is called, the database it was read from (None: a file)."""

    catalog: Catalog
    name: str
    target: Target | None


@dataclass(frozen=True)
class Made:
    """A reverse, and between what. ``renames``: what may have been one."""

    reverse: Reverse
    before: str
    after: str
    renames: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """As of :attr:`naap_ops.reverses.Made.exit_code`."""
        if self.reverse.status == "proved" or self.reverse.reason == verdicts.NOT_TRIED:
            return reverses.PROVED
        return (
            reverses.REFUSED
            if self.reverse.status == "refused" and not verdicts.proof_failed(self.reverse)
            else reverses.FAILED
        )


@dataclass(frozen=True)
class Saved:
    """A catalog that was saved."""

    objects: int
    database: str
    major: int
    schema: str


def save(app: App, database: str | None, path: Path, schema: str | None) -> Saved:
    """Save the catalog of a database. Raises StorageError."""
    info = app.info(database)
    catalog, name = _looked(info, schema or info.schema)
    saved.write(catalog, path)
    return Saved(sum(map(len, catalog.rows.values())), name, catalog.major, catalog.schema)


def reverse(app: App, wanted: Wanted, before: str, after: str) -> Made:
    """What turns the state ``after`` back into ``before``; proved on a shadow when ``after`` is a database."""
    began = time.monotonic()
    one, other = (_state(app, wanted, ref) for ref in (before, after))
    if one.catalog.major != other.catalog.major:
        raise UsageError(
            detail=f"PostgreSQL {one.catalog.major} and {other.catalog.major} do not compare",
            hint="Compare states of one major.",
        )
    target = other.target

    def attempt(text: str) -> ways.Tried:
        if target is None or not wanted.proof:
            return ways.Tried(
                cannot=verdicts.NOT_TRIED if target is not None else "a saved catalog cannot be loaded into a shadow"
            )
        return ways.tried(app, ways.source(target), other.catalog, one.catalog, ways.guarded(text))

    offers = tuple(diff.renames(one.catalog, other.catalog))
    result = ways.back(
        one.catalog,
        other.catalog,
        reverses.sql(app, one.catalog.schema),
        name=f"the way from {one.name} to {other.name}",
        state=other.name,
        goal="before",
        attempt=attempt,
        offers=offers,
    )
    return Made(ways.timed(result, time.monotonic() - began), one.name, other.name, offers)


def _state(app: App, wanted: Wanted, ref: str) -> State:
    from naap_ops.postgres.url import parse_url

    if ref != "live" and "://" not in ref and "=" not in ref:
        return State(saved.read(Path(ref)), ref, None)
    info = app.info(wanted.database) if ref == "live" else parse_url(ref, source="--from-diff")
    schema = wanted.schema or info.schema
    catalog, name = _looked(info, schema)
    with connect(info) as connection:
        server = server_info(connection)
    target = Target(name, info.with_dbname(name), server, find_tools(server.major, app.loaded.settings.tools))
    return State(catalog, f"database {name}", target)


def _looked(info: ConnInfo, schema: str) -> tuple[Catalog, str]:
    with connect(info) as connection:
        connection.execute("set transaction_read_only = on")
        return snapshot(connection, schema=schema), connection.info.dbname
