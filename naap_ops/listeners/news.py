"""What of an outcome is news: failures, recoveries, changes, or everything; and the message it makes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from naap_ops.listeners.failing import Failing, Memory
from naap_ops.listeners.record import JobOutcome
from naap_ops.wording import count_of

# What somebody else should hear of although all went well: a database is not what it was.
CHANGES: Final = frozenset(("deploy", "rollback", "reapply", "emergency", "reset", "guard", "salvage"))

Key = tuple[str, str | None]  # job and database


@dataclass(frozen=True)
class News:
    """A message for people."""

    title: str
    body: str
    bad: bool


def remember(outcome: JobOutcome, memory: Memory) -> OSError | None:
    """Remember each failure of the outcome. What went wrong with that is returned: it must not keep the message back."""
    problem = None
    for member in outcome.members:
        if not member.ok:
            try:
                memory.failed(member)
            except OSError as error:
                problem = error
    return problem


def healed(outcome: JobOutcome, memory: Memory) -> dict[Key, Failing]:
    """What failed before and does not any more. A run that is ok as a whole also ends a failure that named no database."""
    bad = {(member.job, member.database) for member in outcome.members if not member.ok}
    keys: list[Key] = [(m.job, m.database) for m in outcome.members if m.ok and (m.job, m.database) not in bad]
    if outcome.ok:
        keys.append((outcome.job, None))
    known = {key: memory.failing(*key) for key in keys}
    return {key: was for key, was in known.items() if was is not None}


def compose(outcome: JobOutcome, recovered: Mapping[Key, Failing], when: Collection[str]) -> News | None:
    """The message to send, or None where there is nothing that ``when`` asks for."""
    always = "always" in when or ("change" in when and outcome.job in CHANGES)
    failed = [member for member in outcome.members if not member.ok] if always or "failure" in when else []
    again = recovered if always or "recovery" in when else {}
    if not (failed or again or always):
        return None
    lines = [member.line() for member in failed]
    lines += [f"{_name(*key)} works again: {_history(was)}" for key, was in again.items()]
    lines += [member.line() for member in outcome.members if member.ok] if always or not failed else []
    state = {"failed": "FAILED", "partial": "partly failed", "ok": "recovered" if again else "ok"}[outcome.status]
    return News(f"naap_ops on {outcome.host}: {_name(outcome.job, outcome.database)} {state}", "\n".join(lines), bool(failed))


def _name(job: str, database: str | None) -> str:
    return f"{job} of {database}" if database else job


def _history(was: Failing) -> str:
    return f"it had failed {count_of(was.failures, 'time')} since {was.since}"
