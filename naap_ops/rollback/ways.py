"""The ways back from a migration, and what each loses: by the reverse, by the backup before it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from naap_ops import halfway, reverses
from naap_ops.app import App
from naap_ops.backup.repository import Backup
from naap_ops.errors import OpsError
from naap_ops.halfway import Half
from naap_ops.reverse import document, files
from naap_ops.reverse.images import parking
from naap_ops.reverse.images.fitting import Chosen
from naap_ops.reverse.images.model import SOURCES, Image, Keep
from naap_ops.reverse.images.parking import Expected
from naap_ops.reverse.images.parks import PARKED, Park
from naap_ops.reverse.unfit import Unfit
from naap_ops.rollback import objections, since, sources
from naap_ops.rollback.choosing import Choosing, Flags, Found
from naap_ops.rollback.choosing import problem as choosing_problem
from naap_ops.rollback.sources import Filled, Known
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection
    from naap_ops.prisma.tracking import Books

Placed = tuple[list[str], Mapping[str, Any]]
"""The words of a loss's object, the first "" where that is the migration's own schema, and the loss."""

REVERSE: Final = "reverse"
RESTORE: Final = "restore"
_ESTIMATE: Final = """
select n_live_tup * (1 - coalesce(p.null_frac, 0)) from pg_catalog.pg_stat_user_tables s
  left join pg_catalog.pg_stats p on (p.schemaname, p.tablename) = (s.schemaname, s.relname) and p.attname = %s
