"""The console entry `naap-ops`: Invoke's own program with our namespace, so that both spell every task alike."""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from invoke.exceptions import ParseError
from invoke.program import Program

import naap_ops
from naap_ops.errors import UsageError
from naap_ops.tasks import ns


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
        print(f"naap-ops: {error}", file=sys.stderr)
        if "--json" in self.argv:
            print(json.dumps(UsageError(detail=str(error)).as_dict(), ensure_ascii=False))
        sys.exit(UsageError.exit_code)


def main(argv: list[str] | None = None) -> None:
    """Entry point of the console script. ``argv`` is that of the process unless given, the program's name first."""
    try:
        _Program(name="naap-ops", binary="naap-ops", namespace=ns, version=naap_ops.__version__).run(argv)
    except BrokenPipeError:
        pass  # the reader of a help text or a list of tasks has left: `| head`
    finally:
        _flush()


def _flush() -> None:
    """Print what waits, or forget it where nobody reads any more: at the interpreter's end it would be an error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
