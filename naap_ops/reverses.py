"""Reverses as an operator asks for them: of which migration, from which state, tried where, written to which files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naap_ops.app import App
from naap_ops.backup import structure
from naap_ops.errors import (
    DatabaseMissing,
    ForwardFailed,
    MigrationNotFound,
    OpsError,
    PrismaProjectNotFound,
    Refused,
    ServerUnreachable,
    ShadowSpoiled,
)
from naap_ops.places import ShadowPlace, Target
from naap_ops.postgres.catalog.extensions import extensions
from naap_ops.postgres.catalog.roles import needed_roles
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.session import connect
from naap_ops.prisma.books import books
from naap_ops.reverse import document, edited, files, history, refusals, shadows, starting, verdicts
from naap_ops.reverse.files import Migration
from naap_ops.reverse.given import Values
from naap_ops.reverse.images.model import Image, Keep, images_of
from naap_ops.reverse.make import Reverse, make
from naap_ops.reverse.proof import Shadow
from naap_ops.reverse.render import Sql
from naap_ops.reverse.script import Script

if TYPE_CHECKING:
    from naap_ops.backup.repository import Backup

STATES = ("live", "backup", "history", "empty")
PROVED, REFUSED, FAILED = 0, 18, 19


@dataclass(frozen=True)
class Wanted:
    """What the flags say. ``state``: live, backup[:ID], history, empty; None: whichever fits. ``schema`` None: the URL's.

    ``images``: what rows are brought back from, ``overwrite``: over newer values. ``park``: what the reverse takes away is
    parked. ``values``: for columns that come back.
    """

    database: str | None = None
    schema: str | None = None
    state: str | None = None
    proof: bool = True
    force: bool = False
    check: bool = False
    images: tuple[Image, ...] = ()
    overwrite: bool = False
    park: bool = False
    values: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Live:
    """The live database. ``applied``: what Prisma's books of the schema say, None when it keeps none there."""

    target: Target
    schema: str
    applied: frozenset[str] | None
    lacks_tables: bool


@dataclass(frozen=True)
class Start:
    """A starting state: ``kind``, the same in ``words``, the migrations to replay ``first``, the backup if it is one."""

    kind: str
    words: str
    first: tuple[Migration, ...] = ()
    backup: Backup | None = None


@dataclass
class Ground:
    """A shadow in its starting state. ``lacking``: extensions that its server does not have; ``notes``: what else differs."""

    shadow: Shadow
    place: ShadowPlace
    state: str
    lacking: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Made:
    """A reverse and where it was written to. ``state``: against which state it was made, and on what."""

    migration: Migration
    reverse: Reverse
    down: Path | None
    state: str
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 proved (or not to be proved), 18 refused, 19 its proof failed or was not possible."""
        if self.reverse.status == "proved" or (self.reverse.status == "unproved" and self.reverse.reason == verdicts.NOT_TRIED):
            return PROVED
        return REFUSED if self.reverse.status == "refused" and not verdicts.proof_failed(self.reverse) else FAILED

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: what down.json holds, and ``down``, ``state``, ``notes``."""
        return {
            **self.reverse.as_dict(),
            "down": str(self.down) if self.down else None,
            "state": self.state,
            "notes": list(self.notes),
        }


# --- what there is --------------------------------------------------------------------------------------------------


def folder(app: App, given: str | None) -> Path:
    """The folder of migrations: the flag's, the setting's, the first of the usual ones. Raises ConfigurationError."""
    chosen = Path(given) if given else app.loaded.settings.reverse.migrations
    if chosen is not None:
        return app.loaded.cwd / chosen
    try:
        return app.project().migrations
    except PrismaProjectNotFound:  # a folder of migrations without a schema beside it is enough here
        return files.usual_folder(app.loaded.cwd)


def sql(app: App, schema: str) -> Sql:
    """The templates: the package's, and before them the user's own. Raises ConfigurationError."""
    own = app.loaded.settings.reverse.templates
    return Sql(schema, app.loaded.cwd / own if own else None)


