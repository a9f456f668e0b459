"""Standard streams that are closed, full or gone: what becomes of the work does not hang on who hears of it."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO

_READER_LEFT = (errno.EPIPE, errno.EIO)  # `| head`; a terminal that is closed

_lost: dict[str, OSError] = {}


def open_closed() -> None:
    """Give those that the caller has closed (``>&-``, some daemons) the null device.

    Else the next file that is opened gets the number of one, a backup's say, and what child processes complain of is written
    into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115 - stays open


def show(text: str, stream: TextIO) -> None:
    """Print what the stream can show of ``text``. One that takes nothing does not end the work: see :func:`lost`."""
    encoding = stream.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        give_up(stream, error)


def give_up(stream: TextIO, error: OSError) -> None:
    """From here on what is printed to ``stream`` goes nowhere, what still waits in it too: at the end it would be an error."""
    if error.errno not in _READER_LEFT:
        _lost[stream.name] = error
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Lasting:
    """A stream to whose writer it is no matter that nobody reads it any more: for those that would end the work over it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            give_up(self._stream, error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            give_up(self._stream, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lost() -> str:
    """Why not all that was meant for stdout is there, unless its reader left on his own; empty when all is. Told once."""
    error = _lost.pop(sys.stdout.name, None) if hasattr(sys.stdout, "name") else None
    return error.strerror or str(error) if error is not None else ""
