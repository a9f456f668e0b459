"""Bring back what was parked, once its migration is applied again: in the migration's own transaction, or in one soon after.

A row or value is brought back where the current one still is what the migration gave it. What somebody has written since stays,
a row whose parent is gone is left, and so is what the tables do not take any more: all of that is listed, and stays parked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg

from naap_ops.reverse.images import parked
from naap_ops.reverse.images.parked import Parked
from naap_ops.reverse.images.parking import settings, stored
from naap_ops.reverse.images.parks import NULL, ParkedColumn
from naap_ops.reverse.images.taking import differ
from naap_ops.reverse.images.targets import Foreign, Target, groups, target_of
from naap_ops.reverse.render import literal, quoted

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.reverse.script import Script

_MOST: Final = 1000  # of what is left is told by its key
# The transaction that wrote a row that we see is ours, or one within it, if it still runs.
_OWN: Final = (
    "pg_catalog.pg_xact_status(greatest(3, pg_catalog.pg_current_xact_id()::pg_catalog.text::bigint - pg_catalog.age(t.xmin))"
    "::pg_catalog.text::pg_catalog.xid8) = 'in progress'"
)
INSERT, UPDATE, SAME = "insert", "update", "same"
_BACK: Final = (INSERT, UPDATE, SAME)
CHANGED, GONE, ORPHAN, UNFIT = "written since", "its row is gone", "what it refers to is gone", "something else is in its place"


@dataclass
class Back:
    """What came back: ``rows`` by table. ``left``: what did not, ``table, key, columns, reason``; the first thousand of
    ``leaving``, all of which stays parked."""

    rows: dict[str, int] = field(default_factory=dict)
    left: list[dict[str, Any]] = field(default_factory=list)
    leaving: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "left": self.left, "leaving": self.leaving}

    def add(self, other: Back) -> None:
        """Both together."""
        for table, rows in other.rows.items():
            self.rows[table] = self.rows.get(table, 0) + rows
        self.left += other.left[: max(0, _MOST - len(self.left))]
        self.leaving += other.leaving


def apart(script: Script) -> bool:
    """Whether it has to be committed first: a label that an enum gets cannot be used in the transaction that adds it."""
    return any(each.node.DESCRIPTOR.name == "AlterEnumStmt" for each in script.statements)


def bring_back(connection: Connection, migration: str, schema: str, *, fresh: bool) -> Back:
    """Bring back what is parked of a migration in a schema, in the transaction that is open.

    ``fresh``: the migration ran in this very transaction, so that nobody can have written since. What cannot come back is
    no error; raises psycopg.Error only where the session is lost.
    """
    found = parked.of(parked.found(connection), migration, schema)
    back = Back()
    if found:
        with settings(connection):
            for batch in _batches(found):
                _Work(connection, fresh, back).all(batch)
    return back


def _batches(found: Sequence[Parked]) -> Iterator[list[Parked]]:
    """The oldest first; of each table one of a kind at a time, so that what was parked last is what stands in the end."""
    waiting = list(found)
    while waiting:
        batch: dict[tuple[object, ...], Parked] = {}
        for each in waiting:
            batch.setdefault((each.relation, *each.park.part), each)
        yield list(batch.values())
        waiting = [each for each in waiting if each not in batch.values()]


@dataclass
class _Work:
    connection: Connection
    fresh: bool
    back: Back
    targets: dict[str, Target] = field(default_factory=dict)
    """By the table that holds what was parked."""

    def all(self, batch: Sequence[Parked]) -> None:
        for each in batch:
            self._ready(each)
        self._without_orphans()
        for group in groups(list(self.targets.values())):
            self._tried(group, partial(self._put, group))
        for target in self.targets.values():
            self._told(target)

    # --- what can be brought back -------------------------------------------------------------------------------------

    def _ready(self, each: Parked) -> None:
        target = target_of(self.connection, each)
        if isinstance(target, str):
            self._leave(each, target)
            return

        def plan() -> None:
            if not self.fresh:
                self._do(f"LOCK TABLE {target.name} IN SHARE ROW EXCLUSIVE MODE")
            self._do(f"CREATE TEMPORARY TABLE {target.plan} ON COMMIT DROP AS {self._planned(target)}")
            self._do(f"ANALYZE {target.plan}")

        if self._tried([target], plan):
            self.targets[each.table] = target

    def _planned(self, target: Target) -> str:
        """By row of what is parked: what is to be done with it."""
        park = target.parked.park
        if park.whole and not park.key:
            return f"SELECT ctid AS at, '{INSERT}' AS what FROM {target.parked.name}" if park.some else self._by_content(target)
        on = " AND ".join(f"{stored(column)} = i.k{at}" for at, column in enumerate(park.key, 1))
        differing = [differ(stored(column), f"i.p{at}", column.equal) for at, column in target.written()]
        changed = f"({' OR '.join(differing)})" if differing else "false"
        missing = f"'{INSERT if park.whole else GONE}'"
        other = UNFIT if park.whole and park.some and not park.put else CHANGED
        return (
            f"SELECT i.ctid AS at, CASE WHEN t.ctid IS NULL THEN {missing} WHEN NOT {changed} THEN '{SAME}' "
            f"WHEN {self._untouched(target)} THEN '{UPDATE}' ELSE '{other}' END AS what "
            f"FROM {target.parked.name} i LEFT JOIN {target.name} t ON {on}"
        )

    def _by_content(self, target: Target) -> str:
        """Without a key: each as often as it is missing."""
        columns = list(target.written())
        theirs = ", ".join(f"{stored(column)}::pg_catalog.text" for _, column in columns)
        ours = ", ".join(f"p{at}::pg_catalog.text" for at, _ in columns)
        number = "row_number() OVER (PARTITION BY content) AS nth"
        return (
            f"SELECT i.at, CASE WHEN t.content IS NULL THEN '{INSERT}' ELSE '{SAME}' END AS what FROM "
            f"(SELECT at, content, {number} FROM (SELECT ctid AS at, (ROW({ours}))::pg_catalog.text AS content "
            f"FROM {target.parked.name}) c) i LEFT JOIN (SELECT content, {number} FROM "
            f"(SELECT (ROW({theirs}))::pg_catalog.text AS content FROM {target.name} t) c) t USING (content, nth)"
        )

    def _untouched(self, target: Target) -> str:
        """SQL: nobody has written into the row since the migration; or not into these columns."""
        park = target.parked.park
        if park.put:  # only what the migration gave just now: its INSERT of some other transaction is not known
            return _OWN if self.fresh else "false"
        if park.some:  # the table was there all the time
            given = [_is_given(column, f"i.p{at}") for at, column in target.written()]
            return "false" if park.whole else " AND ".join(given)
        if self.fresh:
            return "true"
        first = next(iter(column for _, column in target.written()), None)
        if first is None:
            return "true"
        since = (
            f"(SELECT pg_catalog.age(a.xmin) FROM pg_catalog.pg_attribute a WHERE a.attrelid = {target.oid} "
            f"AND a.attname = {literal(first.name)})"
        )
        given = [_is_given(column, f"i.p{at}") for at, column in target.written()]
        return f"(pg_catalog.age(t.xmin) >= {since} OR ({' AND '.join(given)}))"

    def _without_orphans(self) -> None:
        """Rows that refer to what is neither there nor comes along are left, and what refers to them in turn."""
        found = True
        while found:
            found = False
            for target in list(self.targets.values()):
                for key in target.foreign:
                    query = self._orphans(target, key)
                    if query and self._tried([target], partial(self._do, query)):
                        found = found or self.rowcount > 0

    def _orphans(self, target: Target, key: Foreign) -> str:
        places = {column.name: (at, column) for at, column in target.written()}
        if not any(name in places for name in key.columns):
            return ""
        joined = not target.parked.park.whole
        values = []
        for name in key.columns:
            at, column = places.get(name, (0, None))
            values.append(target.value(at, column) if column is not None else f"t.{quoted(name)}")
        parent = " AND ".join(f"r.{quoted(name)} = {value}" for name, value in zip(key.referenced, values, strict=True))
        there = f"EXISTS (SELECT FROM {key.relation} r WHERE {parent})"
        coming = self._coming(key, values)
        join = f"JOIN {target.name} t ON {target.join}" if joined else ""
        return (
            f"UPDATE {target.plan} SET what = '{ORPHAN}' FROM (SELECT w.at FROM {target.plan} w "
            f"JOIN {target.parked.name} i ON i.ctid = w.at {join} WHERE w.what IN ('{INSERT}', '{UPDATE}') "
            f"AND {' AND '.join(f'({value}) IS NOT NULL' for value in values)} AND NOT ({there}{coming})) o "
            f"WHERE o.at = {target.plan}.at"
        )

    def _coming(self, key: Foreign, values: Sequence[str]) -> str:
        """SQL: the row that is referred to is itself brought back."""
        parents = [each for each in self.targets.values() if each.oid == key.referenced_oid]
        return "".join(_among(parent, key, values) for parent in parents)

    # --- bringing it back ---------------------------------------------------------------------------------------------

    def _put(self, group: Sequence[Target]) -> None:
        """Tables that refer to one another together: foreign keys are looked at when all of it is there."""
        self._do("SET CONSTRAINTS ALL IMMEDIATE")  # what is still to be checked would stand in the way of ALTER TABLE
        for target in group:
            for text in target.off():
                self._do(text)
        for several in _rounds(group):
            writes = [text for target in several for text in target.writes()]
            if len(several) == 1:
                for text in writes:
                    self._do(text)
            else:
                parts = ", ".join(f"part{at} AS ({text} RETURNING 1)" for at, text in enumerate(writes))
                total = " + ".join(f"(SELECT count(*) FROM part{at})" for at, _ in enumerate(writes))
                self._do(f"WITH {parts} SELECT {total}")
        self._do("SET CONSTRAINTS ALL IMMEDIATE")
        for target in group:
            for text in target.on():
                self._do(text)
            self._do(target.missed(UNFIT))
            for text in target.carried_on():
                self._do(text)

    def _told(self, target: Target) -> None:
        """What came back is parked no longer; the rest is listed."""
        each = target.parked
        listed = ", ".join(f"i.k{at}::pg_catalog.text" for at, _ in enumerate(each.park.key, 1)) or "NULL"
        query = (
            f"SELECT concat_ws(', ', {listed}), w.what FROM {target.plan} w JOIN {each.name} i ON i.ctid = w.at "
            f"WHERE w.what <> ALL (ARRAY{list(_BACK)}) ORDER BY 1 LIMIT {_MOST}"
        )
        columns = [] if each.park.whole else [column.name for column in each.park.columns]
        rows = self.connection.execute(query.encode()).fetchall()
        left = [{"table": each.relation, "key": key, "columns": columns, "reason": what} for key, what in rows]
        self._do(f"DELETE FROM {each.name} i USING {target.plan} w WHERE w.at = i.ctid AND w.what = ANY (ARRAY{list(_BACK)})")
        came = {each.relation: self.rowcount} if self.rowcount else {}
        self._do(f"DROP TABLE {target.plan}")
        self.back.add(Back(came, left, parked.left(self.connection, each)))

    def _leave(self, each: Parked, reason: str) -> None:
        columns = [] if each.park.whole else [column.name for column in each.park.columns]
        entry = {"table": each.relation, "key": "", "columns": columns, "reason": reason}
        self.back.add(Back({}, [entry], each.rows))

    # --- statements ---------------------------------------------------------------------------------------------------

    def _tried(self, which: Sequence[Target], act: Callable[[], None]) -> bool:
        """Whether it worked. Else nothing of it is left, and what was parked of these tables stays so."""
        try:
            with self.connection.transaction():
                act()
        except psycopg.Error as error:
            if self.connection.broken:
                raise
            for target in which:
                self.targets.pop(target.parked.table, None)
                self._leave(target.parked, str(error.diag.message_primary or error))
            return False
        return True

    def _do(self, text: str) -> None:
        self.rowcount = self.connection.execute(text.encode()).rowcount

    rowcount: int = 0


def _rounds(group: Sequence[Target]) -> list[list[Target]]:
    """What can be written in one statement: it would change a row once only, so values of other columns come after."""
    rounds: list[list[Target]] = []
    for target in sorted(group, key=lambda each: not each.parked.park.some):
        of_values = [
            several for several in rounds if any(each.oid == target.oid and not each.parked.park.whole for each in several)
        ]
        place = 0 if target.parked.park.whole else len(of_values)
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(target)
    return rounds


def _among(parent: Target, key: Foreign, values: Sequence[str]) -> str:
    places = {column.name: (at, column) for at, column in parent.written()}
    if not all(name in places for name in key.referenced):
        return ""
    same = " AND ".join(
        f"{parent.value(*places[name], of='j')} = {value}" for name, value in zip(key.referenced, values, strict=True)
    )
    return (
        f" OR EXISTS (SELECT FROM {parent.parked.name} j JOIN {parent.plan} v ON v.at = j.ctid "
        f"WHERE v.what IN ('{INSERT}', '{UPDATE}') AND {same})"
    )


def _is_given(column: ParkedColumn, value: str) -> str:
    """SQL: the current value is the one that the migration gives by itself, as far as that is known, or the parked one."""
    same = f"NOT ({differ(stored(column), value, column.equal)})"
    if column.given is None:
        return same
    if column.given == NULL:
        return f"({same} OR t.{quoted(column.name)} IS NOT DISTINCT FROM NULL)"
    return f"({same} OR NOT ({differ(stored(column), column.given, column.equal)}))"
