"""Pairs run alternately, medians, and the table of outcomes."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_COLUMNS = ("measure", "ours", "theirs", "ratio (median, min-max)", "wanted", "met?")


@dataclass(frozen=True)
class Line:
    """One line of the table. ``met`` is None for lines that explain another one. ``details`` go into ``--json`` only."""

    row: str
    measure: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    wanted: str = ""
    met: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Pairs:
    """Times in seconds, the n-th of ``ours`` taken next to the n-th of ``theirs``."""

    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def line(self, row: str, measure: str, *, wanted: float | None = None, **details: Any) -> Line:
        """A line whose ratio must be at most ``wanted``."""
        return Line(
            row=row,
            measure=measure,
            ours=seconds(self.ours),
            theirs=seconds(self.theirs),
            ratio=f"{self.ratio:.2f} ({min(self.ratios):.2f}-{max(self.ratios):.2f})",
            wanted="" if wanted is None else f"<= {wanted:.2f}",
            met=None if wanted is None else self.ratio <= wanted,
            details={"ours": list(self.ours), "theirs": list(self.theirs), "ratios": self.ratios, **details},
        )


def alternate(runs: int, ours: Callable[[], float], theirs: Callable[[], float], *, quiet: bool = False) -> Pairs:
    """One warm-up of each, then ``runs`` pairs, one after the other; which side goes first alternates as well."""
    ours()
    theirs()
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(runs):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            taken[side].append((ours, theirs)[side]())
        if not quiet:
            a, b = taken[0][-1], taken[1][-1]
            note(f"  pair {number + 1}/{runs}: {a:.2f} s / {b:.2f} s = {a / b:.2f}{load()}")
    return Pairs(*taken)


def seconds(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} s"


def note(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def load() -> str:
    """The load of the machine: a measurement beside other work says little."""
    return f"  (load {os.getloadavg()[0]:.1f})"


def table(lines: Sequence[Line]) -> str:
    """The lines, aligned."""
    rows = [_COLUMNS, *(_cells(line) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _cells(line: Line) -> tuple[str, ...]:
    met = "" if line.met is None else "yes" if line.met else "NO"
    return (line.measure, line.ours, line.theirs, line.ratio, line.wanted, met)
