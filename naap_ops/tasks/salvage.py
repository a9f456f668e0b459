"""`invoke salvage`: what was written since a backup, from the database that its restore has kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from naap_ops.errors import UsageError
from naap_ops.tasks.command import Call, aligned, command
from naap_ops.tasks.progress import progress
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.salvage.salvage import Outcome

_CONFLICTS = ("report", "theirs", "ours")


@command(
    lists=["tables", "schema"],
    since_backup="what was written since the backup that was restored",
    kept="the kept database, as `restore.kept` lists it; without it the newest of this database",
    tables="only this table (schema.table); repeatable, or several with commas; also one that a migration touched",
    schema="only the tables of this schema; repeatable",
    all="every table, also those that a migration touched",
    conflicts="rows written on both sides: report (live stays, listed), ours (live stays), theirs (the kept one's value)",
    no_deletes="leave rows that were deleted in the kept database",
    dry_run="say what would be done, touch nothing",
)
def salvage(
    call: Call,
    since_backup: bool = False,
    kept: str | None = None,
    tables: list[str] | None = None,
    schema: list[str] | None = None,
    all: bool = False,
    conflicts: str = "report",
    no_deletes: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """
    After a restore: bring over what was written between the backup and the restore, from the old database, which is kept.

    Inserted, changed and deleted rows, by key, as far as nothing written since the restore is lost by it; the rest is listed.

    Example: invoke salvage --since-backup --dry-run
    """
    from naap_ops.salvage import salvage as procedure
    from naap_ops.salvage.model import Wanted

    if not since_backup:
        raise UsageError(detail="salvage --since-backup: say so, there is no other salvage yet")
    if conflicts not in _CONFLICTS:
        raise UsageError(detail=f"--conflicts wants one of {', '.join(_CONFLICTS)}, not {conflicts!r}")
    words = [word for each in tables or [] for word in each.split(",")]
    wanted = Wanted(kept, words, schema or [], everything=all, conflicts=conflicts, deletes=not no_deletes)
    target = call.app.target(call.database)
    of = procedure.case(call.app, target, wanted)
    call.tell_steps("wait")
    if dry_run or not call.yes:
        with progress(call):
            planned = procedure.salvage(call.app, target, of, wanted, dry_run=True)
        lines = list(_lines(planned))
        if dry_run:
            call.say("\n".join(lines))
            return planned.as_json()
        call.confirm_name(f"salvaging into {of.database!r}", of.database, lines)
    call.begin("salvage")
    with progress(call):
        outcome = procedure.salvage(call.app, target, of, wanted, dry_run=False)
    call.report(of.backup, rows=outcome.written)
    call.say("\n".join(_lines(outcome)))
    return outcome.as_json()


def _lines(outcome: Outcome) -> Iterator[str]:
    would = "would be brought" if outcome.dry_run else "brought"
    yield f"{count_of(outcome.written, 'row')} {would} over from {outcome.kept} into {outcome.database}, since {outcome.backup}"
    if outcome.tables:
        yield aligned(
            ["TABLE", " INSERTED", " UPDATED", " DELETED", " LEFT", " CONFLICTS"],
            [
                [name, *(f"{n:,}" for n in (f.inserted, f.updated, f.deleted, sum(f.left.values()), f.conflicts))]
                for name, f in outcome.tables.items()
            ],
        )
    for name, fate in outcome.tables.items():
        for reason, rows in fate.left.items():
            keys = fate.keys.get(reason, [])
            shown = f" ({', '.join(keys)}{', ...' if rows > len(keys) else ''})" if keys else ""
            yield f"left: {name}: {count_of(rows, 'row')}: {reason}{shown}"
        yield from (f"note: {name}: {note}" for note in fate.notes)
    for each in outcome.sequences:
        yield f"sequence {each.name}: {'would go' if outcome.dry_run else 'went'} from {each.was} to {each.now}"
    yield from (f"note: {note}" for note in outcome.notes)
