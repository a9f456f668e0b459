"""Which runs there were, in the repository's storage: what makes a run happen once.

A run is claimed by creating an object named for its database, job, due time and attempt; storage never overwrites, so of any
number of schedulers one gets it. How it ended is a second object. Both are small, never changed, and need no right to
delete; with it, all but the last ones are removed.

    .schedule/<database>/<job>/<due time>-<attempt>.json
    .schedule/<database>/<job>/<due time>-<attempt>.end.json

No database has that folder: the leading dot of an alias is encoded.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from naap_ops import clock
from naap_ops.backup.repository import folder_of
from naap_ops.errors import OpsError
from naap_ops.storage.base import Storage

FOLDER = ".schedule"
_NAME = re.compile(r"(\d{8}T\d{6}Z)-(\d{3})(\.end)?\.json")
_KEPT = 20
# The folder of the only database, where its name is known to the server alone.
_NAMELESS = "default"


@dataclass(frozen=True)
class Run:
    """One attempt at a due time. ``end`` None: it has not ended, as far as anybody wrote down."""

    due: datetime
    attempt: int
    facts: Mapping[str, Any]
    end: Mapping[str, Any] | None

    @property
    def abandoned(self) -> bool:
        """It was ended from outside: asked to by its scheduler, or killed."""
        code = self.end.get("code") if self.end is not None else None
        return isinstance(code, int) and (code == 130 or code < 0)

    @property
    def ok(self) -> bool:
        return self.end is not None and self.end.get("code") == 0

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: ``due``, ``attempt``, ``status``, ``host``, ``pid``, ``started_at``; when ended ``code`` and so on."""
        status = "unfinished" if self.end is None else "ok" if self.ok else "abandoned" if self.abandoned else "failed"
        return {"due": clock.iso(self.due), "attempt": self.attempt, "status": status, **self.facts, **(self.end or {})}


class Journal:
    """The runs in one storage. Raises StorageError where that cannot be reached."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def dues(self, job: str, database: str | None) -> dict[datetime, int]:
        """Every due time that has been claimed, and its last attempt; read from names alone."""
        found: dict[datetime, int] = {}
        for info in self._storage.list(_folder(job, database)):
            if name := _NAME.fullmatch(info.key.rpartition("/")[2]):
                moment = datetime.strptime(f"{name[1]}+0000", "%Y%m%dT%H%M%SZ%z")
                found[moment] = max(found.get(moment, 0), int(name[2]))
        return found

    def run(self, job: str, database: str | None, due: datetime, attempt: int) -> Run:
        """One attempt. What cannot be read of it is taken for nothing written."""
        key = _key(job, database, due, attempt)
        return Run(due, attempt, self._read(key) or {}, self._read(_end(key)))

    def last(self, job: str, database: str | None) -> Run | None:
        """The newest attempt, or None."""
        dues = self.dues(job, database)
        return self.run(job, database, max(dues), dues[max(dues)]) if dues else None

    def claim(self, job: str, database: str | None, due: datetime, attempt: int, *, lease: bool) -> bool:
        """Whether this attempt is ours now, and nobody else's. ``lease``: we hold it. Raises StorageError if unknown."""
        key = _key(job, database, due, attempt)
        own: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8), "lease": lease}
        own["started_at"] = clock.iso()
        try:
            self._storage.put(key, _line(own))
        except OpsError:
            if self._storage.stat(key) is None:
                raise
            return self._read(key) == own  # the answer to our own put may have been lost
        return True

    def end(self, job: str, database: str | None, due: datetime, attempt: int, **facts: Any) -> None:
        """Write down how it ended: ``code``, and what else is known. Then forget what is old."""
        self._storage.put(_end(_key(job, database, due, attempt)), _line({"finished_at": clock.iso(), **facts}))
        with contextlib.suppress(OpsError):  # without the right to delete they stay
            self._forget(job, database)

    def _forget(self, job: str, database: str | None) -> None:
        dues = self.dues(job, database)
        for due in sorted(dues)[:-_KEPT]:
            for attempt in range(1, dues[due] + 1):
                key = _key(job, database, due, attempt)
                self._storage.delete(_end(key))
                self._storage.delete(key)

    def _read(self, key: str) -> dict[str, Any] | None:
        if self._storage.stat(key) is None:
            return None
        try:
            found = json.loads(self._storage.get(key))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def _folder(job: str, database: str | None) -> str:
    return f"{FOLDER}/{folder_of(database or _NAMELESS)}/{job}"


def _key(job: str, database: str | None, due: datetime, attempt: int) -> str:
    return f"{_folder(job, database)}/{clock.stamp(due)}-{attempt:03}.json"


def _end(key: str) -> str:
    return key.removesuffix(".json") + ".end.json"


def _line(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, ensure_ascii=False) + "\n").encode()
