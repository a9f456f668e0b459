"""The console entry `naap-ops`: Invoke's own program with our namespace, so that both spell every task alike."""

from __future__ import annotations

import difflib
import json
import sys
from typing import NoReturn

from invoke.exceptions import ParseError
from invoke.program import Program

import naap_ops
from naap_ops.errors import ConfigurationError, OutputLost, UsageError
from naap_ops.tasks import ns, streams


class _Program(Program):
    """Invoke exits with 1 on a command line it cannot parse; here that is 2, as for every usage error."""

    def parse_core(self, argv: list[str] | None) -> None:
        try:
            super().parse_core(argv)
        except ParseError as error:
            self._refuse(error)

    def parse_tasks(self) -> None:
        try:
            super().parse_tasks()
        except ParseError as error:
            self._refuse(error)

    def _refuse(self, error: ParseError) -> NoReturn:
        told = UsageError(detail=str(error), hint=self._advice(error))
        print(f"naap-ops: {told.text}\n  {told.advice}", file=sys.stderr)
        if "--json" in self.argv:
            print(json.dumps(told.as_dict(), ensure_ascii=False))
        sys.exit(UsageError.exit_code)

    def _advice(self, error: ParseError) -> str:
        """What to type next: the nearest task, or the help of the one that was typed."""
        task = error.context.name if error.context is not None else None
        if task is not None:
            return f"`naap-ops --help {task}` lists its flags."
        typed = next((word for word in self.argv[1:] if not word.startswith("-")), "")
        near = difflib.get_close_matches(typed, [name for task in ns.task_names for name in (task, *ns.task_names[task])], n=1)
        return f"Did you mean {near[0]}? `naap-ops --list` shows the tasks." if near else "`naap-ops --list` shows the tasks."


def main(argv: list[str] | None = None) -> None:
    """Entry point of the console script. ``argv`` is that of the process unless given, the program's name first."""
    streams.open_closed()
    try:
        _Program(name="naap-ops", binary="naap-ops", namespace=ns, version=naap_ops.__version__).run(argv)
    except OSError as error:
        if error.filename is not None:  # Invoke's own configuration, of another user's home say
            print(f"naap-ops: {error.filename}: {error.strerror}\n  Is HOME yours?", file=sys.stderr)
            sys.exit(ConfigurationError.exit_code)
        streams.give_up(sys.stdout, error)  # a help text or a list of tasks, which Invoke prints: `| head`, a full disk
    finally:
        _flush()


def _flush() -> None:
    """Print what waits in a help text or a list of tasks, and say so where that cannot be."""
    try:
        sys.stdout.flush()
    except OSError as error:
        streams.give_up(sys.stdout, error)
    if reason := streams.lost():
        print(f"naap-ops: {OutputLost(reason=reason).text}", file=sys.stderr)
        sys.exit(OutputLost.exit_code)
