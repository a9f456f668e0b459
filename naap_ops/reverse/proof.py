"""Prove a reverse on a shadow: forward, reverse, compare; forward again, compare; with rows in the tables that are touched.

The shadow is left as the migration leaves it, so that a whole history can be walked. What runs is the text of the file that is
written, guards and checks included.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.pq import TransactionStatus

from naap_ops.errors import ForwardFailed, ShadowSpoiled
from naap_ops.postgres.catalog.difference import differences, reordered
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.reverse import rows
from naap_ops.reverse.document import Segment, segments
from naap_ops.reverse.explained import explain
from naap_ops.reverse.fired import fired
from naap_ops.reverse.images import staged, taking
from naap_ops.reverse.images.model import Image
from naap_ops.reverse.model import Plan
from naap_ops.reverse.replay import Replay, replay
from naap_ops.reverse.script import Script, Statement
from naap_ops.reverse.seed.quoting import qualified
from naap_ops.reverse.seeding import seed

if TYPE_CHECKING:
    from psycopg import Connection

Name = tuple[str, str]
# SQLSTATE classes: data exception, integrity constraint, PL/pgSQL's RAISE, cancelled by the timeout below
DATA_STATES: Final = ("22", "23", "P0", "57014")
_SEEDED_TIMEOUT: Final = "10s"  # made-up rows can send a recursive query into a circle
_TOLD: Final = 5
_ACTS: Final = re.compile(r"\bON (?:DELETE|UPDATE) ")
_FOLLOWS: Final = re.compile(r"\bON DELETE (?:CASCADE|SET)\b")
_WRITE: Final = ("DELETE", "UPDATE", "TRUNCATE", "MERGE")


@dataclass(frozen=True)
class Proof:
    """``schema``: it came back exactly; ``again``: the forward ran again with the same result; ``rows``: those seeded came
    back but
    for what the losses name. ``failures`` say what did not. ``tables`` held rows; ``empty`` ones could not be given any, with
    the
    reason. ``conditions``: what stops the reverse, on purpose, when there are rows."""

    schema: bool = False
    again: bool = False
    rows: bool = False
    failures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    empty: dict[str, str] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()
    reordered: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        """All of it."""
        return self.schema and self.again and self.rows and not self.failures

    def lines(self) -> list[str]:
        """The proof in words, one line each."""
        said = [f"failed: {failure}" for failure in self.failures]
        if self.schema:
            said.append("forward and reverse: the schema is as before, object by object")
        if self.again:
            said.append("forward again: the same result")
        if self.rows and self.tables:
            said.append(f"rows in {', '.join(self.tables)}: as before, but for the losses below")
        elif not self.tables:
            said.append("no rows: it touches no table that there was before, or none could be given rows")
        said += [f"without rows in {table}: {reason}" for table, reason in self.empty.items()]
        said += [f"stops, and changes nothing, when: {condition}" for condition in self.conditions]
        said += [f"columns of {table} are in another order than before" for table in self.reordered]
        return said


@dataclass
class Shadow:
    """A scratch database on which a migration is tried. ``catalog``: its state, known without looking."""

    connection: Connection
    catalog: Catalog
    seeding: bool = True
    seeded: dict[Name, str] = field(default_factory=dict)
    empty: dict[Name, str] = field(default_factory=dict)
    image: rows.Image | None = None
    images: tuple[Image, ...] = ()
    """Taken around every run of the migration, as in the live database."""

    # --- rows ------------------------------------------------------------------------------------------------------

    def touched(self, script: Script) -> list[Name]:
        """Tables of the starting state that the migration names, and those whose rows hang on theirs."""
        there = {(row.schema, row.name): row.key for row in self.catalog.rows["table"].values() if row.relkind != "f"}
        named = {
            (schema or self.catalog.schema, name) for statement in script.statements for schema, name in statement.relations
        }
        if any(statement.opaque for statement in script.statements):
            text = script.text
            named |= {name for name in there if name[1] in text}
        if any(kind.startswith(("ALTER TYPE", "DROP TYPE")) for statement in script.statements for kind in statement.kinds):
            named |= {
                (row.schema, row.table)
                for row in self.catalog.rows["column"].values()
                if row.type_kind == "e" and row.type.strip('"') in script.text
            }
        keys = {there[name] for name in named if name in there}
        named |= self._hanging_on(keys, further=any(_changes_rows(statement) for statement in script.statements))
        for key in keys:
            named |= set(fired(self.catalog, key).tables)
        return sorted(name for name in named if name in there)

    def _hanging_on(self, keys: set[int], *, further: bool) -> set[Name]:
        """Tables with a foreign key that does something when a row of these goes, or its key changes; ``further``: and those
        that hang on them."""
        found: set[Name] = set()
        todo, seen = set(keys), set(keys)
        while todo:
            rows = [
                row
                for row in self.catalog.rows["constraint"].values()
                if row.type == "f" and row.referenced_key in todo and (_FOLLOWS if found else _ACTS).search(row.definition)
            ]
            found |= {(row.schema, row.table) for row in rows}
            todo = {row.table_key for row in rows} - seen if further else set()
            seen |= todo
        return found

    def fill(self, script: Script) -> None:
        """Rows into the tables that the migration touches."""
        tables = self.touched(script)
        self.empty, self.image = {}, None
        if not tables:
            return
        if self.seeding:
            self.empty = dict(seed(self.connection, tables).skipped)
        self.image = rows.image(self.connection, tables)

    def clear(self, tables: Iterable[Name], reason: str) -> None:
        """Take rows out again: the migration, or its reverse, does not work with them. What hangs on them goes, too."""
        there = {(row.schema, row.name) for row in self.catalog.rows["table"].values()}
        names = [name for name in tables if name in there]
        if names:
            self.connection.execute(f"truncate {', '.join(qualified(name) for name in names)} cascade".encode())
        self.empty |= dict.fromkeys(names, reason)

    # --- forward ---------------------------------------------------------------------------------------------------

    def forward(self, script: Script) -> Replay:
        """Run the migration. One that fails on rows is run again without them, if nothing of it is left."""
        while True:
            self.limit()
            self.images = taking.before(self.connection, self.images)
            try:
                done = replay(self.connection, script, self.catalog)
            except ForwardFailed as failure:
                if failure.fields["applied"] or not self._on_rows(failure.fields["sqlstate"]):
                    raise
                self._without(failure)
            else:
                self.catalog = done.after
                self.images = taking.after(self.connection, self.images)
                return done

    def limit(self) -> None:
        """No statement runs for ever on rows that were made up; on none, it takes what it takes."""
        timeout = _SEEDED_TIMEOUT if self.image is not None and self.image.tables else "0"
        self.connection.execute(f"set statement_timeout = '{timeout}'".encode())

    def _on_rows(self, sqlstate: str) -> bool:
        return self.image is not None and bool(self.image.tables) and sqlstate.startswith(DATA_STATES)

    def _without(self, failure: ForwardFailed) -> None:
        """Rows out of the table that the failure names, or out of all when that is not it."""
        image = self.image
        assert image is not None
        named = failure.fields["relation"]
        names = [named] if named in image.tables and named not in self.empty else list(image.tables)
        self.clear(names, f"the migration fails on rows there: {failure.fields['reason']}")
        left = [name for name in image.tables if name not in names]
        self.image = rows.image(self.connection, left) if left else None

    # --- reverse ---------------------------------------------------------------------------------------------------

    def prove(self, script: Script, done: Replay, before: Catalog, plan: Plan, text: str, *, strict: bool = False) -> Proof:
        """Run the reverse, compare, run the forward again, compare. The state afterwards is that after the forward.

        ``strict``: a reverse that stops on rows has failed; else they are taken out, and that it stops is a condition.
        Raises ShadowSpoiled when the shadow is in neither state and has to be made anew.
        """
        began = time.monotonic()
        attempt = _Attempt(self, script, done, before, plan, segments(text), strict)
        proof = attempt.run()
        return Proof(**{**proof.__dict__, "seconds": time.monotonic() - began})


def _changes_rows(statement: Statement) -> bool:
    return statement.opaque or statement.tag.startswith(_WRITE)


@dataclass(frozen=True)
class Failure:
    """Where a reverse stopped: SQLSTATE, the server's words, the table it named or ('', '')."""

    state: str
    reason: str
    relation: Name


