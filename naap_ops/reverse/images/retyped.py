"""Values whose column takes back a type that does not know them, and that come back from an image all the same.

A migration that renames labels of an enum puts the new ones into rows that are there. The image holds what they were; but the
column takes its old type back before they are put, and that would stop at the first of them. So those get something that the
old type does take, until they are put back. Values that are not going to be put back, as somebody has written them since, stop
it as ever, with their number and some of their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import casts
from naap_ops.reverse.families import type as types
from naap_ops.reverse.images.model import KeptColumn
from naap_ops.reverse.images.statements import Place, noted
from naap_ops.reverse.images.stopping import stop
from naap_ops.reverse.model import Step
from naap_ops.reverse.render import Sql, literal, quoted


@dataclass(frozen=True)
class Retyped:
    """``text``: the statement that changes the type back, ``instead``: what takes its place. ``check``: what has to run before
    it, in the state that the step has left; ``answered``: the query of the check that this takes the place of."""

    text: str
    instead: str
    check: str
    answered: str


def retyped(place: Place, step: Step, between: Iterable[Catalog], *, referred: bool) -> Iterator[Retyped]:
    """Columns of ``place`` (in the state that ``step`` has left) which get an enum back that lacks labels of theirs.

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
        found = _rebuilt(place.sql, step, now) or (_altered(place.sql, step, changed[now.key]) if now.key in changed else None)
        if was is None or found is None:
            continue
        nullable = all((row := state.rows["column"].get(now.key)) is not None and not row.not_null for state in states)
        yield _given_way(place, f"w.c{at}" + ("" if referred else " OR w.take"), kept, now, found, nullable=nullable)


@dataclass(frozen=True)
class _Change:
    """The change of a column's type: to ``type``, of these ``labels``, by ``using``. ``text``: its SQL, ``wrapped``: by what
    else is behind USING; ``answered``: the query of its check."""

    name: str
    type: str
    labels: tuple[str, ...]
    using: str
    text: str
    wrapped: Callable[[str], str]
    answered: str = ""


def _rebuilt(sql: Sql, step: Step, now: Any) -> _Change | None:
    """The enum itself lost labels on the way back."""
    for change in step.of("type"):
        was, after = change.before, change.after
        if was is None or after is None or not was.labels or not set(after.labels) - set(was.labels):
            continue
        if set(was.label_keys) == set(after.label_keys) or now not in types.using_columns(step, after):
            continue
        array = now.type.endswith("[]")
        name = sql.name(after) + ("[]" if array else "")
        new = [label for label in after.labels if label not in was.labels]
        return _Change(
            now.name, name, tuple(was.labels), f"{quoted(now.name)}::text{'[]' if array else ''}::{name}",
            types.moved(sql, now, after), partial(types.moved, sql, now, after), types.rows_with(sql, now, new),
        )  # fmt: skip
    return None


def _altered(sql: Sql, step: Step, change: Any) -> _Change | None:
    """The column was of another enum before."""
    was, now = change.before, change.after
    labels = types.labels(step.before, was)
    if not labels or was.type_key == now.type_key or was.generated or was.type.endswith("[]") != now.type.endswith("[]"):
        return None
    using = casts.using(step, was, now)

    def wrapped(using: str) -> str:
        return sql("column/type", column=was, using=using)

    return _Change(was.name, was.type, labels, using or f"{quoted(was.name)}::{was.type}", wrapped(using), wrapped,
                   types.other_enum(sql, step, was, now))  # fmt: skip


def _given_way(place: Place, back: str, kept: KeptColumn, now: Any, change: _Change, *, nullable: bool) -> Retyped:
    array = change.type.endswith("[]")
    placeholder = "NULL" if nullable else "'{}'" if array else literal(change.labels[0])
    using = f"CASE WHEN {types.unknown(quoted(change.name), change.labels, array=array)} THEN {placeholder}::{change.type} "
    reason = f"rows of {place.sql.name(place.table)} hold values in {kept.name} which the enum did not have: change them first"
    where = (
        f"{types.unknown(f't.{quoted(now.name)}', change.labels, array=array)} "
        f"AND NOT EXISTS (SELECT FROM {noted(place.image)} w WHERE {place.joined('t', 'w')} AND ({back}))"
    )
    instead = change.wrapped(f"{using}ELSE {change.using} END")
    return Retyped(change.text, instead, stop(place.sql.name(place.table), place.key, where, reason), change.answered)
