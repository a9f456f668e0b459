"""Sequences of the live database raised to where those of the old one stand, and to what is brought over; never lowered.

By nextval as far as that goes: it only ever moves forward, whatever the clients do meanwhile. Not undone when the rest is, and
harmless: numbers are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from naap_ops.salvage.model import Name, Pair

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_BY_NEXTVAL: Final = 1_000_000
_FACTS: Final = """
select s.seqincrement, s.seqcycle, pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT'),
  pg_catalog.has_sequence_privilege(s.seqrelid, 'UPDATE') from pg_catalog.pg_sequence s
where s.seqrelid = pg_catalog.to_regclass({})
"""


@dataclass(frozen=True)
class Raised:
    """Before and after; how far it was, or would be, raised."""

    name: str
    was: int
    now: int


def raise_them(old: Connection, live: Connection, pairs: Iterable[Pair], *, dry_run: bool) -> tuple[list[Raised], list[str]]:
    """Those of the pairs' columns that the old database has, too. What was raised, and notes on what could not be."""
    raised, notes = [], []
    names = dict.fromkeys(name for pair in pairs for name in pair.live.sequences if name in pair.old.sequences)
    for name in names:
        told = ".".join(name)
        there, here = _facts(old, name), _facts(live, name)
        if there is None or here is None or here[1] or there[0] * here[0] <= 0:
            continue
        if not (there[2] and here[2] and here[3]):
            notes.append(
                f"sequence {told} is not raised: the right to read it in the old, or to set it in the live, is missing"
            )
            continue
        target, stands = _stand(old, name, there[0]), _stand(live, name, here[0])
        if (target - stands) * here[0] <= 0:
            continue
        raised.append(Raised(told, stands, target))
        if not dry_run:
            _raise(live, name, target, here[0])
    return raised, notes


def _facts(connection: Connection, name: Name) -> tuple[int, bool, bool, bool] | None:
    row = connection.execute(sql.SQL(_FACTS).format(sql.Identifier(*name).as_string(connection))).fetchone()
    return None if row is None else (row[0], row[1], row[2], row[3])


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
