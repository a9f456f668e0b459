"""Writes to rows of any database, at random: what its users do between a deploy and a rollback."""

from __future__ import annotations

import random

from bench.seeder import Table, seed, tables_of, value
from naap_ops.postgres.session import Connection
from naap_ops.reverse.render import literal, quoted

_NEW = range(301, 303)
_UPDATES, _DELETES = 3, 1


def write(connection: Connection, number: int) -> None:
    """Rows into every table, values of some changed, some deleted; each by itself, what a constraint refuses left out.

    ``number``: the same writes to the same rows give the same.
    """
    chance = random.Random(number)
    seed(connection, rows=_NEW)
    for table in tables_of(connection).values():
        statements = [each for each in (_update(table, chance) for _ in range(_UPDATES)) if each]
        statements += [_delete(table, chance) for _ in range(_DELETES)]
        chance.shuffle(statements)
        guarded = " ".join(f"BEGIN {each}; EXCEPTION WHEN OTHERS THEN NULL; END;" for each in statements)
        connection.execute(f"DO {literal(f'BEGIN {guarded} END')}".encode())


def _update(table: Table, chance: random.Random) -> str:
    own = {n for _, numbers, _ in table.keys for n in numbers}
    free = [column for n, column in table.columns.items() if n not in own and not column.sequence and not column.unique]
    if not free:
        return ""
    column = chance.choice(free)
    made = value(column, plain=chance.random() < 0.5)
    if made is None:
        return ""
    new = made.replace("$1", str(chance.randrange(400, 500)))
    return f"UPDATE {table.sql} SET {quoted(column.name)} = {new} WHERE {_one(table, chance)}"


def _delete(table: Table, chance: random.Random) -> str:
    return f"DELETE FROM {table.sql} WHERE {_one(table, chance)}"


def _one(table: Table, chance: random.Random) -> str:
    at = f"{chance.randrange(1000)} % greatest((SELECT count(*) FROM {table.sql}), 1)"
    return f"(tableoid, ctid) = (SELECT tableoid, ctid FROM {table.sql} ORDER BY tableoid, ctid OFFSET {at} LIMIT 1)"
