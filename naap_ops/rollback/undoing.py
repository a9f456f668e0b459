"""The way back by the reverses: found or made, with what each brings back, parks, loses and cannot hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from naap_ops import halfway, reverses
from naap_ops.app import App
from naap_ops.backup.repository import Backup
from naap_ops.errors import OpsError
from naap_ops.halfway import Half
from naap_ops.reverse import document, files
from naap_ops.reverse.images import parking
from naap_ops.reverse.images.model import SOURCES, Image
from naap_ops.reverse.images.parking import Expected
from naap_ops.reverse.images.parks import PARKED, Park
from naap_ops.reverse.unfit import Unfit
from naap_ops.rollback import choosing, known, objections, sources
from naap_ops.rollback.choosing import Choosing, Flags
from naap_ops.rollback.lost import Lost, Placed, placed
from naap_ops.rollback.sources import Filled
from naap_ops.rollback.ways import COUNT_SECONDS, LOAD_BYTES_PER_SECOND, REVERSE, START_SECONDS, Way

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.prisma.tracking import Books

Before = Callable[[str, str], Backup | None]
"""The backup that rows come out of which a migration destroyed and nobody captured, by schema and name."""
_NO_FLAGS: Final = Flags()
_RUN_SECONDS: Final = 0.05  # each further reverse, each further schema


@dataclass(frozen=True)
class Undoing:
    """A migration to undo: its files, None when the folder is gone; ``problem``: why its reverse cannot be used, or "".

    ``applied``: the schemas in which all of it ran; ``failed``: those in which it stopped half-way.
    """

    name: str
    files: files.Migration | None
    problem: str = ""
    applied: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def by_reverse(
    app: App,
    wanted: reverses.Wanted,
    undoing: Sequence[Undoing],
    connection: Connection,
    books: Mapping[str, Books],
    before: Before,
    *,
    flags: Flags = _NO_FLAGS,
) -> Way:
    """``undoing`` newest first; ``books`` of the schemas in question; ``flags``: what becomes of rows that do not fit.
    Reverses that are not at hand are made and proved now, which takes a while. Raises Refused for flags that are about
    nothing, or that do not fit."""
    blocked = [f"{each.name}: {each.problem}" for each in undoing if each.problem]
    if blocked:
        return Way(REVERSE, "; ".join(blocked))
    gathered = _Gathered(app, wanted, connection, books, before, Choosing(connection, flags))
    try:
        for each in undoing:
            gathered.add(each)
    except OpsError as error:
        return Way(REVERSE, error.text, told=tuple(gathered.told))
    return gathered.way(undoing)


@dataclass
class _Gathered:
    """The reverses of all of them, and what each loses, parks, brings back and cannot hold."""

    app: App
    wanted: reverses.Wanted
    connection: Connection
    books: Mapping[str, Books]
    before: Before
    choosing: Choosing
    downs: dict[str, str] = field(default_factory=dict)
    halves: dict[str, dict[str, Half]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    brought: dict[str, dict[str, Filled]] = field(default_factory=dict)
    counted: list[tuple[list[Placed], Sequence[str]]] = field(default_factory=list)
    parks: dict[str, dict[str, Sequence[Park]]] = field(default_factory=dict)
    unheld: list[tuple[str, str, list[Unfit], tuple[Image, ...]]] = field(default_factory=list)

    def add(self, each: Undoing) -> None:
        """Raises what cannot be made, proved or told."""
        if each.applied:
            self._applied(each)
        for schema in each.failed:
            half = _half(self.app, self.wanted.database, self.books[schema], each.name, self.told)
            self.halves.setdefault(schema, {})[each.name] = half
            self.counted.append((list(placed(half.text, half.losses, schema)), [schema]))
            if self.choosing.flags.given:
                self.told.append(
                    f"{each.name} failed half-way in {schema}: --default and --park-rows are not for what is undone there"
                )

    def _applied(self, each: Undoing) -> None:
        assert each.files is not None
        first = each.applied[0]
        meant = replace(self.wanted, schema=first)
        found = known.at_hand(each.files)
        if found is None or not found.complete or (self.choosing.flags.given and found.unheld is None):
            found = known.made(self.app, meant, each.files)
        own = document.schema_of(found.text) or first
        unfit = [one.moved(own, first) for one in found.unheld or ()]
        if values := self.choosing.values(unfit):
            found, own = known.made(self.app, replace(meant, values=values), each.files), first
        self.downs[each.name] = found.text
        plain = list(each.applied)
        for schema in each.applied:
            here = [one.moved(first, schema) for one in unfit]
            aimed = replace(self.wanted, values=self.choosing.values(here) if values else {})
            before = self.before(schema, each.name)
            more = sources.filled(
                self.app, aimed, each.files, found, own, self.books[schema], self.connection, before, self.told
            )
            self.unheld.append((each.name, schema, here, more.images if more is not None else ()))
            parks = more.parks if more is not None else [one.moved(own, schema) for one in found.parks or ()]
            if self.wanted.park and parks:
                self.parks.setdefault(schema, {})[each.name] = parks
            if more is not None:
                self.brought.setdefault(schema, {})[each.name] = more
                self.counted.append((list(placed(more.text, more.losses, schema)), [schema]))
                plain.remove(schema)
        if plain:
            self.counted.append((list(placed(found.text, found.losses, first)), plain))

    def chosen(self) -> Choosing:
        """What becomes of rows that do not fit. Raises Refused."""
        for name, schema, several, images in self.unheld:
            self.choosing.look(name, schema, several, images, self.parks.get(schema, {}).get(name, ()))
        self.choosing.all_used()
        return self.choosing

    def way(self, undoing: Sequence[Undoing]) -> Way:
        """All of it, counted. Raises Refused."""
        chosen = self.chosen()
        alone = len({schema for each in undoing for schema in (*each.applied, *each.failed)}) == 1
        if not alone:  # one tenant that cannot go back does not keep the others
            self.told += [choosing.left(each) for each in chosen.undecided]
        until = time.monotonic() + COUNT_SECONDS
        lost = Lost()
        for several, schemas in self.counted:
            lost.add(self.connection, several, schemas, until, (*SOURCES, PARKED) if self.wanted.park else SOURCES)
        for each in chosen.cut:
            lost.rows[each.unfit.table] = max(lost.rows.get(each.unfit.table, 0), each.rows)
            lost.losses.append(f"values of {each.line}")
        return Way(
            REVERSE,
            (choosing.problem(chosen.undecided) or self._objection(undoing[0])) if alone else "",
            lost.rows,
            tuple(dict.fromkeys(lost.losses)),
            self._seconds(undoing),
            self.downs,
            self._statements(undoing),
            halves=self.halves,
            filled=self.brought,
            told=tuple(self.told),
            uncounted=tuple(dict.fromkeys(lost.uncounted)),
            parks=self.parks,
            parked=tuple(self._parked(until)),
            unfit=tuple(chosen.found),
            chosen=chosen.chosen,
            taken=chosen.taken,
            taken_bytes=chosen.bytes,
        )

    def _parked(self, until: float) -> Iterator[Expected]:
        for of in self.parks.values():
            for name, several in of.items():
                yield from parking.expected(self.connection, name, several, until)

    def _seconds(self, undoing: Sequence[Undoing]) -> float:
        runs = sum(len(each.applied) + len(each.failed) for each in undoing)
        seconds = START_SECONDS + _RUN_SECONDS * (runs - 1)
        for of in self.brought.values():
            by_backup: dict[str, list[Filled]] = {}
            for one in of.values():
                if one.backup is not None:
                    by_backup.setdefault(one.backup.id, []).append(one)
            seconds += sum(START_SECONDS + _bytes_of(several) / LOAD_BYTES_PER_SECOND for several in by_backup.values())
        return round(seconds, 1)

    def _statements(self, undoing: Sequence[Undoing]) -> int:
        count = sum(_statements(self.downs[each.name]) * len(each.applied) for each in undoing if each.applied)
        return count + sum(_statements(half.text) for of in self.halves.values() for half in of.values())

    def _objection(self, newest: Undoing) -> str:
        """Why the first reverse would stop in the only schema that it is meant for."""
        schema = (*newest.applied, *newest.failed)[0]
        text = self.downs[newest.name] if newest.applied else self.halves[schema][newest.name].text
        if newest.name in self.brought.get(schema, {}):
            text = self.brought[schema][newest.name].text
        found = objections.objection(self.connection, text, schema, self.choosing.tables(newest.name, schema))
        return f"{newest.name}: {found}" if found else ""


def _bytes_of(several: Sequence[Filled]) -> float:
    """What of their backup, which is one, is read, in bytes of its files."""
    backup = several[0].backup
    assert backup is not None
    wanted = {image.keep.relation for one in several for image in one.images}
    paths = {table.file for table in backup.sound.tables if (table.schema, table.name) in wanted}
    return float(sum(fact.bytes for fact in backup.sound.files if fact.path in paths))


def _half(app: App, database: str | None, books: Books, name: str, told: list[str]) -> Half:
    """The reverse of what took effect. Raises what cannot be told or reversed; ``told`` gets how far it came in any case."""
    app.events.emit("rollback.step", name="halfway", text=f"{name} failed half-way: looking how far it came")
    seen = halfway.look(app, database, books, name)
    told += seen.lines()
    return halfway.reverse(app, database, seen)


def _statements(text: str) -> int:
    from naap_ops.reverse.script import parse

    return sum(
        each.tag not in ("SET", "DO")
        for part in document.segments(text)
        for each in parse(part.sql.encode(), name="").statements
    )
