"""Remembers from run to run what is failing, so that the first success after a failure can be told as a recovery.

One small file per job and database, written durably before the failure is told and removed after the recovery was. A run killed
between the two tells the recovery again with the next success: rather twice than never. It is a folder of this machine and not
of the repository, because the repository being out of reach is one of the failures, and because keys that may only add to a
store cannot take a mark away again.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from naap_ops import files
from naap_ops.listeners.record import JobOutcome


@dataclass(frozen=True)
class Failing:
    """Since when something fails, and how often it did."""

    since: str
    failures: int


class Memory:
    """What one listener knows to be failing, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, job: str, database: str | None) -> Path:
        # Percent-encoded a name can be thrice as long as PostgreSQL allows (63 bytes), which still fits into a file name.
        return self._folder / f"{job}@{quote(database or '', safe='')}.json"

    def failing(self, job: str, database: str | None) -> Failing | None:
        """What is known of it; a file that cannot be read still says that it fails."""
        try:
            raw: Any = json.loads(self._path(job, database).read_bytes())
            return Failing(str(raw["since"]), int(raw["failures"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return Failing("an unknown time", 1)

    def failed(self, outcome: JobOutcome) -> None:
        """Remember a failure. Raises OSError."""
        known = self.failing(outcome.job, outcome.database)
        since, failures = (known.since, known.failures + 1) if known else (outcome.finished_at, 1)
        files.make_private_dir(self._folder)
        content = {"since": since, "failures": failures, "last": outcome.line()}
        files.write_durably(self._path(outcome.job, outcome.database), (json.dumps(content) + "\n").encode())

    def recovered(self, job: str, database: str | None) -> None:
        """Forget it, durably. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self._path(job, database).unlink()
            files.fsync_path(self._folder)
