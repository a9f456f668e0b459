"""Staged rows as the live table will have them, and what they have in a unique index, by the index's own expressions."""

from __future__ import annotations

from psycopg import sql

from naap_ops.salvage.model import Moved, Pair, Unique, text


def image(pair: Pair) -> sql.Composable:
    """Staged rows under the live table's names, generated columns worked out; in parentheses, for FROM."""
    plain: list[Moved] = [*pair.moved, *pair.stays]
    columns = [sql.SQL("{} as {}").format(sql.Identifier(e.staged), sql.Identifier(e.column.name)) for e in plain]
    inner = sql.SQL('(select n as "salvage n", {} from {}) as image').format(sql.SQL(", ").join(columns), pair.staging)
    generated = [
        sql.SQL("({}) as {}").format(text(column.value), sql.Identifier(column.name))
        for column in pair.live.columns
        if column.value is not None
    ]
    return sql.SQL("(select {} from {}) as row_image").format(sql.SQL(", ").join([sql.SQL("image.*"), *generated]), inner)


def values(pair: Pair, unique: Unique) -> sql.Composable:
    """What the staged rows have in a unique index: ``n``, ``e0`` ..., and the key's columns as ``k0`` ...."""
    return _evaluated(image(pair), pair, unique, sql.SQL('"salvage n" as n, '))


def live_values(pair: Pair, unique: Unique) -> sql.Composable:
    """The same of the live rows, with the key's columns under their names as well."""
    names = sql.SQL(", ").join(map(sql.Identifier, pair.key.columns))
    return _evaluated(pair.live.rows_of, pair, unique, names + sql.SQL(", "))


def _evaluated(rows: sql.Composable, pair: Pair, unique: Unique, first: sql.Composable) -> sql.Composable:
    expressions = [sql.SQL("({}) as {}").format(text(e), sql.Identifier(f"e{i}")) for i, e in enumerate(unique.expressions)]
    keys = [
        sql.SQL("{} as {}").format(sql.Identifier(name), sql.Identifier(f"k{i}")) for i, name in enumerate(pair.key.columns)
    ]
    where = sql.SQL("") if unique.where is None else text(f" where {unique.where}")
    return sql.SQL("(select {}{} from {}{})").format(first, sql.SQL(", ").join([*expressions, *keys]), rows, where)


def collide(unique: Unique, one: str, other: str) -> sql.Composable:
    """Two rows of :func:`values` or :func:`live_values` cannot both be there."""
    parts = []
    for at, operator in enumerate(unique.operators):
        pair = f'{one}."e{at}" {operator} {other}."e{at}"'
        both = f' or ({one}."e{at}" is null and {other}."e{at}" is null)' if unique.nulls_equal else ""
        parts.append(text(f"({pair}{both})"))
    return sql.SQL(" and ").join(parts)


def other_key(pair: Pair, one: str, other: str) -> sql.Composable:
    """Two such rows are not the same row."""
    parts = [text(f'{one}."k{at}" {operator} {other}."k{at}"') for at, operator in enumerate(pair.key.operators)]
    return sql.SQL("not ({})").format(sql.SQL(" and ").join(parts))
