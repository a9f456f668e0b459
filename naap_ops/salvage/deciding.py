"""What becomes of each row of one table: the table of cases in DESIGN.md, "Salvage", as SQL over the staged rows.

All of it in one REPEATABLE READ transaction of the live database: what is counted here and there is of one instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from naap_ops.salvage.model import (
    CHANGED_BOTH,
    CONFLICT,
    DELETE,
    DELETED_LIVE,
    DELETED_OLD,
    INSERT,
    INSERTED_BOTH,
    NEW,
    UNCLEAR,
    UPDATE,
    Moved,
    Pair,
    Wanted,
    text,
)
from naap_ops.salvage.staging import Sources, stage_keys

if TYPE_CHECKING:
    from naap_ops.salvage.base import Base

NOT_DELETED = "deleted in the old, kept as --no-deletes says"
_EQUAL = "="


@dataclass(frozen=True)
class Judge:
    """Looks at one table after the other. Statements are composed whole: their texts may hold %."""

    sources: Sources
    base: Base
    wanted: Wanted

    def decide(self, pair: Pair, settled: int) -> list[str]:
        """Every staged row gets its ``what`` and ``why``; rows to be deleted are added. Notes for people.

        ``settled``: settled rows of the old table.
        """
        self._compare(pair)
        rows = self.sources.base_rows(pair)
        found = self._count(pair, sql.SQL("settled"))
        notes: list[str] = []
        open_ones = False
        if rows != settled + found:  # some row of the base is not in the old, or is another one on both sides
            if settled:
                stage_keys(self.sources, pair)
            deleted = self._deleted(pair, keys=bool(settled))
            if rows != settled + found + deleted:
                open_ones = self._open(pair, keys=bool(settled), notes=notes)
        if not open_ones:
            self._set(pair, INSERT, None, sql.SQL("what = {}").format(NEW))
            self._why(pair, INSERTED_BOTH, sql.SQL("what = {}").format(CONFLICT))
        self._settle(pair)
        return notes

    def _compare(self, pair: Pair) -> None:
        """Staged rows whose key is in the live table. Columns that only that one has are filled from it."""
        values = [sql.SQL("what = case when {equal} then {same} when {settled} then {update} else {conflict} end").format(
            equal=_equal(pair), same=_EQUAL, settled=self.sources.settled_live("t"), update=UPDATE, conflict=CONFLICT,
        ), sql.SQL("settled = {}").format(self.sources.settled_live("t"))]  # fmt: skip
        values += [
            sql.SQL("{} = t.{}").format(sql.Identifier(each.staged), sql.Identifier(each.column.name)) for each in pair.stays
        ]
        self._run("update {s} as s set {values} from {t} as t where {key}", pair, values=sql.SQL(", ").join(values))

    def _deleted(self, pair: Pair, *, keys: bool) -> int:
        """Settled rows of the live table that the old has not got."""
        return self._added(pair, DELETE, sql.SQL("null"), self.sources.settled_live("t"), keys=keys)

    def _open(self, pair: Pair, *, keys: bool, notes: list[str]) -> bool:
        """Both sides have changed or deleted rows of the base: which, the backup tells. False where nothing is open."""
        fresh = sql.SQL("not {}").format(self.sources.settled_live("t"))
        added = self._added(pair, CONFLICT, sql.Literal(DELETED_OLD), fresh, keys=keys)
        if not added and not self._count(pair, sql.SQL("what in ({}, {})").format(NEW, CONFLICT)):
            return False
        there = sql.SQL("why is not distinct from {} and what = {}")
        mine = there.format(DELETED_OLD, CONFLICT)
        if not self.base.read(self.sources.live, pair):
            self._run("delete from {s} where {mine}", pair, mine=mine)
            self._set(pair, CONFLICT, UNCLEAR, sql.SQL("what = {}").format(NEW))
            self._why(pair, INSERTED_BOTH, sql.SQL("what = {} and why is null").format(CONFLICT))
            notes.append("what both sides have deleted is not known: the backup, a plain script, cannot be asked for its keys")
            return True
        base = _in_base(pair)
        self._run("delete from {s} as s where {mine} and not {base}", pair, mine=mine, base=base)
        self._set(pair, CONFLICT, DELETED_LIVE, sql.SQL("what = {} and {}").format(NEW, base))
        self._set(pair, INSERT, None, sql.SQL("what = {}").format(NEW))
        self._why(pair, CHANGED_BOTH, sql.SQL("what = {} and why is null and {}").format(CONFLICT, base))
        self._why(pair, INSERTED_BOTH, sql.SQL("what = {} and why is null").format(CONFLICT))
        return True

    def _settle(self, pair: Pair) -> None:
        """Conflicts by the operator's word; what must not, or cannot, be written is left."""
        self._run("delete from {s} where what = {same}", pair, same=sql.Literal(_EQUAL))
        self._run("update {s} set clash = true where what = {conflict}", pair, conflict=sql.Literal(CONFLICT))
        if self.wanted.conflicts == "theirs":
            written = sql.SQL("what = {} and why in ({}, {})").format(CONFLICT, CHANGED_BOTH, INSERTED_BOTH)
            self._set(pair, UPDATE, None, written)
            self._set(pair, INSERT, None, sql.SQL("what = {} and why = {}").format(CONFLICT, DELETED_LIVE))
        if not self.wanted.deletes:
            self._why(pair, NOT_DELETED, sql.SQL("what = {}").format(DELETE))
        if pair.needs:
            reason = f"{', '.join(pair.needs)}: NOT NULL without a default, and the old table has not got it"
            self._why(pair, reason, sql.SQL("what = {}").format(INSERT))
        self._run(
            "update {s} set why = misfit where misfit is not null and what in ({i}, {u})",
            pair, i=sql.Literal(INSERT), u=sql.Literal(UPDATE),
        )  # fmt: skip

    def _added(self, pair: Pair, what: str, why: sql.Composable, condition: sql.Composable, *, keys: bool) -> int:
        """Rows of the live table that the old has not got, as staged rows."""
        columns = (*pair.moved, *pair.stays)
        unseen = sql.SQL("not exists (select from {} as s where {})").format(pair.staging, pair.same_key("t", "s", live=True))
        if keys:
            same = pair.same_key("t", "k", live=True)
            unseen += sql.SQL(" and not exists (select from {} as k where {})").format(pair.keys_seen, same)
        return self._run(
            "insert into {s} (what, why, settled, {names}) select {what}, {why}, {settled}, {values} from {t} as t where {c}",
            pair,
            names=sql.SQL(", ").join(sql.Identifier(each.staged) for each in columns),
            values=sql.SQL(", ").join(sql.Identifier("t", each.column.name) for each in columns),
            what=sql.Literal(what),
            why=why,
            settled=sql.SQL("true" if what == DELETE else "false"),
            c=condition + sql.SQL(" and ") + unseen,
        )

    def _set(self, pair: Pair, what: str, why: str | None, where: sql.Composable) -> None:
        values = {"what": sql.Literal(what), "why": sql.Literal(why), "where": where}
        self._run("update {s} as s set what = {what}, why = {why} where {where}", pair, **values)

    def _why(self, pair: Pair, why: str, where: sql.Composable) -> None:
        self._run("update {s} as s set why = {why} where {where}", pair, why=sql.Literal(why), where=where)

    def _count(self, pair: Pair, where: sql.Composable) -> int:
        query = sql.SQL("select count(*) from {} where {}").format(pair.staging, where)
        row = self.sources.live.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def _run(self, statement: str, pair: Pair, **parts: Any) -> int:
        key = pair.same_key("t", "s", live=True)
        whole = text(statement).format(s=pair.staging, t=pair.live.rows_of, key=key, **parts)
        return self.sources.live.execute(whole).rowcount


def _equal(pair: Pair) -> sql.Composable:
    """``t`` and ``s`` hold the same: in binary form, or else in text form."""
    compared: list[Moved] = list(pair.written)
    if not compared:
        return sql.SQL("true")
    ours = sql.SQL(", ").join(
        sql.SQL("t.{}::{}").format(sql.Identifier(e.column.name), text(e.column.stored)) for e in compared
    )
    theirs = sql.SQL(", ").join(sql.Identifier("s", each.staged) for each in compared)
    query = "(pg_catalog.record_image_eq(row({o}), row({t})) or row({o})::pg_catalog.text = row({t})::pg_catalog.text)"
    return text(query).format(o=ours, t=theirs)


def _in_base(pair: Pair) -> sql.Composable:
    """The staged row ``s`` has its key in the backup."""
    stored = {each.column.name: each.column.stored for each in pair.moved}
    parts = [
        sql.SQL("b.{}::{} {} s.{}").format(sql.Identifier(name), text(stored[name]), text(operator), pair.staged(name))
        for name, operator in zip(pair.key.columns, pair.key.operators, strict=True)
    ]
    return sql.SQL("exists (select from {} as b where {})").format(pair.base, sql.SQL(" and ").join(parts))
