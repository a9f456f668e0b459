"""What came back with a table or a column that was made again, and whose parents somebody has taken away since.

While the foreign key is not there yet, nobody asks. Right before it comes back, values that came back and refer to nothing are
null, where they may be; else, of a table that was made again, the row stays away, and what refers to it does (as it does where
the foreign key is one that cascades). Either is a conflict, and is listed. What is left is not of this doing, or cannot be
null: it stops the reverse, and its rows are named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from naap_ops.reverse.images.model import Image
from naap_ops.reverse.images.statements import CONFLICTS, RESTORED, label
from naap_ops.reverse.images.stopping import stop
from naap_ops.reverse.references import Reference
from naap_ops.reverse.render import Sql, literal, quoted

_AWAY: Final = 'pg_temp."naap_ops away"'
_GONE: Final = f"SELECT FROM {_AWAY} a WHERE (a.of, a.place)"


@dataclass(frozen=True)
class Again:
    """One table whose rows, or some ``columns`` of them (keys; None: its rows), came out of an image. ``key``: names of its
    columns in this state; nothing where it has none."""

    image: Image
    key: tuple[str, ...]
    columns: frozenset[int] | None

    def told(self, alias: str) -> str:
        """SQL: the key of a row."""
        return f"concat_ws(', ', {', '.join(f'{alias}.{quoted(name)}' for name in self.key)})" if self.key else "''"


def put_right(
    sql: Sql, again: Mapping[int, Again], references: Sequence[Reference], coming: Collection[int]
) -> Iterator[tuple[int, str]]:
    """Statements, and the table that each is about; none where nothing of it can be an orphan. ``again``: by key of table.
    ``references``: the foreign keys of the state in which this runs, ``coming``: the keys of those that are about to come."""
    there = [each for each in references if each.child.key in again]
    values = [each for each in there if nullable(again[each.child.key], each)]
    rows = [each for each in there if each not in values and again[each.child.key].columns is None]
    concerned = [each for each in references if each.key in coming and concerns(again, each)]
    if not concerned:
        return
    tables = {each.child.key: each.child for each in rows}
    body = _away(sql, again, coming, rows, values, tables)
    yield concerned[0].child.key, f"DO {literal(body)}"
    for each in concerned:
        own = again[each.child.key]
        if own.columns is not None:
            reason = f"orphans in {sql.name(each.child)}: constraint {quoted(each.name)} cannot be put back"
            yield each.child.key, stop(sql.name(each.child), own.key, _orphan(sql, each), reason)


def concerns(again: Mapping[int, Again], reference: Reference) -> bool:
    """Values of this foreign key came out of an image."""
    own = again.get(reference.child.key)
    return own is not None and (own.columns is None or any(row.key in own.columns for row in reference.columns))


def nullable(own: Again, reference: Reference) -> list[Any]:
    """Columns of the foreign key that came out of an image, and may be null instead."""
    if own.columns is None and reference.action == "CASCADE":
        return []
    return [row for row in reference.columns if (own.columns is None or row.key in own.columns) and not row.not_null]


def _away(
    sql: Sql,
    again: Mapping[int, Again],
    coming: Collection[int],
    rows: Sequence[Reference],
    values: Sequence[Reference],
    tables: Mapping[int, Any],
) -> str:
    """Foreign keys that are there already are only looked at where something goes because of those that come."""
    first = "".join(f"{_found(sql, again, each)}; " for each in rows if each.key in coming)
    rounds = " ".join(f"{_found(sql, again, each)}; again := again OR FOUND;" for each in rows)
    loop = (
        f"{first}again := EXISTS (SELECT FROM {_AWAY}); WHILE again LOOP again := false; {rounds} END LOOP; " if first else ""
    )
    nulls = "".join(
        f"{_null(sql, again[each.child.key], each)}; "
        if each.key in coming
        else f"IF EXISTS (SELECT FROM {_AWAY}) THEN {_null(sql, again[each.child.key], each)}; END IF; "
        for each in values
        if first or each.key in coming
    )
    gone = [
        f"part{at} AS (DELETE FROM {sql.name(table)} t WHERE EXISTS ({_GONE} = (t.tableoid, t.ctid)))"
        for at, table in enumerate(tables.values())
    ]
    # one statement, at whose end the foreign keys that are there already are checked
    delete = f"WITH {', '.join(gone)} SELECT 1 INTO one; " if first else ""
    return (
        "DECLARE again bool; one int; BEGIN "
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {quoted('naap_ops away')} (of oid, place tid, relation text, key text) "
        f"ON COMMIT DROP; {loop}{nulls}{delete}"
        f"INSERT INTO {CONFLICTS} SELECT relation, key, '{{}}'::text[] FROM {_AWAY}; "
        f"INSERT INTO {RESTORED} SELECT relation, -count(*) FROM {_AWAY} GROUP BY 1; DELETE FROM {_AWAY}; END"
    )


def _found(sql: Sql, again: Mapping[int, Again], reference: Reference) -> str:
    own = again[reference.child.key]
    return (
        f"INSERT INTO {_AWAY} SELECT t.tableoid, t.ctid, {label(own.image)}, {own.told('t')} "
        f"FROM {sql.name(reference.child)} t WHERE {_orphan(sql, reference, away=True)} "
        f"AND NOT EXISTS ({_GONE} = (t.tableoid, t.ctid))"
    )


def _null(sql: Sql, own: Again, reference: Reference) -> str:
    columns = nullable(own, reference)
    names = ", ".join(literal(row.name) for row in columns)
    sets = ", ".join(f"{quoted(row.name)} = NULL" for row in columns)
    return (
        f"WITH nulled AS (UPDATE {sql.name(reference.child)} t SET {sets} WHERE {_orphan(sql, reference, away=True)} "
        f"AND NOT EXISTS ({_GONE} = (t.tableoid, t.ctid)) RETURNING {own.told('t')} AS key) INSERT INTO {CONFLICTS} "
        f"SELECT {label(own.image)}, key, ARRAY[{names}] FROM nulled"
    )


def _orphan(sql: Sql, reference: Reference, *, away: bool = False) -> str:
    """SQL over ``t``. ``away``: rows that are about to go are no parents."""
    pairs = list(zip(reference.columns, reference.referenced, strict=True))
    given = " AND ".join(f"t.{quoted(own.name)} IS NOT NULL" for own, _ in pairs)
    equal = " AND ".join(f"r.{quoted(theirs.name)} = t.{quoted(own.name)}" for own, theirs in pairs)
    staying = f" AND NOT EXISTS ({_GONE} = (r.tableoid, r.ctid))" if away else ""
    return f"{given} AND NOT EXISTS (SELECT FROM {sql.name(reference.parent)} r WHERE {equal}{staying})"
