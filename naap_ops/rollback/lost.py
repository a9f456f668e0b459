"""What a reverse loses, in rows and in words: its losses counted in the live tables, whichever schema they were proved in."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from naap_ops.reverse import document
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

Placed = tuple[list[str], Mapping[str, Any]]
"""The words of a loss's object, the first "" where that is the migration's own schema, and the loss."""

_ESTIMATE: Final = """
select n_live_tup * (1 - coalesce(p.null_frac, 0)) from pg_catalog.pg_stat_user_tables s
  left join pg_catalog.pg_stats p on (p.schemaname, p.tablename) = (s.schemaname, s.relname) and p.attname = %s
where s.schemaname = %s and s.relname = %s
"""


@dataclass
class Lost:
    """``rows`` by table, as far as they can be counted; all ``losses`` in words, those that nobody can count ``uncounted``."""

    rows: dict[str, int] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)

    def add(
        self, connection: Connection, several: Sequence[Placed], schemas: Sequence[str], until: float, back: Collection[str]
    ) -> None:
        """Those of one reverse in ``schemas``. ``until``: what is not counted by then, as time.monotonic() tells it, is
        estimated. ``back``: the sources from which it comes back."""
        rows, said = _losses(connection, several, schemas, until, back)
        for table, number in rows.items():
            self.rows[table] = max(self.rows.get(table, 0), number)
        self.losses += said.values()
        self.uncounted += [said[at] for at, (_, loss) in enumerate(several) if at in said and _is_uncounted(loss)]


def placed(text: str, losses: Iterable[Mapping[str, Any]], asked: str) -> Iterator[Placed]:
    """Each loss, and the words of its object: the first is "" where it lies in the schema that the reverse was made in, which
    need not be the one in which it is run."""
    own = document.schema_of(text) or asked
    for loss in losses:
        words = str(loss["object"]).split(".") if loss.get("object") else []
        yield ["" if each == own and at == 0 else each for at, each in enumerate(words)], loss


def _is_uncounted(loss: Mapping[str, Any]) -> bool:
    """Rows that the migration itself took away or changed: nobody knows how many."""
    return not loss.get("since") and loss["loss"] in ("rows", "values")


def _losses(
    connection: Connection, losses: Iterable[Placed], schemas: Sequence[str], until: float, back: Collection[str]
) -> tuple[dict[str, int], dict[int, str]]:
    """Rows by table, and a sentence for each loss, by its place among them. Values of a column count the rows that have one;
    what the forward took is not counted, it is no longer there. ``until``: what is not counted by then, as time.monotonic()
    tells it, is estimated. ``back``: the sources from which it comes back."""
    lost: dict[str, int] = {}
    said: dict[int, str] = {}
    for at, (words, loss) in enumerate(losses):
        if loss.get("source", "none") in back:
            continue  # it comes back
        count = 0
        column = bool(words) and loss["loss"] == "values" and len(words) == 3
        own = bool(words) and not words[0]
        for schema in schemas if own else words[:1]:
            rows = _count(connection, [schema, *words[1:]], column=column, until=until) if loss.get("since") else None
            if rows:
                lost[f"{schema}.{words[1]}"] = max(lost.get(f"{schema}.{words[1]}", 0), rows)
                count += rows
        if loss.get("since") and words and count == 0 and loss["loss"] in ("rows", "values"):
            continue  # what would be lost is not there
        what = f" ({count_of(count, 'row')})" if count else ""
        where = ".".join([schemas[0] if len(schemas) == 1 else "*", *words[1:]] if own else words) or "the database"
        said[at] = f"{loss['loss']} of {where}{what}: {loss['reason']}"
    return lost, said


def _count(connection: Connection, words: Sequence[str], *, column: bool, until: float) -> int | None:
    """Rows of a table, or those with a value in a column; None where that is not known in time."""
    table = sql.Identifier(*words[:2])
    what = sql.SQL("count({})").format(sql.Identifier(words[2])) if column else sql.SQL("count(*)")
    left = max(1, int((until - time.monotonic()) * 1000))
    with suppress(psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable,
                  psycopg.errors.UndefinedColumn), connection.transaction():  # fmt: skip
        connection.execute(f"set local statement_timeout = {left}".encode())
        row = connection.execute(sql.SQL("select {} from {}").format(what, table)).fetchone()
        return int(row[0]) if row else None
    row = connection.execute(_ESTIMATE, [words[2] if column else None, *words[:2]]).fetchone()
    return int(row[0]) if row else None
