"""Does what is owed of a job: waits where that is due, claims the run, starts the child, writes down how it ended."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from naap_ops import clock
from naap_ops.app import App
from naap_ops.errors import Interrupted, OpsError, StorageError
from naap_ops.listeners.metrics import Metrics
from naap_ops.schedule import duty
from naap_ops.schedule.child import Child, Ended
from naap_ops.schedule.duty import Owed
from naap_ops.schedule.journal import Journal
from naap_ops.schedule.keeper import Keeper
from naap_ops.schedule.lease import State
from naap_ops.schedule.plan import Job

Say = Callable[[str], None]
Task = tuple[str, str | None]  # a job and one of its databases


class Worker:
    """``settled``: by task the last run that was ours; ``running``: what goes on now; ``over``: set to begin nothing more."""

    def __init__(
        self, app: App, keepers: Mapping[str | None, Keeper], tasks: set[Task], flags: Sequence[str], say: Say, warn: Say
    ) -> None:
        self._app = app
        self._settings = app.loaded.settings.schedule
        self._keepers = keepers
        self._starting = tasks
        self._flags = list(flags)
        self._say = say
        self._warn = warn
        self._through: set[Task] = set()  # of what is settled, that which came to an end of its own
        self.since = clock.now()
        self.over = threading.Event()
        self.metrics = Metrics()
        self.settled: dict[Task, Owed] = {}
        self.running: dict[Task, tuple[Owed, Child]] = {}

    def attend_to(self, job: Job, database: str | None) -> None:
        try:
            while not self.over.is_set() and (owed := self._owed(job, database)):
                self._serve(job, database, owed)
        except OpsError as error:
            self._warn(f"{task_name((job.name, database))}: {error.text}")

    def _owed(self, job: Job, database: str | None) -> Owed | None:
        keeper = self._keepers[database]
        while not keeper.known.wait(0.2):
            if self.over.is_set():
                return None
        state, task = keeper.state, (job.name, database)
        if state is State.OTHER:
            self._starting.discard(task)
            return None
        repository = self._app.open_repository()
        journal = Journal(repository.storage)
        try:
            dues = journal.dues(*task)
        except OpsError as error:  # then the run itself will fail, and be heard of
            self._warn(f"{task_name(task)}: the journal cannot be read: {error.text}")
            dues = {}
        now = clock.now()

        def newest() -> datetime | None:
            return duty.newest(repository.backups(database or self._app.alias(None)), now, partial=job.partial)

        facts = duty.Facts(
            now=now,
            dues=dues,
            run=lambda due, attempt: journal.run(job.name, database, due, attempt),
            held=state is State.HELD,
            since=self.since,
            starting=task in self._starting,
            newest=newest,
        )
        found = duty.owed(job, facts)
        self._starting.discard(task)
        return None if found is None or self._served(task, found) else found

    def _served(self, task: Task, found: Owed) -> bool:
        """Whether we did that already, as far as we remember ourselves: the journal may have been out of reach."""
        settled = self.settled.get(task)
        if settled is None or found.due != settled.due:
            return False
        return found.attempt <= settled.attempt or (found.attempt == settled.attempt + 1 and task in self._through)

    def _serve(self, job: Job, database: str | None, owed: Owed) -> None:
        """Wait where that is due, claim the run, do it."""
        if self.over.wait(self._pause(job, owed)):
            return
        if owed.patiently and self._owed(job, database) != owed:
            return
        if self._keepers[database].state is State.OTHER:
            return
        self.settled[job.name, database] = owed
        journal = Journal(self._app.open_repository().storage)
        claimed = self._claim(journal, job, database, owed)
        if claimed is False:
            return
        self._through.discard((job.name, database))
        ended, seconds = self._do(job, database, owed)
        if ended.code >= 0 and ended.code != Interrupted.exit_code:
            self._through.add((job.name, database))
        if claimed:
            journal.end(job.name, database, owed.due, owed.attempt, code=ended.code, message=ended.message, seconds=seconds)

    def _pause(self, job: Job, owed: Owed) -> float:
        patience = self._settings.patience if owed.patiently else timedelta()
        fresh = clock.now() - owed.due <= job.jitter
        return patience.total_seconds() + (random.uniform(0, job.jitter.total_seconds()) if fresh else 0.0)

    def _claim(self, journal: Journal, job: Job, database: str | None, owed: Owed) -> bool | None:
        """Whether the run is ours; None where the journal cannot say: it is tried all the same, so that its failure is told."""
        try:
            held = self._keepers[database].state is State.HELD
            return journal.claim(job.name, database, owed.due, owed.attempt, lease=held)
        except StorageError as error:
            self._warn(f"{task_name((job.name, database), owed.due)}: cannot be claimed: {error.text}")
            return None

    def _do(self, job: Job, database: str | None, owed: Owed) -> tuple[Ended, float]:
        task = (job.name, database)
        name = task_name(task, owed.due)
        self._say(f"{name}: begins" + (f", attempt {owed.attempt}" if owed.attempt > 1 else ""))
        began = clock.monotonic()
        child = Child([*job.words(database), *self._flags], lambda line: self._warn(f"{task_name(task)}: {line}"))
        self.running[task] = owed, child
        try:
            if self.over.is_set():  # told to end between the last look and now
                child.stop(self._settings.stop_within.total_seconds())
            ended = child.wait()
        finally:
            del self.running[task]
        seconds = round(clock.monotonic() - began, 3)
        for outcome in ended.outcomes:
            for member in outcome.members:
                self.metrics.record(member)
        (self._warn if ended.code else self._say)(f"{name}: {_told(ended)} after {seconds:.1f} s")
        return ended, seconds


def task_name(task: Task, due: datetime | None = None) -> str:
    """``snapshot of naap, due 2026-11-21T03:00:00.000Z``."""
    job, database = task
    return job + (f" of {database}" if database else "") + (f", due {clock.iso(due)}" if due else "")


def _told(ended: Ended) -> str:
    if ended.code == 0:
        return "ok"
    if ended.code < 0:
        return f"abandoned (signal {-ended.code})"
    reason = f": {ended.message}" if ended.message else ""
    return "abandoned, it has cleaned up" if ended.code == 130 else f"failed with code {ended.code}{reason}"
