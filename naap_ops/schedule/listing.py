"""The plan with what became of it: when each job is next due, and how it last ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from naap_ops import clock
from naap_ops.schedule.journal import Journal
from naap_ops.schedule.plan import Job


def listed(jobs: Sequence[Job], journal: Journal, now: datetime) -> list[dict[str, Any]]:
    """Per job ``name``, ``trigger``, ``timezone``, ``next`` (UTC), ``last`` (its newest run of any database), ``databases``."""
    return [_listed(job, journal, now) for job in jobs]


def _listed(job: Job, journal: Journal, now: datetime) -> dict[str, Any]:
    runs = {database: journal.last(job.name, database) for database in job.databases}
    each = {database or "": None if run is None else run.as_dict() for database, run in runs.items()}
    newest = max(
        (run for run in runs.values() if run is not None),
        key=lambda run: (run.due, str(run.facts.get("started_at"))),
        default=None,
    )
    return {
        "name": job.name,
        "trigger": job.cron.text,
        "timezone": job.timezone,
        "next": clock.iso(job.next(now)),
        "last": None if newest is None else newest.as_dict(),
        "databases": each,
    }
