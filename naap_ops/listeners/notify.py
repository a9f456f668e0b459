"""Notifications through apprise: Slack, Teams, mail, webhooks and whatever else it has a URL for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from naap_ops import redact
from naap_ops.config import weburl
from naap_ops.events import Event
from naap_ops.listeners.failing import Memory
from naap_ops.listeners.news import News, compose, healed, remember
from naap_ops.listeners.record import OUTCOME, JobOutcome


class NotDelivered(Exception):
    """A notification that its service did not take."""


class _Complaints(logging.Handler):
    """Keeps what apprise logs in this thread: its calls only answer yes or no, the reason is in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(redact.text(record.getMessage()))


@contextmanager
def _complaints() -> Iterator[_Complaints]:
    logger = logging.getLogger("apprise")
    complaints = _Complaints()
    logger.addHandler(complaints)
    logger.propagate = False
    try:
        yield complaints
    finally:
        logger.removeHandler(complaints)


def unusable(urls: Iterable[str]) -> Iterator[str]:
    """Those that apprise can make nothing of, masked, with its reason: better heard of now than when there is bad news."""
    import apprise

    for url in urls:
        with _complaints() as complaints:
            made = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if made is None:
            reason = "; ".join(complaints.lines) or "apprise knows no such service"
            yield f"{weburl.masked(url)} tells nobody: {reason}"


class Notify:
    """Tells one apprise URL of what ``when`` asks for. One URL each, so that none waits for another."""

    def __init__(self, url: str, when: Collection[str], memory: Memory) -> None:
        self._url = url
        self._when = when
        self._memory = memory

    def __call__(self, event: Event) -> None:
        """Raises NotDelivered, OSError."""
        if event.name != OUTCOME:
            return
        outcome = JobOutcome.from_dict(event.data)
        problem = remember(outcome, self._memory)
        recovered = healed(outcome, self._memory)
        message = compose(outcome, recovered, self._when)
        if message is not None:
            self._send(message)
        for key in recovered:
            self._memory.recovered(*key)
        if problem is not None:
            raise problem

    def _send(self, message: News) -> None:
        import apprise

        with _complaints() as complaints:
            # No pool of threads and no time limit of its own (which such a pool keeps): Python waits at exit for every thread
            # of a pool, also for one that hangs. The limit is kept by the delivery. Nothing is cached on disk.
            asset = apprise.AppriseAsset(
                app_id="naap_ops", app_desc="naap_ops", async_mode=False, service_timeout=0, storage_mode="memory"
            )
            service = apprise.Apprise(asset=asset)
            kind = apprise.NotifyType.FAILURE if message.bad else apprise.NotifyType.SUCCESS
            done = service.add(self._url) and service.notify(
                title=message.title, body=message.body, notify_type=kind, body_format=apprise.NotifyFormat.TEXT
            )
        if not done:
            raise NotDelivered("; ".join(complaints.lines) or "the service did not take the message")
