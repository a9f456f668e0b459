"""The record of a procedure: a line of JSON for each thing that happens, on the disk before the next one is done.

    <folder>/<id>.jsonl     {"at": ..., "event": "begin", ...}  then "step", "resume", "abort", "end"
    <folder>/<id>.lock      held by whoever carries the procedure out; dies with its process

What has really happened is asked of the world; the journal knows what was asked for, when, and what came of it. A last line
that was cut short by a crash is passed over.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from naap_ops import clock, files, redact
from naap_ops.errors import OpsError, ProcedureMissing, ProcedureUnfinished
from naap_ops.lock import FileLock

SUFFIX = ".jsonl"
DONE, FAILED, ABORTED = "done", "failed", "aborted"
_TOLD = ("error", "argv")  # words of others


@dataclass
class Journal:
    """One procedure's record, open and locked between :meth:`begin` or :meth:`resume` and :meth:`close`."""

    path: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    _lock: FileLock | None = None

    # --- opening ------------------------------------------------------------------------------------------------------

    @classmethod
    def begin(cls, folder: Path, procedure: str, request: Mapping[str, Any]) -> Self:
        """A new one. ``request`` is what a resumed run needs to know, ready for JSON. Raises StorageError, NoSpace, Busy."""
        try:
            files.make_private_dir(folder)
        except OSError as error:
            raise _failed(folder, error) from None
        journal = cls(folder / f"{clock.new_id()}-{procedure}{SUFFIX}")
        journal._hold(procedure)
        try:
            journal.note("begin", procedure=procedure, request=dict(request), **_who())
        except OpsError:
            journal._withdrawn()
            raise
        return journal

    @classmethod
    def resume(cls, folder: Path, procedure: str, ref: str | None = None) -> Self:
        """The unfinished one, or that whose id begins with ``ref``. Raises ProcedureMissing, ProcedureUnfinished, Busy."""
        open_ones = [each for each in unfinished(folder, procedure) if ref is None or each.id.startswith(ref)]
        if not open_ones:
            raise ProcedureMissing(procedure=procedure, ref=ref or "", folder=folder)
        if len(open_ones) > 1:
            raise ProcedureUnfinished(procedure=procedure, ids=", ".join(each.id for each in open_ones))
        journal = cls(open_ones[0].path)
        journal._hold(procedure)
        journal.events = list(_read(journal.path))  # what was noted until the lock was ours
        return journal

    def _hold(self, what: str) -> None:
        lock = FileLock(self.path.with_suffix(".lock"), f"{what} {self.id}")
        try:
            lock.acquire()
        except OSError as error:
            raise _failed(self.path, error) from None
        self._lock = lock

    def _withdrawn(self) -> None:
        """Nothing of one whose beginning could not be written down."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(".lock").unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go. The lock file of one that has ended is removed."""
        if self._lock is None:
            return
        if self.outcome is not None:
            with suppress(OSError):
                self._lock.path.unlink(missing_ok=True)
        self._lock.release()
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- writing ------------------------------------------------------------------------------------------------------

    def note(self, event: str, **facts: Any) -> None:
        """Add a line, durably. Raises StorageError, NoSpace.

        Secrets are masked where words of others stand. All else is gone on by, and must stay as it is: a database, a host, a
        migration, a folder may be named as the password is.
        """
        told = {name: redact.values(facts[name]) for name in _TOLD if name in facts}
        text = json.dumps({"at": clock.iso(), "event": event, **facts, **told}, ensure_ascii=False, default=str)
        try:
            new = not self.path.exists()
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, files.PRIVATE_FILE)
            try:
                size = os.fstat(fd).st_size
                begun = size and os.pread(fd, 1, size - 1) != b"\n"  # the last line was cut short
                files.write_all(fd, f"{chr(10) if begun else ''}{text}\n".encode())
                os.fsync(fd)
            finally:
                os.close(fd)
            if new:
                files.fsync_path(self.path.parent)
        except OSError as error:
            raise _failed(self.path, error) from None
        self.events.append(json.loads(text))

    def end(self, outcome: str, **facts: Any) -> None:
        """The last line: ``done``, ``failed`` (nothing of it is left) or ``aborted``."""
        self.note("end", outcome=outcome, **facts)

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.path.name.removesuffix(SUFFIX)

    @property
    def procedure(self) -> str:
        return str(self.events[0].get("procedure", "")) if self.events else ""

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for when it began."""
        return dict(self.events[0].get("request", {})) if self.events else {}

    @property
    def outcome(self) -> str | None:
        """How it ended, None while it has not."""
        ends = [each for each in self.events if each.get("event") == "end"]
        return str(ends[-1]["outcome"]) if ends else None

    @property
    def aborting(self) -> bool:
        """Whether undoing it was begun: it cannot be gone on with any more."""
        return any(each.get("event") == "abort" for each in self.events)

    def state(self, step: str) -> str | None:
        """The last that is known of a step: begun, done, failed, undoing, undone; None when it was never begun."""
        states = [each["state"] for each in self.events if each.get("event") == "step" and each.get("name") == step]
        return str(states[-1]) if states else None

    def facts(self, step: str) -> dict[str, Any]:
        """What a step has noted of itself, the last of each name."""
        found: dict[str, Any] = {}
        for each in self.events:
            if each.get("event") in ("step", "fact") and each.get("name") == step:
                found |= each.get("facts") or {}
        return found

    def fact(self, step: str, **facts: Any) -> None:
        """Note facts of a step under way: before it does what cannot be asked of the world afterwards."""
        self.note("fact", name=step, facts=facts)

    def steps(self) -> list[dict[str, Any]]:
        """Each step that was begun, in order: ``name``, ``state``, ``seconds`` (of all attempts)."""
        found: dict[str, dict[str, Any]] = {}
        for each in self.events:
            if each.get("event") == "step":
                entry = found.setdefault(each["name"], {"name": each["name"], "state": "", "seconds": 0.0})
                entry["state"] = each["state"]
                entry["seconds"] = round(entry["seconds"] + float(each.get("seconds") or 0), 3)
        return list(found.values())


def unfinished(folder: Path, procedure: str | None = None) -> list[Journal]:
    """Journals without an end, oldest first; unreadable ones are passed over."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except OSError:
        return []
    found = [Journal(path, list(_read(path))) for path in paths]
    return [each for each in found if each.events and each.outcome is None and procedure in (None, each.procedure)]


def _read(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def _who() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd
        user = str(os.getuid())
    return {"user": user, "host": socket.gethostname(), "pid": os.getpid()}


def _failed(path: Path, error: OSError) -> OpsError:
    hint = "A procedure writes down what it does before it does it: the folder of the setting `state` must be writable."
    return files.failure(path, error, hint)
