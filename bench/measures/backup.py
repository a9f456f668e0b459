"""Row ``backup``: a backup published and read-verified, against the same pg_dump typed by hand and not verified at all."""

from __future__ import annotations

import shutil
import statistics

from bench.figures import Line, alternate
from bench.lab import Lab, Options

WANTED = 1.25
_MAJORS = (16, 17)  # of the installations in the wheels, the one has gzip only, the other zstd


def measure(options: Options) -> list[Line]:
    return [_one(options, major) for major in options.each_major(*_MAJORS)]


def _one(options: Options, major: int) -> Line:
    own: list[float] = []
    with Lab(options, major) as lab:

        def ours() -> float:
            lab.settle()
            run = lab.backup().checked()
            if run.result["verified"] != "read":
                run.fail("published without having been read")
            own.append(run.result["seconds"])
            lab.forget(run.result["id"])
            return run.seconds

        pairs = alternate(options.runs, ours, lambda: by_hand(lab))
        return pairs.line(
            "backup",
            f"backup, read and published / pg_dump -Fd -j{options.jobs} -Z {lab.compression}, PostgreSQL {major}",
            wanted=WANTED,
            own_seconds=own,
            start_up=round(statistics.median(pairs.ours) - statistics.median(own), 3),
        )


def by_hand(lab: Lab) -> float:
    """What an engineer types: same tool, same jobs, same compression; the tool syncs its files as it does by default."""
    target = lab.by_hand / "dump"
    shutil.rmtree(target, ignore_errors=True)
    compression = lab.compression if lab.major >= 16 else lab.compression.partition(":")[2]
    lab.settle()
    return lab.tool("pg_dump", "-Fd", f"-j{lab.options.jobs}", f"-Z{compression}", "-f", target).checked().seconds
