"""Values whose column takes back a type that does not know them, and that come back from an image all the same.

A migration that renames labels of an enum puts the new ones into rows that are there. The image holds what they were; but the
column takes its old type back before they are put, and that would stop at the first of them. So those get something that the
old type does take, until they are put back. Values that are not going to be put back, as somebody has written them since, stop
it as ever, with their number and some of their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import casts, fill
from naap_ops.reverse.families import type as types
from naap_ops.reverse.images.model import KeptColumn
from naap_ops.reverse.images.statements import Place, noted
from naap_ops.reverse.images.stopping import stop
from naap_ops.reverse.model import Step
from naap_ops.reverse.render import Sql, literal, quoted

_TEXTS: Final = ("text", "character varying")


@dataclass(frozen=True)
class Retyped:
    """``text``: the statement that changes the type back, ``instead``: what takes its place. ``first``: what has to run before
    it, in the state that the step has left, ``last``: after it; ``answered``: the query of the check that this takes the place
    of."""

    text: str
    instead: str
    first: tuple[str, ...]
    last: tuple[str, ...]
    answered: str


def retyped(place: Place, step: Step, between: Iterable[Catalog], *, referred: bool) -> Iterator[Retyped]:
    """Columns of ``place`` (in the state that ``step`` has left) which get a type back that lacks values of theirs.

    ``between``: the states from that before the step back to the one in which the rows of the image come back. ``referred``:
    others refer to the table, so that rows that the migration put there may stay.
    """
    states = [step.after, *between]
    foreign = {name for row in step.after.children("constraint", "table_key", place.table.key) if row.type == "f"
               for name in row.columns}  # fmt: skip
    changed = {c.before.key: c for c in step.of("column") if c.before is not None and c.after is not None}
    for at, kept, now in place.columns():
        if kept.after is None or now.name in foreign or not now.local or not place.compared or not place.joinable:
            continue
        was = step.before.rows["column"].get(now.key)
        if was is None:
            continue
        nullable = all((row := state.rows["column"].get(now.key)) is not None and not row.not_null for state in states)
        found = _rebuilt(place.sql, step, now, nullable=nullable)
        if found is None and now.key in changed:
            found = _altered(place.sql, step, changed[now.key], nullable=nullable)
            found = found or _parsed(place, at, step, changed[now.key], nullable=nullable)
        if found is not None:
            yield _given_way(place, f"w.c{at}" + ("" if referred else " OR w.take"), kept, now, found)


@dataclass(frozen=True)
class _Change:
    """The change of a column's type, ``text``: its SQL. ``using``: what else is to be behind USING, of values that the type has
    ``instead``, of others. ``unknown(value)``: SQL, the type does not have it; ``wrapped(using)``: the whole as SQL;
    ``answered``: the query of its check; ``what``: the type in words; ``first``, ``last``: what runs around it."""

    name: str
    text: str
    using: str
    instead: str
    unknown: Callable[[str], str]
    wrapped: Callable[[str], str]
    what: str = "the enum did not have"
    answered: str = ""
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


def _label(labels: Sequence[str], type: str, *, nullable: bool) -> str:
    value = "NULL" if nullable else "'{}'" if type.endswith("[]") else literal(labels[0])
    return f"{value}::{type}"


def _rebuilt(sql: Sql, step: Step, now: Any, *, nullable: bool) -> _Change | None:
    """The enum itself lost labels on the way back."""
    for change in step.of("type"):
        was, after = change.before, change.after
        if was is None or after is None or not was.labels or not set(after.labels) - set(was.labels):
            continue
        if set(was.label_keys) == set(after.label_keys) or now not in types.using_columns(step, after):
            continue
        array = now.type.endswith("[]")
        name = sql.name(after) + ("[]" if array else "")
        return _Change(
            now.name,
            types.moved(sql, now, after),
            f"{quoted(now.name)}::text{'[]' if array else ''}::{name}",
            _label(was.labels, name, nullable=nullable),
            partial(types.unknown, labels=tuple(was.labels), array=array),
            partial(types.moved, sql, now, after),
            answered=types.rows_with(sql, now, [label for label in after.labels if label not in was.labels]),
        )
    return None


def _altered(sql: Sql, step: Step, change: Any, *, nullable: bool) -> _Change | None:
    """The column was of another enum before."""
    was, now = change.before, change.after
    labels = types.labels(step.before, was)
    if not labels or was.type_key == now.type_key or was.generated or was.type.endswith("[]") != now.type.endswith("[]"):
        return None
    using = casts.using(step, was, now)
    return _Change(
        was.name,
        _typed(sql, was, using),
        using or f"{quoted(was.name)}::{was.type}",
        _label(labels, was.type, nullable=nullable),
        partial(types.unknown, labels=labels, array=was.type.endswith("[]")),
        partial(_typed, sql, was),
        answered=types.other_enum(sql, step, was, now),
    )


def _parsed(place: Place, at: int, step: Step, change: Any, *, nullable: bool) -> _Change | None:
    """The column was of a type that reads texts, which it holds now; not every one of them, as a function finds out."""
    was, now = change.before, change.after
    instead = "NULL" if nullable else fill.harmless(was)
    if casts.base(now) not in _TEXTS or casts.base(was) in _TEXTS or fill.harmless(was) is None or instead is None:
        return None
    if was.generated or was.type_kind not in ("b", "r"):
        return None
    using = casts.using(step, was, now)
    name = f"pg_temp.{quoted(f'naap_ops read {place.image.table} {at}')}"
    argument = f"{quoted(was.name)} {now.type}"
    body = f"BEGIN RETURN {using or f'{quoted(was.name)}::{was.type}'}; EXCEPTION WHEN data_exception THEN RETURN NULL; END"
    return _Change(
        was.name,
        _typed(place.sql, was, using),
        f"{name}({quoted(was.name)})",
        f"{instead}::{was.type}",
        lambda value: f"({value} IS NOT NULL AND {name}({value}) IS NULL)",
        partial(_typed, place.sql, was),
        what=f"{was.type} does not read",
        first=(f"CREATE OR REPLACE FUNCTION {name}({argument}) RETURNS {was.type} LANGUAGE plpgsql AS {literal(body)}",),
        last=(f"DROP FUNCTION {name}({now.type})",),
    )


def _typed(sql: Sql, was: Any, using: str) -> str:
    return sql("column/type", column=was, using=using)


def _given_way(place: Place, back: str, kept: KeptColumn, now: Any, change: _Change) -> Retyped:
    table = place.sql.name(place.table)
    where = (
        f"{change.unknown(f't.{quoted(now.name)}')} "
        f"AND NOT EXISTS (SELECT FROM {noted(place.image)} w WHERE {place.joined('t', 'w')} AND ({back}))"
    )
    check = stop(table, place.key, where, f"rows of {table} hold values in {kept.name} which {change.what}: change them first")
    using = f"CASE WHEN {change.unknown(quoted(change.name))} THEN {change.instead} ELSE {change.using} END"
    return Retyped(change.text, change.wrapped(using), (*change.first, check), change.last, change.answered)
