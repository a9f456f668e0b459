"""Whether the backups of a database are what one relies on: a pure function from backups and limits to OK, WARN or CRIT."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from naap_ops import clock
from naap_ops.backup.repository import Backup, Record

# Clocks of two machines may differ by this much; a backup further ahead was made by a clock that was moved.
_SKEW = timedelta(minutes=5)
# How many earlier backups the newest one's size is compared with.
_COMPARED = 7


class Status(enum.IntEnum):
    """Exit codes of `check`, those of monitoring plug-ins."""

    OK = 0
    WARN = 1
    CRIT = 2


@dataclass(frozen=True)
class Limits:
    """``size_change`` in percent of the median; ``drill_age`` None: drills are not demanded."""

    warn_age: timedelta
    crit_age: timedelta
    size_change: int
    drill_age: timedelta | None = None


@dataclass
class Health:
    """What was found of one database. ``id``, ``age_seconds`` and ``bytes`` are those of the newest verified backup."""

    status: Status = Status.OK
    reasons: list[str] = field(default_factory=list)
    id: str | None = None
    age_seconds: int | None = None
    bytes: int | None = None

    def add(self, status: Status, reason: str) -> None:
        self.status = max(self.status, status)
        self.reasons.append(reason)


def unknown(reason: str) -> Health:
    """Of a database whose backups cannot be looked at."""
    return Health(Status.CRIT, [reason])


def health(backups: Sequence[Backup], limits: Limits, now: datetime) -> Health:
    """Judge the backups of one database, newest first.

    Where there are backups of the whole database, only they count: that a tenant was saved this morning says nothing of the
    night's backup having failed.
    """
    found = Health()
    counting = _counting(backups)
    future = [b for b in counting if b.moment > now + _SKEW]
    for backup in future:
        ahead = span(backup.moment - now)
        found.add(Status.WARN, f"backup {backup.id} is {ahead} from the future: a clock was moved; it is not counted")
    past = [b for b in counting if b not in future]
    _judge_newest(found, past)
    _judge_age(found, past, limits, now, only_future=any(b.verified for b in future))
    _judge_size(found, past, limits)
    _judge_drill(found, backups, limits, now)
    return found


def _counting(backups: Sequence[Backup]) -> list[Backup]:
    """Whole ones, and those that cannot be read, as they may have been that; all, where no whole one is among them."""
    whole = [b for b in backups if b.manifest is None or b.whole]
    return whole if any(b.manifest is not None for b in whole) else list(backups)


def _judge_newest(found: Health, past: list[Backup]) -> None:
    if past and past[0].bad:
        why = past[0].problem.text if past[0].problem else _problems(past[0])
        found.add(Status.CRIT, f"the newest backup {past[0].id} is BAD{': ' if why else ''}{why}")


def _problems(backup: Backup) -> str:
    failed = [check for check in backup.checks if check.what == "failed"]
    return "; ".join(map(str, failed[-1].data.get("problems") or [])) if failed else ""


def _judge_age(found: Health, past: list[Backup], limits: Limits, now: datetime, *, only_future: bool) -> None:
    newest = next((b for b in past if b.verified), None)
    if newest is None:
        if not only_future:
            found.add(Status.CRIT, "there is no verified backup" if past else "there is no backup")
        return
    age = max(now - newest.moment, timedelta())
    found.id, found.age_seconds, found.bytes = newest.id, round(age.total_seconds()), newest.sound.bytes
    for status, limit in ((Status.CRIT, limits.crit_age), (Status.WARN, limits.warn_age)):
        if age > limit:
            found.add(status, f"the newest verified backup {newest.id} is {span(age)} old, more than {span(limit)}")
            return


def _judge_size(found: Health, past: list[Backup], limits: Limits) -> None:
    """The newest verified one against the median of up to seven before it, of the same kind and scope and stored alike."""
    verified = [b for b in past if b.verified]
    earlier = [b.sound.bytes for b in verified[1:] if _alike(b, verified[0])][:_COMPARED]
    usual = median(earlier) if earlier else 0
    if not usual:
        return
    change = (verified[0].sound.bytes - usual) / usual * 100
    if abs(change) > limits.size_change:
        found.add(
            Status.WARN,
            f"backup {verified[0].id} is {abs(change):.0f} % {'larger' if change > 0 else 'smaller'} "
            f"than the median of the {len(earlier)} before it ({verified[0].sound.bytes:,} against {usual:,.0f} bytes)",
        )


def _alike(one: Backup, other: Backup) -> bool:
    """Of the same thing in the same form: a plain script is three times as large as an archive, and nothing is wrong."""
    form, its = ((b.group, b.sound.format, b.sound.compression) for b in (one, other))
    return form == its


def _judge_drill(found: Health, backups: Sequence[Backup], limits: Limits, now: datetime) -> None:
    """The last drill, on whichever backup. One that failed, or whose record cannot be read, is critical."""
    drills = [(record, backup) for backup in backups for record in backup.records if record.what == "drilled"]
    if not drills:
        if limits.drill_age is not None:
            found.add(Status.WARN, "there was no drill")
        return
    record, backup = max(drills, key=lambda drill: clock.parse(drill[0].at))
    if record.data.get("ok") is not True:
        found.add(Status.CRIT, f"the last drill, on {record.at} of backup {backup.id}, failed{_why(record)}")
        return
    age = now - clock.parse(record.at)
    if limits.drill_age is not None and age > limits.drill_age:
        found.add(Status.WARN, f"the last drill was {span(age)} ago, more than {span(limits.drill_age)}")


def _why(record: Record) -> str:
    why = record.data.get("problem") or record.data.get("error") or record.data.get("problems")
    told = "; ".join(map(str, why)) if isinstance(why, list) else why
    return f": {told}" if told else ""


def span(age: timedelta) -> str:
    """An age for people: ``26.5 h``, ``5 days``."""
    hours = age.total_seconds() / 3600
    return f"{age.total_seconds() / 60:.0f} min" if hours < 1 else f"{hours:.3g} h" if hours < 96 else f"{hours / 24:.0f} days"