@dataclass
class _Attempt:
    shadow: Shadow
    script: Script
    done: Replay
    before: Catalog
    plan: Plan
    parts: list[Segment]
    strict: bool = False
    conditions: list[str] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        return self.shadow.connection

    def run(self) -> Proof:
        failure = self._down()
        while failure is not None and self._about_rows(failure) and self._rows_out(failure):
            failure = self._down()
        if failure is not None:
            return self._failed(failure.reason)
        back = snapshot(self.connection, schema=self.before.schema)
        wrong = differences(self.before, back)
        if wrong:
            return self._failed(*(str(each) for each in wrong[:_TOLD]))
        order = tuple(f"{schema}.{name}" for schema, name in reordered(self.before, back))
        lost = self._rows()
        self._commit()
        again = self._again(back)
        return Proof(
            schema=True,
            again=not again,
            rows=not lost,
            failures=(*lost, *again),
            tables=self._tables(),
            empty=self._empty(),
            conditions=tuple(self.conditions),
            reordered=order,
        )

    def _about_rows(self, failure: Failure) -> bool:
        return not self.strict and len(self.parts) <= 1 and failure.state.startswith(DATA_STATES) and bool(self.shadow.image)

    def _rows_out(self, failure: Failure) -> bool:
        """Rows out of the table that stops the reverse, or of all that are touched. False when there are none left."""
        image = self.shadow.image
        if image is None:
            return False
        now = self._names_now(image)
        first = {name: old for old, name in now.items()}
        stopped = [first[failure.relation]] if failure.relation in first else list(image.tables)
        self.conditions.append(failure.reason)
        self.shadow.clear([now[old] for old in stopped if old in now], f"the reverse stops there on rows: {failure.reason}")
        counts = rows.image(self.connection, list(now.values())).tables
        left = {
            old: image.tables[old]
            for old, name in now.items()
            if old not in stopped and name in counts and counts[name].count == image.tables[old].count
        }
        self.shadow.image = rows.Image(left) if left else None
        return True

    def _names_now(self, image: rows.Image) -> dict[Name, Name]:
        """The tables of the image by the names that they have after the forward, those that are still there."""
        keys = {(row.schema, row.name): row.key for row in self.before.rows["table"].values()}
        after = self.done.after.rows["table"]
        return {name: (after[keys[name]].schema, after[keys[name]].name) for name in image.tables if keys.get(name) in after}

    def _down(self) -> Failure | None:
        """Run every segment; the last transaction is left open, so that a wrong result can be taken back."""
        try:
            staged.stage(self.connection, self.plan.staged)
        except psycopg.Error as error:
            return Failure("", str(error.diag.message_primary or error), ("", ""))
        for at, part in enumerate(self.parts):
            try:
                if part.transactional:
                    self.connection.execute("begin")
                    self.connection.execute(part.sql.encode())
                    if at + 1 < len(self.parts):
                        self.connection.execute("commit")
                else:
                    for statement in _statements(part.sql):
                        self.connection.execute(statement.encode())
            except psycopg.Error as error:
                self._rollback()
                if at:
                    raise ShadowSpoiled(reason=str(error)) from error
                relation = (error.diag.schema_name or "", error.diag.table_name or "")
                return Failure(error.sqlstate or "", str(error.diag.message_primary or error), relation)
        return None

    def _rows(self) -> list[str]:
        image = self.shadow.image
        if image is None:
            return []
        now = rows.image(self.connection, list(image.tables))
        explained = explain(self.plan, self.done.steps, self.before)
        return [f"rows: {each}" for each in explained.unexplained(image, now)[:_TOLD]]

    def _again(self, back: Catalog) -> list[str]:
        """The forward once more. Rows that came back otherwise than they were, as the losses say, may stop it: then without
        them."""
        self.shadow.catalog = back
        reasons: list[str] = []
        while True:
            self.shadow.limit()
            try:
                again = replay(self.connection, self.script, back, steps=False)
            except ForwardFailed as failure:
                image = self.shadow.image
                if failure.fields["applied"] or not failure.fields["sqlstate"].startswith(DATA_STATES) or image is None:
                    raise ShadowSpoiled(reason=failure.text) from failure
                reasons.append(failure.fields["reason"])
                self.shadow.clear(
                    image.tables, f"the migration does not run again on the rows that came back: {failure.fields['reason']}"
                )
                self.shadow.image = None
            else:
                self.shadow.catalog = again.after
                self.conditions += [f"forward again: {reason}" for reason in reasons]
                found = [f"forward again: {each}" for each in differences(self.done.after, again.after)[:_TOLD]]
                return found if self.plan.losses else [*found, *(f"forward again, on rows: {reason}" for reason in reasons)]

    def _failed(self, *failures: str) -> Proof:
        self._rollback()
        staged.unstage(self.connection, self.plan.staged)
        if len([part for part in self.parts if part.transactional]) != len(self.parts):
            raise ShadowSpoiled(reason=failures[0], failures=failures)
        return Proof(failures=tuple(failures), tables=self._tables(), empty=self._empty(), conditions=tuple(self.conditions))

    def _tables(self) -> tuple[str, ...]:
        return (
            tuple(".".join(name) for name in self.shadow.image.tables if name not in self.shadow.empty)
            if self.shadow.image
            else ()
        )

    def _empty(self) -> dict[str, str]:
        return {".".join(name): reason for name, reason in self.shadow.empty.items()}

    def _commit(self) -> None:
        if self.connection.info.transaction_status != TransactionStatus.IDLE:
            self.connection.execute("commit")
        self.connection.execute(f'set search_path to "{self.before.schema.replace(chr(34), chr(34) * 2)}"'.encode())

    def _rollback(self) -> None:
        if self.connection.info.transaction_status != TransactionStatus.IDLE:
            self.connection.execute("rollback")


def _statements(sql: str) -> list[str]:
    from naap_ops.reverse.script import parse

    return [statement.sql for statement in parse(sql.encode(), name="down.sql").statements]
