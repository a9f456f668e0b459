"""A migration that failed half-way: how far it came, and the reverse of just that.

Its history is replayed on a shadow, then the migration itself, a statement at a time; the live catalog tells at which of
these states it stands (:mod:`naap_ops.reverse.progress`). The reverse is made and proved of the statements that took effect, as
if they were the whole migration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from naap_ops import reverses
from naap_ops.app import App
from naap_ops.errors import ForwardFailed, MigrationUnreadable, OpsError, ProofFailed, ReverseRefused
from naap_ops.histories import Histories, History
from naap_ops.postgres.session import connect
from naap_ops.prisma.migrations import Migration as Folder
from naap_ops.reverse import document, refusals, scope
from naap_ops.reverse.files import Migration
from naap_ops.reverse.make import Reverse, make
from naap_ops.reverse.progress import Progress, progress
from naap_ops.reverse.replay import states
from naap_ops.reverse.script import Script, parse
from naap_ops.reverses import Start, Wanted
from naap_ops.sights import sight
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.prisma.tracking import Books

# What Prisma's engine writes into the row's log: the script's lines about the place, numbered, that of the error last.
_POSITION: Final = re.compile(r"Position:\n((?:\s*(?:\x1b\[[0-9;]*m)*\s*\d+.*(?:\n|\Z))+)")
_CODE: Final = re.compile(r"Database error code:\s*(\w{5})")
_NUMBER: Final = re.compile(r"^\s*(\d+)", re.MULTILINE)
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Halfway:
    """``progress`` is None where that cannot be told, for the ``reason``."""

    migration: str
    schema: str
    progress: Progress | None = None
    reason: str = ""
    history: History | None = None

    def lines(self) -> list[str]:
        """For people."""
        if self.progress is None:
            return [f"how far {self.migration} came in {self.schema} cannot be told: {self.reason}"]
        first, *more = self.progress.lines()
        return [f"{self.migration} in {self.schema}: {first}", *(f"  {line}" for line in more)]


@dataclass(frozen=True)
class Half:
    """The reverse of what took effect: the first ``upto`` statements. ``text`` as a ``down.sql``, ``losses`` as ``down.json``
    has them."""

    text: str
    upto: int
    losses: tuple[dict[str, Any], ...] = ()


def line_of(logs: str) -> int | None:
    """The line of the script (from 1) at which a row's log says that it failed."""
    block = _POSITION.search(_COLOURS.sub("", logs))
    return int(_NUMBER.findall(block[1])[-1]) if block else None


def statement_of(script: Script, line: int | None) -> int | None:
    """The statement (from 1) that begins on that line or before it."""
    before = [each for each in script.statements if line is not None and each.line <= line]
    return len(before) or None


def look(app: App, database: str | None, books: Books, name: str, *, failed: int | None = None) -> Halfway:
    """How far ``name`` came in the books' schema. ``failed``: the statement that failed, where somebody knows it; else the
    row's log is asked. What keeps it from being told is a result, not an error."""
    try:
        return _looked(app, database, books, name, failed)
    except (OpsError, MigrationUnreadable) as error:
        return Halfway(name, books.schema, reason=error.text)


def _looked(app: App, database: str | None, books: Books, name: str, failed: int | None) -> Halfway:
    schema = books.schema
    histories = Histories(app)
    history, migration = histories.of(books, until=name), histories.script_of(name)
    problem = history.why_unknown or _unusable(migration, books, name)
    if problem:
        return Halfway(name, schema, reason=problem, history=history)
    assert migration is not None
    script = migration.script()
    outside = refusals.refusals(script)
    if outside:
        reason = f"statement {outside[0].statement.index} must not run on a shadow: {outside[0].reason}"
        return Halfway(name, schema, reason=reason, history=history)
    logs = next((row.logs or "" for row in reversed(books.of(name)) if row.live and row.finished is None), "")
    failed = statement_of(script, line_of(logs)) if failed is None else failed
    wanted = Wanted(database=database, schema=schema, state="live")
    there = reverses.live(app, wanted)
    assert there is not None
    with reverses.opened(app, wanted, there, _start(history)) as ground, connect(there.target.info) as connection:
        found, stopped = states(ground.shadow.connection, script, ground.shadow.catalog)
        if stopped is not None:
            failed = _agreed(stopped, failed, logs)
        only = scope.schemas(found[0], schema) | scope.schemas(found[-1], schema)
        seen = sight(connection, schema, only, beside=ground.place.kind == "beside")
        agreed = [scope.agreed(seen.as_expected(each), seen.live, {schema, "public"})[0] for each in _once_each(found)]
        each_of = dict(zip(map(id, _once_each(found)), agreed, strict=True))
        told = progress(script, [each_of[id(each)] for each in found], seen.live, failed=failed)
    return Halfway(name, schema, told, history=history)


