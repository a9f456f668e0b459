"""How far a migration came that failed half-way: the live catalog against the states through which it leads on a shadow.

A state is compared only in the objects that the migration touches anywhere, so that what else differs between the live database
and its history does not blur the answer. Statements that change rows only leave no trace in the catalog; where one lies at the
edge, the log of the failed attempt decides, and where there is none, the doubt is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal

from naap_ops.postgres.catalog.difference import differences
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import KINDS
from naap_ops.reverse.render import quoted
from naap_ops.reverse.script import Script, Statement
from naap_ops.wording import count_of

Took = Literal["yes", "no", "unseen", "partly"]
Object = tuple[str, tuple[str, ...]]
"""A kind of object, and its names."""

_SHOWN: Final = 80


@dataclass(frozen=True)
class Effect:
    """Whether one statement took effect. ``unseen``: it changes rows only, or what a later one undoes; ``partly``: the objects
    that it touches are neither as before nor as after it."""

    statement: Statement
    took: Took

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        each = self.statement
        return {"statement": each.index, "line": each.line, "sql": _short(each.sql), "took_effect": self.took}


@dataclass(frozen=True)
class Progress:
    """``upto``: the live schema is as after that many statements (0: as before the migration), None when it is like no state
    of the migration. ``doubt``: statements of which neither the catalog nor a log says whether they ran; ``upto`` counts them
    as run. ``invalid``: quoted names of indexes that a CREATE INDEX CONCURRENTLY left unfinished."""

    script: Script
    effects: tuple[Effect, ...]
    upto: int | None
    doubt: tuple[int, ...] = ()
    invalid: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """No statement took effect, for certain."""
        return self.upto == 0 and not self.invalid

    @property
    def whole(self) -> bool:
        """Every statement took effect, for certain."""
        return self.upto == len(self.effects) and not self.doubt and not self.invalid

    def lines(self) -> Iterator[str]:
        """For people: how far it came, and each statement of which that is not the whole answer."""
        total = count_of(len(self.effects), "statement")
        if self.upto is None:
            yield f"the schema is like none of the states through which its {total} lead:"
        elif self.nothing:
            yield f"none of its {total} took effect"
        elif self.whole:
            yield f"all of its {total} took effect"
        else:
            yield f"{self.upto} of its {total} took effect"
        if self.doubt:
            numbers = ", ".join(map(str, self.doubt))
            yield f"whether {numbers} ran neither the catalog nor a log says: rows are all that it changes"
        yield from (f"index {name} was left invalid" for name in self.invalid)
        if self.upto is None or 0 < self.upto < len(self.effects):
            yield from (f"{_MARKS[each.took]} {each.statement.index}. {_short(each.statement.sql)}" for each in self.effects)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "upto": self.upto,
            "of": len(self.effects),
            "doubt": list(self.doubt),
            "invalid_indexes": list(self.invalid),
            "statements": [each.as_dict() for each in self.effects],
        }


_MARKS: Final[dict[Took, str]] = {"yes": "took effect:", "no": "did not:", "unseen": "not to be seen:", "partly": "half:"}


def progress(script: Script, states: Sequence[Catalog], live: Catalog, *, failed: int | None) -> Progress:
    """``states``: before the migration, after its first statement, and so on, as far as it runs on the shadow. ``failed``: the
    statement (from 1) at which the log says that it failed, None when no log does."""
    changed = [frozenset(_differing(before, after)) for before, after in pairwise(states)]
    touched = frozenset().union(*changed)
    live, invalid = _without_invalid(_only(live, touched), states)
    apart = [frozenset(_differing(_only(state, touched), live)) for state in states]
    upto, doubt = _upto(script, [not each for each in apart], failed)
    if upto is None:
        took = [_took(number, each, apart) for number, each in enumerate(changed, 1)]
    else:
        took = ["unseen" if number in doubt else "yes" if number <= upto else "no" for number in range(1, len(states))]
    took += ["no"] * (len(script.statements) - len(took))  # those after the one that does not even run on a shadow
    effects = tuple(Effect(each, one) for each, one in zip(script.statements, took, strict=True))
    return Progress(script, effects, upto, doubt, invalid)


def _differing(one: Catalog, other: Catalog) -> Iterator[Object]:
    if one is not other:
        yield from ((each.kind, each.identity) for each in differences(one, other))


def _only(catalog: Catalog, touched: Collection[Object]) -> Catalog:
    rows = {
        name: {key: row for key, row in of.items() if (name, KINDS[name].identify(row)) in touched}
        for name, of in catalog.rows.items()
    }
    return replace(catalog, rows=rows, named={})


def _without_invalid(live: Catalog, states: Sequence[Catalog]) -> tuple[Catalog, tuple[str, ...]]:
    """Without the indexes that are invalid in the database and in no state of the migration."""
    kind = KINDS["index"]
    gone = {
        key: f"{quoted(row.schema)}.{quoted(row.name)}"
        for key, row in live.rows["index"].items()
        if not row.valid and all(there is None or there.valid for there in (_found(state, row) for state in states))
    }
    rows = {**live.rows, kind.name: {key: row for key, row in live.rows[kind.name].items() if key not in gone}}
    return replace(live, rows=rows, named={}), tuple(sorted(gone.values()))


def _found(state: Catalog, row: Any) -> Any:
    return state.find(KINDS["index"], *KINDS["index"].identify(row))


def _upto(script: Script, fits: Sequence[bool], failed: int | None) -> tuple[int | None, tuple[int, ...]]:
    """How many statements took effect, and which of them are in doubt."""
    found = [number for number, fit in enumerate(fits) if fit]
    durable = _durable(script)
    if failed is not None:
        by_log = max((number for number in durable if number < failed), default=0)
        if by_log in found:  # what Prisma's engine leaves behind when that statement fails
            return by_log, ()
        found = [number for number in found if number < failed] or found
    # Somebody may have run it otherwise than Prisma, a statement at a time: then any state is possible.
    found = [number for number in found if number in durable] or found
    if not found:
        return None, ()
    return found[-1], tuple(range(found[0] + 1, found[-1] + 1))


def _durable(script: Script) -> set[int]:
    """After how many statements something is committed, when the script runs as Prisma's engine runs it."""
    ends, count = {0}, 0
    for segment in script.segments:
        count += len(segment.statements)
        ends.add(count)
    return ends


def _took(number: int, changed: frozenset[Object], apart: Sequence[frozenset[Object]]) -> Took:
    """Of one statement, where the whole is like no state: its objects against every state."""
    if not changed:
        return "unseen"
    before = any(not changed & each for each in apart[:number])
    after = any(not changed & each for each in apart[number:])
    if before and after:
        return "unseen"
    return "yes" if after else "no" if before else "partly"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 4] + " ..."
