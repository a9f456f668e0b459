"""Writes what was decided, in the transaction in which it was decided: what changes meanwhile, the server refuses.

Deletes that no live row waits for; inserts and updates, parents first; the other deletes, children first. Rows whose unique
value another row has still to give up come in a later turn; those that would wait for one another for ever are a ring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from naap_ops.errors import Refused
from naap_ops.salvage import holding, images, order
from naap_ops.salvage.holding import due
from naap_ops.salvage.model import DELETE, INSERT, UPDATE, ForeignKey, Name, Pair
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

BATCH: Final = 10_000
_STATES: Final = {"O": "enable trigger", "A": "enable always trigger"}
RING: Final = "its unique value is held by a row that waits for this one"


class Ring(Exception):
    """Rows that wait for one another: staged numbers by table."""

    def __init__(self, rows: dict[Name, list[int]]) -> None:
        super().__init__(rows)
        self.rows = rows


@dataclass(frozen=True)
class Hand:
    """``told`` hears how many rows each statement wrote."""

    live: Connection
    pairs: Mapping[Name, Pair]
    keys: Sequence[ForeignKey]
    told: Callable[[int], None]

    def write(self) -> None:
        """All of it. Raises Ring, Refused; psycopg's errors where somebody else was quicker."""
        groups = order.groups(self.pairs, self.keys)
        self._mark_late()
        with self._quiet():
            self._delete(groups, late=False)
            for group in groups:
                self._turns(group)
            self._delete(groups, late=True)

    # --- deletes ----------------------------------------------------------------------------------------------------

    def _mark_late(self) -> None:
        """Rows to which live ones refer that are not deleted early themselves: they change first."""
        within = [key for key in self.keys if key.child in self.pairs and key.parent in self.pairs]
        more = True
        while more:
            more = any(list(map(self._late, within)))

    def _late(self, key: ForeignKey) -> bool:
        child, parent = self.pairs[key.child], self.pairs[key.parent]
        referred = holding.staged(parent, key.referred)
        if referred is None:
            return False
        matched = holding.matched(key, referred, "x", holding.plain(key.columns), "c")
        early = sql.SQL("exists (select from {} as y where {} and {} and not y.late)").format(
            child.staging, child.same_key("c", "y", live=True), due("y", DELETE)
        )
        statement = sql.SQL(
            "update {} as x set late = true where {} and not x.late and exists (select from {} as c where {} and not {})"
        )
        return (
            self.live.execute(statement.format(parent.staging, due("x", DELETE), child.live.rows_of, matched, early)).rowcount
            > 0
        )

    def _delete(self, groups: Sequence[list[Name]], *, late: bool) -> None:
        for group in reversed(groups):
            self._carry_out(group, _delete, (DELETE,), sql.SQL("x.late" if late else "not x.late"))

    # --- inserts and updates ----------------------------------------------------------------------------------------

    def _turns(self, group: list[Name]) -> None:
        waiting = self._mark_waiting(group)
        self._insert_and_update(group)
        while waiting:
            before, waiting = waiting, self._mark_waiting(group, again=True)
            if waiting == before:
                self._mark_waiting(group, again=True, followers=False)
                raise Ring({name: rows for name in group if (rows := self._numbers(self.pairs[name]))})
            self._insert_and_update(group)

    def _insert_and_update(self, group: list[Name]) -> None:
        """Rows whose turn it is, which then are done."""
        ready = sql.SQL("not x.wait and not x.late")
        self._carry_out(group, _insert, (INSERT,), ready, _update)
        for name in group:
            done = sql.SQL("update {} as x set late = true where {} and {}")
            self.live.execute(done.format(self.pairs[name].staging, due("x", INSERT, UPDATE), ready))

    def _mark_waiting(self, group: list[Name], *, again: bool = False, followers: bool = True) -> int:
        """Rows not done whose unique value a live row has now, and the ``followers`` that refer to such rows; their number."""
        found = 0
        for name in group:
            pair = self.pairs[name]
            if again:
                self.live.execute(sql.SQL("update {} set wait = false where wait").format(pair.staging))
            for unique in pair.live.uniques:
                if unique.name == pair.key.index:
                    continue
                mine, others = images.values(pair, unique), images.live_values(pair, unique)
                met = sql.SQL("{} and {}").format(images.collide(unique, "s", "t"), images.other_key(pair, "s", "t"))
                open_ones = sql.SQL("{} and not x.late").format(due("x", INSERT, UPDATE))
                query = sql.SQL(
                    "update {p} as x set wait = true where {open} and not x.wait and x.n in (select s.n from {mine} as s"
                    " join {others} as t on {met} where s.n in (select x.n from {p} as x where {open}))"
                ).format(p=pair.staging, open=open_ones, mine=mine, others=others, met=met)
                found += self.live.execute(query).rowcount
        within = [key for key in self.keys if key.child in group and key.parent in group]
        more = found if followers else 0
        while more:
            more = sum(map(self._follow, within))
            found += more
        return found

    def _follow(self, key: ForeignKey) -> int:
        """Rows wait whose parent is not there yet and waits itself."""
        child, parent = self.pairs[key.child], self.pairs[key.parent]
        own, referred = holding.staged(child, key.columns), holding.staged(parent, key.referred)
        if own is None or referred is None:
            return 0
        statement = sql.SQL(
            "update {child} as x set wait = true where {due} and not x.late and not x.wait"
            " and exists (select from {parent} as y where {waits} and y.wait and {same})"
            " and not exists (select from {rows} as p where {there})"
        )
        return self.live.execute(statement.format(
            child=child.staging, parent=parent.staging, rows=parent.live.rows_of,
            due=due("x", INSERT, UPDATE), waits=due("y", INSERT, UPDATE),
            same=holding.matched(key, referred, "y", own, "x"),
            there=holding.matched(key, holding.plain(key.referred), "p", own, "x"),
        )).rowcount  # fmt: skip

    def _numbers(self, pair: Pair) -> list[int]:
        query = sql.SQL("select x.n from {} as x where {} and x.wait").format(pair.staging, due("x", INSERT, UPDATE))
        return [n for (n,) in self.live.execute(query).fetchall()]

    # --- statements -------------------------------------------------------------------------------------------------

    def _carry_out(
        self,
        group: list[Name],
        first: Callable[[Pair, sql.Composable], sql.Composable],
        what: tuple[str, ...],
        ready: sql.Composable,
        second: Callable[[Pair, sql.Composable], sql.Composable] | None = None,
    ) -> None:
        """One statement for tables that hang together, so that the server checks at its end; else one for each batch."""
        together = order.refers_to_itself(group, self.keys)
        works = [(first, what)] if second is None else [(first, what), (second, (UPDATE,))]
        if together:
            self._run([
                (self.pairs[name], work, sql.SQL("{} and {}").format(due("x", *kind), ready))
                for name in group for work, kind in works
            ])  # fmt: skip
            return
        pair = self.pairs[group[0]]
        for work, kind in works:
            condition = sql.SQL("{} and {}").format(due("x", *kind), ready)
            for low, high in self._batches(pair, condition):
                self._run([(pair, work, sql.SQL("{} and x.n between {} and {}").format(condition, low, high))])

    def _batches(self, pair: Pair, condition: sql.Composable) -> list[tuple[int, int]]:
        query = sql.SQL(
            "select min(n), max(n) from (select x.n, (row_number() over (order by x.n) - 1) / {} as batch"
            " from {} as x where {}) b group by batch order by batch"
        ).format(BATCH, pair.staging, condition)
        return self.live.execute(query).fetchall()

    def _run(self, parts: Sequence[tuple[Pair, Callable[[Pair, sql.Composable], sql.Composable], sql.Composable]]) -> None:
        """Every row that was decided about must be hit."""
        wanted = sql.SQL(", ").join(
            sql.SQL("(select count(*) from {} as x where {})").format(pair.staging, some) for pair, _, some in parts
        )
        expected = self.live.execute(sql.SQL("select {}").format(wanted)).fetchone()
        assert expected is not None
        chosen = [(each, rows) for each, rows in zip(parts, expected, strict=True) if rows]
        if not chosen:
            return
        bodies = sql.SQL(", ").join(
            sql.SQL("{} as ({} returning 1)").format(sql.Identifier(f"w{at}"), work(pair, some))
            for at, ((pair, work, some), _) in enumerate(chosen)
        )
        counts = sql.SQL(", ").join(
            sql.SQL("(select count(*) from {})").format(sql.Identifier(f"w{at}")) for at in range(len(chosen))
        )
        written = self.live.execute(sql.SQL("with {} select {}").format(bodies, counts)).fetchone()
        assert written is not None
        for ((pair, _, _), rows), done in zip(chosen, written, strict=True):
            if rows != done:
                hit = f"{done:,} of {count_of(rows, 'row')}"
                raise Refused(reason=f"{pair.live.qualified}: {hit} would have been written, so all of it was undone")
        self.told(sum(written))

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """User triggers are off; afterwards they are as they were."""
        triggers = [trigger for name in self.pairs if self._busy(name) for trigger in self.pairs[name].live.triggers]
        alter = sql.SQL("alter table only {} {} {}")
        for each in triggers:
            self.live.execute(alter.format(sql.Identifier(*each.table), sql.SQL("disable trigger"), sql.Identifier(each.name)))
        yield
        for each in triggers:
            self.live.execute("set constraints all immediate")  # or events wait, and the table cannot be altered
            self.live.execute(
                alter.format(sql.Identifier(*each.table), sql.SQL(_STATES[each.state]), sql.Identifier(each.name))
            )

    def _busy(self, name: Name) -> bool:
        pair = self.pairs[name]
        query = sql.SQL("select exists (select from {} as x where {})").format(pair.staging, due("x", INSERT, UPDATE, DELETE))
        return self.live.execute(query).fetchone() == (True,)


def _insert(pair: Pair, some: sql.Composable) -> sql.Composable:
    names = sql.SQL(", ").join(sql.Identifier(each.column.name) for each in pair.moved)
    values = sql.SQL(", ").join(sql.Identifier("x", each.staged) for each in pair.moved)
    return sql.SQL("insert into {} ({}) overriding system value select {} from {} as x where {}").format(
        pair.live.identifier, names, values, pair.staging, some
    )


def _update(pair: Pair, some: sql.Composable) -> sql.Composable:
    values = sql.SQL(", ").join(
        sql.SQL("{} = x.{}").format(sql.Identifier(each.column.name), sql.Identifier(each.staged)) for each in pair.written
    )
    return sql.SQL("update {} as t set {} from {} as x where {} and {}").format(
        pair.live.rows_of, values, pair.staging, pair.same_key("t", "x", live=True), some
    )


def _delete(pair: Pair, some: sql.Composable) -> sql.Composable:
    return sql.SQL("delete from {} as t using {} as x where {} and {}").format(
        pair.live.rows_of, pair.staging, pair.same_key("t", "x", live=True), some
    )
