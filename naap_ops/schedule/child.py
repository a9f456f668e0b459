"""One run of a job: the same program again, as a process of its own, on a leash.

Its own memory, exit code and signals: what leaks in a run is gone with it, and SIGTERM makes it clean up as everywhere. It
ends when we do, because it watches its standard input, which we hold open.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naap_ops import process
from naap_ops.listeners.record import OUTCOME, JobOutcome

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """How it ended: exit code (negative: the signal that killed it), what its error said, and the outcomes listeners heard."""

    code: int
    message: str | None
    outcomes: tuple[JobOutcome, ...]


class Child:
    """A running job. :meth:`wait` on one thread, :meth:`stop` from any."""

    def __init__(self, words: Sequence[str], say: Say) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="naap_ops_")
        self._outcomes = Path(self._folder.name) / "outcomes.jsonl"
        own = {name: value for name, value in os.environ.items() if name.startswith("PG")}  # process leaves these out
        self._child = process.start(
            [sys.executable, "-m", "naap_ops", "--leashed", *words, "--json", "--quiet"],
            env={**own, "NAAP_OPS_OUTCOMES": str(self._outcomes)},
            stdin=process.PIPE,
            stdout=process.PIPE,
            on_stderr=say,
        )

    def wait(self) -> Ended:
        """Wait for its end."""
        with self._folder, self._child as child:
            output = child.stdout.read()
            code = child.wait()
            return Ended(code, None if code == 0 else _message(output, child.stderr_tail), tuple(self._told()))

    @property
    def code(self) -> int | None:
        """Its exit code once it has ended, negative for a signal."""
        return self._child.poll()

    def stop(self, grace: float) -> None:
        """Ask it to end; kill it after ``grace`` seconds."""
        self._child.stop(grace)

    def _told(self) -> list[JobOutcome]:
        if not self._outcomes.exists():
            return []
        return [told for line in self._outcomes.read_text("utf-8").splitlines() if (told := _outcome(line)) is not None]


def _outcome(line: str) -> JobOutcome | None:
    """The outcome in a line of the log; None for other events, and for a line that was cut short as its writer was killed."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if event["event"] != OUTCOME:
        return None
    fields = JobOutcome.__dataclass_fields__
    return JobOutcome.from_dict({name: value for name, value in event.items() if name in fields})


def _message(output: bytes, stderr: str) -> str:
    """What the JSON object on its last line says, else its last words."""
    try:
        found: Any = json.loads(output.decode("utf-8", "replace").rstrip("\n").rpartition("\n")[2])
    except ValueError:
        found = None
    if isinstance(found, dict):
        reasons = "; ".join(map(str, found.get("reasons", ())))
        if text := found.get("message") or reasons:
            return str(text)
    return stderr.strip().rpartition("\n")[2]