def live(app: App, wanted: Wanted) -> Live | None:
    """The live database, None when none is configured or it cannot be reached and another state will do."""
    try:
        target = app.target(wanted.database)
    except (ServerUnreachable, DatabaseMissing):
        if wanted.state == "live":
            raise
        return None
    except OpsError:
        if wanted.state == "live" or app.choice(wanted.database).url is not None:
            raise
        return None  # PG* variables and libpq's defaults led somewhere, but nobody had named a database
    schema = wanted.schema or target.info.schema
    with connect(target.info) as connection:
        own = [book for book in books(connection) if book["schema"] == schema]
        lacks = connection.execute(
            "select not exists (select from pg_catalog.pg_tables where schemaname = %s)", (schema,)
        ).fetchone()
    applied = (
        frozenset(each["name"] for book in own for each in book["migrations"] if each["state"] == "applied") if own else None
    )
    return Live(target, schema, applied, lacks == (True,))


def schema_of(wanted: Wanted, there: Live | None) -> str:
    """What unqualified names mean."""
    return wanted.schema or (there.schema if there else "public")


def start(app: App, wanted: Wanted, there: Live | None, migration: Migration, all_of: Sequence[Migration]) -> Start:
    """Which state a migration starts from: as asked for, else live where it is still to come there, else history."""
    before = tuple(all_of[: all_of.index(migration)]) if migration in all_of else tuple(all_of)
    kind, _, ref = (wanted.state or _fitting(there, migration, all_of)).partition(":")
    if kind == "live":
        assert there is not None
        applied = there.applied if there.applied is not None else frozenset[str]() if there.lacks_tables else None
        first = (
            tuple(each for each in before if applied is not None and each.name not in applied) if migration in all_of else ()
        )
        more = f" and the {len(first)} migrations that come before it" if first else ""
        return Start(kind, f"the live database {there.target.info.dbname}{more}", first)
    if kind == "backup":
        found = app.repository.find(ref or "latest", app.alias(wanted.database))
        return Start(kind, f"backup {found.id}", (), found)
    if kind == "history":
        return Start(kind, f"the history before it ({len(before)} migrations)", before)
    return Start("empty", "an empty database")


def _fitting(there: Live | None, migration: Migration, all_of: Sequence[Migration]) -> str:
    if there is None:
        return "history"
    if migration not in all_of:
        return "live"
    if there.applied is None:
        return "live" if there.lacks_tables else "history"
    return "history" if migration.name in there.applied else "live"


def pending(there: Live | None, all_of: Sequence[Migration]) -> list[Migration]:
    """Those without a row that says applied; all of them where nothing is known."""
    applied = there.applied if there is not None and there.applied is not None else frozenset()
    return [each for each in all_of if each.name not in applied]


# --- the ground -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(app: App, wanted: Wanted, there: Live | None, begin: Start) -> Iterator[Ground]:
    """A shadow in that starting state, gone afterwards. Raises ForwardFailed when a migration before does not run there."""
    like = there.target.info.dbname if there else None
    major = int(begin.backup.sound.server["version_num"]) // 10000 if begin.backup and there is None else None
    schema = schema_of(wanted, there)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(app.places.shadow(there.target if there else None, major=major, like=like))
        lacking, notes = _fill(app, place, there, begin)
        connection = stack.enter_context(contextlib.closing(shadows.session(place.info, schema)))
        words = f"{begin.words}, on a shadow {_WHERE[place.kind]}"
        ground = Ground(Shadow(connection, snapshot(connection, schema=schema)), place, words, lacking, notes)
        for each in begin.first:
            starting.replayed(ground.shadow, each.script())
        if begin.first:
            ground.shadow.catalog = snapshot(connection, schema=schema)
        yield ground


_WHERE = {"url": "at shadow_database_url", "beside": "beside it", "embedded": "on a server of our own"}


