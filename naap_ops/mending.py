"""The SQL that would mend a drift, in either direction, each proved on a copy of the state in which it would run.

*To migrations* changes the live database so that it is what its migrations say; it is guarded as a ``down.sql`` is. *To
database* is what a new migration would have to hold so that the history gives what the live database is; it is run as Prisma
runs a migration, on a copy of what the history gives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from naap_ops import clock, reverses, ways
from naap_ops.app import App
from naap_ops.errors import OpsError, ReverseRefused
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.roles import needed_roles
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.session import Connection, connect
from naap_ops.reverse import diff, scope, shadows, starting
from naap_ops.reverse.document import describe
from naap_ops.reverse.model import Plan
from naap_ops.reverse.replay import replay
from naap_ops.reverse.script import parse
from naap_ops.reverses import Live

_NO_COPY = "there was no copy of what the migrations give to try it on"
_ROUTINES = tuple(f"CREATE {more}{what} " for more in ("", "OR REPLACE ") for what in ("FUNCTION", "PROCEDURE"))


@dataclass(frozen=True)
class Case:
    """Two states of one schema, ready to be compared: what counts of each, read of the schemas ``only``, seen by its look.

    ``role``: who deploys; ``dumped``: the expected state as a script, for a copy of it.
    """

    there: Live
    schema: str
    live: Catalog
    expected: Catalog
    only: frozenset[str] | None
    as_live: scope.Look
    as_expected: scope.Look
    role: str
    dumped: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"database {self.there.target.info.dbname}, schema {self.schema}"


@dataclass(frozen=True)
class Way:
    """One direction. ``status``: proved, unproved or refused, with the ``reason`` for the last two; ``losses`` in words."""

    text: str
    status: str
    reason: str = ""
    losses: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, without the text."""
        return {"status": self.status, "reason": self.reason, "losses": list(self.losses)}


@dataclass(frozen=True)
class Ways:
    """Both."""

    to_migrations: Way
    to_database: Way

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "to_migrations": self.to_migrations.text,
            "to_database": self.to_database.text,
            "ways": {"to_migrations": self.to_migrations.as_dict(), "to_database": self.to_database.as_dict()},
        }


@dataclass(frozen=True)
class Copy:
    """A database in one of the two states, made from a dump. ``cannot``: why there is none."""

    connection: Connection | None = None
    catalog: Catalog | None = None
    cannot: str = ""


@contextlib.contextmanager
def copy_of_expected(app: App, case: Case) -> Iterator[Copy]:
    """The expected state once more, as a dump brings it."""
    if not case.dumped:
        yield Copy(cannot=_NO_COPY)
        return
    with connect(case.there.target.info) as connection:
        roles = needed_roles(connection)
    wanted = sorted(row.name for row in case.expected.rows["extension"].values() if row.name != "plpgsql")
    source = ways.Source(case.there.target, lambda **_: case.dumped, wanted, roles)
    with _loaded(app, case, source, case.as_expected) as made:
        yield made


@contextlib.contextmanager
def copy_of_live(app: App, case: Case) -> Iterator[Copy]:
    """The live schema once more, as a dump brings it."""
    with _loaded(app, case, ways.source(case.there.target), case.as_live) as made:
        yield made


@contextlib.contextmanager
def _loaded(app: App, case: Case, source: ways.Source, look: scope.Look) -> Iterator[Copy]:
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(app.places.shadow(source.target, like=source.target.info.dbname))
        try:
            roles = source.roles if place.kind == "embedded" else []
            lacking, notes = starting.fill(place.info, source.dump, source.extensions, roles)
        except ReverseRefused as failure:
            yield Copy(cannot=failure.text)
            return
        if lacking or notes:
            yield Copy(cannot="; ".join(notes or [f"no extension {', '.join(lacking)}"]))
            return
        own = stack.enter_context(contextlib.closing(shadows.session(place.info, case.schema)))
        yield Copy(own, look(snapshot(own, schema=case.schema, only=case.only)))


# --- to what the migrations say -------------------------------------------------------------------------------------


