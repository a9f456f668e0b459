"""The server's main process: whether it is ready, how it is ended, and whether a process is the one we mean."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from naap_ops import process

Signals = tuple[tuple[signal.Signals, float], ...]
"""Signals to send in turn, with the seconds to wait after each."""

# Fast shutdown; immediate shutdown; the kernel's.
STOP: Signals = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
KILL: Signals = ((signal.SIGKILL, 10.0),)

_POLL_SECONDS = 0.005
_STATUS_LINE = 7  # of postmaster.pid: "starting", "ready", "standby", "stopping"


def is_ready(data: Path, pid: int) -> bool:
    """Whether the postmaster ``pid`` of data directory ``data`` accepts connections."""
    lines = _pidfile(data)
    return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"


def end_left_over(data: Path) -> None:
    """End the postmaster that a killed run left in ``data``. A process that merely got its number is not touched."""
    lines = _pidfile(data)
    if lines and lines[0].isdigit():
        pid = int(lines[0])
        signal_until(pid, STOP, gone=lambda: not _serves(pid, data))


def signal_until(pid: int, signals: Signals, gone: Callable[[], bool]) -> None:
    """Send each signal in turn, waiting its seconds for the process to be ``gone``."""
    for number, seconds in signals:
        if gone():
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while not gone() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _pidfile(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _serves(pid: int, data: Path) -> bool:
    """Whether process ``pid`` was started as ``postgres -D data``. A zombie has no command line and counts as gone."""
    if not Path("/proc/self").exists():
        status, output, _ = process.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], check=False)
        return status == 0 and f"-D {data}" in output.decode("utf-8", "replace")
    try:
        return os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