def _fill(app: App, place: ShadowPlace, there: Live | None, begin: Start) -> tuple[list[str], list[str]]:
    """Load the starting state's schema. Extensions that its server lacks for it, and what is not as it is there."""
    dump: starting.Dump
    if begin.kind == "live":
        assert there is not None
        target = there.target
        with connect(target.info) as connection:
            wanted, roles = [each["name"] for each in extensions(connection)], needed_roles(connection)
        dump = partial(starting.dumped, target.tools, target.info)
    elif begin.backup is not None:
        manifest = begin.backup.sound
        wanted, roles = [each["name"] for each in manifest.extensions], manifest.roles
        dump = partial(structure.script, begin.backup, app.readers(manifest))
    else:
        if there is not None and place.kind == "embedded":
            with connect(there.target.info) as connection:
                roles = needed_roles(connection)
            starting.lend(place.info, roles)
        return [], []
    return starting.fill(place.info, dump, wanted, roles if place.kind == "embedded" else [])


# --- the work -------------------------------------------------------------------------------------------------------


def one(app: App, wanted: Wanted, migration: Migration, all_of: Sequence[Migration], there: Live | None) -> Made:
    """The reverse of one migration: made, proved, written."""
    _may_write(wanted, migration)
    begin = start(app, wanted, there, migration, all_of)
    return next(_series(app, wanted, there, begin, [migration]))


def with_images(
    app: App, wanted: Wanted, migration: Migration, all_of: Sequence[Migration], there: Live | None, keeps: Sequence[Keep]
) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """Why the reverse of a migration that is not applied yet will not bring back what images would hold, '' where it will; and
    its losses then."""
    import psycopg

    asked = replace(wanted, images=images_of(migration.name, tuple(keeps)), check=True)
    try:
        made = one(app, asked, migration, all_of, there).reverse
    except ForwardFailed as failure:
        return failure.text, ()
    except psycopg.DatabaseError as error:  # it cannot be read as an image holds it
        return error.diag.message_primary or str(error), ()
    if made.status == "proved" and not made.unfit:
        return "", made.losses
    return next(iter(made.unfit or made.reason.splitlines()), "the proof of that failed"), ()


def several(
    app: App, wanted: Wanted, chosen: Sequence[Migration], all_of: Sequence[Migration], there: Live | None
) -> Iterator[Made]:
    """The reverses of several in their order, each from the state that the one before leaves."""
    for migration in chosen:
        _may_write(wanted, migration)
    if chosen:
        yield from _series(app, wanted, there, start(app, wanted, there, chosen[0], all_of), chosen)


def _may_write(wanted: Wanted, migration: Migration) -> None:
    if not wanted.check:
        files.may_write(migration, force=wanted.force)


def _series(app: App, wanted: Wanted, there: Live | None, begin: Start, chosen: Sequence[Migration]) -> Iterator[Made]:
    """On one shadow as long as that is in a known state, else on the next."""
    left = list(chosen)
    stopped = ""
    while left and not stopped:
        with contextlib.ExitStack() as stack:
            try:
                ground = stack.enter_context(opened(app, wanted, there, begin))
            except starting.ExtensionLacking as failure:
                stopped = failure.text
                break
            templates = sql(app, schema_of(wanted, there))
            usable = True
            while left and usable and not stopped:
                migration = left.pop(0)
                script = migration.script()
                reverse, usable = _reversed(ground, script, templates, wanted)
                yield _kept(wanted, migration, reverse, ground)
                if reverse.status == "unproved" and not reverse.text:
                    stopped = f"{migration.name} before it could not be run: {reverse.reason}"
                elif not refusals.refusals(script):
                    begin = replace(begin, first=(*begin.first, migration))
    for migration in left:
        yield Made(migration, verdicts.unproved(migration.script(), stopped), None, begin.words)


