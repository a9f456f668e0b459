"""Notices that the clock was moved: wall time and the time that only runs forward drift apart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from naap_ops import clock

# NTP slews by less than this between two looks; a step, a resumed laptop or virtual machine is more.
_TOLERANCE = timedelta(seconds=10)


class ClockWatch:
    """Call :meth:`moved` now and then."""

    def __init__(self, wall: Callable[[], datetime] = clock.now, steady: Callable[[], float] = clock.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._last = wall(), steady()

    def moved(self) -> timedelta:
        """By how much the clock was moved since the last call; zero for less than ten seconds."""
        (wall, steady), self._last = self._last, (self._wall(), self._steady())
        drift = (self._last[0] - wall) - timedelta(seconds=self._last[1] - steady)
        return drift if abs(drift) > _TOLERANCE else timedelta()
