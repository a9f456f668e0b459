"""The bar that is drawn for those who watch."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from naap_ops.tasks.command import Call
from naap_ops.tasks.progress import progress


class Terminal:
    """One whose window is closed after so many writes."""

    def __init__(self, file: Any, open_for: int) -> None:
        self.file, self.open_for, self.written = file, open_for, 0

    def write(self, text: str) -> int:
        self.written += 1
        if self.written > self.open_for and not self._is_nothing():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return len(text)

    def _is_nothing(self) -> bool:
        """What is at its number is the null device by now."""
        return os.path.samestat(os.fstat(self.file.fileno()), os.stat(os.devnull))

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("open_for", range(5))
def test_it_is_no_matter_that_the_terminal_goes_away(open_for: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    done = []
    with (tmp_path / "terminal").open("w", encoding="utf-8") as file:
        terminal = Terminal(file, open_for)
        monkeypatch.setattr(sys, "stderr", terminal)
        call = Call({"json": True, "quiet": False})
        with progress(call):
            call.events.emit("backup.begin", tables=3)
            call.note("a word")
            done.append(True)
        assert terminal.written > open_for
    assert done == [True]
