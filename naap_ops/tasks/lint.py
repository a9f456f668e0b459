"""`invoke lint`: what is dangerous in a migration and in its reverse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from naap_ops.errors import Findings
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.flags import one_of
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naap_ops.reverse.files import Migration
    from naap_ops.reverse.lint import Report
    from naap_ops.reverse.script import Script
    from naap_ops.reverses import Live


@command(
    without=("yes",),
    lists=["allow"],
    migration="a migration's name, `latest`, or a unique beginning or part of one",
    file="an SQL file instead",
    pending="every migration that is still to come",
    migrations="the folder of migrations (setting reverse.migrations)",
    allow="a finding not to mind, by its name; repeatable (setting lint.allow)",
)
def lint(
    call: Call,
    migration: str | None = None,
    file: str | None = None,
    pending: bool = False,
    migrations: str | None = None,
    allow: list[str] | None = None,
) -> dict[str, Any]:
    """
    Say what is dangerous in a migration, and in the down.sql beside it: squawk's rules and dangers of our own, by name.

    Exit codes: 0 nothing that is not allowed, 22 findings. Nothing is run; the database is asked for its version at most.

    Example: invoke lint --pending --allow deletes_data
    """
    from naap_ops import reverses
    from naap_ops.reverse import files
    from naap_ops.reverse.lint import check

    one_of({"migration": migration, "file": file, "pending": pending})
    there = reverses.live(call.app, reverses.Wanted(database=call.database))
    if file is not None:
        chosen = [files.single(Path(file))]
    else:
        folder = reverses.folder(call.app, migrations)
        all_of = files.in_folder(folder)
        chosen = reverses.pending(there, all_of) if pending else [files.pick(all_of, str(migration), folder)]
    allowed = [*call.app.loaded.settings.lint.allow, *(allow or [])]
    version = _version(call, there)
    reports = [check(script, pg_version=version, allow=allowed) for each in chosen for script in _scripts(each)]
    for report in reports:
        _tell(call, report)
    counts = {report.name: len(report.findings) + len(report.dangers) for report in reports if not report.clean}
    if counts:
        call.exit_code = Findings.exit_code
        call.explain(Findings(count=count_of(sum(counts.values()), "finding"), files=", ".join(counts)))
    else:
        call.say(f"nothing found in {count_of(len(reports), 'file')}" + (f", allowed: {', '.join(allowed)}" if allowed else ""))
    return {"clean": not counts, "files": [report.as_dict() for report in reports]}


def _version(call: Call, there: Live | None) -> str:
    from naap_ops.places import default_major

    return str(there.target.server.major if there else call.app.loaded.settings.reverse.major or default_major())


def _scripts(migration: Migration) -> Iterator[Script]:
    from naap_ops.reverse.script import parse

    yield migration.script()
    if migration.down.exists():
        name = (
            migration.down.name
            if migration.down.name.startswith(migration.path.stem)
            else f"{migration.name}/{migration.down.name}"
        )
        yield parse(migration.down.read_bytes(), name=name)


def _tell(call: Call, report: Report) -> None:
    for finding in report.findings:
        call.insist(f"{report.name}:{finding.line}: {finding.rule}: {finding.message}")
    for danger in report.dangers:
        call.insist(f"{report.name}:{danger.statement.line}: {danger.word}: {danger.reason}")
