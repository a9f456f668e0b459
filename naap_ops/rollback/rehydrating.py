"""Images out of a backup: the rows in question are loaded into a shadow of the state that the backup has, the migrations since
are run there, and images are taken around them as a deploy would have done; then they are copied into the live database.

Of the backup only the files of the tables in question are read, and fetched. The live database is written to in its schema
``naap_ops`` alone, in one transaction.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg

from naap_ops import process, reverses
from naap_ops.errors import ForwardFailed, Refused, ToolMismatch, ToolMissing
from naap_ops.postgres.session import SPELLING, spell
from naap_ops.prisma import tracking
from naap_ops.procedure.step import Step
from naap_ops.restore.archive import Archive
from naap_ops.restore.contents import Stages
from naap_ops.restore.outcome import RestoreOptions
from naap_ops.reverse import files
from naap_ops.reverse.images import store, taking
from naap_ops.reverse.images.model import Image
from naap_ops.reverse.render import literal, quoted
from naap_ops.reverse.replay import replay, search_path

if TYPE_CHECKING:
    from psycopg.abc import Buffer

    from naap_ops.app import App
    from naap_ops.backup.manifest import Manifest, TableFact
    from naap_ops.backup.repository import Backup
    from naap_ops.backup.toc import Entry
    from naap_ops.places import ShadowPlace
    from naap_ops.postgres.session import Connection
    from naap_ops.restore.contents import Contents
    from naap_ops.reverse.proof import Shadow

Name = tuple[str, str]
_PARENTS: Final = """
select distinct pn.nspname::text, p.relname::text from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class p on p.oid = k.confrelid join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
where k.contype = 'f' and n.nspname || '.' || c.relname = any(%s)
"""
_KEYS: Final = """
select k.conrelid::regclass::text, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid) from pg_catalog.pg_constraint k
where k.contype = 'f' and k.conparentid = 0 and k.conrelid::regclass = any(%s::text[]::regclass[])
"""
_TRIGGERS: Final = """
select t.tgrelid::regclass::text, t.tgname::text from pg_catalog.pg_trigger t
where not t.tgisinternal and t.tgparentid = 0 and t.tgenabled = 'O' and t.tgrelid = any(%s::text[]::regclass[])
"""
_COLUMNS: Final = """
select string_agg(pg_catalog.quote_ident(attname) || ' ' || pg_catalog.format_type(atttypid, atttypmod), ', ' order by attnum)
from pg_catalog.pg_attribute where attrelid = {}::regclass and attnum > 0 and not attisdropped
"""


def reason_not(manifest: Manifest, images: Sequence[Image]) -> str:
    """Why a backup cannot give these, '' when it can."""
    if manifest.format == "plain":
        return "it is a plain script, out of which single tables cannot be read"
    there = {(table.schema, table.name): table for table in manifest.tables}
    for image in images:
        table = there.get(image.keep.relation)
        if table is None or (table.rows is None and not table.partitioned):
            return f"it has no rows of {'.'.join(image.keep.relation)}"
    return ""


@dataclass
class Rehydrating(Step):
    """``wanted``: by migration its images, to be registered for ``schema``. ``connection``: on the live database, in
    autocommit. ``undone``: whether a migration's reverse has run, although a row of it may be held; ``alone``: no other backup
    gives rows of this schema."""

    app: App
    database: str | None
    connection: Connection
    backup_id: str
    schema: str
    wanted: Mapping[str, tuple[Image, ...]]
    undone: Callable[[str], bool] = lambda _: False
    alone: bool = True
    name: str = field(init=False)
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"rows of {self.schema}" if self.alone else f"rows of {self.schema} from {self.backup_id}"
        self.text = f"getting rows of schema {self.schema} out of backup {self.backup_id}"

    def done(self) -> bool:
        """They are registered; or their migration is undone, and they are not needed."""
        books = tracking.read(self.connection, self.schema)
        return all(
            not books.attempt(name)
            or self.undone(name)
            or len(store.find(self.connection, name, self.schema, books.attempt(name))) == len(images)
            for name, images in self.wanted.items()
        )

    def run(self) -> dict[str, Any]:
        """Raises Refused where the backup's state and the folder's scripts do not give them."""
        target = self.app.target(self.database)
        backup = self.app.repository.find(self.backup_id, target.alias)
        wanted = reverses.Wanted(self.database, self.schema)
        begin = reverses.Start("backup", f"backup {backup.id}", (), backup)
        with reverses.opened(self.app, wanted, reverses.live(self.app, wanted), begin) as ground:
            taken = self._taken(ground.shadow, backup)
            self._copied(ground, taken)
        return {"rows": {image.table: image.rows for images in taken.values() for image in images}}

    def undo(self) -> dict[str, Any] | None:
        """What was captured by a deploy has no step here, and stays."""
        with self.connection.transaction():
            for name in self.wanted:
                store.forget(self.connection, name, self.schema)
        return None

    # --- on the shadow ------------------------------------------------------------------------------------------------

    def _taken(self, shadow: Shadow, backup: Backup) -> dict[str, tuple[Image, ...]]:
        scripts = self._scripts(backup)
        self._load(shadow, backup, self._tables(shadow, backup.sound, scripts))
        taken: dict[str, tuple[Image, ...]] = {}
        for migration in scripts:
            images = self.wanted.get(migration.name, ())
            try:
                images = taking.before(shadow.connection, images)
                replay(shadow.connection, migration.script(), shadow.catalog, steps=False, look=False)
                taken |= {migration.name: taking.after(shadow.connection, images)} if images else {}
            except (ForwardFailed, psycopg.Error) as error:
                raise Refused(
                    reason=f"{migration.name} does not run on the rows of backup {backup.id}: {error}",
                    hint="`invoke rollback --strategy restore` goes back by the whole backup instead.",
                ) from error
        return taken

    def _scripts(self, backup: Backup) -> list[files.Migration]:
        """The migrations that were applied after the backup, in that order, up to the last one that is wanted."""
        known = {
            each["name"]
            for book in backup.sound.prisma
            if book["schema"] == self.schema
            for each in book["migrations"]
            if each["state"] == "applied"
        }
        books = tracking.read(self.connection, self.schema)
        rows = [row for row in books.rows if row.live and row.finished is not None and row.name not in known]
        names = list(dict.fromkeys(row.name for row in sorted(rows, key=lambda row: row.started)))
        last = max((names.index(name) for name in self.wanted if name in names), default=-1)
        folder = {each.name: each for each in files.in_folder(self.app.project().migrations)}
        chosen = names[: last + 1]
        if any(name not in folder for name in chosen) or not set(self.wanted) <= set(chosen):
            lacking = sorted({*chosen, *self.wanted} - folder.keys()) or sorted(set(self.wanted) - set(chosen))
            raise Refused(reason=f"backup {backup.id} is not from before {', '.join(lacking)}, or their folder is gone")
        return [folder[name] for name in chosen]

    def _tables(self, shadow: Shadow, manifest: Manifest, scripts: Sequence[files.Migration]) -> list[TableFact]:
        """Those of the images, those that the scripts name, and those that rows of them refer to."""
        names = {image.keep.relation for images in self.wanted.values() for image in images}
        for each in scripts:
            names |= set(shadow.touched(each.script()))
        found = shadow.connection.execute(_PARENTS, [[".".join(name) for name in names]]).fetchall()
        names |= {(schema, table) for schema, table in found}
        below = {(row.schema, row.name) for row in shadow.catalog.rows["table"].values() if self._in(shadow, row, names)}
        wanted = names | below
        return [table for table in manifest.tables if (table.schema, table.name) in wanted and table.rows is not None]

    def _in(self, shadow: Shadow, row: Any, names: set[Name]) -> bool:
        """It is a partition of one of them, however deep."""
        tables = shadow.catalog.rows["table"]
        parents = [tables[key] for key in row.parent_keys if key in tables]
        return any((each.schema, each.name) in names or self._in(shadow, each, names) for each in parents)

    def _load(self, shadow: Shadow, backup: Backup, tables: Sequence[TableFact]) -> None:
        oids = {table.oid for table in tables}

        def chosen(contents: Contents) -> list[Entry]:
            return [
                entry
                for entry in contents.entries
                if (entry.describes("TABLE DATA") and entry.oid in oids) or entry.describes("SEQUENCE SET")
            ]

        tools = self.app.readers(backup.sound)
        assert tools is not None
        archive = Archive(backup, tools, RestoreOptions(owner=False, privileges=False))
        connection = shadow.connection
        with archive.choose(tables), _unhindered(connection, [f"{quoted(t.schema)}.{quoted(t.name)}" for t in tables]):
            found = archive.stages(chosen)
            archive.load(connection, Stages((), found.rows, ()), self.app.events, _nothing)
            archive.proven()
        connection.execute("reset all")  # the archive's own settings
        spell(connection)
        search_path(connection, self.schema)
        connection.execute("analyze")

    # --- into the live database ---------------------------------------------------------------------------------------

    def _copied(self, ground: reverses.Ground, taken: Mapping[str, tuple[Image, ...]]) -> None:
        books = tracking.read(self.connection, self.schema)
        lasting = self.app.loaded.settings.capture.expires
        store.prepare(self.connection)
        with self.connection.transaction():
            for name, images in taken.items():
                for image in images:
                    _copy(ground.place, ground.shadow.connection, self.connection, image)
                done = [replace(image, source="backup") for image in images]
                store.register(
                    self.connection, done, migration=name, schema=self.schema, attempt=books.attempt(name), lasting=lasting
                )


def _copy(place: ShadowPlace, source: Connection, target: Connection, image: Image) -> None:
    """One image from database to database, as text: the servers may differ. ``target``: in the transaction that makes it."""
    row = source.execute(_COLUMNS.format(literal(image.name)).encode()).fetchone()
    assert row is not None
    target.execute(f"drop table if exists {image.name}".encode())
    target.execute(f"create table {image.name} ({row[0]})".encode())
    taking.private(target, image)
    with target.cursor().copy(f"copy {image.name} from stdin (freeze)".encode()) as into:
        for piece in _out(place, source, image):
            into.write(piece)
    target.execute(f"analyze {image.name}".encode())


def _out(place: ShadowPlace, source: Connection, image: Image) -> Iterator[Buffer]:
    """Its rows. By psql where that is at hand: in a session of ours every row is an object, which takes three times as long."""
    statement = f"copy {image.name} to stdout"
    try:
        tools = place.tools()
    except (ToolMissing, ToolMismatch):
        tools = None
    if tools is None or tools.remote:
        with source.cursor().copy(statement.encode()) as out:
            yield from out
        return
    command = tools.command("psql", ["-X", "-q", "--no-password", f"--command={statement}"], place.info)
    options = " ".join([command.env.get("PGOPTIONS", ""), *(f"-c {name}={value}" for name, value in SPELLING.items())])
    environment = {**command.env, "PGCLIENTENCODING": "UTF8", "PGOPTIONS": options.strip()}
    with process.start(command.argv, env=environment, stdin=process.DEVNULL, stdout=process.PIPE) as child:
        while piece := os.read(child.stdout.fileno(), process.PIPE_BYTES):
            yield piece
        child.check()


@contextlib.contextmanager
def _unhindered(connection: Connection, tables: Sequence[str]) -> Iterator[None]:
    """Rows go in without triggers and without the tables that they refer to."""
    try:
        connection.execute("set session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        with _without_keys(connection, tables):
            yield
    else:
        yield
        connection.execute("reset session_replication_role")


@contextlib.contextmanager
def _without_keys(connection: Connection, tables: Sequence[str]) -> Iterator[None]:
    """The same by an owner's rights alone: foreign keys away and back again unchecked, triggers off and on."""
    connection.execute("set search_path to ''")  # names are written in full: whoever loads has a search_path of his own
    keys = connection.execute(_KEYS, [list(tables)]).fetchall()
    triggers = connection.execute(_TRIGGERS, [list(tables)]).fetchall()
    for table, name, _ in keys:
        connection.execute(f"alter table {table} drop constraint {quoted(name)}".encode())
    for table, name in triggers:
        connection.execute(f"alter table {table} disable trigger {quoted(name)}".encode())
    yield
    for table, name, definition in keys:
        unchecked = "" if definition.endswith("NOT VALID") else " NOT VALID"
        connection.execute(f"alter table {table} add constraint {quoted(name)} {definition}{unchecked}".encode())
    for table, name in triggers:
        connection.execute(f"alter table {table} enable trigger {quoted(name)}".encode())


def _nothing() -> None:
    """No rights are given, so none have to be taken away before."""
