"""``guard``: any command that changes the schema, `prisma db push` say, with a backup before it and a reverse after it.

What it changed is the difference of the catalog before and after; the reverse of that is proved on a copy and kept beside it.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import clock, differences, exclusion, files, process, redact, reverses
from naap_ops.app import App
from naap_ops.deploys.ways_back import back_up
from naap_ops.errors import CommandFailed, OpsError, StorageError, ToolMissing
from naap_ops.exclusion import INSIDE
from naap_ops.files import write_durably
from naap_ops.postgres.catalog.difference import differences as between
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from naap_ops.procedure.command import present
from naap_ops.reverse import saved
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.places import Target

_INTERRUPTED = 130
BEFORE, DOWN, RECORD = "before.json", "down.sql", "record.json"


@dataclass(frozen=True)
class Outcome:
    """``changed``: a line per object; ``down``: the reverse's file; ``reverse``: proved, refused, unproved or none; ``status``:
    the command's exit."""

    database: str
    command: list[str]
    status: int
    seconds: float
    backup: str
    changed: list[str]
    reverse: str
    reason: str = ""
    down: str | None = None
    losses: list[str] = field(default_factory=list)
    folder: str = ""


def guard(
    app: App, database: str | None, words: Sequence[str], tell: Callable[[str], None], *, with_reverse: bool = True
) -> Outcome:
    """Back up, run ``words``, say what changed, make its reverse. The command has our terminal; ``tell`` gets its stderr.

    Raises what a backup raises, StorageError, ProgramMissing; CommandFailed when the command fails, after all has been kept.
    """
    present(words, app.loaded.cwd)
    target = app.target(database)
    with exclusion.alone(app, target.info, "guard"):
        return _guarded(app, database, target, words, tell, with_reverse=with_reverse)


def _guarded(
    app: App, database: str | None, target: Target, words: Sequence[str], tell: Callable[[str], None], *, with_reverse: bool
) -> Outcome:
    folder = app.state / "guard" / f"{clock.stamp()}-{os.getpid()}"
    try:
        files.make_private_dir(folder)
    except OSError as error:
        raise StorageError(url=folder, reason=error.strerror or error) from None
    app.events.emit("guard.step", name="backup", text=f"backing up {target.info.dbname}")
    backup = back_up(app, target, "guard")
    with connect(target.info) as connection:
        before = snapshot(connection, schema=target.info.schema)
    saved.write(before, folder / BEFORE)
    app.events.emit("guard.step", name="command", text=f"running {shlex.join(words)}")
    began = clock.monotonic()
    status = _run(app, target, words, tell)
    seconds = round(clock.monotonic() - began, 3)
    with connect(target.info) as connection:
        after = snapshot(connection, schema=target.info.schema)
    changed = [str(each) for each in between(before, after)]
    name = target.info.dbname or target.alias
    outcome = Outcome(name, redact.argv(list(words)), status, seconds, backup.id, changed, "none", folder=str(folder))
    if changed and with_reverse:
        app.events.emit("guard.step", name="reverse", text="proving the reverse of what it changed")
        outcome = _reversed(app, database, folder, outcome)
    _kept(folder / RECORD, json.dumps(asdict(outcome), indent=1, ensure_ascii=False).encode() + b"\n")
    if status != 0:
        raise _failure(outcome)
    return outcome


def _run(app: App, target: Target, words: Sequence[str], tell: Callable[[str], None]) -> int:
    """Its exit status. Interrupted, 130: what it had changed by then is looked at all the same. Not to be started, 127."""
    url = to_url(target.info)
    env = {**os.environ, "DATABASE_URL": url, "DIRECT_URL": url, INSIDE: target.info.dbname or ""}
    try:
        with process.start(words, env=env, stdin=None, stdout=None, cwd=app.loaded.cwd, on_stderr=tell) as child:
            return child.wait()
    except KeyboardInterrupt:
        tell("interrupted: the command was ended; looking at what it has changed")
        return _INTERRUPTED
    except ToolMissing as error:
        tell(error.text)
        return 127


def _reversed(app: App, database: str | None, folder: Path, outcome: Outcome) -> Outcome:
    """With the reverse of the difference. That there is none is told, and is no failure of the command."""
    try:
        made = differences.reverse(app, reverses.Wanted(database=database), str(folder / BEFORE), "live").reverse
    except OpsError as error:
        return replace(outcome, reverse="refused", reason=error.text)
    losses = [f"{each['loss']} of {each['object'] or 'the database'}: {each['reason']}" for each in made.losses]
    if made.text:
        _kept(folder / DOWN, made.text.encode())
    down = str(folder / DOWN) if made.text else None
    return replace(outcome, reverse=made.status, reason=made.reason, down=down, losses=losses)


def _kept(path: Path, data: bytes) -> None:
    try:
        write_durably(path, data)
    except OSError as error:
        raise StorageError(url=path, reason=error.strerror or error) from None


def _failure(outcome: Outcome) -> CommandFailed:
    what = f"it changed {count_of(len(outcome.changed), 'object')} all the same" if outcome.changed else "it changed nothing"
    back = f"the reverse of that is {outcome.down}; " if outcome.down and outcome.reverse == "proved" else ""
    return CommandFailed(
        tool=outcome.command[0],
        status=outcome.status,
        stderr=what,
        argv=shlex.join(outcome.command),
        hint=f"{back}`invoke restore --backup {outcome.backup} --swap` goes back to before it.",
    )
