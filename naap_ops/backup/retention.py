"""Which backups to keep. A pure function from a list of backups and a policy to one decision each, with its reasons.

The rules are restic's (``forget``: keep-last, -daily, ... OR-ed per group), the refusals come from what destroyed other
people's backups: only verified ones count and take a slot, a floor holds whatever the policy says, a pinned one stays, nothing
goes while the newest good one is older than it should be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol


class Candidate(Protocol):
    """The part of a backup that retention looks at."""

    @property
    def id(self) -> str: ...
    @property
    def moment(self) -> datetime: ...
    @property
    def verified(self) -> bool: ...
    @property
    def bad(self) -> bool: ...
    @property
    def kept(self) -> bool: ...
    @property
    def group(self) -> Hashable: ...


@dataclass(frozen=True)
class Policy:
    """How many to keep of each; 0 switches a rule off. ``max_age``: older newest good ones stop all deleting."""

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    minimum: int = 1
    max_age: timedelta | None = None


@dataclass
class Decision:
    """What happens to one backup, and why."""

    id: str
    keep: bool
    reasons: list[str] = field(default_factory=list)


_BUCKETS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "daily": lambda t: (t.year, t.month, t.day),
    "weekly": lambda t: tuple(t.isocalendar())[:2],
    "monthly": lambda t: (t.year, t.month),
    "yearly": lambda t: (t.year,),
}


def plan(backups: Sequence[Candidate], policy: Policy, now: datetime) -> list[Decision]:
    """One decision per backup, newest first within its group."""
    groups: dict[Hashable, list[Candidate]] = defaultdict(list)
    for backup in sorted(backups, key=lambda b: b.id, reverse=True):
        groups[backup.group].append(backup)
    return [decision for members in groups.values() for decision in _group(members, policy, now)]


def _group(members: list[Candidate], policy: Policy, now: datetime) -> list[Decision]:
    """``members`` newest first."""
    decisions = {b.id: Decision(b.id, keep=False) for b in members}
    good = [b for b in members if b.verified]
    for backup in members:
        if backup.kept:
            decisions[backup.id].reasons.append("pinned")
    for backup in good[: policy.last]:
        decisions[backup.id].reasons.append("last")
    for rule, bucket in _BUCKETS.items():
        _slots(good, bucket, getattr(policy, rule), rule, decisions)
    for backup in good[: max(1, policy.minimum)]:
        decisions[backup.id].reasons.append("minimum")
    _spare_young(members, good, decisions)
    for decision in decisions.values():
        decision.keep = bool(decision.reasons)
        decision.reasons = decision.reasons or [_why_not(decision.id, members)]
    refusal = _refusal(good, policy, now)
    if refusal:
        for decision in decisions.values():
            if not decision.keep:
                decision.keep, decision.reasons = True, [refusal]
    return list(decisions.values())


def _slots(
    good: list[Candidate], bucket: Callable[[datetime], tuple[int, ...]], count: int, rule: str, decisions: dict[str, Decision]
) -> None:
    """The newest of each of the ``count`` newest days (weeks, ...) that have one."""
    seen: set[tuple[int, ...]] = set()
    for backup in good:
        key = bucket(backup.moment)
        if key not in seen and len(seen) < count:
            seen.add(key)
            decisions[backup.id].reasons.append(rule)


def _spare_young(members: list[Candidate], good: list[Candidate], decisions: dict[str, Decision]) -> None:
    """Not yet verified and newer than the newest verified: it may be the next good one. BAD ones are not spared."""
    newest = good[0].id if good else ""
    for backup in members:
        if not backup.verified and not backup.bad and backup.id > newest:
            decisions[backup.id].reasons.append("not yet verified")


def _why_not(id: str, members: list[Candidate]) -> str:
    backup = next(b for b in members if b.id == id)
    if backup.bad:
        return "BAD: counts for nothing"
    return "no rule keeps it" if backup.verified else "never verified, and newer ones are"


def _refusal(good: list[Candidate], policy: Policy, now: datetime) -> str | None:
    """Why nothing of this group may go at all."""
    if not good:
        return "refused: no verified backup in this group"
    if policy.max_age is not None and now - good[0].moment > policy.max_age:
        age = now - good[0].moment
        return f"refused: the newest verified backup is {_hours(age)} old, more than {_hours(policy.max_age)}"
    return None


def _hours(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 96 else f"{hours / 24:.0f} days"
