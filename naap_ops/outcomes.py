"""Runs a job under the eyes of its listeners: that it began, and how it ended, whatever way that was."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import socket
import threading
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from naap_ops import clock
from naap_ops.backup.repository import Backup
from naap_ops.errors import InternalError, Interrupted, OpsError, Partial
from naap_ops.listeners.record import OUTCOME, STARTED, JobOutcome, Status

if TYPE_CHECKING:
    from naap_ops.app import App


class Job:
    """``with Job(app, "backup", database) as job:`` emits ``started``, and at the end exactly one ``outcome``.

    The block says what it knows by :meth:`report`, and does each of several databases in a :meth:`part`. An exception becomes
    the outcome's error and goes on. ``listening``: somebody hears it, so that it is worth looking into the repository.
    """

    def __init__(self, app: App, name: str, database: str | None, *, listening: bool = True) -> None:
        self._app = app
        self._patience = app.loaded.settings.notify.timeout.total_seconds() / 2
        self._listening = listening
        self._whole = self._run = _Run(name, database, self._known(database))
        self._parts: list[JobOutcome] = []
        self._told: list[BaseException] = []

    def __enter__(self) -> Self:
        self._app.events.emit(STARTED, job=self._whole.job, database=self._whole.database, at=clock.iso(self._whole.started))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        outcome = self._conclude(self._whole, error)
        if isinstance(error, Partial) and self._parts:
            self._parts += self._before_their_part(error)
        if self._parts and (error is None or not all(part.ok for part in self._parts)):
            outcome = dataclasses.replace(outcome, parts=tuple(self._parts), status=_overall(self._parts))
        self._app.events.emit(OUTCOME, **outcome.as_dict())

    @contextlib.contextmanager
    def part(self, database: str | None) -> Iterator[None]:
        """One database of several; what is reported in the block is about it."""
        self._run = _Run(self._whole.job, database, self._known(database))
        error: BaseException | None = None
        try:
            yield
        except BaseException as failure:
            error = failure
            self._told.append(failure)
            raise
        finally:
            self._parts.append(self._conclude(self._run, error))
            self._run = self._whole

    def _before_their_part(self, error: Partial) -> list[JobOutcome]:
        """Those that failed before their part began."""
        failed = [(name, each) for name, each in error.fields["failed"].items() if each not in self._told]
        return [_Run(self._whole.job, name or None, None).outcome(each, 0.0) for name, each in failed]

    def report(self, backup: Backup | None = None, **facts: Any) -> None:
        """What becomes known along the way: the ``backup`` it is about; fields of JobOutcome."""
        self._run.facts |= facts
        if backup is not None:
            self._run.backup = backup
            self._run.known = self._run.known or self._known(backup.alias)

    def _conclude(self, run: _Run, error: BaseException | None) -> JobOutcome:
        began = clock.monotonic()
        outcome = run.outcome(error, self._patience)
        self._patience = max(0.0, self._patience - (clock.monotonic() - began))
        return outcome

    def _known(self, database: str | None) -> _Known | None:
        return _Known(self._app, database) if self._listening and database is not None else None


def _overall(parts: list[JobOutcome]) -> Status:
    if all(part.ok for part in parts):
        return "ok"
    return "partial" if any(part.ok for part in parts) else "failed"


class _Run:
    """What is known of a run, until it becomes a JobOutcome."""

    def __init__(self, job: str, database: str | None, known: _Known | None) -> None:
        self.job = job
        self.database = database
        self.started = clock.now()
        self.facts: dict[str, Any] = {}
        self.backup: Backup | None = None
        self.known = known
        self._began = clock.monotonic()

    def outcome(self, error: BaseException | None, patience: float) -> JobOutcome:
        """``patience``: seconds for what is still being asked of the repository."""
        finished = clock.now()
        failure = _failure(error)
        own: dict[str, Any] = {
            "database": self.database,
            "status": "ok" if failure is None else "failed",
            "seconds": round(clock.monotonic() - self._began, 3),
            "error": None if failure is None else _told(failure),
            "hint": failure.advice or None if failure is not None else None,
        }
        return JobOutcome(
            job=self.job,
            host=socket.gethostname(),
            started_at=clock.iso(self.started),
            finished_at=clock.iso(finished),
            **{**own, **_facts(self.backup), **self._health(finished, patience), **self.facts},
        )

    def _health(self, now: datetime, patience: float) -> dict[str, Any]:
        """The state of the repository after this run: what was there when it began, and what became of its own backup."""
        known = self.known.backups(patience) if self.known is not None else None
        if known is None:
            return {}
        own = self.backup
        others = {id: moment for id, moment in known.items() if own is None or id != own.id}
        verified = {**others, own.id: own.moment} if own is not None and own.verified else others
        age = (now - verified[max(verified)]).total_seconds() if verified else None
        return {
            "previous_good": max(others, default=None),
            "newest_verified_age_seconds": None if age is None else max(0, round(age)),
            "verified_count": len(verified),
        }


def _failure(error: BaseException | None) -> OpsError | None:
    """Any exception as a failure of the tree, as the command line would show it."""
    if error is None or isinstance(error, OpsError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted()
    return InternalError(kind=type(error).__name__, text=error)


def _told(failure: OpsError) -> dict[str, Any]:
    return {"code": failure.exit_code, "class": type(failure).__name__, "message": failure.text}


def _facts(backup: Backup | None) -> dict[str, Any]:
    if backup is None:
        return {}
    facts = {"id": backup.id, "url": backup.url, "database": backup.alias}
    if backup.manifest is None:
        return facts
    manifest = backup.manifest
    return {
        **facts,
        "bytes": manifest.bytes,
        "rows": manifest.rows,
        "sha256": hashlib.sha256(manifest.to_json()).hexdigest(),
    }


class _Known:
    """The verified backups of a database, looked up while the job works: that costs no time, and a store may hang meanwhile."""

    def __init__(self, app: App, database: str) -> None:
        self._app = app
        self._database = database
        self._found: dict[str, datetime] | None = None
        self._thread = threading.Thread(target=self._look, daemon=True, name="naap_ops known backups")
        self._thread.start()

    def _look(self) -> None:
        with contextlib.suppress(OpsError):  # the job itself will say that
            backups = self._app.open_repository().backups(self._database)
            self._found = {backup.id: backup.moment for backup in backups if backup.verified}

    def backups(self, patience: float) -> dict[str, datetime] | None:
        """Moments by id; None when it is not known in time."""
        self._thread.join(max(0.0, patience))
        return self._found
