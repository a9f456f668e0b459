"""From the settings to listeners, each with its thread. What is not configured is not imported."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops.config import weburl
from naap_ops.files import home
from naap_ops.listeners.delivery import Audience, Delivery, Tell
from naap_ops.listeners.jsonlog import FileLog, StderrLog

if TYPE_CHECKING:
    from naap_ops.config.settings import Settings
    from naap_ops.events import Listener


def audience(settings: Settings, repository: str, tell: Tell) -> Audience:
    """Everybody the settings name. ``repository`` tells the runs of one project from another's; ``tell`` prints on stderr."""
    timeout = settings.notify.timeout.total_seconds()

    def complain(text: str) -> None:
        tell(f"naap_ops: {text}")

    deliveries = [Delivery(name, listener, complain, timeout / 2) for name, listener in _listeners(settings, repository, tell)]
    return Audience(deliveries, timeout)


def problems(settings: Settings) -> list[str]:
    """What would keep somebody from hearing, as far as it can be told without telling anybody anything."""
    if not settings.notify.urls:
        return []
    from naap_ops.listeners.notify import unusable

    return [f"notify.urls: {problem}" for problem in unusable(settings.notify.urls)]


def _listeners(settings: Settings, repository: str, tell: Tell) -> Iterator[tuple[str, Listener]]:
    """Names are for complaints, and hold no secret."""
    if settings.log.file is not None:
        yield f"log {settings.log.file}", FileLog(settings.log.file)
    if outcomes := os.environ.get("NAAP_OPS_OUTCOMES"):
        yield "the scheduler", FileLog(Path(outcomes))
    if settings.log.stderr:
        yield "log on stderr", StderrLog(tell)
    urls = {job: url for job, url in settings.notify.ping.model_dump().items() if url is not None}
    if urls:
        from naap_ops.listeners.ping import Ping

        yield (
            "ping",
            Ping(urls, 0.4 * settings.notify.timeout.total_seconds()),
        )  # a start that hangs leaves time for the outcome
    for url in settings.notify.urls:
        from naap_ops.listeners.failing import Memory
        from naap_ops.listeners.notify import Notify

        memory = Memory(_state(settings) / hashlib.sha256(f"{repository}\n{url}".encode()).hexdigest()[:24])
        yield f"notification {weburl.masked(url)}", Notify(url, settings.notify.when, memory)
    if settings.metrics.textfile_dir is not None:
        from naap_ops.listeners.textfile import Textfiles

        yield f"metrics {settings.metrics.textfile_dir}", Textfiles(settings.metrics.textfile_dir)


def _state(settings: Settings) -> Path:
    """Where to remember what is failing: ``notify.state``, else the place the XDG base directories give it."""
    if settings.notify.state is not None:
        return settings.notify.state
    base = os.environ.get("XDG_STATE_HOME") or home() / ".local/state"
    return Path(base) / "naap_ops" / "failing"
