"""What happens, told to whoever listens: progress bars now, metrics and notifications later.

An engine emits and never waits for an answer; a listener that fails is dropped and never fails the work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """``name`` is dotted (``backup.progress``); ``data`` is JSON-ready."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


class Events:
    """A list of listeners."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def emit(self, name: str, /, **data: Any) -> None:
        event = Event(name, data)
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - a listener must never fail the work it watches
                with contextlib.suppress(ValueError):  # another thread may have dropped it already
                    self._listeners.remove(listener)
