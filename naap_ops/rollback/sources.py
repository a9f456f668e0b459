"""Where the rows that a migration destroyed come back from: images that were captured with it, else the backup before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg

from naap_ops import reverses
from naap_ops.errors import OpsError
from naap_ops.restore.outcome import size_text
from naap_ops.reverse import files
from naap_ops.reverse.images import store
from naap_ops.reverse.images.model import Image, images_of
from naap_ops.reverse.images.parks import Park
from naap_ops.reverse.images.staged import Staged
from naap_ops.rollback import rehydrating
from naap_ops.rollback.known import Known
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.app import App
    from naap_ops.backup.repository import Backup
    from naap_ops.postgres.session import Connection
    from naap_ops.prisma.tracking import Books

_LONG_ROWS: Final = 200_000
_SECONDS_PER_ROW: Final = 12e-6  # as measured: 7 s for a million rows of a column, 16 s for updates
# Whether rows of a table can be written to in passing: nobody's trigger is set off, no subscriber gets columns that it lacks.
_QUIET: Final = """
select (s.super or not exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal
    and t.tgenabled <> 'D')) and not exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal
    and t.tgenabled in ('A', 'R'))
  and not exists (select from pg_catalog.pg_publication_tables p where (p.schemaname, p.tablename) = (n.nspname, c.relname))
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace,
  (select rolsuper from pg_catalog.pg_roles where rolname = current_user) s (super)
where n.nspname = %s and c.relname = %s
"""


@dataclass(frozen=True)
class Filled:
    """A reverse with images, of one schema. ``staged``: columns that are filled before it runs; ``backup``: what they are in,
    where they were not captured. ``parks``: what it takes away, and can be parked."""

    text: str
    losses: Sequence[Mapping[str, Any]]
    images: tuple[Image, ...]
    staged: tuple[Staged, ...] = ()
    backup: Backup | None = None
    parks: tuple[Park, ...] = ()

    def lines(self) -> list[str]:
        """What comes back, in sentences."""
        return [self._line(image) + self._way(image) for image in self.images]

    def _line(self, image: Image) -> str:
        table, columns = ".".join(image.keep.relation), image.keep.columns
        what = "rows" if image.keep.whole else f"values of {', '.join(column.name for column in columns)}"
        if self.backup is not None:
            return f"{what} of {table}: from backup {self.backup.id}, as they were when it was taken"
        return f"{what} of {table}: captured, {count_of(image.rows or 0, 'row')}, {size_text(image.bytes or 0)}"

    def _way(self, image: Image) -> str:
        """How it comes back, where that takes a while."""
        staged = any(each.image == image.table for each in self.staged)
        if staged and not image.keep.compared:
            return "; in batches, while others go on writing"
        if image.keep.after is None or (image.rows or 0) < _LONG_ROWS:
            return ""
        seconds = (image.rows or 0) * _SECONDS_PER_ROW
        return f"; the table is locked meanwhile, {'at most ' if image.source == 'backup' else ''}about {seconds:.0f} s"


def filled(
    app: App,
    wanted: reverses.Wanted,
    migration: files.Migration,
    known: Known,
    own: str,
    books: Books,
    connection: Connection,
    backup: Backup | None,
    told: list[str],
) -> Filled | None:
    """The reverse that also brings rows back, in the schema of ``books``; None where there is nothing to bring, or nothing to
    bring it from. ``own``: the schema for which ``known`` was made; ``backup``: for what was not captured. ``told`` gets why
    what is there cannot be used."""
    if not known.loses_data and not known.keeps:
        return None
    images = store.find(connection, migration.name, books.schema, books.attempt(migration.name))
    if images:
        backup = None
    elif backup is not None and known.keeps:
        keeps = tuple(keep.moved(own, books.schema) for keep in known.keeps if not keep.queried)
        images = tuple(replace(image, source="backup") for image in images_of(migration.name, keeps))
        if reason := rehydrating.reason_not(backup.sound, images):
            told.append(f"{migration.name}: rows do not come back from backup {backup.id}: {reason}")
            return None
        rows = {(table.schema, table.name): table.rows for table in backup.sound.tables}
        images = tuple(replace(image, rows=rows.get(image.keep.relation)) for image in images)
    if not images:
        return None
    images = tuple(replace(image, staged=_large(app, connection, image)) for image in images)
    app.events.emit("rollback.step", name="prove", text=f"{migration.name}: proving the reverse that brings its rows back")
    all_of = files.in_folder(migration.path.parent.parent)
    asked = replace(wanted, schema=books.schema, images=images, check=True)
    try:
        made = reverses.one(app, asked, migration, all_of, reverses.live(app, asked)).reverse
    except OpsError as error:
        told.append(f"{migration.name}: rows do not come back: {error.text}")
        return None
    except psycopg.Error as error:  # the state before it is not what it was when the images were taken
        reason = error.diag.message_primary or str(error)
        told.append(f"{migration.name}: rows do not come back: they do not fit the state before it: {reason}")
        return None
    if made.status != "proved" or made.unfit:
        reason = (made.unfit or made.reason.splitlines() or ("",))[0]
        told.append(f"{migration.name}: rows do not come back: the proof of that failed: {reason}")
        return None
    staged = made.plan.staged if made.plan is not None else ()
    return Filled(made.text, made.losses, images, staged, backup, made.parks)


def _large(app: App, connection: Connection, image: Image) -> bool:
    """Filling its columns at once would keep others waiting, and they can be filled in passing."""
    if image.keep.after is None or (image.rows or 0) < app.loaded.settings.rollback.batches_from:
        return False
    return connection.execute(_QUIET, list(image.keep.after)).fetchone() == (True,)
