"""How a job ended: one record, the same for every listener."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from naap_ops.wording import count_of

Status = Literal["ok", "failed", "partial"]

# The events that listeners hear. The data of STARTED is ``job``, ``database`` and ``at``, that of OUTCOME a JobOutcome.
STARTED = "started"
OUTCOME = "outcome"


@dataclass(frozen=True)
class JobOutcome:
    """What became of one run of a job.

    ``database`` is the alias, None for a run over several, whose own outcomes are then the ``parts``. ``id``, ``url``,
    ``bytes``, ``rows`` and ``sha256`` (of its manifest) are those of the backup it was about. ``previous_good`` is the newest
    verified backup but this one, ``newest_verified_age_seconds`` the age of the newest verified of all, ``verified_count``
    how many there are: None where nobody listened or the repository did not answer in time. ``error`` has ``code``,
    ``class`` and ``message``. ``detail``: what was done, for people, where a run changes a schema or its history.
    """

    job: str
    database: str | None
    status: Status
    host: str
    started_at: str
    finished_at: str
    seconds: float
    id: str | None = None
    url: str | None = None
    bytes: int | None = None
    rows: int | None = None
    sha256: str | None = None
    previous_good: str | None = None
    newest_verified_age_seconds: int | None = None
    verified_count: int | None = None
    error: Mapping[str, Any] | None = None
    hint: str | None = None
    detail: str | None = None
    parts: tuple[JobOutcome, ...] = ()

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def members(self) -> tuple[JobOutcome, ...]:
        """Its parts, or itself where it has none. Failed ones are last, so that where a database has several (one per tenant,
        say) and only the last one counts, it is a failure."""
        return tuple(sorted(self.parts, key=lambda part: not part.ok)) or (self,)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self) | {"parts": [part.as_dict() for part in self.parts]}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`."""
        return cls(**{**raw, "parts": tuple(cls.from_dict(part) for part in raw.get("parts", ()))})

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.as_dict(), ensure_ascii=False)

    def line(self) -> str:
        """The outcome in one line, for people."""
        return " ".join((self._told_several() if self.parts else self._told()).split())

    def _told_several(self) -> str:
        bad = [part for part in self.parts if not part.ok]
        if not bad:
            return f"{self.job} of {count_of(len(self.parts), 'database')} ok in {self.seconds:.1f} s"
        return f"{self.job}: {len(bad)} of {len(self.parts)} failed: " + "; ".join(part.line() for part in bad)

    def _told(self) -> str:
        what = f"{self.job} of {self.database}" if self.database else self.job
        if self.ok:
            facts = [self.detail, self.id, _count(self.rows, "row"), _count(self.bytes, "byte"), f"{self.seconds:.1f} s"]
            return f"{what} ok: {', '.join(fact for fact in facts if fact)}"
        error = self.error or {"message": "unknown", "class": "", "code": 1}
        text = f"{what} FAILED: {error['message']} ({error['class']}, code {error['code']}). {self.hint or ''}"
        return text + self._what_remains()

    def _what_remains(self) -> str:
        """What somebody who is woken by a failure wants to know first."""
        if self.newest_verified_age_seconds is not None:
            return f" The newest verified backup is {self.newest_verified_age_seconds / 3600:.1f} h old."
        return " There is no verified backup." if self.verified_count == 0 else ""


def _count(number: int | None, unit: str) -> str | None:
    return None if number is None else count_of(number, unit)
