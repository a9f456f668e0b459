"""The SQL from one state of a schema to another, proved on a copy: what `reverse --from-diff` and drift have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from naap_ops.app import App
from naap_ops.errors import ReverseRefused
from naap_ops.places import Target
from naap_ops.postgres.catalog.difference import differences
from naap_ops.postgres.catalog.extensions import extensions
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.roles import needed_roles
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.session import Connection, connect
from naap_ops.reverse import diff, document, shadows, starting, verdicts
from naap_ops.reverse.guards import guards
from naap_ops.reverse.make import Reverse
from naap_ops.reverse.proof import Proof
from naap_ops.reverse.render import Sql
from naap_ops.reverse.scope import settled

if TYPE_CHECKING:
    from naap_ops.reverse.model import Plan
    from naap_ops.reverse.scope import Look

PROVED = "run on a copy of the schema: it is as {goal}, object by object"
_TOLD = 5


@dataclass(frozen=True)
class Source:
    """A schema that can be loaded into a shadow on the server of ``target``, or of its major."""

    target: Target
    dump: starting.Dump
    extensions: Sequence[str]
    roles: Sequence[str]


@dataclass(frozen=True)
class Tried:
    """What a trial came to. ``cannot``: why there was none; ``failures``: what is not as it should be, none if all is."""

    failures: tuple[str, ...] = ()
    cannot: str = ""


def source(target: Target) -> Source:
    """A database's own schema."""
    with connect(target.info) as connection:
        wanted, roles = [each["name"] for each in extensions(connection)], needed_roles(connection)
    return Source(target, partial(starting.dumped, target.tools, target.info), wanted, roles)


# --- the way --------------------------------------------------------------------------------------------------------


def back(
    before: Catalog,
    after: Catalog,
    sql: Sql,
    *,
    name: str,
    state: str,
    goal: str,
    attempt: Callable[[str], Tried],
    offers: tuple[str, ...] = (),
    amend: Callable[[Plan], Plan] = lambda planned: planned,
) -> Reverse:
    """What turns the state ``after`` back into ``before``, guarded and proved by ``attempt``.

    ``state``: after, in words; ``goal``: before, in words; ``offers``: what may have been renames; ``amend``: what is
    to be said otherwise in the plan.
    """
    planned = amend(diff.reverse(before, after, sql, name=name))
    if planned.refusals:
        reason = "\n".join(each.reason for each in planned.refusals)
        return verdicts.refused(planned.script, reason, state, before.major)
    found = guards(before, diff.rekeyed(before, after), sql)
    unproved = offered(document.write(planned, found, verdicts.facts(state, before.major, "unproved")), offers)
    outcome = attempt(unproved)
    if outcome.cannot:
        return Reverse(planned.script, "unproved", unproved, outcome.cannot, planned)
    if outcome.failures:
        return failed(planned, outcome, state, before.major)
    facts = verdicts.facts(state, before.major, "proved", PROVED.format(goal=goal))
    proof = Proof(schema=True, again=True, rows=True)
    return Reverse(planned.script, "proved", offered(document.write(planned, found, facts), offers), "", planned, proof)


def failed(planned: Plan, outcome: Tried, state: str, major: int) -> Reverse:
    """One whose trial did not lead to the goal: refused, with what was left."""
    reason = f"{verdicts.PROOF_FAILED}\n" + "\n".join(outcome.failures)
    script = planned.script
    text = document.refused(planned, script.name, script.sha256, reason, verdicts.facts(state, major, "refused"))
    return Reverse(script, "refused", text, reason, planned, Proof(failures=outcome.failures))


def offered(text: str, offers: tuple[str, ...]) -> str:
    """With what may have been a rename as comments below the header."""
    if not offers:
        return text
    head, blank, body = text.partition("\n\n")
    return "\n".join([head, *(f"-- Perhaps a rename: {' '.join(offer.splitlines())}." for offer in offers)]) + blank + body


# --- the trial ------------------------------------------------------------------------------------------------------


def tried(
    app: App,
    source: Source,
    start: Catalog,
    goal: Catalog,
    run: Callable[[Connection], None],
    *,
    look: Look = lambda catalog: catalog,
) -> Tried:
    """Load the source, which is the state ``start``; run; compare with ``goal``. ``look``: as both were seen."""
    try:
        with app.places.shadow(source.target, like=source.target.info.dbname) as place:
            roles = source.roles if place.kind == "embedded" else []
            lacking, notes = starting.fill(place.info, source.dump, source.extensions, roles)
            if lacking or notes:
                return Tried(cannot="; ".join(notes or [f"no extension {', '.join(lacking)}"]))
            with closing(shadows.session(place.info, goal.schema)) as connection:
                loaded = look(snapshot(connection, schema=goal.schema))
                return tried_on(connection, loaded, start, goal, run, look=look)
    except ReverseRefused as failure:  # of loading, or of a statement that stands for the run
        return Tried(cannot=failure.text)


def tried_on(
    connection: Connection,
    loaded: Catalog,
    start: Catalog,
    goal: Catalog,
    run: Callable[[Connection], None],
    *,
    look: Look = lambda catalog: catalog,
    only: Collection[str] | None = None,
    again: Catalog | None = None,
) -> Tried:
    """Run on a copy that is there and ``loaded``; compare with ``goal``. ``again``: the goal as a dump brings it, so that what
    is made anew from the server's own words for it counts as the same."""
    try:
        run(connection)
    except psycopg.Error as error:
        return Tried((str(error.diag.message_primary or error),))
    after = look(snapshot(connection, schema=goal.schema, only=only))
    return Tried(left(start, goal if again is None else settled(goal, after, again), loaded, after))


def left(start: Catalog, goal: Catalog, loaded: Catalog, after: Catalog) -> tuple[str, ...]:
    """What is not as in the goal. An object that was to stay as it is, and did, is: a copy may only be spelled otherwise."""
    at_work = {(each.kind, each.identity) for each in [*differences(start, goal), *differences(loaded, after)]}
    return tuple(str(each) for each in differences(goal, after) if (each.kind, each.identity) in at_work)[:_TOLD]


def guarded(text: str) -> Callable[[Connection], None]:
    """Running a text of :func:`naap_ops.reverse.document.write`, segment by segment."""
    from naap_ops.reverse.script import parse

    def run(connection: Connection) -> None:
        for part in document.segments(text):
            statements = parse(part.sql.encode(), name="down.sql").statements if not part.transactional else ()
            for piece in [part.sql] if part.transactional else [each.sql for each in statements]:
                connection.execute(piece.encode())

    return run


def timed(reverse: Reverse, seconds: float) -> Reverse:
    """The same with how long it took."""
    return replace(reverse, seconds=seconds)
