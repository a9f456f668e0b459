"""The scheduler as a process in the foreground: APScheduler says when, the lease and the journal say who, a child does it."""

from __future__ import annotations

import functools
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from naap_ops import clock
from naap_ops.app import App
from naap_ops.config import duration
from naap_ops.listeners.metrics_server import MetricsServer
from naap_ops.schedule.keeper import Keeper
from naap_ops.schedule.lease import Lease, State, lease_key
from naap_ops.schedule.plan import Job
from naap_ops.schedule.watch import ClockWatch
from naap_ops.schedule.worker import Say, Worker, task_name

_TICK_SECONDS = 1.0
_ALIVE_SECONDS = 30.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class DueTrigger(BaseTrigger):  # type: ignore[misc]
    """Our due times as APScheduler asks for them."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return self._job.next(previous_fire_time or now)


class Service:
    """Runs the ``jobs`` until told to end. ``flags`` go to every child; ``say`` prints a line, ``warn`` one of trouble."""

    def __init__(self, app: App, jobs: Sequence[Job], flags: Sequence[str], say: Say, warn: Say) -> None:
        self._settings = app.loaded.settings.schedule
        self._jobs = {job.name: job for job in jobs}
        self._say = say
        self._warn = warn
        self._beat = clock.monotonic()
        self._busy: set[str] = set()
        self._poked: set[str] = set()
        self._failure: str | None = None
        key = lease_key(app.repository.storage.url)
        names = dict.fromkeys(database for job in jobs for database in job.databases)
        self._keepers = {
            name: Keeper(name, Lease(functools.partial(app.info, name), key), self._lease_changed) for name in names
        }
        tasks = {(job.name, database) for job in jobs for database in job.databases}
        self._worker = Worker(app, self._keepers, tasks, flags, say, warn)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(max_workers=max(1, len(self._jobs)))},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    # --- its life -------------------------------------------------------------------------------------------------------

    def run(self, listen: tuple[str, int] | None = None) -> list[str]:
        """Until SIGTERM, SIGINT or SIGHUP. What had to be killed then. Raises ConfigurationError for a port not to be had."""
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # what matters is told here
        server = MetricsServer(*listen, self._worker.metrics, self.health) if listen else None
        with self._signals(), server or nullcontext():
            if server is not None:
                self._say(f"metrics and health at http://{server.host}:{server.port}")
            self._start()
            watch = ClockWatch()
            while not self._worker.over.wait(_TICK_SECONDS):
                self._tick(watch)
            return self._stop()

    def _start(self) -> None:
        for keeper in self._keepers.values():
            keeper.start()
        for job in self._jobs.values():
            self._scheduler.add_job(self._attend, DueTrigger(job), args=(job,), id=job.name)
            self._say(f"{job.name}: {job.cron.text}, next at {clock.iso(job.next(clock.now()))}")
        self._scheduler.add_listener(self._crashed, EVENT_JOB_ERROR)
        self._scheduler.start()

    def _tick(self, watch: ClockWatch) -> None:
        self._beat = clock.monotonic()
        if drift := watch.moved():
            self._say(f"the clock was moved by {drift.total_seconds():+.0f} s: the due times are worked out anew")
            for job in self._jobs.values():
                self._scheduler.reschedule_job(job.name, trigger=DueTrigger(job))
            self._poked |= set(self._jobs)
        for name in self._poked - self._busy:
            self._scheduler.modify_job(name, next_run_time=clock.now())

    def _stop(self) -> list[str]:
        """End what runs, within the time that is stated; say what became of it."""
        grace = self._settings.stop_within.total_seconds()
        running = dict(self._worker.running)
        for task, (owed, _) in running.items():
            self._say(f"ending {task_name(task, owed.due)}: it has {duration.text(self._settings.stop_within)}")
        enders = [threading.Thread(target=child.stop, args=(grace,)) for _, child in running.values()]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        self._scheduler.shutdown(wait=True)
        for keeper in self._keepers.values():
            keeper.stop()
        killed = [task_name(task, owed.due) for task, (owed, child) in running.items() if child.code == -signal.SIGKILL]
        (self._warn if killed else self._say)(f"ended; had to kill {', '.join(killed)}" if killed else "ended")
        return killed

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:  # nohup
                    signal.signal(number, lambda *_: self._worker.over.set())
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _crashed(self, event: JobExecutionEvent) -> None:
        self._failure = f"{event.job_id}: {type(event.exception).__name__}: {event.exception}"
        self._warn(f"a bug of naap_ops: {self._failure}")

    def _lease_changed(self, keeper: Keeper, before: State | None) -> None:
        name = keeper.name or "the database"
        if keeper.state is State.HELD:
            self._say(f"{name}: {'took over' if before is State.OTHER else 'in charge'}")
        elif keeper.state is State.OTHER:
            self._say(f"{name}: standing by for {keeper.detail}")
            self._yield_to_other(keeper.name)
        else:
            self._warn(f"{name}: no lease, by the journal alone: {keeper.detail}")
        self._poked |= set(self._jobs)

    def _yield_to_other(self, database: str | None) -> None:
        """Somebody else got the lease while a run of ours goes on: end it, he will do it."""
        for (job, name), (owed, child) in list(self._worker.running.items()):
            if name == database:
                self._say(f"ending {task_name((job, name), owed.due)}: another scheduler is in charge now")
                child.stop(self._settings.patience.total_seconds() / 2)

    def _attend(self, job: Job) -> None:
        """Do what is owed of a job, one database after the other, until nothing is."""
        self._busy.add(job.name)
        self._poked.discard(job.name)
        began = clock.now()
        try:
            for database in job.databases:
                self._worker.attend_to(job, database)
        finally:
            if job.last(clock.now()) > began:  # APScheduler has let that one pass: one instance of a job at a time
                self._poked.add(job.name)
            self._busy.discard(job.name)

    # --- its health -----------------------------------------------------------------------------------------------------

    def health(self) -> tuple[bool, dict[str, Any]]:
        """For /healthz: the loop turns, APScheduler lives, nothing of ours is late beyond the limit."""
        late = self._late(clock.now())
        alive = clock.monotonic() - self._beat < _ALIVE_SECONDS and bool(self._scheduler.running) and self._failure is None
        return alive and not late, {
            "alive": alive,
            "overdue": late,
            "running": [task_name(task, owed.due) for task, (owed, _) in list(self._worker.running.items())],
            "databases": {name or "": keeper.state and keeper.state.value for name, keeper in self._keepers.items()},
            "failure": self._failure,
        }

    def _late(self, now: datetime) -> list[str]:
        """Due times since the start that we owe, and that are neither served nor given up within the limit."""
        found = []
        for job in self._jobs.values():
            due = job.last(now)
            if due <= self._worker.since or now - due <= self._settings.overdue + job.jitter:
                continue
            for database in job.databases:
                task = (job.name, database)
                settled = self._worker.settled.get(task)
                done = settled is not None and settled.due >= due and task not in self._worker.running
                if not done and self._keepers[database].state is not State.OTHER:
                    found.append(task_name(task, due))
        return found
