"""Cron expressions as crontab(5) has them: five fields, names, lists, ranges, steps, ``@daily`` and its kin.

Days of the week count from Sunday = 0, and 7 is Sunday too. Where both days are restricted, a day needs to fit only one of
them: that is cron's rule. Cron daemons disagree on whether ``*/2`` is restricted, so beside another restricted day it is
refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_ITEM = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", re.ASCII)


@dataclass(frozen=True)
class _Field:
    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()
    names_from: int = 0

    def number(self, word: str) -> int:
        if word.lower() in self.names:
            return self.names.index(word.lower()) + self.names_from
        if not word.isdigit():
            known = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise ValueError(f"{word!r} is no {self.name}: a number is wanted{known}")
        if not self.first <= int(word) <= self.last:
            raise ValueError(f"{self.name} {word} is not between {self.first} and {self.last}")
        return int(word)

    def values(self, text: str) -> frozenset[int]:
        """The numbers that the field allows. Raises ValueError."""
        return frozenset(number for item in text.split(",") for number in self._item(item))

    def _item(self, item: str) -> range:
        parts = _ITEM.fullmatch(item)
        if parts is None:
            raise ValueError(f"{item!r} is no {self.name}")
        low, high, step = parts.groups()
        if low == "*":
            if high is not None:
                raise ValueError(f"{item!r} is no {self.name}")
            start, end = self.first, self.last
        else:
            start = self.number(low)
            # `5/10` is 5 alone to some daemons and 5-59/10 to others.
            if high is None and step is not None:
                raise ValueError(f"{item!r}: a step wants a range or *, as in {low}-{self.last}/{step}")
            end = self.number(high) if high is not None else start
        if end < start:
            raise ValueError(f"{item!r} goes backwards")
        if step is not None and int(step) < 1:
            raise ValueError(f"{item!r}: a step is at least 1")
        return range(start, end + 1, int(step or 1))


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of the week", 0, 7, _DAYS),
)


@dataclass(frozen=True)
class Cron:
    """What an expression allows. ``days`` and ``weekdays`` (0 = Sunday) are None where that day is not restricted."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None
    every_hour: bool

    @property
    def expression(self) -> str:
        """The same as five fields of plain numbers, which every scheduler reads alike."""
        return " ".join(
            _listed(values, count)
            for values, count in (
                (self.minutes, 60),
                (self.hours, 24),
                (self.days, 31),
                (self.months, 12),
                (self.weekdays, 7),
            )
        )


def _listed(values: frozenset[int] | None, count: int) -> str:
    return "*" if values is None or len(values) == count else ",".join(map(str, sorted(values)))


def parse(text: str) -> Cron:
    """The expression ``text``. Raises ValueError with what is wrong with it."""
    words = NICKNAMES.get(text.strip().lower(), text).split()
    if len(words) != len(_FIELDS):
        raise ValueError(f"{text!r} is neither five fields (minute hour day month weekday) nor one of {', '.join(NICKNAMES)}")
    minutes, hours, days, months, weekdays = (field.values(word) for field, word in zip(_FIELDS, words, strict=True))
    weekdays = frozenset(day % 7 for day in weekdays)
    free = [word in ("*", "*/1") for word in words]
    if not free[2] and not free[4]:
        if words[2].startswith("*") or words[4].startswith("*"):
            raise ValueError(f"{text!r}: beside another day, cron daemons disagree on what */N means; list the days")
        if len(days) == 31 or len(weekdays) == 7:  # one of the two fits always
            free[2] = free[4] = True
    if free[4] and not free[2] and all(min(days) > _LONGEST.get(month, 31) for month in months):
        raise ValueError(f"{text!r}: that day never comes")
    return Cron(
        " ".join(text.split()),
        minutes,
        hours,
        None if free[2] else days,
        months,
        None if free[4] else weekdays,
        every_hour=words[1].startswith("*"),
    )


def checked(text: object) -> object:
    """A text that is an expression, for the settings. Raises ValueError."""
    return parse(text).text if isinstance(text, str) else text


def checked_zone(name: object) -> object:
    """A text that names a time zone, for the settings. Raises ValueError."""
    if isinstance(name, str):
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # unknown; leads outside; a folder of zones
            raise ValueError(f"{name!r} is no time zone: write it as in Europe/Berlin or UTC") from None
    return name