def to_migrations(app: App, case: Case, live: Copy, expected: Copy) -> Way:
    """What the live database lacks or has too much of, changed there. Uses up the copy ``live``."""
    before = replace(case.expected, user=case.live.user)

    def attempt(text: str) -> ways.Tried:
        if live.connection is None or live.catalog is None:
            return ways.Tried(cannot=live.cannot)
        return ways.tried_on(
            live.connection,
            live.catalog,
            case.live,
            case.expected,
            ways.guarded(text),
            look=case.as_live,
            only=case.only,
            again=expected.catalog,
        )

    made = ways.back(
        before,
        case.live,
        reverses.sql(app, case.schema),
        name=f"the drift of {case.name}",
        state=case.name,
        goal="the migrations say",
        attempt=attempt,
        offers=tuple(diff.renames(before, case.live)),
        amend=_all_of_it,
    )
    losses = _losses(made.plan) if made.plan else ()
    return Way(made.text, made.status, made.reason, losses)


def _all_of_it(planned: Plan) -> Plan:
    """What is extra was not made by a migration that is undone: everything in it is lost, not what came since."""
    reversals = [
        replace(
            reversal,
            losses=tuple(
                replace(loss, reason=loss.reason.replace(" written into it since", " in it")) for loss in reversal.losses
            ),
        )
        for reversal in planned.reversals
    ]
    return replace(planned, reversals=tuple(reversals))


def _losses(planned: Plan) -> tuple[str, ...]:
    return tuple(describe(statement, loss).partition(": ")[2] for statement, loss in planned.losses)


# --- to what the database is ----------------------------------------------------------------------------------------


def to_database(app: App, case: Case, live: Copy, expected: Copy) -> Way:
    """What a migration would have to hold. Uses up the copy ``expected``."""
    goal = replace(case.live, user=case.role if case.live.user else "")
    planned = _all_of_it(
        diff.reverse(goal, case.expected, reverses.sql(app, case.schema), name=f"the migrations of {case.name}")
    )
    losses = _losses(planned)
    if planned.refusals:
        reason = "\n".join(each.reason for each in planned.refusals)
        return Way(_migration(case, planned, "refused", reason, losses), "refused", reason, losses)
    text = _migration(case, planned, "proved", "", losses)
    outcome = _tried(case, live, expected, text)
    if outcome.failures:
        reason = "its proof failed:\n" + "\n".join(outcome.failures)
        return Way(_migration(case, planned, "refused", reason, losses), "refused", reason, losses)
    if outcome.cannot:
        return Way(_migration(case, planned, "unproved", outcome.cannot, losses), "unproved", outcome.cannot, losses)
    return Way(text, "proved", "", losses)


def _tried(case: Case, live: Copy, expected: Copy, text: str) -> ways.Tried:
    """Run it as Prisma runs a migration, and compare."""
    connection, loaded = expected.connection, expected.catalog
    if connection is None or loaded is None:
        return ways.Tried(cannot=expected.cannot)

    def run(connection: Connection) -> None:
        replay(connection, parse(text.encode(), name="migration.sql"), loaded, steps=False, look=False)

    try:
        return ways.tried_on(
            connection,
            loaded,
            case.expected,
            case.live,
            run,
            look=case.as_expected,
            only=case.only,
            again=live.catalog,
        )
    except OpsError as failure:  # a statement that does not run
        return ways.Tried((failure.text,))


def _migration(case: Case, planned: Plan, status: str, reason: str, losses: tuple[str, ...]) -> str:
    """The text of a migration. A refused one holds its statements as comments."""
    lines = [
        f"-- What {_line(case.name)} is, and its migrations do not say, as a migration (naap_ops, {clock.iso()}).",
        "-- There it is so already: put this into a new folder of the migrations, and there mark that as applied",
        "-- (`prisma migrate resolve --applied NAME`). Everywhere else it is deployed as any other.",
        f"-- Proof: {status}"
        + (": run after the migrations it gives that schema, object by object" if status == "proved" else ""),
        *(f"--   {_line(line)}" for line in reason.splitlines()),
        "-- Losses:" if losses else "-- Losses: none",
        *(f"--   {_line(loss)}" for loss in losses),
        "",
    ]
    pieces = [piece.sql for piece in planned.pieces]
    if status == "refused":
        return "\n".join([*lines, *(f"--   {line}" for sql in pieces for line in f"{sql};".splitlines())]) + "\n"
    if any(sql.startswith(_ROUTINES) for sql in pieces):
        pieces = ["SET check_function_bodies = off", *pieces, "RESET check_function_bodies"]
    return "\n".join([*lines, *(f"{sql};" for sql in pieces)]) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())