where s.schemaname = %s and s.relname = %s
"""
_NO_FLAGS: Final = Flags()
_COUNT_SECONDS: Final = 0.5  # for the plan: what takes longer is estimated
_LOAD_BYTES_PER_SECOND: Final = 40e6
_START_SECONDS: Final = 2.0
_RUN_SECONDS: Final = 0.05  # each further reverse, each further schema


@dataclass(frozen=True)
class Way:
    """``problem``: why it cannot be taken, "" if it can. ``lost``: rows by table, as far as they can be counted.

    ``losses``: all that is lost, in words. ``downs``: the reverse by migration. ``seconds``: how long it takes, roughly.
    ``uncounted``: those of the losses of which nobody knows how many rows they are: what the migration itself had destroyed.
    ``filled``: by schema and migration, the reverse that brings rows back; ``source``: the backup that some of them are in.
    ``halves``: by schema and migration, where that failed half-way, the reverse of what took effect; ``told``: how far it came.
    ``parks``: by schema and migration, what of that is parked which the reverse takes away; ``parked``: about how much.
    ``unfit``: rows that the state before cannot hold; ``chosen``: by schema and migration what becomes of them; ``taken``: by
    table those that are parked, with those that refer to them.
    """

    strategy: str
    problem: str = ""
    lost: Mapping[str, int] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    seconds: float | None = None
    downs: Mapping[str, str] = field(default_factory=dict)
    statements: int = 0
    backup: Backup | None = None
    halves: Mapping[str, Mapping[str, Half]] = field(default_factory=dict)
    filled: Mapping[str, Mapping[str, Filled]] = field(default_factory=dict)
    source: Backup | None = None
    told: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    parks: Mapping[str, Mapping[str, Sequence[Park]]] = field(default_factory=dict)
    parked: tuple[Expected, ...] = ()
    unfit: tuple[Found, ...] = ()
    chosen: Mapping[str, Mapping[str, Sequence[Chosen]]] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=dict)

    @property
    def possible(self) -> bool:
        return not self.problem

    @property
    def rows(self) -> int:
        return sum(self.lost.values())

    @property
    def comes_back(self) -> tuple[str, ...]:
        """Rows that the migration had destroyed, in sentences."""
        return tuple(dict.fromkeys(line for of in self.filled.values() for each in of.values() for line in each.lines()))

    @property
    def parked_rows(self) -> dict[str, int]:
        """By table, about; of those that have any."""
        found: dict[str, int] = {}
        for each in self.parked:
            table = ".".join(each.park.relation)
            found[table] = max(found.get(table, 0), each.rows)
        for table, rows in self.taken.items():
            found[table] = found.get(table, 0) + rows
        return {table: rows for table, rows in found.items() if rows}

    def as_dict(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "possible": self.possible,
            "problem": self.problem,
            "lost": dict(self.lost),
            "losses": list(self.losses),
            "seconds": self.seconds,
            "backup": self.backup.id if self.backup else None,
            "uncounted": list(self.uncounted),
            "halfway": list(self.told),
            "comes_back": list(self.comes_back),
            "parked": self.parked_rows,
        }


def best(ways: Sequence[Way]) -> Way | None:
    """The way that loses least: nothing before something, then by rows; among equals the reverse, which nobody notices. None
    where there is no way, or where all lose and not all of that is counted: :func:`undecided` says which."""
    possible = [way for way in ways if way.possible]
    if undecided(possible):
        return None
    return min(possible, key=lambda way: (bool(way.losses), way.rows, way.strategy != REVERSE), default=None)


def undecided(ways: Sequence[Way]) -> bool:
    """Whether what the ways lose cannot be compared."""
    possible = [way for way in ways if way.possible]
    return len(possible) > 1 and all(way.losses for way in possible) and any(way.uncounted for way in possible)


# --- by the reverse -------------------------------------------------------------------------------------------------


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
    backup: Backup | None = None,
    *,
    park: bool = False,
    flags: Flags = _NO_FLAGS,
) -> Way:
    """``undoing`` newest first; ``books`` of the schemas in question; ``backup`` from before all of them; ``park``: what it
    takes away is parked; ``flags``: what becomes of rows that do not fit. Reverses that are not at hand are made and proved
    now, which takes a while. Raises Refused for flags that are about nothing, or that do not fit."""
    blocked = [f"{each.name}: {each.problem}" for each in undoing if each.problem]
    if blocked:
        return Way(REVERSE, "; ".join(blocked))
    all_of = _Gathered(app, wanted, connection, books, backup, park, Choosing(connection, flags))
    try:
        for each in undoing:
            all_of.add(each)
    except OpsError as error:
        return Way(REVERSE, error.text, told=tuple(all_of.told))
    choosing = all_of.chosen()
    downs, halves, brought, parks = all_of.downs, all_of.halves, all_of.brought, all_of.parks
    lost: dict[str, int] = {}
    losses: list[str] = []
    uncounted: list[str] = []
    until = time.monotonic() + _COUNT_SECONDS
    for placed, schemas in all_of.counted:
        rows, said = _losses(connection, placed, schemas, until, SOURCES if not park else (*SOURCES, PARKED))
        for table, number in rows.items():
            lost[table] = max(lost.get(table, 0), number)
        losses += said.values()
        uncounted += [said[at] for at, (_, loss) in enumerate(placed) if at in said and _is_uncounted(loss)]
    parked = [
        one
        for of in parks.values()
        for name, each_of in of.items()
        for one in parking.expected(connection, name, each_of, until)
    ]
    problem = choosing_problem(choosing.undecided) or _objection(connection, undoing[0], downs, halves, brought, choosing)
    count = sum(_statements(downs[each.name]) * len(each.applied) for each in undoing if each.applied)
    count += sum(_statements(half.text) for of in halves.values() for half in of.values())
    runs = sum(len(each.applied) + len(each.failed) for each in undoing)
    seconds = _START_SECONDS + _RUN_SECONDS * (runs - 1)
    source = backup if any(one.from_backup for of in brought.values() for one in of.values()) else None
    if source is not None:
        seconds += _START_SECONDS + _bytes_of(source, brought) / _LOAD_BYTES_PER_SECOND
    return Way(
        REVERSE,
        problem,
        lost,
        tuple(dict.fromkeys(losses)),
        round(seconds, 1),
        downs,
        count,
        halves=halves,
        filled=brought,
        source=source,
        told=tuple(all_of.told),
        uncounted=tuple(dict.fromkeys(uncounted)),
        parks=parks,
        parked=tuple(parked),
        unfit=tuple(choosing.found),
        chosen=choosing.chosen,
        taken=choosing.taken,
    )


@dataclass
class _Gathered:
    """The reverses of all of them, and what each loses, parks, brings back and cannot hold."""

    app: App
    wanted: reverses.Wanted
    connection: Connection
    books: Mapping[str, Books]
    backup: Backup | None
    park: bool
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
            self.counted.append((list(_placed(half.text, half.losses, schema)), [schema]))
            if self.choosing.flags.given:
                self.told.append(
                    f"{each.name} failed half-way in {schema}: --default and --park-rows are not for what is undone there"
                )

    def _applied(self, each: Undoing) -> None:
        assert each.files is not None
        first = each.applied[0]
        meant = replace(self.wanted, schema=first)
        known = at_hand(each.files)
        if known is None or not known.complete or (self.choosing.flags.given and known.unheld is None):
            known = _made(self.app, meant, each.files)
        own = document.schema_of(known.text) or first
        unfit = [one.moved(own, first) for one in known.unheld or ()]
        if values := self.choosing.values(unfit):
            known, own = _made(self.app, replace(meant, values=values), each.files), first
        self.downs[each.name] = known.text
        plain = list(each.applied)
        for schema in each.applied:
            here = [one.moved(first, schema) for one in unfit]
            aimed = replace(self.wanted, values=self.choosing.values(here) if values else {})
            more = sources.filled(
                self.app, aimed, each.files, known, own, self.books[schema], self.connection, self.backup, self.told
            )
            self.unheld.append((each.name, schema, here, more.images if more is not None else ()))
            if self.park and known.parks:
                self.parks.setdefault(schema, {})[each.name] = [one.moved(own, schema) for one in known.parks]
            if more is not None:
                self.brought.setdefault(schema, {})[each.name] = more
                self.counted.append((list(_placed(more.text, more.losses, schema)), [schema]))
                plain.remove(schema)
        if plain:
            self.counted.append((list(_placed(known.text, known.losses, first)), plain))

    def chosen(self) -> Choosing:
        """What becomes of rows that do not fit. Raises Refused."""
        for name, schema, several, images in self.unheld:
            whole = [one.relation for one in self.parks.get(schema, {}).get(name, ()) if one.whole]
            self.choosing.look(name, schema, several, images, whole)
        self.choosing.all_used()
        return self.choosing


def _bytes_of(backup: Backup, brought: Mapping[str, Mapping[str, Filled]]) -> float:
    """What of the backup is read, in bytes of its files."""
    wanted = {image.keep.relation for of in brought.values() for one in of.values() for image in one.images}
    paths = {table.file for table in backup.sound.tables if (table.schema, table.name) in wanted}
    return float(sum(fact.bytes for fact in backup.sound.files if fact.path in paths))


def _objection(
    connection: Connection,
    newest: Undoing,
    downs: Mapping[str, str],
    halves: Mapping[str, Mapping[str, Half]],
    brought: Mapping[str, Mapping[str, Filled]],
    choosing: Choosing,
) -> str:
    """Why the first reverse would stop, where it is meant for one schema. Of several, each stops or runs by itself."""
    if len(newest.applied) + len(newest.failed) != 1:
        return ""
    schema = (*newest.applied, *newest.failed)[0]
    text = downs[newest.name] if newest.applied else halves[schema][newest.name].text
    if newest.name in brought.get(schema, {}):
        text = brought[schema][newest.name].text
    found = objections.objection(connection, text, schema, choosing.tables(newest.name, schema))
    return f"{newest.name}: {found}" if found else ""


def _is_uncounted(loss: Mapping[str, Any]) -> bool:
    """Rows that the migration itself took away or changed: nobody knows how many."""
    return not loss.get("since") and loss["loss"] in ("rows", "values")


def _half(app: App, database: str | None, books: Books, name: str, told: list[str]) -> Half:
    """The reverse of what took effect. Raises what cannot be told or reversed; ``told`` gets how far it came in any case."""
    app.events.emit("rollback.step", name="halfway", text=f"{name} failed half-way: looking how far it came")
    seen = halfway.look(app, database, books, name)
    told += seen.lines()
    return halfway.reverse(app, database, seen)


def _placed(text: str, losses: Iterable[Mapping[str, Any]], asked: str) -> Iterator[Placed]:
    """Each loss, and the words of its object: the first is "" where it lies in the schema that the reverse was made in, which
    need not be the one in which it is run."""
    own = document.schema_of(text) or asked
    for loss in losses:
        words = str(loss["object"]).split(".") if loss.get("object") else []
        yield ["" if each == own and at == 0 else each for at, each in enumerate(words)], loss


def at_hand(migration: files.Migration) -> Known | None:
    """The reverse that lies beside it, proved as it is for the script as it is, and its losses. None without one."""
    try:
        data = migration.down.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError):
        return None
    known = migration.known()
    script = hashlib.sha256(migration.read()).hexdigest()
    proved = document.status_of(text) == ("proved", script) and known.get("down_sha256") == hashlib.sha256(data).hexdigest()
    if not proved:
        return None
    keeps = tuple(map(Keep.of, known["keeps"])) if "keeps" in known else None
    parks = tuple(map(Park.of, known["parks"])) if "parks" in known else None
    unheld = tuple(map(Unfit.of, known["unfit"])) if "unfit" in known else None
    return Known(text, list(known.get("losses", [])), keeps, parks, unheld)


def _made(app: App, wanted: reverses.Wanted, migration: files.Migration) -> Known:
    """A reverse made and proved now, and written nowhere. Raises what making it raises, ReverseRefused, ProofFailed."""
    from naap_ops.errors import ProofFailed, ReverseRefused

    app.events.emit("rollback.step", name="prove", text=f"{migration.name} has no proved reverse at hand: making one")
    all_of = files.in_folder(migration.path.parent.parent)
    made = reverses.one(app, wanted, migration, all_of, reverses.live(app, wanted))
    if made.reverse.status != "proved":
        kind = ReverseRefused if made.exit_code == reverses.REFUSED else ProofFailed
        raise kind(reason=f"{migration.name} has no proved reverse: {made.reverse.reason.splitlines()[0]}")
    return Known(made.reverse.text, made.reverse.losses, made.reverse.keeps, made.reverse.parks, made.reverse.unheld)


def _statements(text: str) -> int:
    from naap_ops.reverse.script import parse

    return sum(
        each.tag not in ("SET", "DO")
        for part in document.segments(text)
        for each in parse(part.sql.encode(), name="").statements
    )


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


# --- by the backup ----------------------------------------------------------------------------------------------------


def by_restore(connection: Connection, backup: Backup | None, problem: str, schemas: Sequence[str] | None) -> Way:
    """``schemas``: only those are restored, None: the whole database."""
    if backup is None:
        return Way(RESTORE, problem or "no verified backup is from before it")
    written = since.written_since(connection, backup.sound, schemas=schemas, seconds=_COUNT_SECONDS)
    size = float(backup.sound.database.get("bytes") or 0)
    return Way(
        RESTORE,
        "",
        since.as_json(written),
        tuple(since.told(written)),
        round(_START_SECONDS + size / _LOAD_BYTES_PER_SECOND, 1),
        backup=backup,
    )
