"""Hands events to listeners without ever waiting for one: each has a thread and a queue of its own.

A listener that fails or hangs is told of once on stderr. One that is stuck on an event for longer than its patience is left
alone with it if others wait behind it, and a new thread goes on with the next: in a long-lived process one lost connection
does not silence it for good. The threads are daemons: at exit they get until a deadline and are then left behind.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence

from naap_ops import clock
from naap_ops.events import Event, Events, Listener
from naap_ops.listeners.record import OUTCOME, STARTED

# More than any run emits; one that falls further behind than this loses events rather than memory.
_ROOM = 1000

Tell = Callable[[str], None]


class Delivery:
    """One listener, told by a thread of its own. Calling it only queues the event. ``patience`` is in seconds, per event."""

    def __init__(self, name: str, listener: Listener, tell: Tell, patience: float) -> None:
        self.name = name
        self._listener = listener
        self._tell = tell
        self._patience = patience
        self._queue: queue.Queue[Event] = queue.Queue(_ROOM)
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._busy_since: float | None = None
        self._pending = 0
        self._told = False

    def __call__(self, event: Event) -> None:
        if event.name not in (STARTED, OUTCOME):  # progress is of no interest here, and there is much of it
            return
        with self._changed:
            try:
                self._queue.put_nowait(event)
            except queue.Full:
                self.complain("is too slow: an event was not told")
            else:
                self._pending += 1
            self._ensure_worker()

    def close(self, deadline: float) -> None:
        """Wait until all is told, at the longest until ``deadline`` (monotonic)."""
        with self._changed:
            while self._pending and (left := deadline - clock.monotonic()) > 0:
                self._ensure_worker()
                self._changed.wait(min(left, self._patience))
            if self._pending:
                self.complain("did not finish in time: not everything was told")
            self._told = True  # what comes later concerns nobody any more

    def complain(self, text: str) -> None:
        """Say it, unless something was said already."""
        if not self._told:
            self._told = True
            with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
                self._tell(f"{self.name} {text}")

    def _ensure_worker(self) -> None:
        """Have a thread that is not stuck. Holds the lock."""
        late = self._busy_since is not None and clock.monotonic() - self._busy_since > self._patience
        stuck = late and not self._queue.empty()
        if stuck:
            self.complain(f"is stuck since {self._patience:g} s")
            self._pending -= 1  # that event is lost
        if self._worker is None or stuck:
            self._busy_since = None
            worker = threading.Thread(target=self._work, daemon=True, name=f"naap_ops {self.name}")
            try:
                worker.start()
            except RuntimeError as error:  # no more threads to be had
                self.complain(f"cannot run: {error}")
                self._pending = 0
                return
            self._worker = worker

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            event = self._queue.get()
            with self._changed:
                if self._worker is not me:  # it was replaced while it waited
                    self._queue.put(event)
                    return
                self._busy_since = clock.monotonic()
            try:
                self._listener(event)
            except Exception as error:  # noqa: BLE001 - a listener must never fail the work it watches
                self.complain(f"failed: {error or type(error).__name__}")
            with self._changed:
                if self._worker is not me:
                    return
                self._busy_since = None
                self._pending -= 1
                self._changed.notify_all()


class Audience:
    """All listeners of a run."""

    def __init__(self, deliveries: Sequence[Delivery], timeout: float) -> None:
        self.deliveries = deliveries
        self.timeout = timeout

    def __bool__(self) -> bool:
        return bool(self.deliveries)

    def subscribe(self, events: Events) -> None:
        for delivery in self.deliveries:
            events.subscribe(delivery)

    def close(self) -> None:
        """Wait until everybody has been told, ``timeout`` seconds at the longest for all of them together."""
        deadline = clock.monotonic() + self.timeout
        for delivery in self.deliveries:
            delivery.close(deadline)
