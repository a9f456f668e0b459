"""Outcomes made by hand, and services that hear of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from naap_ops.events import Event
from naap_ops.listeners.record import OUTCOME, STARTED, JobOutcome
from tests.hearing import Service, recording

MakeOutcome = Callable[..., JobOutcome]

ERROR = {"code": 4, "class": "ServerUnreachable", "message": "cannot reach PostgreSQL at h:1: refused"}


def outcome(job: str = "backup", database: str | None = "naap", **fields: Any) -> JobOutcome:
    """One that went well, or with ``failed=True`` did not."""
    failed = fields.pop("failed", False)
    facts: dict[str, Any] = {
        "status": "failed" if failed else "ok",
        "host": "db1",
        "started_at": "2026-11-21T03:15:00.000Z",
        "finished_at": "2026-11-21T03:15:12.500Z",
        "seconds": 12.5,
    }
    if failed:
        facts |= {"error": ERROR, "hint": "Is the server running?"}
    else:
        facts |= {"id": "20261121T031500Z-5f3a1c", "bytes": 1234567, "rows": 4321}
    return JobOutcome(job, database, **{**facts, **fields})


def several(*parts: JobOutcome) -> JobOutcome:
    """A run over several databases."""
    bad = [part for part in parts if not part.ok]
    status = "ok" if not bad else "failed" if len(bad) == len(parts) else "partial"
    return outcome(parts[0].job, None, status=status, parts=parts, id=None, bytes=None, rows=None)


def event(record: JobOutcome) -> Event:
    return Event(OUTCOME, record.as_dict())


def started(job: str = "backup", database: str | None = "naap") -> Event:
    return Event(STARTED, {"job": job, "database": database, "at": "2026-11-21T03:15:00.000Z"})


@pytest.fixture
def service() -> Iterator[Service]:
    with recording() as found:
        yield found
