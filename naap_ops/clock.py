"""The one source of time. All times are UTC and say so."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The current time, UTC, whole microseconds."""
    return datetime.now(UTC)


def stamp(moment: datetime | None = None) -> str:
    """``20261121T031500Z``: sorts as text, has no colons, names its zone."""
    return (moment or now()).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def iso(moment: datetime | None = None) -> str:
    """RFC 3339 with milliseconds, ``2026-11-21T03:15:00.123Z``."""
    return (moment or now()).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(value: str) -> datetime:
    """The inverse of :func:`iso`."""
    return datetime.fromisoformat(value)


monotonic = time.monotonic
