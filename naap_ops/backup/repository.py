"""The repository: which backups there are, which one a name means, and the records added to each later."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote

from naap_ops import clock
from naap_ops.backup import manifest as manifests
from naap_ops.backup.manifest import Manifest
from naap_ops.errors import BackupAmbiguous, BackupNotFound, OpsError
from naap_ops.storage.base import Staging, Storage

ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
# When (to the microsecond: records made in one second keep their order), six hex digits, what.
_RECORD = re.compile(r"(\d{8}T\d{6}Z)-\d{6}-[0-9a-f]{6}-(\w+)\.json")


def folder_of(alias: str) -> str:
    """The folder of a database: its alias with everything but ``A-Za-z0-9_.-`` percent-encoded.

    So is a leading dot, and that of a final ``.partial``, by which storage knows what is not published.
    """
    encoded = quote(alias, safe="").replace("~", "%7E")
    return re.sub(r"^\.|\.(?=partial$)", "%2E", encoded)


@dataclass(frozen=True)
class Record:
    """A later fact: ``what`` is ``verified``, ``failed``, ``drilled``, ``kept`` or ``released``; ``data`` what goes with it."""

    at: str
    what: str
    data: dict[str, Any]

    @property
    def rank(self) -> int:
        """How hard the check was: the place of its grade among GRADES, 0 for one that this version does not know."""
        grade = str(self.data.get("grade", ""))
        return manifests.GRADES.index(grade) if grade in manifests.GRADES else 0


@dataclass
class Backup:
    """A published backup. A manifest that cannot be read leaves ``manifest`` None and says why in ``problem``."""

    alias: str
    id: str
    storage: Storage
    manifest: Manifest | None = None
    problem: OpsError | None = None
    records: list[Record] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return f"{folder_of(self.alias)}/{self.id}"

    @property
    def url(self) -> str:
        return f"{self.storage.url}/{self.prefix}"

    @property
    def moment(self) -> datetime:
        """When it began, from its id."""
        return _moment(self.id[:16])

    @property
    def sound(self) -> Manifest:
        """The manifest; raises what made it unreadable."""
        if self.manifest is None:
            raise self.problem or BackupNotFound(ref=self.id, database=self.alias, repository=self.storage.url)
        return self.manifest

    @cached_property
    def checks(self) -> list[Record]:
        """What verification found, oldest first; the one made before publishing is the manifest's."""
        first = []
        if self.manifest is not None and self.manifest.verified.get("grade", "none") != "none":
            first = [Record(self.manifest.verified["at"], "verified", dict(self.manifest.verified))]
        return first + [r for r in self.records if r.what in ("verified", "failed")]

    @property
    def bad(self) -> bool:
        """Unreadable, or a check failed and none of that grade or a higher one has passed since."""
        if self.manifest is None:
            return True
        failed = 0
        for check in self.checks:
            if check.what == "failed":
                failed = max(failed, check.rank or len(manifests.GRADES) - 1)
            elif check.rank >= failed:
                failed = 0
        return failed > 0

    @property
    def grade(self) -> str:
        """The highest grade it has passed, ``none`` when bad."""
        if self.bad:
            return "none"
        return manifests.GRADES[max((check.rank for check in self.checks if check.what == "verified"), default=0)]

    @property
    def verified(self) -> bool:
        """Good enough for retention to count: read to its end or restored, and not found bad since."""
        return manifests.GRADES.index(self.grade) >= manifests.GRADES.index("read")

    @property
    def label(self) -> str:
        """Its label; empty for none, and for one that cannot be read."""
        return "" if self.manifest is None else self.manifest.label

    @property
    def whole(self) -> bool:
        """Of the whole database, with its rows."""
        return self.manifest is not None and self.manifest.kind == "full" and self.manifest.scope.whole

    @property
    def kept(self) -> bool:
        """Pinned by ``backup.keep``."""
        pins = [r for r in self.records if r.what in ("kept", "released")]
        return bool(pins) and pins[-1].what == "kept"

    @property
    def drilled(self) -> Record | None:
        """The last drill."""
        return next((r for r in reversed(self.records) if r.what == "drilled"), None)

    @property
    def group(self) -> tuple[str, str, str, str]:
        """Backups of the same thing, among which retention chooses: database, kind, scope for people, exact scope."""
        if self.manifest is None:
            return (self.alias, "?", "?", "")
        scope = self.manifest.scope
        return (self.alias, self.manifest.kind, scope.text(), repr(scope))

    @property
    def state(self) -> str:
        """For people: ``BAD``, or the grade it has passed."""
        return "BAD" if self.bad else self.grade

    def add_record(self, what: str, **data: Any) -> Record:
        """Write a record beside the manifest. Raises BackupNotFound when the backup has been removed meanwhile."""
        if self.storage.stat(f"{self.prefix}/{manifests.FILE_NAME}") is None:
            raise BackupNotFound(ref=self.id, database=f"database {self.alias!r}", repository=self.storage.url)
        now = clock.now()
        record = Record(clock.iso(now), what, data)
        key = f"{self.prefix}/records/{clock.stamp(now)}-{now.microsecond:06}-{secrets.token_hex(3)}-{what}.json"
        self.storage.put(key, (json.dumps({"at": record.at, "what": what, **data}, ensure_ascii=False) + "\n").encode())
        self.records.append(record)
        self.__dict__.pop("checks", None)
        return record


