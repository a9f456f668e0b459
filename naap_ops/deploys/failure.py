"""A deploy that stopped half-way: which migration, which statement, what the server said, and what can follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from naap_ops.errors import CommandFailed, MigrationUnreadable, OpsError, StorageError
from naap_ops.postgres.session import connect
from naap_ops.prisma import tracking
from naap_ops.prisma.codes import FAILED, MigrationFailed
from naap_ops.prisma.tracking import Books, State
from naap_ops.restore.failures import server_errors
from naap_ops.reverse import files

if TYPE_CHECKING:
    from naap_ops.deploys.preflight import Preflight
    from naap_ops.reverse.script import Script

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SAID = re.compile(r"Database error:\s*\n(.*?)(?=\n\s*Position:|\n\s*DbError \{|\Z)", re.DOTALL)
_POSITION = re.compile(r"Position:\n((?:\s*\d+.*(?:\n|\Z))+)")
_NUMBER = re.compile(r"^\s*(\d+)", re.MULTILINE)


class DeployFailed(CommandFailed):
    """Fields: ``reason``; ``migration`` that failed, None when none did; ``statement`` and ``line`` (from 1, None: unknown);
    ``logs`` of its row; ``applied`` before it, ``left`` after it; ``backup`` from before, or None; ``hint``;
    ``code``, Prisma's of the error, where it is known."""

    message = "{reason}"

    def as_dict(self) -> dict[str, Any]:
        """With what a script needs to go on."""
        keys = ("migration", "statement", "line", "logs", "applied", "left", "backup")
        return {**super().as_dict(), **{key: self.fields.get(key) for key in keys}, "prisma": self.fields.get("code")}


def explained(error: CommandFailed, found: Preflight, backup: str | None) -> OpsError:
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
    return _halfway(error, found, books, failed[0], facts)


def _nothing_halfway(error: CommandFailed, facts: dict[str, Any]) -> DeployFailed:
    return DeployFailed(
        reason=f"{error.text}\nNo migration is failed in Prisma's books. {_count(facts)}",
        migration=None,
        statement=None,
        line=None,
        logs=None,
        hint="`invoke deploy` again goes on with what is left."
        if facts["left"]
        else "Everything is applied: see why the command complains.",
        **facts,
    )


def _halfway(error: CommandFailed, found: Preflight, books: Books, name: str, facts: dict[str, Any]) -> DeployFailed:
    logs = next((row.logs for row in books.of(name) if row.live and row.finished is None), None)
    text = _COLOURS.sub("", logs or "")
    script = _script(found, name)
    statement, line = _place(error, text, script)
    said = _SAID.search(text)
    what = said[1].strip() if said else error.fields.get("database_error") or error.text
    where = ", ".join([*([f"statement {statement}"] if statement else []), *([f"line {line}"] if line else [])])
    log = "" if text else "\nIts row has no log: whoever ran it was ended before it could write one."
    return DeployFailed(
        reason=f"{name} failed{f' at {where}' if where else ''}: {what}{_excerpt(script, statement)}{log}\n{_count(facts)}",
        migration=name,
        statement=statement,
        line=line,
        logs=logs,
        hint="\n  ".join(_offers(name, facts["backup"], whole=statement is not None and _is_whole(script))),
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
    block = _POSITION.search(logs)
    if block is None:
        return None, None
    line = int(_NUMBER.findall(block[1])[-1])
    before = [each for each in script.statements if each.line <= line] if script else []
    return (len(before) or None), line


def _excerpt(script: Script | None, statement: int | None) -> str:
    if script is None or statement is None or statement > len(script.statements):
        return ""
    sql = " ".join(script.statements[statement - 1].sql.split())
    return f"\n  {sql if len(sql) <= 200 else sql[:200] + ' ...'}"


def _is_whole(script: Script | None) -> bool:
    """Whether the server made one transaction of it, of which nothing is left when a statement fails."""
    return script is not None and all(each.transactional and not each.control and not each.opaque for each in script.statements)


def _offers(name: str, backup: str | None, *, whole: bool) -> Sequence[str]:
    first = (
        "Nothing of it took effect, its script is one transaction. Mend it, then"
        if whole
        else "If nothing of it took effect, or once you have undone that by hand: mend it, then"
    )
    offers = [f"{first} `invoke resolve --rolled-back {name}` and `invoke deploy` again."]
    offers.append("Back to before it, with Prisma's books: `invoke rollback --migration failed --strategy restore`.")
    if backup is not None:
        offers.append(f"All of the database as it was before this deploy: `invoke restore --backup {backup} --swap`.")
    return offers
