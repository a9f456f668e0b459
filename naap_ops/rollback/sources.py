"""Where the rows that a migration destroyed come back from: images that were captured with it, else the backup before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from naap_ops import reverses
from naap_ops.errors import OpsError
from naap_ops.restore.outcome import size_text
from naap_ops.reverse import files
from naap_ops.reverse.images import store
from naap_ops.reverse.images.model import Image, Keep, images_of
from naap_ops.reverse.images.parks import Park
from naap_ops.rollback import rehydrating
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.app import App
    from naap_ops.backup.repository import Backup
    from naap_ops.postgres.session import Connection
    from naap_ops.prisma.tracking import Books

_DATA: Final = ("rows", "values", "residue")


@dataclass(frozen=True)
class Known:
    """A reverse that is proved: its ``text``, its ``losses``, the ``keeps`` that would make up for them, and the ``parks`` that
    keep what it takes away itself (None: not known, it was written by an older version)."""

    text: str
    losses: Sequence[Mapping[str, Any]]
    keeps: Sequence[Keep] | None = ()
    parks: Sequence[Park] | None = ()

    @property
    def complete(self) -> bool:
        """All that could make up for its losses is known."""
        since = any(loss.get("since") for loss in self.losses)
        return not (self.loses_data and self.keeps is None) and not (since and self.parks is None)

    @property
    def loses_data(self) -> bool:
        """Rows or values that were there before the migration are not there after the reverse."""
        return any(not loss.get("since") and loss["loss"] in _DATA and loss.get("object") for loss in self.losses)


@dataclass(frozen=True)
class Filled:
    """A reverse with images, of one schema. ``keeps``: what has to be fetched from the backup first, or empty."""

    text: str
    losses: Sequence[Mapping[str, Any]]
    images: tuple[Image, ...]

    @property
    def from_backup(self) -> bool:
        return any(image.source == "backup" for image in self.images)

    def lines(self) -> list[str]:
        """What comes back, in sentences."""
        return [_line(image) for image in self.images]


def _line(image: Image) -> str:
    table, columns = ".".join(image.keep.relation), image.keep.columns
    what = "rows" if image.keep.whole else f"values of {', '.join(column.name for column in columns)}"
    if image.source == "backup":
        return f"{what} of {table}: from the backup, as they were when it was taken"
    return f"{what} of {table}: captured, {count_of(image.rows or 0, 'row')}, {size_text(image.bytes or 0)}"


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
    bring it from. ``own``: the schema for which ``known`` was made. ``told`` gets why what is there cannot be used."""
    if not known.loses_data:
        return None
    images = store.find(connection, migration.name, books.schema, books.attempt(migration.name))
    if not images and backup is not None and known.keeps:
        keeps = tuple(keep.moved(own, books.schema) for keep in known.keeps)
        images = tuple(replace(image, source="backup") for image in images_of(migration.name, keeps))
        if reason := rehydrating.reason_not(backup.sound, images):
            told.append(f"{migration.name}: rows do not come back from backup {backup.id}: {reason}")
            return None
    if not images:
        return None
    app.events.emit("rollback.step", name="prove", text=f"{migration.name}: proving the reverse that brings its rows back")
    all_of = files.in_folder(migration.path.parent.parent)
    asked = replace(wanted, schema=books.schema, images=images, check=True)
    try:
        made = reverses.one(app, asked, migration, all_of, reverses.live(app, asked)).reverse
    except OpsError as error:
        told.append(f"{migration.name}: rows do not come back: {error.text}")
        return None
    if made.status != "proved" or made.unfit:
        reason = (made.unfit or made.reason.splitlines() or ("",))[0]
        told.append(f"{migration.name}: rows do not come back: the proof of that failed: {reason}")
        return None
    return Filled(made.text, made.losses, images)
