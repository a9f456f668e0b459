"""A client of the live database as a web server is one: connects, asks, hangs up, again and again, whatever happens."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psycopg

from naap_ops.postgres.conninfo import ConnInfo

_PAUSE_SECONDS = 0.002
_TIMEOUT_SECONDS = 30


class Probe:
    """``with Probe(info) as probe:`` measures on a thread; ``longest`` is the longest time between two answers.

    The measurement starts with the first answer. A client that waits is as much without a database as one that is refused, so
    both count: an answer's time is taken when it has arrived. ``answers`` and ``refusals`` tell how often it asked.
    """

    def __init__(self, info: ConnInfo) -> None:
        self._words = info.kwargs(connect_timeout=_TIMEOUT_SECONDS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, daemon=True)
        self.longest = 0.0
        self.answers = 0
        self.refusals = 0

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _ask_on(self) -> None:
        last: float | None = None
        while not self._stop.wait(_PAUSE_SECONDS):
            try:
                with psycopg.connect(**self._words) as connection:  # type: ignore[arg-type]
                    connection.execute("SELECT 1")
            except psycopg.Error:
                self.refusals += 1
                continue
            now = time.perf_counter()
            if last is not None:
                self.longest = max(self.longest, now - last)
            last = now
            self.answers += 1
