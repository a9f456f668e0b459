"""``down.sql``: a reverse as a file that a person can read, and run with psql alone.

A header says what it undoes, what was proved and what it loses. Guards stop it in a database that is not in the state it was
written for. Then, last forward statement first, each reverse stands under a comment that quotes what it undoes, behind the
checks
that must hold for it. ``-- naap: no transaction`` and ``-- naap: transaction`` begin segments; a file without such a line is
one
transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from naap_ops.reverse.guards import Guard
from naap_ops.reverse.locks import locks
from naap_ops.reverse.model import Check, Loss, Piece, Plan, Reversal
from naap_ops.reverse.render import literal, quoted
from naap_ops.reverse.script import Statement

FORMAT: Final = 1
NO_TRANSACTION: Final = "-- naap: no transaction"
TRANSACTION: Final = "-- naap: transaction"
_MARK: Final = "-- naap: down"
_QUOTED_LINES: Final = 12
LOCK_TIMEOUT: Final = "10s"
_SEARCH_PATH: Final = re.compile(r'^SET (?:LOCAL )?search_path = "((?:[^"]|"")*)";$', re.MULTILINE)


@dataclass(frozen=True)
class Facts:
    """What the header says beside the plan. ``state``: the starting state of the shadow, in words; ``proof``: one line each."""

    state: str
    server: str
    written: str
    version: str
    status: str
    proof: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment:
    """Statements that run in one transaction, or each on its own. ``sql`` holds no BEGIN and COMMIT."""

    transactional: bool
    sql: str


# --- writing -------------------------------------------------------------------------------------------------------


def write(plan: Plan, guards: Iterable[Guard], facts: Facts) -> str:
    """The file's text."""
    lines = [*_header(plan, facts), ""]
    parts = list(_segments(plan))
    mixed = any(not transactional for transactional, _ in parts)
    if not parts:
        what = "It changed rows, which this does not bring back: see the losses." if plan.losses else "It changed nothing."
        lines += [f"-- There is nothing to run: the schema is as it was before the migration. {what}", ""]
    first = True
    for transactional, reversals in parts:
        if mixed:
            lines.append(TRANSACTION if transactional else NO_TRANSACTION)
        local = "LOCAL " if transactional else ""
        lines += ["BEGIN;"] if transactional else []
        lines += [f"SET {local}search_path = {quoted(plan.schema)};", f"SET {local}lock_timeout = '{LOCK_TIMEOUT}';"]
        lines += [f"SET {local}check_function_bodies = off;", ""]
        if first:
            lines += _guards(guards)
            first = False
        for reversal, pieces in reversals:
            lines += [*_body(reversal, pieces), ""]
        lines += ["COMMIT;", ""] if transactional else [""]
    return "\n".join(lines).rstrip("\n") + "\n"


def refused(plan: Plan | None, name: str, sha256: str, reason: str, facts: Facts) -> str:
    """The file for a migration that has no usable reverse: it says why, and does nothing but say so when it is run."""
    lines = [f"-- There is no reverse of {_line(name)}.", f"-- {_MARK[3:]} {FORMAT} status=refused sha256={sha256}"]
    lines += [
        f"-- Written by naap_ops {facts.version} at {facts.written}, {facts.server}, against {facts.state}.",
        "--",
        "-- Refused:",
    ]
    lines += [f"--   {line}" for line in reason.splitlines()]
    lines += [f"-- {line}" for line in facts.proof]
    if plan is not None and plan.pieces:
        lines += ["--", "-- What was tried, and is not to be run:"]
        lines += [f"--   {line}" for piece in plan.pieces for line in f"{piece.sql};".splitlines()]
    text = literal(f"no reverse of {name}: {reason.splitlines()[0] if reason else 'refused'}")
    lines += ["", _do([f"  RAISE EXCEPTION USING MESSAGE = {text};"]), ""]
    return "\n".join(lines)


def _header(plan: Plan, facts: Facts) -> Iterator[str]:
    script = plan.script
    yield f"-- The reverse of {_line(script.name)}."
    yield f"{_MARK} {FORMAT} status={facts.status} sha256={script.sha256}"
    yield f"-- Written by naap_ops {facts.version} at {facts.written}, {facts.server}, against {facts.state}."
    yield "-- Run it with:  psql -X -v ON_ERROR_STOP=1 -f down.sql"
    yield "--"
    yield f"-- Proof: {facts.status}"
    for line in facts.proof:
        yield f"--   {_line(line)}"
    held = locks(plan.pieces)
    if held:
        yield "-- Locks:"
        yield from (f"--   {lock} on {_line(relation)}" for relation, lock in held.items())
    losses = plan.losses
    yield "-- Losses:" if losses else "-- Losses: none"
    for statement, loss in losses:
        yield f"--   {_line(describe(statement, loss))}"
    if any(not piece.transactional for piece in plan.pieces):
        yield "-- Some statements run outside a transaction: if it stops half-way, what went before remains."


