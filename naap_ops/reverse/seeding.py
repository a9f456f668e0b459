"""Rows into the empty tables of a scratch database, so that a reverse is proved on data and not on structure alone.

Three round trips for any number of tables: what the catalog says, values for what must be checked, and one block in which each
table's rows go in under an exception handler of their own. Only tables that failed there are tried again, row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from naap_ops.reverse.seed import checks, facts, order
from naap_ops.reverse.seed.facts import Facts, Name, Table
from naap_ops.reverse.seed.fill import Filler, Shape, Unfillable
from naap_ops.reverse.seed.order import Group
from naap_ops.reverse.seed.quoting import literal, qualified
from naap_ops.reverse.seed.values import Text

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_RETRIES = (
    Shape(),
    Shape(full=True),
    Shape(bare=True),
    Shape(salt=7),
    Shape(bare=True, salt=11),
    Shape(bare=True, salt=12),
)
_RESULT = "naap_ops.seeded"  # a setting of the transaction: the only way for a DO block to answer


@dataclass(frozen=True)
class Seeded:
    """``filled``: the named tables that hold rows now, ``skipped``: the reason for each that does not."""

    filled: frozenset[Name]
    skipped: Mapping[Name, str]


def seed(connection: Connection, tables: Iterable[Name], *, rows: int = 3, plain: bool = False) -> Seeded:
    """Put up to ``rows`` rows into each of ``tables`` (schema, name) that has none, and into the empty tables they refer to.

    Runs in the transaction that is open, else in its own. A table that cannot be filled costs no more than its reason; names
    that are not of tables are left out. ``plain``: strings are digits and nothing else, for migrations that turn them into
    numbers, JSON or shorter strings. Triggers fire, sequences move. Raises psycopg.Error only when the connection is lost.
    """
    known = facts.read(connection, tables)
    if not known.tables:
        return Seeded(frozenset(), {})
    unicode = connection.info.parameter_status("server_encoding") in {"UTF8", "SQL_ASCII"}
    text = Text.DIGITS if plain else Text.UNICODE if unicode else Text.ASCII
    filler = Filler(known, rows, checks.solved(connection, known, rows), text)
    groups = order.ordered(known.tables.values())
    reasons = _fill_all(connection, filler, groups)
    for group in groups:
        if group in reasons:
            _fill_again(connection, filler, group, reasons)
    named = [table for table in known.tables.values() if table.named]
    of = {oid: group for group in groups for oid in group}
    skipped = {table.name: reasons[of[table.oid]] for table in named if of[table.oid] in reasons}
    return Seeded(frozenset(table.name for table in named) - skipped.keys(), skipped)


# --- all at once --------------------------------------------------------------------------------------------------


def _fill_all(connection: Connection, filler: Filler, groups: list[Group]) -> dict[Group, str]:
    """Every group in one block. The groups that did not get rows, with the reasons."""
    reasons: dict[Group, str] = {}
    blocks = []
    for number, group in enumerate(groups):
        try:
            statements = filler.statements(group, range(filler.rows))
        except Unfillable as reason:
            reasons[group] = str(reason)
            continue
        blocks.append(_block(number, group, statements, filler.facts))
    links = [link for group in groups for oid in group for link in filler.late_links(filler.facts.tables[oid])]
    blocks += [f"BEGIN EXECUTE {literal(link)}; EXCEPTION WHEN OTHERS THEN NULL; END;" for link in links]
    body = (
        "DECLARE found boolean; trouble text; failed jsonb := '{}'; BEGIN "
        + " ".join(blocks)
        + f" PERFORM pg_catalog.set_config('{_RESULT}', failed::text, true); END"
    )
    cursor = connection.execute(f"DO {literal(body)}; SELECT pg_catalog.current_setting('{_RESULT}')".encode(), prepare=False)
    cursor.nextset()
    row = cursor.fetchone()
    assert row is not None
    reasons |= {groups[int(number)]: reason for number, reason in json.loads(row[0]).items()}
    return reasons


def _block(number: int, group: Group, statements: list[str], known: Facts) -> str:
    tables = [known.tables[oid] for oid in group]
    steps = " ".join(f"EXECUTE {literal(statement)};" for statement in (*statements, *_checked_now(tables)))
    return (
        f"EXECUTE {literal(f'SELECT {_all_hold(tables)}')} INTO found; IF NOT found THEN BEGIN {steps}"
        f" EXECUTE {literal(f'SELECT {_all_hold(tables)}')} INTO found;"
        f" IF NOT found THEN failed := failed || pg_catalog.jsonb_build_object('{number}', 'no row was taken'); END IF;"
        " EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS trouble = MESSAGE_TEXT;"
        f" failed := failed || pg_catalog.jsonb_build_object('{number}', trouble); END; END IF;"
    )


def _all_hold(tables: list[Table]) -> str:
    return " AND ".join(
        f"EXISTS (SELECT FROM {'' if table.kind == 'p' else 'ONLY '}{qualified(table.name)})" for table in tables
    )


def _checked_now(tables: list[Table]) -> list[str]:
    """What was put off to the end of the transaction happens now: it could fail there, and would stop every ALTER TABLE."""
    names = ", ".join(qualified(name) for table in tables for name in table.deferred)
    return [f"SET CONSTRAINTS {names} IMMEDIATE", f"SET CONSTRAINTS {names} DEFERRED"] if names else []


# --- again, for what failed ---------------------------------------------------------------------------------------


def _fill_again(connection: Connection, filler: Filler, group: Group, reasons: dict[Group, str]) -> None:
    """Row by row in other shapes. Takes the group's reason away when at least one row of each table is in."""
    tables = [filler.facts.tables[oid] for oid in group]
    missing = _missing_parent(filler, group, reasons)
    if missing is not None:
        reasons[group] = f"needs a row of {missing}, which has none"
        return
    for row in range(filler.rows):
        for shape in _RETRIES:
            try:
                statements = [*filler.statements(group, [row], shape), *_checked_now(tables)]
            except Unfillable:
                return
            if _try(connection, statements, tables):
                reasons.pop(group, None)
                break


def _try(connection: Connection, statements: list[str], tables: list[Table]) -> bool:
    try:
        with connection.transaction():
            connection.execute("; ".join(statements).encode(), prepare=False)
            row = connection.execute(f"SELECT {_all_hold(tables)}".encode(), prepare=False).fetchone()
    except psycopg.Error:
        if connection.broken:
            raise
        return False
    return row is not None and bool(row[0])


def _missing_parent(filler: Filler, group: Group, reasons: Mapping[Group, str]) -> str | None:
    empty = {oid for failed in reasons if failed != group for oid in failed}
    for oid in group:
        table = filler.facts.tables[oid]
        for key in table.keys:
            if key.table in empty and table.required(key):
                return qualified(filler.facts.tables[key.table].name)
    return None
