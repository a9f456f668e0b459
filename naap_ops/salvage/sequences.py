"""Sequences of the live database raised to where those of the old one stand, and to what is brought over; never lowered.

By nextval as far as that goes: it only ever moves forward, whatever the clients do meanwhile. Not undone when the rest is, and
harmless: numbers are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from naap_ops.salvage.holding import due
from naap_ops.salvage.model import INSERT, UPDATE, Name, Pair

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_BY_NEXTVAL: Final = 1_000_000
_NUMBERS: Final = ("smallint", "integer", "bigint")
_FACTS: Final = """
select s.seqincrement, s.seqcycle, case when s.seqincrement > 0 then s.seqmax else s.seqmin end,
  pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT'),
  pg_catalog.has_sequence_privilege(s.seqrelid, 'UPDATE') from pg_catalog.pg_sequence s
where s.seqrelid = pg_catalog.to_regclass({})
"""


@dataclass(frozen=True)
class _Facts:
    increment: int
    cycles: bool
    end: int
    readable: bool
    writable: bool


@dataclass(frozen=True)
class Raised:
    """Before and after; how far it was, or would be, raised."""

    name: str
    was: int
    now: int


def raise_them(old: Connection, live: Connection, pairs: Iterable[Pair], *, dry_run: bool) -> tuple[list[Raised], list[str]]:
    """Those of the pairs' columns that the old database has, too. What was raised, and notes on what could not be."""
    raised, notes = [], []
    named = {
        name: (pair, column) for pair in pairs for name, column in pair.live.sequences.items() if name in pair.old.sequences
    }
    for name, (pair, column) in named.items():
        told = ".".join(name)
        there, here = _facts(old, name), _facts(live, name)
        if there is None or here is None or here.cycles or there.increment * here.increment <= 0:
            continue
        if not (there.readable and here.readable and here.writable):
            notes.append(
                f"sequence {told} is not raised: the right to read it in the old, or to set it in the live, is missing"
            )
            continue
        up = here.increment > 0
        target, stands = _stand(old, name, there.increment), _stand(live, name, here.increment)
        furthest = _brought(live, pair, column, up=up)
        if furthest is not None and (furthest >= here.end if up else furthest <= here.end):
            notes.append(f"sequence {told} is not raised to {furthest}, a value that is brought over: that is its end")
        elif furthest is not None:
            target = max(target, furthest) if up else min(target, furthest)
        if (target - stands) * here.increment <= 0:
            continue
        raised.append(Raised(told, stands, target))
        if not dry_run:
            _raise(live, name, target, here.increment)
    return raised, notes


def _facts(connection: Connection, name: Name) -> _Facts | None:
    row = connection.execute(sql.SQL(_FACTS).format(sql.Identifier(*name).as_string(connection))).fetchone()
    return None if row is None else _Facts(*row)


def _brought(live: Connection, pair: Pair, column: str, *, up: bool) -> int | None:
    """The furthest value that is written."""
    found = next((each for each in pair.moved if each.column.name == column and each.column.type in _NUMBERS), None)
    if found is None:
        return None
    query = sql.SQL("select {}(x.{})::bigint from {} as x where {}").format(
        sql.SQL("max" if up else "min"), sql.Identifier(found.staged), pair.staging, due("x", INSERT, UPDATE)
    )
    row = live.execute(query).fetchone()
    return None if row is None else row[0]


def _stand(connection: Connection, name: Name, increment: int) -> int:
    """The last number that was given out."""
    row = connection.execute(sql.SQL("select last_value, is_called from {}").format(sql.Identifier(*name))).fetchone()
    assert row is not None
    return int(row[0]) if row[1] else int(row[0]) - increment


def _raise(live: Connection, name: Name, target: int, increment: int) -> None:
    text = sql.Literal(sql.Identifier(*name).as_string(live))
    while (steps := -(-(target - _stand(live, name, increment)) // increment)) > 0:
        if steps > _BY_NEXTVAL:
            direction = sql.SQL(">" if increment > 0 else "<")
            query = sql.SQL("select pg_catalog.setval({}::pg_catalog.regclass, {}) from {} where {} {} last_value")
            live.execute(query.format(text, target, sql.Identifier(*name), target, direction))
            continue
        query = sql.SQL("select count(pg_catalog.nextval({}::pg_catalog.regclass)) from pg_catalog.generate_series(1, {})")
        live.execute(query.format(text, steps))
