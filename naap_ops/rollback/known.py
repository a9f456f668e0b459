"""The reverse of a migration as a rollback uses it: proved, and beside the migration, or made and proved now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from naap_ops import reverses
from naap_ops.reverse import document, files
from naap_ops.reverse.images.model import Keep
from naap_ops.reverse.images.parks import Park
from naap_ops.reverse.unfit import Unfit

if TYPE_CHECKING:
    from naap_ops.app import App

_DATA: Final = ("rows", "values", "residue")


@dataclass(frozen=True)
class Known:
    """A reverse that is proved: its ``text``, its ``losses``, the ``keeps`` that would make up for them, and the ``parks`` that
    keep what it takes away itself (None: not known, it was written by an older version). ``unheld``: likewise rows that may not
    fit the state before the migration."""

    text: str
    losses: Sequence[Mapping[str, Any]]
    keeps: Sequence[Keep] | None = ()
    parks: Sequence[Park] | None = ()
    unheld: Sequence[Unfit] | None = ()

    @property
    def complete(self) -> bool:
        """All that could make up for its losses is known."""
        since = any(loss.get("since") for loss in self.losses)
        return not (self.loses_data and self.keeps is None) and not (since and self.parks is None)

    @property
    def loses_data(self) -> bool:
        """Rows or values that were there before the migration are not there after the reverse."""
        return any(not loss.get("since") and loss["loss"] in _DATA and loss.get("object") for loss in self.losses)


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


def made(app: App, wanted: reverses.Wanted, migration: files.Migration) -> Known:
    """A reverse made and proved now, and written nowhere. Raises what making it raises, ReverseRefused, ProofFailed."""
    from naap_ops.errors import ProofFailed, ReverseRefused

    app.events.emit("rollback.step", name="prove", text=f"{migration.name} has no proved reverse at hand: making one")
    all_of = files.in_folder(migration.path.parent.parent)
    made = reverses.one(app, wanted, migration, all_of, reverses.live(app, wanted))
    if made.reverse.status != "proved":
        kind = ReverseRefused if made.exit_code == reverses.REFUSED else ProofFailed
        raise kind(reason=f"{migration.name} has no proved reverse: {made.reverse.reason.splitlines()[0]}")
    return Known(made.reverse.text, made.reverse.losses, made.reverse.keeps, made.reverse.parks, made.reverse.unheld)