class Repository:
    """All backups in one storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def begin(self, alias: str, id: str) -> Staging:
        """A place to make a new backup in."""
        return self.storage.stage(f"{folder_of(alias)}/{id}")

    def sweep(self, alias: str) -> list[str]:
        """Remove what earlier runs for this database left half-made. Their names."""
        return list(self.storage.sweep(folder_of(alias), manifests.FILE_NAME))

    def aliases(self) -> list[str]:
        """Databases that have a folder here."""
        return [unquote(name) for name in self.storage.folders() if folder_of(unquote(name)) == name]

    def backups(self, alias: str | None = None) -> list[Backup]:
        """Published backups, newest first; of one database, or of all."""
        found = [b for name in ([alias] if alias is not None else self.aliases()) for b in self._of(name)]
        return sorted(found, key=lambda b: b.id, reverse=True)

    def _of(self, alias: str) -> Iterator[Backup]:
        for name in self.storage.folders(folder_of(alias)):
            if ID.fullmatch(name) and self.storage.stat(f"{folder_of(alias)}/{name}/{manifests.FILE_NAME}") is not None:
                yield self._load(alias, name)

    def _load(self, alias: str, id: str) -> Backup:
        backup = Backup(alias, id, self.storage)
        try:
            backup.manifest = Manifest.from_json(self.storage.get(f"{backup.prefix}/{manifests.FILE_NAME}"), id=id)
        except OpsError as error:
            backup.problem = error
        backup.records = list(self._records(backup))
        return backup

    def _records(self, backup: Backup) -> Iterator[Record]:
        for info in self.storage.list(f"{backup.prefix}/records"):
            if name := _RECORD.fullmatch(info.key.rpartition("/")[2]):
                yield self._record(info.key, at=clock.iso(_moment(name[1])), what=name[2])

    def _record(self, key: str, *, at: str, what: str) -> Record:
        """One record. What cannot be read is at least what its name says: a spoilt pin still pins, a spoilt failure fails."""
        try:
            raw = json.loads(self.storage.get(key))
            return Record(str(raw.pop("at")), str(raw.pop("what")), raw)
        except (OpsError, ValueError, KeyError, TypeError, AttributeError):
            return Record(at, what, {"problem": "the record cannot be read"})

    def find(self, ref: str, alias: str | None) -> Backup:
        """The backup that ``ref`` means: ``latest``, an id or a unique prefix of one, or a label (the newest that bears it).

        ``alias`` limits the search to exactly that database. ``latest`` and labels mean the newest backup that is not BAD.
        Raises BackupNotFound or BackupAmbiguous.
        """
        candidates = self.backups(alias)
        found = [b for b in candidates if b.id == ref]
        if not found and _looks_like_id(ref):
            found = [b for b in candidates if b.id.startswith(ref)]
        if not found and ref:  # nothing is not the label of backups without one
            sound = [b for b in candidates if not b.bad and ref in ("latest", b.sound.label)]
            return self._newest(sound, ref, alias, bad=sum(b.bad and ref in ("latest", b.label) for b in candidates))
        if len(found) > 1:
            raise BackupAmbiguous(ref=ref, count=len(found), candidates=", ".join(b.id for b in found[:5]))
        if not found:
            raise self._not_found(ref, alias)
        return found[0]

    def newest(self, alias: str | None) -> Backup:
        """The newest that is not BAD, of the whole database where there is one: a tenant saved since does not stand for all.

        Raises BackupNotFound or BackupAmbiguous as ``latest`` does.
        """
        found = self.backups(alias)
        sound = [b for b in found if not b.bad]
        newest = self._newest(sound, "latest", alias, bad=len(found))
        return next((b for b in sound if b.whole), newest)

    def _newest(self, named: Iterable[Backup], ref: str, alias: str | None, *, bad: int) -> Backup:
        found = list(named)
        databases = sorted({b.alias for b in found})
        if len(databases) > 1:
            raise BackupAmbiguous(
                ref=ref,
                count=len(found),
                candidates=f"of the databases {', '.join(databases)}",
                hint="Say which with --database NAME.",
            )
        if not found:
            raise self._not_found(ref, alias, bad)
        return found[0]

    def _not_found(self, ref: str, alias: str | None, bad: int = 0) -> BackupNotFound:
        of = f"database {alias!r}" if alias else "any database"
        hint = f"There is nothing but BAD ones ({bad}): `invoke backup.verify ID` says what is wrong with one." if bad else ""
        return BackupNotFound(ref=ref, database=of, repository=self.storage.url, hint=hint)

    def delete(self, backup: Backup) -> None:
        """Remove a backup: the manifest first, the data after."""
        self.storage.remove(backup.prefix, manifests.FILE_NAME)


def _moment(stamp: str) -> datetime:
    return datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%SZ%z")


def _looks_like_id(ref: str) -> bool:
    """Whether ``ref`` can be the beginning of an id; other words are labels."""
    return len(ref) >= 4 and ref[:4].isdigit()
