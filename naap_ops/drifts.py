"""Drift as an operator asks for it: the live schema against the migrations that its books call applied, and the SQL between.

The history is replayed on a shadow, in the order in which it was applied, with the URL's schema; then both catalogs are
compared as :mod:`naap_ops.reverse.scope` says. Tenants with the same history share one replay: the server renames the schema.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from psycopg import sql as composed

from naap_ops import mending, reverses, statuses
from naap_ops.app import App
from naap_ops.errors import CommandFailed, ReverseRefused, ToolMismatch, ToolMissing, UsageError
from naap_ops.histories import Histories, History
from naap_ops.mending import Case
from naap_ops.postgres.catalog.difference import differences, reordered
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.session import Connection, connect
from naap_ops.prisma import tracking
from naap_ops.reverse import scope, starting
from naap_ops.reverse.drift import Drift, drift
from naap_ops.reverse.replay import search_path
from naap_ops.reverses import Ground, Live, Start, Wanted
from naap_ops.sights import sight

State = Literal["none", "drift", "unknown"]
NONE: Final = "none"
DRIFT: Final = "drift"
UNKNOWN: Final = "unknown"

_SHOWN = 8


@dataclass(frozen=True)
class Asked:
    """What the flags say. ``sql``: also how to get from one to the other."""

    database: str | None = None
    all_tenants: bool = False
    all_schemas: bool = False
    migrations: str | None = None
    sql: bool = False


@dataclass(frozen=True)
class Found:
    """One schema. ``reason``: why its drift is unknown; ``ways``: the SQL in both directions, where it was asked for."""

    schema: str
    state: State
    drift: tuple[Drift, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    ways: mending.Ways | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "schema": self.schema,
            "state": self.state,
            "drift": [each.as_dict() for each in self.drift],
            "reason": self.reason,
            "notes": list(self.notes),
            **(self.ways.as_dict() if self.ways else {"to_migrations": None, "to_database": None, "ways": {}}),
        }


@dataclass(frozen=True)
class Report:
    """All that was asked for. ``folder``: where the migrations are."""

    database: str
    folder: str
    schemas: tuple[Found, ...]

    @property
    def in_step(self) -> bool:
        return all(each.state == NONE for each in self.schemas)


def look(app: App, asked: Asked) -> Report:
    """Compare, schema by schema. What keeps one from being compared makes it unknown.

    Raises what reaching the database and making a shadow raise; PrismaUnsupported, UsageError.
    """
    there = reverses.live(app, Wanted(database=asked.database, state="live"))
    assert there is not None
    histories = Histories(app, asked.migrations)
    with connect(there.target.info) as connection:
        tracking.refuse_contract(connection)
        having = tracking.schemas(connection)
        names = statuses.schemas_of(app, asked.database, there.target.info, having, all_tenants=asked.all_tenants)
        books = [tracking.read(connection, name) for name in names]
        connection.execute("set default_transaction_read_only = on")
        found: dict[str, Found] = {}
        cases: list[Case] = []
        for group in _groups(found, having, [histories.of(each) for each in books]):
            cases += _compared(app, replace(there, schema=group[0].schema), connection, group, asked, found)
    for case in cases:
        found[case.schema] = _told(app, case, asked)
    return Report(there.target.info.dbname or "", str(histories.place), tuple(found[name] for name in names))


def _groups(found: dict[str, Found], having: Sequence[str], histories: Sequence[History]) -> list[list[History]]:
    """Those that share a replay, together. What cannot be replayed is ``found`` unknown at once."""
    groups: dict[object, list[History]] = {}
    for history in histories:
        reason = history.why_unknown
        if history.schema not in having:
            reason = f"schema {history.schema} has no {tracking.TABLE}: nothing says what it should be"
        if reason:
            found[history.schema] = Found(history.schema, UNKNOWN, reason=reason, notes=_notes(history))
        else:
            groups.setdefault(history.places, []).append(history)
    return list(groups.values())


def _notes(history: History) -> tuple[str, ...]:
    half = (f"{name} failed half-way: what of it took effect shows as drift" for name in history.failed)
    return (*history.notes, *half)


# --- comparing ------------------------------------------------------------------------------------------------------


def _compared(
    app: App, there: Live, connection: Connection, group: list[History], asked: Asked, found: dict[str, Found]
) -> list[Case]:
    """Replay once, look at each. Those that differ come back as cases; the others are ``found``."""
    first = group[0]
    cases: list[Case] = []
    words = f"{len(first.migrations)} applied migrations"
    try:
        begin = Start("history", words, first.migrations)
        with reverses.opened(app, Wanted(database=asked.database, schema=first.schema), there, begin) as ground:
            if ground.shadow.catalog.major != there.target.server.major:
                raise UsageError(
                    detail=f"PostgreSQL {ground.shadow.catalog.major} and {there.target.server.major} do not compare",
                    hint="Give a shadow on a server of the live database's major.",
                )
            apart = _looked(ground, connection, there, group, asked, found, cases)
    except ReverseRefused as failure:  # a migration that does not run on a shadow, or must not
        for history in group:
            found[history.schema] = Found(history.schema, UNKNOWN, reason=failure.text, notes=_notes(history))
        return []
    for history in apart:
        cases += _compared(app, replace(there, schema=history.schema), connection, [history], asked, found)
    return cases


def _looked(
    ground: Ground,
    connection: Connection,
    there: Live,
    group: list[History],
    asked: Asked,
    found: dict[str, Found],
    cases: list[Case],
) -> list[History]:
    """Compare each of the group with the replay. The histories for which that does not stand."""
    name = group[0].schema
    for number, history in enumerate(group):
        if number and not _retargeted(ground, name, history):
            return group[number:]
        name = history.schema
        case = _case(ground, connection, replace(there, schema=name), history, asked)
        if not differences(case.expected, case.live):
            found[name] = Found(name, NONE, notes=case.notes)
        else:
            cases.append(replace(case, dumped=_dumped(ground)))
    return []


def _retargeted(ground: Ground, old: str, history: History) -> bool:
    """Have the replay be in another schema. Whether that is as if it had been made there: nothing names the old one."""
    shadow = ground.shadow
    rename = composed.SQL("alter schema {} rename to {}").format(composed.Identifier(old), composed.Identifier(history.schema))
    if history.schema in {row.name for row in shadow.catalog.rows["schema"].values()}:
        return False
    if any(scope.mentioned(old, each.read().decode("utf-8", "replace")) for each in history.migrations):
        return False
    shadow.connection.execute(rename)
    search_path(shadow.connection, history.schema)
    shadow.catalog = snapshot(shadow.connection, schema=history.schema)
    return not scope.mentions(shadow.catalog, old)


def _case(ground: Ground, connection: Connection, there: Live, history: History, asked: Asked) -> Case:
    """Both states, with what does not count away."""
    schema, raw = history.schema, ground.shadow.catalog
    beside = ground.place.kind == "beside"
    wanted = None if asked.all_schemas and not asked.all_tenants else scope.schemas(raw, schema)
    seen = sight(connection, schema, wanted, beside=beside)
    expected, live = seen.as_expected(raw), seen.live
    expected, notes = scope.agreed(expected, live, {schema, "public"})
    if asked.all_tenants:
        expected, live = scope.placed_as(expected, live), scope.known(live, expected)
        notes.append("extensions and the like, which belong to the whole database: only those that the migrations make")
    if not beside:
        notes.append("owners and privileges were left out: the shadow is not on the live server")
    notes += [*_orders(expected, live), *_left_out(connection, seen.outside)]
    notes = [*_notes(history), *notes]
    return Case(there, schema, live, expected, wanted, seen.as_live, seen.as_expected, seen.role, notes=tuple(notes))


def _left_out(connection: Connection, outside: Sequence[str]) -> Iterator[str]:
    """The schemas with something in them that were not looked at."""
    query = """
    select distinct n.nspname::text from pg_catalog.pg_namespace n where n.nspname = any(%s)
      and n.nspname not in ('information_schema', 'naap_ops') and (
        exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid)
        or exists (select from pg_catalog.pg_proc p where p.pronamespace = n.oid)
        or exists (select from pg_catalog.pg_type t where t.typnamespace = n.oid)
        or n.nspname <> 'public') order by 1
    """
    names = [name for (name,) in connection.execute(query, [list(outside)]).fetchall()]
    if names:
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        yield f"schemas that no migration makes were left out: {shown} (--all-schemas)"


def _dumped(ground: Ground) -> str:
    """The replay as a script; '' where it cannot be had."""
    with contextlib.suppress(CommandFailed, ToolMissing, ToolMismatch):
        return starting.dumped(ground.place.tools(), ground.place.info, full=True)
    return ""


# --- telling --------------------------------------------------------------------------------------------------------


def _told(app: App, case: Case, asked: Asked) -> Found:
    """What differs for good, and the SQL. A copy of either state tells what a dump alone makes look different."""
    with contextlib.ExitStack() as stack:
        expected = stack.enter_context(mending.copy_of_expected(app, case))
        if expected.catalog is not None:
            case = replace(case, expected=scope.settled(case.expected, case.live, expected.catalog))
        found, live = drift(case.live, case.expected), mending.Copy()
        if found and (asked.sql or any(each.what == "changed" for each in found)):
            live = stack.enter_context(mending.copy_of_live(app, case))
        if live.catalog is not None:
            case = replace(case, live=scope.settled(case.live, case.expected, live.catalog))
            found = drift(case.live, case.expected)
        if not found:
            return Found(case.schema, NONE, notes=case.notes)
        if not asked.sql:
            return Found(case.schema, DRIFT, tuple(found), notes=case.notes)
        both = mending.Ways(mending.to_migrations(app, case, live, expected), mending.to_database(app, case, live, expected))
    return Found(case.schema, DRIFT, tuple(found), notes=case.notes, ways=both)


def _orders(expected: Catalog, live: Catalog) -> Iterator[str]:
    for table in reordered(expected, live):
        yield f"columns of {'.'.join(table)} are in another order than the migrations make them"
