"""Commands that an operator has configured: services, the maintenance page, ``prisma migrate status``.

They run in the project's root with the caller's environment and the database's URL; what they print goes to our standard error,
line by line. Each is noted in the journal with its words, its status and how long it took.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import clock, process, redact
from naap_ops.errors import CommandFailed
from naap_ops.exclusion import INSIDE
from naap_ops.postgres.url import to_url
from naap_ops.procedure.command import present

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.procedure.journal import Journal

NOTE = "command"
# A service that stays behind keeps its standard output: it must be the pipe that is read until the command itself has ended.
_TO_STDERR = ("/bin/sh", "-c", 'exec "$@" 1>&2', "sh")


@dataclass(frozen=True)
class Operator:
    """Who is at the other end. ``tell`` shows a line; ``ask`` has something done by hand and waits; None: nobody is there.

    ``left``: what nobody can be asked for is left to them, by their own word.
    """

    tell: Callable[[str], None]
    ask: Callable[[str], None] | None = None
    left: bool = False


@dataclass(frozen=True)
class Surroundings:
    """Where commands run, for which database, and who hears what they print."""

    root: Path
    info: ConnInfo
    operator: Operator
    journal: Journal

    def run(self, step: str, argv: Sequence[str], timeout: float, *, check: bool = True) -> int:
        """The command's exit status. Raises CommandFailed for a bad one if ``check``, or after ``timeout`` seconds;
        ProgramMissing."""
        present(argv, self.root)
        url = to_url(self.info)
        began = clock.monotonic()
        late = threading.Event()

        def end() -> None:
            late.set()
            child.stop()

        environment = {**os.environ, "DATABASE_URL": url, "DIRECT_URL": url, INSIDE: self.info.dbname or ""}
        with process.start([*_TO_STDERR, *argv], env=environment, cwd=self.root, on_stderr=self.operator.tell) as child:
            timer = threading.Timer(timeout, end)
            timer.start()
            try:
                status = child.wait()
            finally:
                timer.cancel()
        seconds = round(clock.monotonic() - began, 3)
        self.journal.note(NOTE, step=step, argv=redact.argv(list(argv)), status=status, seconds=seconds, late=late.is_set())
        if late.is_set() or (check and status != 0):
            raise _failure(argv, status, child.stderr_tail, timeout if late.is_set() else None)
        return status


def _failure(argv: Sequence[str], status: int, said: str, timeout: float | None) -> CommandFailed:
    hint = f"It was ended because it had not ended after {timeout:g} s (its section's setting timeout)." if timeout else ""
    return CommandFailed(
        tool=Path(argv[0]).name,
        argv=shlex.join(redact.argv(list(argv))),
        status=status,
        stderr=said or "(it said nothing)",
        hint=hint,
    )
