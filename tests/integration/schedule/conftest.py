"""Schedulers as processes whose words are heard as they come."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from naap_ops.schedule.journal import Journal, Run
from tests.desk import Desk, wait_until

# Due once a year: nothing but an overdue snapshot runs during a test.
RARELY = '[schedule]\ntimezone = "UTC"\npatience = "1s"\nstop_within = "30s"\n\n[schedule.snapshot]\ntrigger = "0 0 1 1 *"\n'


class Scheduler:
    """`schedule.run` as a process."""

    def __init__(self, desk: Desk, *words: str) -> None:
        self.process: subprocess.Popen[str] = desk.spawn("schedule.run", *words)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def said(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in list(self.lines))

    def until(self, *words: str) -> None:
        """Wait until a line has all the words."""
        try:
            wait_until(lambda: self.said(*words) or self.process.poll() is not None)
        except AssertionError:
            raise AssertionError(f"{words} was not said, but: {self.lines}") from None
        if self.process.poll() is not None:
            self._thread.join()
        assert self.said(*words), f"{words} was not said, but: {self.lines}"

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(120)
        self._thread.join()
        return code


@pytest.fixture
def start(at_work: Desk) -> Iterator[Callable[..., Scheduler]]:
    """Starts a scheduler at the desk ``at_work``."""
    started: list[Scheduler] = []

    def begin(*words: str) -> Scheduler:
        started.append(Scheduler(at_work, *words))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        each._thread.join()


def runs(desk: Desk, job: str = "snapshot") -> list[Run]:
    """All attempts that the journal knows."""
    journal = Journal(desk.app().repository.storage)
    database = desk.app().alias(None)
    found = [
        journal.run(job, database, due, attempt)
        for due, last in sorted(journal.dues(job, database).items())
        for attempt in range(1, last + 1)
    ]
    assert all(Path(desk.repo, ".schedule").is_dir() for _ in found)
    return found
