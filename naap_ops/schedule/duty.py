"""What a scheduler owes a database now: a pure function of the plan, the journal and the lease."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from naap_ops.backup.repository import Backup
from naap_ops.schedule.journal import Run
from naap_ops.schedule.plan import Job

# Clocks of two machines may differ by this much; what is further ahead was made by a clock that was moved.
_SKEW = timedelta(minutes=5)
_MOST_ATTEMPTS = 5


@dataclass(frozen=True)
class Owed:
    """A run to do. ``patiently``: somebody else may still be at it, or get to it first."""

    due: datetime
    attempt: int
    patiently: bool = False


@dataclass(frozen=True)
class Facts:
    """What is known of a job and a database.

    ``dues``: the claimed due times and their last attempts; ``run``: reads one; ``held``: the lease is ours; ``since``: when
    this scheduler began; ``starting``: just now; ``newest``: when the newest verified backup was begun, if there is one.
    """

    now: datetime
    dues: Mapping[datetime, int]
    run: Callable[[datetime, int], Run]
    held: bool
    since: datetime
    starting: bool
    newest: Callable[[], datetime | None]


def owed(job: Job, facts: Facts) -> Owed | None:
    """The run that is owed, or None. However many due times were missed, only the last one counts."""
    due = job.last(facts.now)
    attempt = facts.dues.get(due, 0)
    if not attempt:
        return Owed(due, 1, not facts.held) if _wanted(job, due, facts) else None
    if attempt >= _MOST_ATTEMPTS:
        return None
    last = facts.run(due, attempt)
    if last.end is None:  # whoever was at it had the lease and has lost it; of one who never had it nothing is known
        return Owed(due, attempt + 1, patiently=True) if facts.held and last.facts.get("lease") else None
    again = last.abandoned or (facts.starting and job.name == "snapshot" and not last.ok)
    if not again or (job.name == "snapshot" and not _overdue(due, facts)):
        return None
    return Owed(due, attempt + 1, not facts.held)


def _wanted(job: Job, due: datetime, facts: Facts) -> bool:
    """Whether a due time that nobody served is to be served now: it came while we were here, or was missed."""
    if due > min(facts.since, facts.now):
        return True
    # A first start begins with a snapshot where one is overdue; the other jobs wait for their time.
    return _overdue(due, facts) if job.name == "snapshot" else bool(facts.dues)


def _overdue(due: datetime, facts: Facts) -> bool:
    newest = facts.newest()
    return newest is None or newest < due


def newest(backups: list[Backup], now: datetime, *, partial: bool) -> datetime | None:
    """When the newest verified backup was begun, of the whole database unless ``partial``; none from the future."""
    moments = [
        b.moment
        for b in backups
        if b.verified and b.moment <= now + _SKEW and (partial or (b.sound.kind == "full" and b.sound.scope.whole))
    ]
    return max(moments, default=None)
