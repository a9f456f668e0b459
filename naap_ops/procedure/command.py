"""A command of the operator's, from the settings: run with the database's URL, heard line by line, ended when it hangs.

What it prints goes to our standard error: standard output is for results.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from naap_ops import clock, process
from naap_ops.errors import ProgramMissing

# A daemon that it leaves behind keeps its standard output: that must be the pipe which is read until the command's own end.
_TO_STDERR = ("/bin/sh", "-c", 'exec "$@" 1>&2', "sh")


@dataclass(frozen=True)
class Finished:
    """How it ended: exit ``status`` (negative: a signal), ``seconds``, the ``tail`` of its output, ``late``: it was ended."""

    status: int
    seconds: float
    tail: str
    late: bool


def run(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float, tell: Callable[[str], None]) -> Finished:
    """Run it in ``cwd`` with the caller's environment and ``env`` on top. Every line of its output goes to ``tell``, redacted.

    After ``timeout`` seconds it is ended. A program that is not there is status 127 (126: not executable), as in every shell.
    """
    began, late = clock.monotonic(), threading.Event()
    with process.start([*_TO_STDERR, *argv], env={**os.environ, **env}, cwd=cwd, on_stderr=tell) as child:

        def end() -> None:
            late.set()
            child.stop()

        timer = threading.Timer(timeout, end)
        timer.daemon = True
        timer.start()
        try:
            status = child.wait()
        finally:
            timer.cancel()
    return Finished(status, round(clock.monotonic() - began, 3), child.stderr_tail, late.is_set())


def present(argv: Sequence[str], root: Path) -> None:
    """Raise ProgramMissing where the command's program is not there."""
    program = argv[0]
    found = shutil.which(str(root / program)) if "/" in program else shutil.which(program)
    if found is None:
        raise ProgramMissing(program=program, where=root if "/" in program else "PATH")
