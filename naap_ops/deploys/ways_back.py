"""The ways back that are made before a deploy: a backup read to its end, and a proved reverse of each migration."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from naap_ops import clock, reverses
from naap_ops.app import App
from naap_ops.deploys.capture import DATA, Wanted, one_transaction
from naap_ops.errors import BackupDamaged, MigrationNotFound, OpsError, ProofFailed, Refused, ReverseRefused
from naap_ops.places import Target
from naap_ops.reverse import files

if TYPE_CHECKING:
    from naap_ops.backup.repository import Backup
    from naap_ops.deploys.preflight import Preflight
    from naap_ops.reverses import Made

FRESH = timedelta(hours=1)
_PARTS = dict[str, Sequence[str]].fromkeys(("schemas", "tenants", "plugins", "tables", "exclude_table_data"), ())


@dataclass(frozen=True)
class Reverse:
    """What is known of one migration's reverse. ``status`` proved, refused or unproved."""

    migration: str
    status: str
    reason: str
    losses: tuple[dict[str, Any], ...]
    down: str | None
    seconds: float
    code: int
    schema: str
    """In which it was proved."""
    wanted: Wanted | None = None
    """What of its rows would have to be kept, where its reverse is proved."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.migration,
            "reverse": self.status,
            "reason": self.reason,
            "losses": list(self.losses),
            "down": self.down,
            "seconds": self.seconds,
            "proved_in": self.schema,
        }


def back_up(app: App, target: Target, label: str) -> Backup:
    """A backup of all of the database, verified at grade read at least."""
    request = app.request(target.alias, _PARTS, kind="full", label=label)
    if request.verify == "hash":
        request = replace(request, verify="read")
    return app.back_up(request, target)


def fresh(app: App, target: Target, ref: str) -> Backup:
    """A backup that is there, if it is one to go back to: whole, good, and at most an hour old.

    Raises BackupNotFound, BackupAmbiguous, BackupDamaged, Refused.
    """
    backup = app.repository.find(ref, target.alias)
    manifest = backup.sound
    if not backup.verified:
        raise BackupDamaged(id=backup.id, problems="it was not read to its end with success: `invoke backup.verify` does")
    if manifest.kind != "full" or not manifest.scope.whole or manifest.scope.exclude_table_data:
        raise Refused(reason=f"backup {backup.id} does not hold all of the database: {manifest.kind}, {manifest.scope.text()}")
    if clock.now() - backup.moment > FRESH:
        raise Refused(
            reason=f"backup {backup.id} is older than an hour: what was written since would be lost with it",
            hint="Leave --backup out: one is taken then.",
        )
    return backup


def reverse(app: App, database: str | None, found: Preflight, allowed: Collection[str], *, check: bool) -> list[Reverse]:
    """Write and prove the reverse of everything pending; one edited by hand is proved as it is.

    Of several schemas each is proved once, in the first schema of those that lack most: the scripts are the same.
    ``check``: nothing is written. ``allowed``: names that may go without. Raises ReverseRefused, ProofFailed.
    """
    by_name = {each.name: each for each in files.in_folder(found.project.migrations)}
    all_of = [by_name[name] for name in sorted(by_name, key=found.project.key)]
    done: dict[str, Reverse] = {}
    for part in sorted(found.parts, key=lambda each: len(each.pending), reverse=True):
        chosen = [by_name[name] for name in part.pending if name not in done]
        if chosen:
            wanted = reverses.Wanted(database, part.schema, force=True, check=check)
            done |= {each.migration: each for each in _proved(app, wanted, chosen, all_of, allowed, len(part.pending))}
    return [done[name] for name in found.pending]


def _proved(
    app: App, wanted: reverses.Wanted, chosen: list[files.Migration], all_of: list[files.Migration],
    allowed: Collection[str], pending: int,
) -> list[Reverse]:  # fmt: skip
    """The reverses of ``chosen``, in one schema in which so many are ``pending``."""
    there = reverses.live(app, wanted)
    done: list[Reverse] = []
    try:
        for one in _each(app, wanted, chosen, all_of, there, together=len(chosen) == pending):
            _must_do(one, allowed)
            done.append(one)
    except (ReverseRefused, ProofFailed, Refused) as error:
        left = [each.name for each in chosen[len(done) :]]
        if any(name not in allowed for name in left):
            raise _without(error, left) from error
        schema = reverses.schema_of(wanted, there)
        done += [Reverse(name, "unproved", error.text, (), None, 0.0, error.exit_code, schema) for name in left]
    return [_tried(app, wanted, one, all_of, there) for one in done]


def _tried(
    app: App, wanted: reverses.Wanted, one: Reverse, all_of: Sequence[files.Migration], there: reverses.Live | None
) -> Reverse:
    """With images as well, as a rollback will: where the proof of that fails, its losses are final, and nothing is kept."""
    if one.wanted is None or not one.wanted.keeps:
        return one
    migration = next(each for each in all_of if each.name == one.migration)
    began = time.monotonic()
    reason, losses = reverses.with_images(app, wanted, migration, all_of, there, one.wanted.keeps)
    seconds = round(one.seconds + time.monotonic() - began, 3)
    if not reason:
        imaged = {_what(each) for each in losses if each["source"] == "capture"}
        told = tuple({**each, "imaged": _what(each) in imaged} for each in one.losses)
        return replace(one, seconds=seconds, losses=told)
    without = replace(one.wanted, keeps=(), cannot=(*one.wanted.cannot, f"rows that it destroys do not come back: {reason}"))
    final = tuple(
        {**each, "source": "cannot"} if each["source"] == "none" and not each["since"] and each["loss"] in DATA else each
        for each in one.losses
    )
    return replace(one, wanted=without, losses=final, seconds=seconds)


def _what(loss: Mapping[str, Any]) -> tuple[Any, ...]:
    return loss["statement"], loss["loss"], loss["object"]


def known(found: Preflight, allowed: Collection[str]) -> None:
    """Raise MigrationNotFound where ``allowed`` names what is not pending."""
    if unknown := sorted(set(allowed) - set(found.pending)):
        raise MigrationNotFound(ref=unknown[0], folder="what is pending", what=", ".join(found.pending) or "none")


def _each(
    app: App, wanted: reverses.Wanted, chosen: list[files.Migration], all_of: list[files.Migration],
    there: reverses.Live | None, *, together: bool,
) -> Iterator[Reverse]:  # fmt: skip
    """``together``: they are all that is pending in the schema, so that one shadow can go through them."""
    schema = reverses.schema_of(wanted, there)
    if together and not any(each.edited() for each in chosen):
        for made in reverses.several(app, wanted, chosen, all_of, there):
            yield _told(made, schema)
        return
    for each in chosen:
        if not each.edited():
            yield _told(reverses.one(app, wanted, each, all_of, there), schema)
        elif wanted.check:
            reason = "edited by hand: it is proved as it is when it is deployed"
            yield Reverse(each.name, "unproved", reason, (), None, 0.0, 0, schema)
        else:
            yield _told(reverses.prove(app, wanted, each, all_of, there), schema)


def _told(made: Made, schema: str) -> Reverse:
    facts = made.reverse
    down = str(made.down) if made.down else None
    seconds, losses = round(facts.seconds, 3), tuple(facts.losses)
    wanted = _wanted(made, schema)
    return Reverse(made.migration.name, facts.status, facts.reason, losses, down, seconds, made.exit_code, schema, wanted)


def _wanted(made: Made, schema: str) -> Wanted | None:
    facts = made.reverse
    if facts.status != "proved":
        return None
    cannot = tuple(f"{'.'.join(each.relation or ()) or 'some rows'}: {each.reason}" for each in facts.cannot)
    return Wanted(made.migration.name, schema, facts.keeps, one_transaction(facts.script), cannot)


def _must_do(one: Reverse, allowed: Collection[str]) -> None:
    if one.code == 0 or one.migration in allowed:
        return
    error = ReverseRefused if one.code == ReverseRefused.exit_code else ProofFailed
    raise error(reason=f"{one.migration} has no proved reverse: {one.status}: {one.reason}", hint=_hint([one.migration]))


def _without(error: OpsError, names: list[str]) -> OpsError:
    if "--allow-unproved" in error.advice:
        return error
    return ReverseRefused(reason=error.text, hint=f"{error.advice} {_hint(names)}".strip())


def _hint(names: Sequence[str]) -> str:
    flags = " ".join(f"--allow-unproved {name}" for name in names)
    return f"Nothing was deployed. Deploy it all the same: {flags}; the way back is then the backup."