def _agreed(stopped: ForwardFailed, failed: int | None, logs: str) -> int:
    """The statement that does not run, on the shadow as in the live database. Raises ReverseRefused where these do not agree:
    then the live schema is not what its history says, and nothing is known of what came after."""
    at = int(stopped.fields["statement"])
    plain = _COLOURS.sub("", logs)
    code = _CODE.search(plain)  # engines without a driver of their own write the server's message alone
    same = code[1] == stopped.fields["sqlstate"] if code is not None else stopped.fields["reason"] in plain
    if failed == at or (failed is None and same):
        return at
    raise ReverseRefused(reason=f"on a shadow of its history it stops at another place than in the database: {stopped.text}")


def _once_each(found: Sequence[Any]) -> list[Any]:
    """Statements that change no catalog share one."""
    return list({id(each): each for each in found}.values())


def _start(history: History) -> Start:
    return Start("history", f"the {count_of(len(history.migrations), 'migration')} applied before it", history.migrations)


def _unusable(migration: Migration | None, books: Books, name: str) -> str:
    """Why the script is not that of the attempt, '' when it is."""
    if migration is None:
        return "its folder is gone"
    folder = Folder(name, migration.path.parent, migration.script().sha256)
    rows = [row for row in books.of(name) if row.live]
    if any(not folder.matches(row.checksum) for row in rows):
        return "migration.sql was edited since it failed"
    return ""


# --- the reverse of that ----------------------------------------------------------------------------------------------


def reverse(app: App, database: str | None, half: Halfway) -> Half:
    """Make and prove the reverse of what took effect. Raises ReverseRefused, ProofFailed, and what a shadow raises."""
    told = half.progress
    if told is None or told.upto is None or half.history is None:
        raise ReverseRefused(reason="; ".join(half.lines()))
    if told.upto == 0:
        return Half(_tidied(told, _NOTHING), 0)
    script = prefix(told.script, told.upto)
    there = reverses.live(app, Wanted(database=database, schema=half.schema, state="live"))
    wanted = Wanted(database=database, schema=half.schema)
    with reverses.opened(app, wanted, there, _start(half.history)) as ground:
        made = make(ground.shadow, script, reverses.sql(app, half.schema), state=ground.state)
    if made.status == "refused" and made.proof is None:
        raise ReverseRefused(reason=f"what of {half.migration} took effect cannot be reversed: {made.reason}")
    if made.status != "proved":
        raise ProofFailed(reason=f"the reverse of what of {half.migration} took effect is not proved: {made.reason}")
    doubtful = _needing(made, told.doubt)
    if doubtful:
        raise ReverseRefused(
            reason=f"neither the catalog nor a log says whether statement {doubtful[0]} of {half.migration} ran,"
            " and its reverse would change rows"
        )
    return Half(_tidied(told, made.text), told.upto, tuple(made.losses))


_NOTHING: Final = "-- Nothing of it took effect: the schema is as it was before.\n"


def prefix(script: Script, upto: int) -> Script:
    """The first ``upto`` statements (0: none) as a script of their own."""
    data = script.text.encode()[: script.statements[upto - 1].end] + b";\n" if upto else b""
    return parse(data, name=script.name)


def _needing(made: Reverse, doubt: Sequence[int]) -> list[int]:
    """Statements in doubt whose reverse does something."""
    reversals = made.plan.reversals if made.plan else ()
    return [each.statement.index for each in reversals if each.pieces and each.statement.index in doubt]


def _tidied(told: Progress, text: str) -> str:
    """The text behind the dropping of the invalid indexes, which cannot be in a transaction."""
    if not told.invalid:
        return text
    drops = [f"DROP INDEX CONCURRENTLY IF EXISTS {name};" for name in told.invalid]
    return "\n".join([document.NO_TRANSACTION, *drops, document.TRANSACTION, text])
