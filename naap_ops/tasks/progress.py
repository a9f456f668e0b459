"""Progress for people who watch: a bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from naap_ops.events import Event
from naap_ops.tasks.command import Call
from naap_ops.tasks.streams import Lasting
from naap_ops.wording import count_of

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Bytes for people, decimal units: ``1.2 GB``."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError(count)


@contextmanager
def progress(call: Call) -> Iterator[None]:
    """Show tables, bytes and time while the block runs, and steps as they begin; without a terminal, show nothing."""
    if not call.watched:
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=cast(TextIO, Lasting(sys.stderr))), transient=True) as bar:
        call.events.subscribe(_Bar(bar))
        yield


class _Bar:
    """Turns events into one line of progress."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("connecting", total=None, detail="")
        self._tables = 0
        self._bytes = 0
        self._unit = "tables"

    def __call__(self, event: Event) -> None:
        data = event.data
        if event.name.endswith(".begin"):
            self._tables = data.get("tables", 0)
            self._unit = data.get("unit", "tables")
            self._bar.update(self._task, description=event.name.partition(".")[0], total=self._tables or None)
        elif event.name.endswith(".progress"):
            self._bytes = self._bytes + data["bytes"] if data.get("added") else data.get("bytes", self._bytes)
            done = data.get("tables")
            amount = [size(self._bytes)] if self._bytes or self._unit == "tables" else []
            counted = [] if done is None else [f"{done}/{count_of(self._tables, self._unit.removesuffix('s'))}"]
            detail = ", ".join([*amount, *counted])
            self._bar.update(self._task, completed=done, detail=detail)
        elif event.name.endswith(".step"):
            self._bar.update(self._task, description=str(data.get("text", "")))
