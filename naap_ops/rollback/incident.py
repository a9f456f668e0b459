"""The record of an emergency: what happened when, what was lost, what is left to do; as Markdown and as JSON.

It is written however the procedure ended, from the journal, and written anew by each run that goes on with it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from naap_ops import clock, files, redact, resources
from naap_ops.errors import StorageError
from naap_ops.procedure.journal import ABORTED, DONE, FAILED
from naap_ops.rollback.commands import NOTE
from naap_ops.rollback.maintenance import ON
from naap_ops.rollback.services import START, STOP
from naap_ops.rollback.ways import RESTORE

if TYPE_CHECKING:
    from naap_ops.procedure.journal import Journal
    from naap_ops.rollback.case import Case

UNFINISHED: Final = "unfinished"


@dataclass(frozen=True)
class Outcome:
    """What was done. ``downtime_seconds`` without the time of the operator's own commands; ``lost`` rows by table.

    ``outcome``: done, failed (nothing of it is left), aborted, unfinished. ``differences``: objects that are not as they were
    loaded; ``again``: migrations that were deployed again meanwhile. ``previous`` the old database's name now, ``undone`` that
    of the one that was live until an abort.
    """

    migration: str
    migrations: list[str]
    strategy: str
    outcome: str
    database: str
    backup: str
    lost: dict[str, int]
    exact: bool
    seconds: float
    downtime_seconds: float
    swap_seconds: float
    untracked: dict[str, list[str]]
    held: bool
    archive: list[str]
    previous: str | None
    undone: str | None
    status: str
    differences: list[str]
    again: list[str]
    record: str
    journal: str
    steps: list[dict[str, Any]]
    commit: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def concluded(journal: Journal, case: Case, folder: Path, reminders: Sequence[str]) -> Outcome:
    """The outcome as the journal has it now, and its record in ``folder``. That it cannot be written is a note."""
    ended = journal.outcome or UNFINISHED
    done = ended == DONE
    record = journal.facts("record")
    swap = journal.facts("swap")
    nobody = [name for name in (STOP, START) if journal.facts(name).get("by") == "nobody"]
    by_hand = [f"{name.replace('_', ' ')}: left to you, no command is configured" for name in nobody]
    outcome = Outcome(
        migration=case.migration,
        migrations=case.migrations,
        strategy=RESTORE,
        outcome=ended,
        database=case.database,
        backup=case.backup,
        lost=dict(record.get("lost", case.lost)) if ended not in (ABORTED, FAILED) else {},
        exact=bool(record.get("exact", False)),
        seconds=_between(journal.events[0]["at"], journal.events[-1]["at"]),
        downtime_seconds=downtime(journal),
        swap_seconds=float(swap.get("swap_seconds") or 0),
        untracked=case.schemas if done and not case.hold else {},
        held=case.hold,
        archive=[str(each) for each in journal.facts("untrack").get("archive", [])] if done else [],
        previous=None if ended == ABORTED else record.get("previous") or swap.get("previous"),
        undone=swap.get("undone"),
        status="; ".join(filter(None, [journal.facts("verify").get("status"), record.get("status")])),
        again=list(record.get("again", [])),
        differences=list(journal.facts("verify").get("differences", [])),
        record=str(folder / f"{journal.id}.md"),
        journal=journal.id,
        steps=journal.steps(),
        commit=list(journal.facts("untrack").get("commit", [])) if done else [],
        notes=[*case.notes, *journal.facts("load").get("notes", []), *by_hand],
    )
    return _written(journal, case, folder, replace(outcome, todo=list(_todo(outcome, reminders))))


def downtime(journal: Journal) -> float:
    """Seconds from services stopped (or connections refused) to their being started, less those of commands in between.

    Without services and maintenance: those of the swap.
    """
    by_database = journal.facts(ON).get("by") == "database"
    down = _at(journal, ON if by_database else STOP, DONE)
    if down is None:
        return float(journal.facts("swap").get("swap_seconds") or 0)
    up = _at(journal, START, "begun") or str(journal.events[-1]["at"])
    between = [each for each in journal.events if each["event"] == NOTE and down < each["at"] <= up]
    return max(0.0, round(_between(down, up) - sum(float(each["seconds"]) for each in between), 3))


def _at(journal: Journal, step: str, state: str) -> str | None:
    found = [
        str(each["at"])
        for each in journal.events
        if each["event"] == "step" and each["name"] == step and each["state"] == state
    ]
    return found[0] if found else None


def _between(first: str, last: str) -> float:
    return round((clock.parse(last) - clock.parse(first)).total_seconds(), 3)


def _todo(outcome: Outcome, reminders: Sequence[str]) -> Iterator[str]:
    """What is left to people."""
    if outcome.outcome == UNFINISHED:
        yield f"`invoke emergency --resume {outcome.journal}` goes on, `invoke emergency --abort {outcome.journal}` undoes it"
    if outcome.outcome == DONE:
        yield from (f"commit it: {line}" for line in outcome.commit)
        yield from reminders
        if outcome.previous:
            name = outcome.previous
            if outcome.lost:
                yield "`invoke salvage --since-backup` brings over what can be of the rows above (first with --dry-run)"
            yield f"when nothing in {name} is wanted any more: `invoke restore.drop-old {shlex.quote(name)}`"
    yield from (
        f"{name} was deployed again by something that still has its folder: stop that, then take it back once more with --hold"
        for name in outcome.again
    )
    yield from (f"look: not as it was loaded from the backup: {each}" for each in outcome.differences)
    if outcome.undone:
        drop = f"`invoke restore.drop-old {shlex.quote(outcome.undone)}`"
        yield f"{outcome.undone} was live for a while, rows may have been written there: look, then {drop}"


def timeline(journal: Journal) -> list[dict[str, str]]:
    """``at`` and ``what`` of each event, for people."""
    return [{"at": str(each["at"]), "what": _said(each)} for each in journal.events if each["event"] != "fact"]


def _said(event: dict[str, Any]) -> str:
    if event["event"] == "begin":
        return f"begun by {event['user']}@{event['host']} (process {event['pid']})"
    if event["event"] == "step":
        seconds = f", {event['seconds']:g} s" if event.get("seconds") is not None else ""
        error = f": {event['error']}" if event.get("error") else ""
        by = f", by {event['facts']['by']}" if (event.get("facts") or {}).get("by") else ""
        return f"{event['name']}: {event['state']}{by}{seconds}{error}"
    if event["event"] == NOTE:
        late = ", ended because it took too long" if event["late"] else ""
        return f"command of {event['step']}: {' '.join(event['argv'])}: status {event['status']}, {event['seconds']:g} s{late}"
    if event["event"] == "end":
        return f"ended: {event['outcome']}"
    return str(event["event"])


def _written(journal: Journal, case: Case, folder: Path, outcome: Outcome) -> Outcome:
    lines = timeline(journal)
    commands = [each for each in journal.events if each["event"] == NOTE]
    record = {"id": journal.id, **asdict(outcome), "case": case.as_dict(), "timeline": lines, "commands": commands}
    text = resources.render("runbooks", "incident.md.j2", id=journal.id, o=outcome, case=case, timeline=lines)
    try:
        files.make_private_dir(folder)
        data = (json.dumps(redact.values(record), indent=1, ensure_ascii=False, default=str) + "\n").encode()
        files.write_durably(folder / f"{journal.id}.json", data)
        files.write_durably(folder / f"{journal.id}.md", redact.text(text).encode())
    except (OSError, StorageError) as error:
        return replace(outcome, record="", notes=[*outcome.notes, f"no record was written: {error}"])
    return outcome
