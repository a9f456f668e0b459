"""Row ``restore``: ``restore --swap`` against createdb and pg_restore by hand, from the same files; and how long clients wait.

By hand means: no hashes checked, no statistics gathered, no rows counted, no swap. The downtime is taken from outside, by a
client that reconnects all the time, in extra runs (it takes processor time of its own, so the timed runs do without it).
"""

from __future__ import annotations

from pathlib import Path

from bench.figures import Line, alternate, note
from bench.lab import LIVE, Lab, Options, Run
from bench.probe import Probe

WANTED = 1.05
WANTED_DOWNTIME = 0.5
_MAJORS = (16,)
_BY_HAND = "by_hand"
_PROBED_RUNS = 3


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    for major in options.each_major(*_MAJORS):
        with Lab(options, major) as lab:
            lines += _one(lab)
    return lines


def _one(lab: Lab) -> list[Line]:
    backup = lab.backup().checked().result
    own: list[float] = []
    downtimes: list[float] = []

    def ours() -> float:
        lab.settle()
        done = swap(lab, backup["id"])
        own.append(done.result["seconds"])
        downtimes.append(done.result["downtime_seconds"])
        lab.drop(*lab.databases(f"{LIVE}__"))
        return done.seconds

    pairs = alternate(lab.options.runs, ours, lambda: _by_hand(lab, Path(backup["path"]) / "data"))
    what = f"restore --swap / createdb, pg_restore -j{lab.options.jobs}, PostgreSQL {lab.major}"
    return [pairs.line("restore", what, wanted=WANTED, own_seconds=own), _downtime(lab, backup["id"], downtimes)]


def swap(lab: Lab, id: str) -> Run:
    """Our side, whole: hashes, load, statistics, every table counted, swap."""
    words = ("--backup", id, "--swap", "--jobs", str(lab.options.jobs), "--yes")
    return lab.ops("restore", *words).checked()


def _by_hand(lab: Lab, archive: Path) -> float:
    lab.settle()
    created = lab.tool("createdb", _BY_HAND, database="postgres").checked()
    loaded = lab.tool("pg_restore", f"-j{lab.options.jobs}", "-d", _BY_HAND, archive).checked()
    lab.drop(_BY_HAND)
    return created.seconds + loaded.seconds


def _downtime(lab: Lab, id: str, told: list[float]) -> Line:
    gaps = []
    for _ in range(_PROBED_RUNS):
        lab.settle()
        with Probe(lab.info()) as probe:
            told.append(swap(lab, id).result["downtime_seconds"])
        lab.drop(*lab.databases(f"{LIVE}__"))
        gaps.append(probe.longest)
        note(f"  longest gap {probe.longest:.3f} s, {probe.answers} answers, {probe.refusals} refusals, told {told[-1]:.3f} s")
    return Line(
        row="restore",
        measure=f"longest time without an answer, {_PROBED_RUNS} swaps (ours: seen by a client; theirs: as the command tells)",
        ours=f"{max(gaps):.3f} s",
        theirs=f"{max(told):.3f} s",
        wanted=f"< {WANTED_DOWNTIME} s",
        met=max(gaps) < WANTED_DOWNTIME,
        details={"gaps": gaps, "told": told},
    )
