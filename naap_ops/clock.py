"""The one source of time. All times are UTC and say so."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime


def now() -> datetime:
    """The current time, UTC, whole microseconds."""
    return datetime.now(UTC)


def stamp(moment: datetime | None = None) -> str:
    """``20261121T031500Z``: sorts as text, has no colons, names its zone."""
    return (moment or now()).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def new_id(moment: datetime | None = None) -> str:
    """``20261121T031500Z-5f3a1c``: never used twice, and sorts by time.

    Of the six hex digits the first three count on within the second (1/4096 s: nothing that is named so, a backup or a
    procedure, begins twice in that on one database), the others are random.
    """
    moment = moment or now()
    return f"{stamp(moment)}-{moment.microsecond * 4096 // 1_000_000:03x}{secrets.token_hex(2)[:3]}"


def iso(moment: datetime | None = None) -> str:
    """RFC 3339 with milliseconds, ``2026-11-21T03:15:00.123Z``."""
    return (moment or now()).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(value: str) -> datetime:
    """The inverse of :func:`iso`."""
    return datetime.fromisoformat(value)


monotonic = time.monotonic
