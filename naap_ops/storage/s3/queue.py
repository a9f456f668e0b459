"""The threads that send: tasks in, the first failure out, and how many bytes still wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Queue:
    """``jobs`` threads. After a task has failed, later ones are skipped and every :meth:`check` raises that failure."""

    def __init__(self, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="s3-send")
        self._changed = threading.Condition()
        self._pending = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self.waiting = 0  # bytes

    def submit(self, task: Callable[..., None], *args: object) -> None:
        """Have a thread do it. May be called by a task."""
        with self._changed:
            self._pending += 1
        try:
            self._pool.submit(self._unless_failed, task, *args).add_done_callback(self._done)
        except RuntimeError:  # shut down: what a task wanted next is not wanted any more
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()

    def _unless_failed(self, task: Callable[..., None], *args: object) -> None:
        if self._failure is None and not self._stopped:
            task(*args)

    def _done(self, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        with self._changed:
            self._pending -= 1
            self._failure = self._failure or error
            self._changed.notify_all()

    def wait_for(self, bytes: int) -> None:
        """Count bytes in (positive) or out (negative)."""
        with self._changed:
            self.waiting += bytes
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the first failure of a task, if there was one."""
        if self._failure is not None:
            raise self._failure

    def drain(self, below: int | None = None) -> None:
        """Wait until all tasks are done, or until no more than ``below`` bytes wait. Raises the first failure of a task."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._failure is not None or not self._pending or (below is not None and self.waiting <= below)
            )
        self.check()

    def stop(self) -> None:
        """Begin nothing more, and wait for what is running."""
        self._stopped = True
        self._pool.shutdown(wait=True, cancel_futures=True)
