"""Tends the lease of one database on a thread of its own, so that a database that hangs holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Callable

from naap_ops.schedule.lease import Lease, State

_EVERY_SECONDS = 5.0


class Keeper:
    """``changed(name, before, state)`` is called at each change, the first one's ``before`` being None."""

    def __init__(self, name: str | None, lease: Lease, changed: Callable[[Keeper, State | None], None]) -> None:
        self.name = name
        self.state: State | None = None
        self._lease = lease
        self._changed = changed
        self._over = threading.Event()
        self.known = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"naap_ops lease {name or ''}")

    @property
    def detail(self) -> str:
        return self._lease.detail

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the lease go."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            before, state = self.state, self._lease.tend()
            if self._over.is_set():
                break
            self.state = state
            self.known.set()
            if state is not before:
                self._changed(self, before)
            if self._over.wait(_EVERY_SECONDS):
                break
        self._lease.close()