def _reversed(ground: Ground, script: Script, templates: Sql, wanted: Wanted) -> tuple[Reverse, bool]:
    """A reverse, and whether the shadow can be gone on with. Raises ForwardFailed where the migration itself is at fault."""
    shadow = ground.shadow
    before = shadow.catalog
    try:
        reverse = make(
            shadow,
            script,
            templates,
            state=ground.state,
            prove=wanted.proof,
            images=wanted.images,
            force=wanted.overwrite,
            park=wanted.park,
            values=wanted.values,
        )
    except ShadowSpoiled as failure:
        return verdicts.spoiled(script, failure, ground.state, before.major), False
    except ForwardFailed as failure:
        lacking = starting.missing_extensions(shadow.connection, script, failure) or ground.lacking
        if not lacking:
            raise
        return verdicts.unproved(script, f"{_lacks(lacking)}\n{failure.text}"), False
    if ground.lacking:
        reason = f"{_lacks(ground.lacking)}: what of the starting state hangs on it was not there"
        reverse = verdicts.unsure(reverse, reason, before, shadow.catalog, templates, ground.state)
    return reverse, True


def _lacks(extensions: Sequence[str]) -> str:
    return f"the shadow's server has no extension {', '.join(extensions)}"


def _kept(wanted: Wanted, migration: Migration, reverse: Reverse, ground: Ground) -> Made:
    """Write it, unless it was only asked for, or there is nothing to write."""
    made = Made(migration, reverse, None, ground.state, tuple(ground.notes))
    if wanted.check or not reverse.text:
        return made
    return replace(made, down=files.write(migration, reverse.text, {**made.as_dict(), "down": migration.down.name}))


# --- a reverse that is there ----------------------------------------------------------------------------------------


def prove(app: App, wanted: Wanted, migration: Migration, all_of: Sequence[Migration], there: Live | None) -> Made:
    """Prove the ``down.sql`` that is there as it is, and write the result into its header and ``down.json``.

    Raises MigrationNotFound without one, Refused when it was written for another migration.sql.
    """
    if not migration.down.exists():
        raise MigrationNotFound(
            ref=migration.down.name,
            folder=migration.down.parent,
            what="only the migration",
            hint="`invoke reverse` writes one.",
        )
    script = migration.script()
    known = migration.known()
    text = migration.down.read_text("utf-8")
    claimed = known.get("sha256") or (document.status_of(text) or ("", ""))[1]
    if claimed != script.sha256:
        raise Refused(
            reason=f"{migration.down} was written for another {migration.path.name}:"
            f" sha256 {claimed or 'unknown'}, now {script.sha256}",
            hint="`invoke reverse --force` writes one for what is there now.",
        )
    by_hand = migration.edited()
    with opened(app, wanted, there, start(app, wanted, there, migration, all_of)) as ground:
        templates = sql(app, schema_of(wanted, there))
        reverse = edited.prove(ground.shadow, script, text, templates, state=ground.state, by_hand=by_hand)
        made = Made(migration, reverse, migration.down, ground.state, tuple(ground.notes))
    files.write(migration, reverse.text, {**made.as_dict(), "down": migration.down.name, "edited": by_hand})
    return made


# --- a whole history ------------------------------------------------------------------------------------------------


def walked(app: App, place: Path, out: Path, *, schema: str, jobs: int, again: bool, tell: history.Tell) -> list[history.Entry]:
    """The reverse of every migration of a folder, into ``out``, on a server of our own. What earlier walks finished is kept.

    Raises ConfigurationError, ToolMissing, StorageError.
    """
    migrations = files.in_folder(place)
    own = app.loaded.settings.reverse.templates
    files.must_be_writable(out)
    with app.places.history_server(out / ".server") as server:
        plan = [
            history.Job(
                server, place, out, schema, app.loaded.cwd / own if own else None, begin, end, f"history_{begin}", again
            )
            for begin, end in history.parts(len(migrations), jobs)
        ]
        return history.walk(plan, tell)
