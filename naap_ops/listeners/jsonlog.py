"""JSON log lines: one object per event, to a file, to stderr, or both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from naap_ops import clock, files, redact
from naap_ops.events import Event
from naap_ops.listeners.record import OUTCOME


def line(event: Event) -> str:
    """The event as one line: ``time``, ``level``, ``event``, then its data."""
    level = "error" if event.name == OUTCOME and event.data["status"] != "ok" else "info"
    record = {"time": clock.iso(), "level": level, "event": event.name, **event.data}
    return json.dumps(redact.values(record), ensure_ascii=False)


class FileLog:
    """Appends to a file, which log rotation may move away at any time. One write per line: several processes can share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        files.make_private_dir(self._path.parent)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, files.PRIVATE_FILE)
        try:
            os.write(fd, (line(event) + "\n").encode())
        finally:
            os.close(fd)


class StderrLog:
    """Writes through ``show``, which prints a line on stderr."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def __call__(self, event: Event) -> None:
        self._show(line(event))
