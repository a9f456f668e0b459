"""The plan that the settings make: which job, when, on which databases, and the words that start it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from naap_ops.config.cron import Cron, parse
from naap_ops.config.settings import JobSettings
from naap_ops.config.sources import Loaded
from naap_ops.errors import ConfigurationError
from naap_ops.schedule import due

# Each job's task, and whether exports start it once with --all-databases: not a drill, which takes long.
TASKS: dict[str, tuple[tuple[str, ...], bool]] = {
    "snapshot": (("snapshot",), True),
    "prune": (("backup.prune", "--yes"), True),
    "verify": (("backup.verify", "latest"), False),
    "drill": (("drill",), False),
    "check": (("check", "--notify"), True),
}


@dataclass(frozen=True)
class Job:
    """One job. A database None is the only one there is, its name known to the server alone.

    ``timezone`` None is the machine's; ``zone`` is what that is.
    """

    name: str
    cron: Cron
    timezone: str | None
    zone: tzinfo
    jitter: timedelta
    databases: tuple[str | None, ...]
    options: tuple[str, ...]
    whole: bool

    def next(self, moment: datetime) -> datetime:
        """The first due time after ``moment``, UTC."""
        return due.after(self.cron, self.zone, moment)

    def last(self, moment: datetime) -> datetime:
        """The last due time up to ``moment``, UTC."""
        return due.before(self.cron, self.zone, moment)

    def words(self, database: str | None) -> list[str]:
        """The task and its flags for one database."""
        chosen = [] if database is None else ["--database", database]
        return [*TASKS[self.name][0], *self.options, *chosen]

    def commands(self) -> list[list[str]]:
        """The same for whoever starts tasks one by one: of all databases at once where the task can do that."""
        if self.whole and TASKS[self.name][1]:
            return [[*TASKS[self.name][0], *self.options, "--all-databases"]]
        return [self.words(database) for database in self.databases]

    @property
    def partial(self) -> bool:
        """Whether it saves tenants or plugins instead of the whole database."""
        return any(word.startswith(("--each-tenant", "--each-plugin")) for word in self.options)


def plan(loaded: Loaded) -> list[Job]:
    """The jobs that have a trigger. Raises ConfigurationError for databases that are not configured."""
    settings = loaded.settings.schedule
    zone = ZoneInfo(settings.timezone) if settings.timezone else _local()
    found = []
    for name in TASKS:
        job: JobSettings = getattr(settings, name)
        if job.trigger is not None:
            own, general = (_known(loaded, job.databases, f"schedule.{name}"), _known(loaded, settings.databases, "schedule"))
            chosen = own or general
            everything = list(loaded.settings.databases)
            found.append(
                Job(
                    name=name,
                    cron=parse(job.trigger),
                    timezone=settings.timezone,
                    zone=zone,
                    jitter=settings.jitter if job.jitter is None else job.jitter,
                    databases=tuple(chosen or loaded.aliases()) or (None,),
                    options=tuple(job.options),
                    whole=len(everything) > 1 and set(chosen or everything) == set(everything),
                )
            )
    return found


def something(jobs: list[Job]) -> list[Job]:
    """The jobs, of which there must be one. Raises ConfigurationError."""
    if not jobs:
        names = ", ".join(f"schedule.{name}.trigger" for name in TASKS)
        raise ConfigurationError(
            detail=f"nothing is scheduled: none of {names} is set",
            hint='Say when in naap_ops.toml: [schedule.snapshot], and below it trigger = "0 3 * * *".',
        )
    return jobs


def _known(loaded: Loaded, names: Sequence[str], section: str) -> list[str]:
    configured = loaded.settings.databases
    if unknown := [name for name in names if name not in configured]:
        there = ", ".join(configured) or "none"
        raise ConfigurationError(detail=f"{section}.databases names {unknown[0]!r}; configured are: {there}")
    return list(dict.fromkeys(names))


def _local() -> tzinfo:
    """The machine's zone, with its rules for summer time. Raises ConfigurationError."""
    from tzlocal import get_localzone

    try:
        return get_localzone()
    except (LookupError, ValueError, OSError) as error:
        raise ConfigurationError(
            detail=f"the machine's time zone cannot be found: {error}", hint="Set schedule.timezone."
        ) from None
