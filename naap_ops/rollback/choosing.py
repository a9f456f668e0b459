"""What becomes of rows that the state before a migration cannot hold: what the flags say, and how many rows that is about.

Counted in the live tables, as they are. Of several migrations only the newest starts from that state; what cannot be asked yet
of an older one is found when its turn comes, and stops it then unless a choice was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg

from naap_ops.errors import Refused, RowsUnfit
from naap_ops.reverse.images import fitting, parking
from naap_ops.reverse.images.fitting import CUT, DEFAULT, NO_KEY, NO_KEY_HINT, PARK, Chosen
from naap_ops.reverse.images.model import Image, Name
from naap_ops.reverse.images.parks import Park
from naap_ops.reverse.images.taking import relation
from naap_ops.reverse.render import literal, quoted
from naap_ops.reverse.unfit import Unfit, besides
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.reverse.given import Values

_SECONDS: Final = 0.5  # for the plan: what takes longer to count is left to the run
_KEYS: Final = 5
_NULL: Final = "NULL"
_ANOTHER: Final = "Give a value that is good before the migration and after it; where there is none: --park-rows."
_LENGTH: Final = re.compile(r"character(?: varying)?\((\d+)\)")


@dataclass(frozen=True)
class Flags:
    """``defaults``: ``[SCHEMA.]TABLE.COLUMN=VALUE`` each, where NULL stands for a null. ``park``: rows without one are parked,
    ``keep``: and so are the values that a default replaces. ``force``: images overwrite newer values."""

    defaults: tuple[str, ...] = ()
    park: bool = False
    keep: bool = True
    force: bool = False

    @property
    def given(self) -> bool:
        return bool(self.defaults) or self.park


@dataclass(frozen=True)
class Found:
    """Rows that do not fit. ``choice``: default, park, cut, or '' where nobody has chosen. ``kept``: what is cut is parked."""

    migration: str
    unfit: Unfit
    rows: int
    keys: tuple[str, ...]
    choice: str
    value: str | None = None
    kept: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {
            "migration": self.migration,
            "table": self.unfit.table,
            "column": self.unfit.column or None,
            "rows": self.rows,
            "keys": list(self.keys),
            "reason": self.unfit.reason,
            "choice": self.choice or None,
        }

    @property
    def line(self) -> str:
        """For people."""
        more = ", ..." if self.rows > len(self.keys) else ""
        which = f" (key {'; '.join(self.keys)}{more})" if self.keys else ""
        told = f"{count_of(self.rows, 'row')} of {self.unfit.where}{which}: {self.unfit.reason}"
        if self.choice == DEFAULT:
            return f"{told}: {'a null' if self.value is None else repr(self.value)} instead"
        if self.choice == CUT:
            return f"{told}: {'the whole value is parked' if self.kept else 'the rest is lost'}"
        return f"{told}{': parked' if self.choice == PARK else ''}"


@dataclass
class Choosing:
    """``found``: what there is, over all migrations; ``chosen``: by schema and migration; ``taken``: rows by table that are
    parked with it, those that refer to them included, ``bytes`` in all."""

    connection: Connection
    flags: Flags
    found: list[Found] = field(default_factory=list)
    chosen: dict[str, dict[str, list[Chosen]]] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    _names: dict[str, None] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    # --- flags --------------------------------------------------------------------------------------------------------

    def values(self, several: Iterable[Unfit]) -> Values:
        """For columns that come back with the reverse itself. Raises Refused for a null."""
        values: dict[tuple[Name, str], str] = {}
        for each in several:
            flag = self._flag(each)
            if each.absent and flag is not None:
                value = _value(flag, each)
                if value is None:
                    raise Refused(reason=f"{each.where} must not be null: {flag}", hint=_ANOTHER)
                values[each.relation, each.column] = value
        return values

    def _flag(self, unfit: Unfit) -> str | None:
        """The flag that is about it."""
        if not unfit.column or unfit.cut:
            return None
        self._names[unfit.where] = None
        found = [each for each in self.flags.defaults if any(each.startswith(f"{name}=") for name in _names(unfit))]
        self._used.update(found)
        return found[-1] if found else None

    def all_used(self) -> None:
        """Raises Refused for a flag that is about nothing that there is."""
        for each in self.flags.defaults:
            if each not in self._used:
                known = ", ".join(self._names)
                raise Refused(
                    reason=f"--default {each} is about no column whose values may not fit the state before the migration",
                    hint=f"Those are: {known}." if known else "There are none: leave it away.",
                )

    # --- what there is ------------------------------------------------------------------------------------------------

    def look(
        self, migration: str, schema: str, several: Sequence[Unfit], images: Sequence[Image], parks: Sequence[Park]
    ) -> None:
        """What there is of one migration in one schema. ``images``: what brings rows back; ``parks``: what is parked. Raises
        Refused for a value that does not fit either."""
        chosen: list[Chosen] = []
        there: list[Unfit] = []
        for each in several:
            flag = self._flag(each)
            if each.absent and each.filled and flag is None:
                continue
            choice = CUT if each.cut else DEFAULT if flag is not None else PARK if self.flags.park else ""
            value = _value(flag, each) if flag is not None else None
            if choice == DEFAULT:
                self._fits(each, value, schema)
            exact = besides(each, images, parks, force=self.flags.force)
            key = fitting.keyed(self.connection, each)
            if choice:
                chosen.append(Chosen(exact, choice, value))
            rows, keys = self._count(exact, schema)
            if rows and not (each.absent and each.filled):
                kept = self.flags.keep and bool(key)
                self.found.append(Found(migration, each, rows, keys, choice, value, kept))
            if rows and choice == PARK:
                there.append(exact)
            elif rows and choice == DEFAULT and self.flags.keep and not each.absent and not key:
                raise Refused(reason=NO_KEY.format(table=each.table), hint=NO_KEY_HINT)
        if chosen:
            self.chosen.setdefault(schema, {})[migration] = chosen
        self._refer(there, schema, frozenset(each.relation for each in parks if each.goes))

    def _count(self, unfit: Unfit, schema: str) -> tuple[int, tuple[str, ...]]:
        """How many, and the keys of the first; 0 where that is not known."""
        rows = f"FROM {relation(unfit.relation)} r WHERE {unfit.condition}"
        with _looking(self.connection, schema):
            row = self.connection.execute(f"SELECT count(*) {rows}".encode()).fetchone()
            count = int(row[0]) if row else 0
            key = fitting.key_of(self.connection, unfit.relation) if count else ()
            names = ", ".join(f"r.{quoted(name)}" for name in key)
            listed = f"SELECT concat_ws(', ', {names}) {rows} ORDER BY {names} LIMIT {_KEYS}"
            keys = self.connection.execute(listed.encode()).fetchall() if key else []
            return count, tuple(value for (value,) in keys)
        return 0, ()

    def _fits(self, unfit: Unfit, value: str | None, schema: str) -> None:
        """Raises Refused."""
        limit = _LENGTH.fullmatch(unfit.type)
        if value is not None and limit is not None and len(value) > int(limit[1]):
            raise Refused(reason=f"{unfit.where} is {unfit.type}, which {value!r} does not fit", hint=_ANOTHER)
        given = f"{_NULL if value is None else literal(value)}::{unfit.type}"
        query = f"SELECT ({unfit.condition}) FROM (SELECT {given} AS {quoted(unfit.column)}) r"
        try:
            with self.connection.transaction(force_rollback=True):
                fitting.meant(self.connection, schema)
                wrong = self.connection.execute(query.encode()).fetchone()
        except psycopg.errors.UndefinedObject:
            return  # a type that comes back with the reverse: its proof tries the value
        except psycopg.Error as error:
            if self.connection.broken:
                raise
            reason = error.diag.message_primary or str(error)
            raise Refused(reason=f"{unfit.where} does not take {value!r}: {reason}", hint=_ANOTHER) from None
        if wrong == (True,) and not unfit.absent:
            raise Refused(reason=f"{value!r} does not fit {unfit.where} either: {unfit.reason}", hint=_ANOTHER)

    def _refer(self, several: Sequence[Unfit], schema: str, whole: frozenset[Name]) -> None:
        if not several:
            return
        with _looking(self.connection, schema, reads=False):
            for name, marked in fitting.refer(self.connection, several, schema).items():
                if name not in whole:
                    table = ".".join(name)
                    self.taken[table] = self.taken.get(table, 0) + marked.rows
                    self.bytes += parking.weight(self.connection, name, marked.rows)

    def tables(self, migration: str, schema: str) -> set[str]:
        """As the reverse writes them, the tables rows of which are made to fit."""
        chosen = self.chosen.get(schema, {}).get(migration, ())
        names = {each.unfit.relation for each in chosen if each.choice != CUT}
        return {quoted(name) if of == schema else relation((of, name)) for of, name in names}

    # --- told ---------------------------------------------------------------------------------------------------------

    @property
    def cut(self) -> list[Found]:
        """What goes for good."""
        return [each for each in self.found if each.choice == CUT and not each.kept]

    @property
    def undecided(self) -> list[Found]:
        return [each for each in self.found if not each.choice]


def problem(undecided: Sequence[Found]) -> str:
    """Why the reverse cannot be taken, '' without any."""
    if not undecided:
        return ""
    return f"rows do not fit: {'; '.join(each.line for each in undecided)} ({_flags(undecided)}--park-rows)"


def left(one: Found) -> str:
    """That one of several schemas will stay behind."""
    return f"{one.unfit.relation[0]} will be left behind: {one.line} ({_flags([one])}--park-rows)"


def refusal(undecided: Sequence[Found], *, restore: bool) -> RowsUnfit:
    """What stops it. ``restore``: it could be done by the backup instead."""
    lines = "\n".join(f"  {each.line}" for each in undecided)
    other = " Or --strategy restore, which loses what was written since." if restore else ""
    return RowsUnfit(lines=lines, flags=_flags(undecided), other=other, unfit=[each.as_dict() for each in undecided])


def _flags(undecided: Sequence[Found]) -> str:
    """The defaults that could be given, to be pasted."""
    named = dict.fromkeys(each.unfit.where for each in undecided if each.unfit.column)
    listed = " ".join("--default " + _word(f"{name}=VALUE") for name in named)
    return f"{listed}, or " if listed else ""


def _word(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _names(unfit: Unfit) -> Iterator[str]:
    yield unfit.where
    yield f"{unfit.relation[1]}.{unfit.column}"


def _value(flag: str, unfit: Unfit) -> str | None:
    name = next(name for name in _names(unfit) if flag.startswith(f"{name}="))
    value = flag[len(name) + 1 :]
    return None if value == _NULL else value


@contextmanager
def _looking(connection: Connection, schema: str, *, reads: bool = True) -> Iterator[None]:
    """What takes too long, or speaks of what is not there, is passed over."""
    try:
        with connection.transaction(force_rollback=True):
            if reads:
                connection.execute("set transaction read only")
            connection.execute(f"set local statement_timeout = {int(_SECONDS * 1000)}".encode())
            fitting.meant(connection, schema)
            yield
    except psycopg.Error:
        if connection.broken:
            raise


def as_json(chosen: Mapping[str, Mapping[str, Sequence[Chosen]]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By schema and migration, for the journal."""
    return {
        schema: {name: [each.as_dict() for each in several] for name, several in of.items()} for schema, of in chosen.items()
    }
