"""A deploy that stopped half-way: which migration, which statement, what took effect of it, and what can follow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from naap_ops import halfway
from naap_ops.config import patterns
from naap_ops.errors import CommandFailed, MigrationUnreadable, OpsError, StorageError
from naap_ops.postgres.session import connect
from naap_ops.prisma import tracking
from naap_ops.prisma.codes import FAILED, MigrationFailed
from naap_ops.prisma.tracking import Books, State
from naap_ops.restore.failures import server_errors
from naap_ops.reverse import files

if TYPE_CHECKING:
    from naap_ops.app import App
    from naap_ops.deploys.preflight import Preflight
    from naap_ops.halfway import Halfway
    from naap_ops.reverse.script import Script

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SAID = re.compile(r"Database error:\s*\n(.*?)(?=\n\s*Position:|\n\s*DbError \{|\Z)", re.DOTALL)


class DeployFailed(CommandFailed):
    """Fields: ``reason``; ``migration`` that failed, None when none did; ``statement`` and ``line`` (from 1, None: unknown);
    ``logs`` of its row; ``applied`` before it, ``left`` after it; ``backup`` from before, or None; ``hint``;
    ``code``, Prisma's of the error, where it is known; ``progress``: how far it came (:class:`Progress` as JSON), None where
    that cannot be told."""

    message = "{reason}"

    def as_dict(self) -> dict[str, Any]:
        """With what a script needs to go on."""
        keys = ("migration", "statement", "line", "logs", "applied", "left", "backup", "progress")
        return {**super().as_dict(), **{key: self.fields.get(key) for key in keys}, "prisma": self.fields.get("code")}


def explained(app: App, database: str | None, error: CommandFailed, found: Preflight, backup: str | None) -> OpsError:
    """The failure in the light of what the books say now; ``error`` itself where they cannot be read."""
    try:
        info = found.target.info
        with server_errors(info, "looking"), connect(info, application_name="naap_ops deploy") as connection:
            books = tracking.read(connection, found.schema)
    except OpsError:
        return error
    applied = [name for name in found.pending if books.state(name) is State.APPLIED]
    failed = [name for name in found.pending if books.state(name) is State.FAILED]
    left = [name for name in found.pending if name not in (*applied, *failed)]
    code = FAILED if failed else error.fields.get("code")
    facts: dict[str, Any] = {"applied": applied, "left": left, "backup": backup, "code": code}
    if not failed:
        return _nothing_halfway(error, facts)
    return _halfway(app, database, error, found, books, failed[0], facts)


def _nothing_halfway(error: CommandFailed, facts: dict[str, Any]) -> DeployFailed:
    return DeployFailed(
        reason=f"{error.text}\nNo migration is failed in Prisma's books. {_count(facts)}",
        migration=None,
        statement=None,
        line=None,
        logs=None,
        progress=None,
        hint="`invoke deploy` again goes on with what is left."
        if facts["left"]
        else "Everything is applied: see why the command complains.",
        **facts,
    )


def _halfway(
    app: App, database: str | None, error: CommandFailed, found: Preflight, books: Books, name: str, facts: dict[str, Any]
) -> DeployFailed:
    logs = next((row.logs for row in books.of(name) if row.live and row.finished is None), None)
    text = _COLOURS.sub("", logs or "")
    script = _script(found, name)
    statement, line = _place(error, text, script)
    seen = halfway.look(app, database, books, name, failed=statement)
    said = _SAID.search(text)
    what = said[1].strip() if said else error.fields.get("database_error") or error.text
    where = ", ".join([*([f"statement {statement}"] if statement else []), *([f"line {line}"] if line else [])])
    log = "" if text else "\nIts row has no log: whoever ran it was ended before it could write one."
    lines = [f"{name} failed{f' at {where}' if where else ''}: {what}{_excerpt(script, statement)}{log}", *seen.lines()]
    return DeployFailed(
        reason="\n".join([*lines, _count(facts)]),
        migration=name,
        statement=statement,
        line=line,
        logs=logs,
        progress=seen.progress.as_dict() if seen.progress else None,
        hint="\n  ".join(_offers(app, database, found, seen, facts["backup"])),
        **facts,
    )


def _count(facts: dict[str, Any]) -> str:
    return f"Applied now: {', '.join(facts['applied']) or 'none'}; not begun: {', '.join(facts['left']) or 'none'}."


def _script(found: Preflight, name: str) -> Script | None:
    one = next((each for each in files.in_folder(found.project.migrations) if each.name == name), None)
    try:
        return one.script() if one is not None else None
    except (MigrationUnreadable, StorageError):
        return None


def _place(error: CommandFailed, logs: str, script: Script | None) -> tuple[int | None, int | None]:
    """Statement and line, as the built-in deploy knows them, else as the row's log shows them."""
    if isinstance(error, MigrationFailed):
        return error.fields["statement"], error.fields["line"]
    line = halfway.line_of(logs)
    return (halfway.statement_of(script, line) if script else None), line


def _excerpt(script: Script | None, statement: int | None) -> str:
    if script is None or statement is None or statement > len(script.statements):
        return ""
    sql = " ".join(script.statements[statement - 1].sql.split())
    return f"\n  {sql if len(sql) <= 200 else sql[:200] + ' ...'}"


def _offers(app: App, database: str | None, found: Preflight, seen: Halfway, backup: str | None) -> Sequence[str]:
    """Where other tenants have run the script as it is, it is the rows of this one that are mended, not the script."""
    name, told, schema = seen.migration, seen.progress, found.schema
    slug = patterns.slug_of(app.loaded.database(database).tenant_schemas, schema)
    tenant = f" --tenant {shlex.quote(slug)}" if slug is not None else ""
    what = "the rows that it stumbles on" if found.fleet else "it"
    rollback = f"invoke rollback --migration {name}{tenant}" if found.fleet else "invoke rollback --migration failed"
    again = f"mend {what}, then `invoke resolve --rolled-back {name}{tenant}` and `invoke deploy` again."
    if told is None or told.upto is None:
        offers = [f"If nothing of it took effect, or once you have undone that by hand: {again}"]
    elif told.nothing:
        offers = [f"Nothing of it took effect: {again}"]
    elif told.whole:
        offers = [f"Nothing of it is left to do: `invoke resolve --applied {name}{tenant}`, then `invoke deploy` again."]
    else:
        offers = [f"Undo what took effect, keep its folder, mend {what}: `{rollback} --keep-folder`."]
    offers.append(f"Back to before it, with Prisma's books: `{rollback}` shows every way.")
    if backup is not None and found.fleet:
        words = shlex.join(["invoke", "restore", "--backup", backup, "--schema", schema])
        offers.append(f"This tenant as it was before this deploy, books included: `{words}`.")
    elif backup is not None:
        offers.append(f"All of the database as it was before this deploy: `invoke restore --backup {backup} --swap`.")
    return offers
