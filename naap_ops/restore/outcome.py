"""What a restore is told, what it says it would do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

from naap_ops.backup.manifest import Manifest, TableFact, counted
from naap_ops.wording import count_of


@dataclass(frozen=True)
class RestoreOptions:
    """``owner`` and ``privileges``: bring them back, which needs their roles. ``lock_timeout`` is in seconds.

    ``partial`` allows a swap although the backup lacks rows or schemas. ``locale_of_server`` gives a new database the server's
    default locale instead of the one in the backup.
    """

    jobs: int = 2
    owner: bool = True
    privileges: bool = True
    maintenance_work_mem: str = "256MB"
    lock_timeout: float = 10.0
    partial: bool = False
    locale_of_server: bool = False

    def session(self) -> dict[str, str]:
        """Settings of the loading sessions only: what a crash loses of an unfinished aside database is no loss."""
        settings = {"synchronous_commit": "off", "maintenance_work_mem": self.maintenance_work_mem}
        if self.jobs > 1:
            settings["max_parallel_maintenance_workers"] = "0"  # the jobs are the parallelism
        return settings


@dataclass(frozen=True)
class Plan:
    """What would be done to ``database``, line by line, for people. ``notes`` are the lines that need attention."""

    database: str
    lines: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What was done. ``previous`` is where the old one is kept; ``backup`` the backup's id, or the script's name."""

    database: str
    previous: str | None
    seconds: float
    downtime_seconds: float
    tables: int
    rows: int
    backup: str | None
    notes: list[str] = field(default_factory=list)


def size_text(size: float) -> str:
    """A size for people: ``12.3 MB``, decimal as disks are sold."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def described(manifest: Manifest) -> str:
    """A backup for people."""
    label = f" ({manifest.label})" if manifest.label else ""
    return f"backup {manifest.id}{label} of {manifest.database['name']!r} as of {manifest.snapshot_at}"


def totals(tables: list[TableFact]) -> str:
    """How much there is to load, for people."""
    return f"{count_of(counted(tables), 'table')}, {count_of(sum(t.rows or 0 for t in tables), 'row')}"
