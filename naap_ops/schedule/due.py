"""When a cron expression is due in a time zone: a pure function, the same for the scheduler, its list and its catching up.

Clock changes are taken as Vixie's cron takes them. A job with a fixed hour that the change leaps over runs once, as much later
as the leap; in an hour that comes twice it runs once, the first time. A job whose hour is ``*`` goes by real hours.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo

from naap_ops.config.cron import Cron

# From one 29th of February to the next it can be eight years (1896 to 1904, 2096 to 2104).
_SEARCHED_DAYS = 366 * 9


def after(cron: Cron, zone: tzinfo, moment: datetime) -> datetime:
    """The first due time after ``moment``, UTC."""
    day = moment.astimezone(zone).date() - timedelta(days=1)
    for _ in range(_SEARCHED_DAYS):
        found = [due for due in _of_day(cron, zone, day) if due > moment]
        if found:
            return found[0]
        day += timedelta(days=1)
    raise AssertionError(f"{cron.text} never comes")


def before(cron: Cron, zone: tzinfo, moment: datetime) -> datetime:
    """The last due time up to and including ``moment``, UTC."""
    day = moment.astimezone(zone).date() + timedelta(days=1)
    for _ in range(_SEARCHED_DAYS):
        found = [due for due in _of_day(cron, zone, day) if due <= moment]
        if found:
            return found[-1]
        day -= timedelta(days=1)
    raise AssertionError(f"{cron.text} never came")


def _of_day(cron: Cron, zone: tzinfo, day: date) -> list[datetime]:
    """The due times of a day by the zone's calendar, UTC, in order, each once."""
    if not _fits(cron, day):
        return []
    found = set()
    for hour in cron.hours:
        for minute in cron.minutes:
            local = datetime.combine(day, time(hour, minute), zone)
            first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
            exists = first.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None)
            if exists or not cron.every_hour:
                found.add(first)
            if exists and cron.every_hour:
                found.add(second)
    return sorted(found)


def _fits(cron: Cron, day: date) -> bool:
    if day.month not in cron.months:
        return False
    weekday = (day.weekday() + 1) % 7  # Python counts from Monday
    if cron.days is not None and cron.weekdays is not None:
        return day.day in cron.days or weekday in cron.weekdays
    return (cron.days is None or day.day in cron.days) and (cron.weekdays is None or weekday in cron.weekdays)