def describe(statement: Statement, loss: Loss) -> str:
    """A loss in one line."""
    what = ""
    if loss.relation:
        what = " of " + ".".join(quoted(name) for name in (*loss.relation, *([loss.column] if loss.column else [])))
    return f"statement {statement.index}: {loss.kind}{what}: {loss.reason}"


def _segments(plan: Plan) -> Iterator[tuple[bool, list[tuple[Reversal, list[Piece]]]]]:
    """Runs of pieces that share a transaction, or that run outside one, with the reversals they belong to."""
    run: list[tuple[Reversal, list[Piece]]] = []
    kind: bool | None = None
    for reversal in plan.reversals:
        for piece in reversal.pieces:
            if kind is not None and piece.transactional != kind:
                yield kind, run
                run = []
            kind = piece.transactional
            if run and run[-1][0] is reversal:
                run[-1][1].append(piece)
            else:
                run.append((reversal, [piece]))
        if not reversal.pieces and kind is not False and reversal.losses:
            run.append((reversal, []))
            kind = True
    if kind is not None and any(pieces for _, pieces in run):
        yield kind, run


def _guards(guards: Iterable[Guard]) -> list[str]:
    found = list(guards)
    if not found:
        return []
    lines = ["-- Stop unless the database is as the migration left it."]
    tests = []
    for guard in found:
        message = literal(f"not the state that this reverse was written for: {guard.reason}")
        tests += [
            f"  IF NOT coalesce(({guard.condition}), false) THEN",
            f"    RAISE EXCEPTION USING MESSAGE = {message};",
            "  END IF;",
        ]
    return [*lines, _do(tests), ""]


def _body(reversal: Reversal, pieces: list[Piece]) -> Iterator[str]:
    statement = reversal.statement
    text = statement.sql.splitlines() or [""]
    shown = text[:_QUOTED_LINES]
    yield f"-- {statement.index}. {_line(shown[0])}"
    yield from (f"--    {_line(line)}" for line in shown[1:])
    if len(text) > len(shown):
        yield f"--    ... ({len(text) - len(shown)} more lines)"
    for loss in reversal.losses:
        yield f"-- Loss: {_line(describe(statement, loss).partition(': ')[2])}"
    if not pieces:
        yield "-- Nothing to run."
        return
    if reversal.pieces and pieces[0] is reversal.pieces[0]:
        yield from map(_check, reversal.checks)
    yield from (f"{piece.sql};" for piece in pieces)


def _check(check: Check) -> str:
    lines = [f"  IF EXISTS ({check.query}) THEN", f"    RAISE EXCEPTION USING MESSAGE = {literal(check.reason)};", "  END IF;"]
    return "-- Check: this query must return nothing.\n" + _do(lines)


def _do(lines: list[str]) -> str:
    body = "\n".join(["BEGIN", *lines, "END"])
    tag = "$naap$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"DO {tag}\n{body}\n{tag};"


def _line(text: str) -> str:
    """Text as part of one comment line, whatever is in it."""
    return " ".join(text.splitlines()).replace("\r", " ").replace("\0", " ")


# --- reading -------------------------------------------------------------------------------------------------------


def segments(text: str) -> list[Segment]:
    """The parts of a down.sql in the order in which they run."""
    parts: list[tuple[bool, list[str]]] = [(True, [])]
    for line in text.splitlines():
        if line.rstrip() in (NO_TRANSACTION, TRANSACTION):
            parts.append((line.rstrip() == TRANSACTION, []))
        elif parts[-1][0] and line.rstrip() in ("BEGIN;", "COMMIT;"):
            continue
        else:
            parts[-1][1].append(line)
    return [Segment(transactional, sql) for transactional, lines in parts if _says_something(sql := "\n".join(lines))]


def _says_something(sql: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("--") for line in sql.splitlines())


def schema_of(text: str) -> str | None:
    """The schema that unqualified names meant when it was written; None in one that has nothing to run."""
    found = _SEARCH_PATH.search(text)
    return found[1].replace('""', '"') if found else None


def status_of(text: str) -> tuple[str, str] | None:
    """(status, sha256 of the forward file) that a down.sql says of itself, None when it is not one of ours."""
    for line in text.splitlines()[:5]:
        if line.startswith(_MARK):
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            return words.get("status", ""), words.get("sha256", "")
    return None
