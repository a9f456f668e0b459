"""What the live database's constraints will hold: rows that would break one are left, again and again until none is.

Judged is the state that there will be: the live rows without those that go or change, and the staged ones. Marks are only ever
added, so that it ends. What cannot be judged so (a unique index over a column without a staged value, say) the server judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from naap_ops.salvage import images
from naap_ops.salvage.model import (
    CONFLICT,
    DELETE,
    INSERT,
    INSERTED_BOTH,
    UPDATE,
    Fate,
    ForeignKey,
    Name,
    Pair,
    Table,
    Unique,
    text,
)

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_SHOWN = 5


def due(alias: str, *what: str) -> sql.Composable:
    """A staged row that is one of these and not left."""
    wanted = sql.SQL(", ").join(map(sql.Literal, what))
    return sql.SQL("{a}.why is null and {a}.what in ({w})").format(a=sql.Identifier(alias), w=wanted)


@dataclass(frozen=True)
class Court:
    """The pairs by name, the live database's tables and foreign keys."""

    live: Connection
    pairs: Mapping[Name, Pair]
    tables: Mapping[Name, Table]
    keys: Sequence[ForeignKey]
    listed: bool = True
    """Whether conflicts are among what is left; else they are only counted."""

    def settle(self) -> None:
        """Leave what cannot be held."""
        written = {name for name, pair in self.pairs.items() if self._any(pair, INSERT, UPDATE)}
        deleted = {name for name, pair in self.pairs.items() if self._any(pair, DELETE)}
        for name in written:
            self._required(self.pairs[name])
            self._checks(self.pairs[name])
            self._bounds(self.pairs[name])
        more = True
        while more:
            left = [self._foreign(key) for key in self.keys if key.child in written]
            left += [self._uniques(self.pairs[name]) for name in written]
            left += [self._guarded(key) for key in self.keys if key.parent in deleted]
            more = any(left)

    def fates(self) -> dict[Name, Fate]:
        """The staged rows, counted; first keys of those that are left."""
        return {name: self._fate(pair) for name, pair in self.pairs.items()}

    def _any(self, pair: Pair, *what: str) -> bool:
        query = sql.SQL("select exists (select from {} as x where {})").format(pair.staging, due("x", *what))
        return self.live.execute(query).fetchone() == (True,)

    def _required(self, pair: Pair) -> None:
        for each in pair.moved:
            if each.column.required:
                reason = f"{each.column.name} is NULL, which the live table does not allow"
                self._leave(
                    pair, reason, sql.SQL("{} and x.{} is null").format(due("x", INSERT, UPDATE), sql.Identifier(each.staged))
                )

    def _checks(self, pair: Pair) -> None:
        for name, condition in pair.live.checks.items():
            if pair.old.checks.get(name) == condition:
                continue
            broken = sql.SQL('x.n in (select "salvage n" from {} where not ({})) and {}')
            self._leave(
                pair,
                f"check {name} does not hold",
                broken.format(images.image(pair), text(condition), due("x", INSERT, UPDATE)),
            )

    def _bounds(self, pair: Pair) -> None:
        """Partitions that only the old one has."""
        if pair.live.kind != "p":
            return
        anywhere = sql.SQL(" or ").join(sql.SQL("({})").format(text(bound)) for bound in pair.live.bounds or ("false",))
        homeless = sql.SQL('x.n in (select "salvage n" from {} where not coalesce({}, false)) and {}')
        where = homeless.format(images.image(pair), anywhere, due("x", INSERT, UPDATE))
        self._leave(pair, "no partition of the live table takes it", where)

    # --- foreign keys -----------------------------------------------------------------------------------------------

    def _foreign(self, key: ForeignKey) -> int:
        """Rows that would refer to nothing, or to another row than in the old database."""
        child, parent = self.pairs.get(key.child), self.pairs.get(key.parent)
        own = None if child is None else staged(child, key.columns)
        if child is None or own is None:
            return 0
        whole = sql.SQL(" and ").join(sql.SQL("x.{} is not null").format(each) for each in own)
        gone: sql.Composable = sql.SQL("")
        arriving: sql.Composable = sql.SQL("")
        another = 0
        theirs = None if parent is None else staged(parent, key.referred)
        if parent is not None and theirs is not None:
            gone = sql.SQL(" and not exists (select from {} as y where {} and {})").format(
                parent.staging, parent.same_key("p", "y", live=True), due("y", DELETE, UPDATE)
            )
            same = matched(key, theirs, "y", own, "x")
            arriving = sql.SQL(" and not exists (select from {} as y where {} and {})").format(
                parent.staging, due("y", INSERT, UPDATE), same
            )
            other = sql.SQL("{} and {} and exists (select from {} as y where y.what = {} and y.why = {} and {})")
            reason = f"refers to a row of {'.'.join(key.parent)} that is another one in the live database"
            another = self._leave(
                child,
                reason,
                other.format(
                    due("x", INSERT, UPDATE), whole, parent.staging, sql.Literal(CONFLICT), sql.Literal(INSERTED_BOTH), same
                ),
            )
        missing = sql.SQL("{} and {} and not exists (select from {} as p where {}{}){}").format(
            due("x", INSERT, UPDATE),
            whole,
            self._rows(key.parent),
            matched(key, plain(key.referred), "p", own, "x"),
            gone,
            arriving,
        )
        return another + self._leave(
            child, f"refers to a row of {'.'.join(key.parent)} that is not in the live database", missing
        )

    def _guarded(self, key: ForeignKey) -> int:
        """Rows to which others refer that stay are not deleted."""
        child, parent = self.pairs.get(key.child), self.pairs.get(key.parent)
        referred = None if parent is None else staged(parent, key.referred)
        if parent is None or referred is None:
            return 0
        stays: sql.Composable = sql.SQL("")
        arriving: sql.Composable = sql.SQL("")
        own = None if child is None else staged(child, key.columns)
        if child is not None:
            stays = sql.SQL(" and not exists (select from {} as y where {} and {})").format(
                child.staging, child.same_key("c", "y", live=True), due("y", DELETE, UPDATE)
            )
        if child is not None and own is not None:
            arriving = sql.SQL(" or exists (select from {} as y where {} and {})").format(
                child.staging, due("y", INSERT, UPDATE), matched(key, referred, "x", own, "y")
            )
        used = sql.SQL("{} and (exists (select from {} as c where {}{}){})").format(
            due("x", DELETE), self._rows(key.child), matched(key, referred, "x", plain(key.columns), "c"), stays, arriving
        )
        return self._leave(parent, f"rows of {'.'.join(key.child)} that stay refer to it", used)

    # --- unique and exclusion constraints ---------------------------------------------------------------------------

    def _uniques(self, pair: Pair) -> int:
        return sum(self._unique(pair, each) for each in pair.live.uniques if each.name != pair.key.index)

    def _unique(self, pair: Pair, unique: Unique) -> int:
        mine, others = images.values(pair, unique), images.live_values(pair, unique)
        leaves = sql.SQL("not exists (select from {} as y where {} and {})").format(
            pair.staging, pair.same_key("t", "y", live=True), due("y", DELETE, UPDATE)
        )
        taken = sql.SQL(
            "x.n in (select s.n from {} as s join {} as t on {} where s.n in (select x.n from {} as x where {}) and {})"
        )
        reason = f"{unique.name}: another row has that value"
        left = self._leave(
            pair,
            reason,
            taken.format(mine, others, images.collide(unique, "s", "t"), pair.staging, due("x", INSERT, UPDATE), leaves),
        )
        old = any(other == unique for other in pair.old.uniques)
        if old:  # no two rows of the old collide
            return left
        twice = sql.SQL(
            "x.n in (select s.n from {m} as s join {m} as t on {c} and s.n > t.n"
            " join {p} as x on x.n = s.n and {w} join {p} as y on y.n = t.n and {v})"
        ).format(
            m=mine, c=images.collide(unique, "s", "t"), p=pair.staging, w=due("x", INSERT, UPDATE), v=due("y", INSERT, UPDATE)
        )
        return left + self._leave(pair, reason, twice)

    # --- marks ------------------------------------------------------------------------------------------------------

    def _rows(self, name: Name) -> sql.Composable:
        """For FROM: a foreign key is not about tables that inherit."""
        table = self.tables.get(name)
        return table.rows_of if table is not None else sql.Identifier(*name)

    def _leave(self, pair: Pair, why: str, where: sql.Composable) -> int:
        statement = sql.SQL("update {} as x set why = {} where {}").format(pair.staging, sql.Literal(why), where)
        return self.live.execute(statement).rowcount

    def _fate(self, pair: Pair) -> Fate:
        fate = Fate()
        query = sql.SQL("select what::text, why, clash, count(*) from {} group by 1, 2, 3 order by 2").format(pair.staging)
        for what, why, clash, rows in self.live.execute(query).fetchall():
            fate.conflicts += rows if clash else 0
            if clash and not self.listed and what == CONFLICT:
                continue
            if why is not None:
                fate.left[why] = fate.left.get(why, 0) + rows
            elif what == INSERT:
                fate.inserted += rows
            elif what == UPDATE:
                fate.updated += rows
            else:
                fate.deleted += rows
        key = sql.SQL(", ").join(pair.staged(name) for name in pair.key.columns)
        first = sql.SQL(
            "select why, concat_ws(', ', {0}) from (select *, row_number() over (partition by why order by {0}) as r from {1}"
            " where why is not null) s where r <= {2} order by why, r"
        ).format(key, pair.staging, _SHOWN)
        for why, shown in self.live.execute(first).fetchall():
            fate.keys.setdefault(why, []).append(shown)
        return fate


def plain(names: Sequence[str]) -> list[sql.Composable]:
    return [sql.Identifier(name) for name in names]


def staged(pair: Pair, names: Sequence[str]) -> list[sql.Composable] | None:
    """The staging columns of these; None where one has none (a generated one)."""
    known = {each.column.name for each in (*pair.moved, *pair.stays)}
    return [pair.staged(name) for name in names] if known >= set(names) else None


def matched(
    key: ForeignKey, referred: Sequence[sql.Composable], parent: str, own: Sequence[sql.Composable], child: str
) -> sql.Composable:
    """``parent`` and ``child`` are aliases."""
    parts = [
        sql.SQL("{}.{} {} {}.{}").format(sql.Identifier(parent), theirs, text(operator), sql.Identifier(child), mine)
        for theirs, operator, mine in zip(referred, key.operators, own, strict=True)
    ]
    return sql.SQL(" and ").join(parts)
