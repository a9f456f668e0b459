"""The reverse of a difference, for projects without migration files: two databases, or a saved catalog and the live one."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from naap_ops import reverses
from naap_ops.app import App, Target
from naap_ops.errors import UsageError
from naap_ops.postgres.catalog.difference import differences
from naap_ops.postgres.catalog.extensions import extensions
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.roles import needed_roles
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.session import connect, server_info
from naap_ops.postgres.tools import find_tools
from naap_ops.reverse import diff, document, saved, shadows, starting, verdicts
from naap_ops.reverse.guards import guards
from naap_ops.reverse.make import Reverse
from naap_ops.reverse.proof import Proof

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.reverse.model import Plan
    from naap_ops.reverses import Wanted

_TOLD = 5


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
    offers = tuple(diff.renames(one.catalog, other.catalog))
    templates = reverses.sql(app, one.catalog.schema)
    planned = diff.reverse(one.catalog, other.catalog, templates, name=f"the way from {one.name} to {other.name}")
    if planned.refusals:
        reason = "\n".join(each.reason for each in planned.refusals)
        return Made(verdicts.refused(planned.script, reason, other.name, one.catalog.major), one.name, other.name, offers)
    found = guards(one.catalog, diff.rekeyed(one.catalog, other.catalog), templates)
    unproved = document.write(planned, found, verdicts.facts(other.name, one.catalog.major, "unproved"))
    if other.target is None or not wanted.proof:
        reason = verdicts.NOT_TRIED if other.target is not None else "a saved catalog cannot be loaded into a shadow"
        result = Reverse(planned.script, "unproved", _offered(unproved, offers), reason, planned)
    else:
        result = _proved(app, other, one.catalog, planned, unproved)
        if result.status == "proved":
            facts = verdicts.facts(
                other.name, one.catalog.major, "proved", "run on a copy of the schema: it is as before, object by object"
            )
            result = Reverse(
                planned.script, "proved", _offered(document.write(planned, found, facts), offers), "", planned, result.proof
            )
    return Made(_timed(result, time.monotonic() - began), one.name, other.name, offers)


def _timed(reverse: Reverse, seconds: float) -> Reverse:
    from dataclasses import replace

    return replace(reverse, seconds=seconds)


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


def _proved(app: App, other: State, before: Catalog, planned: Plan, text: str) -> Reverse:
    """Load the state after, run the text, compare with the state before."""
    target = other.target
    assert target is not None
    with connect(target.info) as connection:
        wanted, roles = [each["name"] for each in extensions(connection)], needed_roles(connection)
    with app.shadow(target, like=target.info.dbname) as place:
        dump = partial(starting.dumped, target.tools, target.info)
        lacking, notes = starting.fill(place.info, dump, wanted, roles if place.kind == "embedded" else [])
        if lacking or notes:
            return Reverse(
                planned.script, "unproved", text, "; ".join(notes or [f"no extension {', '.join(lacking)}"]), planned
            )
        with closing(shadows.session(place.info, before.schema)) as connection:
            failures = _tried(connection, before, text)
    proof = Proof(schema=not failures, again=not failures, rows=not failures, failures=tuple(failures))
    if failures:
        reason = f"{verdicts.PROOF_FAILED}\n" + "\n".join(failures)
        refused = document.refused(
            planned, planned.script.name, planned.script.sha256, reason, verdicts.facts(other.name, before.major, "refused")
        )
        return Reverse(planned.script, "refused", refused, reason, planned, proof)
    return Reverse(planned.script, "proved", text, "", planned, proof)


def _tried(connection: psycopg.Connection[tuple[object, ...]], before: Catalog, text: str) -> list[str]:
    """What is not as it was, or why it does not run."""
    from naap_ops.reverse.script import parse

    try:
        for part in document.segments(text):
            pieces = (
                [part.sql]
                if part.transactional
                else [each.sql for each in parse(part.sql.encode(), name="down.sql").statements]
            )
            for piece in pieces:
                connection.execute(piece.encode())
    except psycopg.Error as error:
        return [str(error.diag.message_primary or error)]
    return [str(each) for each in differences(before, snapshot(connection, schema=before.schema))[:_TOLD]]


def _offered(text: str, offers: tuple[str, ...]) -> str:
    """With what may have been a rename as comments below the header."""
    if not offers:
        return text
    head, blank, body = text.partition("\n\n")
    return "\n".join([head, *(f"-- Perhaps a rename: {' '.join(offer.splitlines())}." for offer in offers)]) + blank + body
