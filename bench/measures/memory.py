"""Row ``memory``: the most memory that the Python process itself ever held (VmHWM), for a small and for the full database.

The tools it starts are not counted: they are the same that an engineer would run by hand. Linux only.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from bench.figures import Line, note
from bench.lab import LIVE, Lab, Options, Run, run

WANTED_MB = 150
_MAJORS = (16,)
_SMALL_MB = 100

# Runs the program as the console script does and writes down VmHWM at its end. Not ru_maxrss, which a process inherits from
# the one that started it.
_WATCHED = """
import atexit, pathlib, re, sys
report = pathlib.Path(sys.argv.pop(1))
def note():
    status = pathlib.Path("/proc/self/status").read_text()
    report.write_text(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
atexit.register(note)
from naap_ops.cli import main
main()
"""


def measure(options: Options) -> list[Line]:
    lines = []
    for major in options.each_major(*_MAJORS):
        for size_mb in sorted({_SMALL_MB, options.size_mb}):
            with Lab(options, major, size_mb=size_mb) as lab:
                for words, found in _peaks(lab):
                    lines.append(_line(f"{words}, {size_mb} MB", found))
                    note(f"  {words}, {size_mb} MB: {found} MB")
    return lines


def _line(what: str, found: float) -> Line:
    return Line(
        row="memory",
        measure=f"peak memory of the Python process: {what}",
        ours=f"{found:.0f} MB",
        wanted=f"<= {WANTED_MB} MB",
        met=found <= WANTED_MB,
        details={"megabytes": found},
    )


def _peaks(lab: Lab) -> list[tuple[str, float]]:
    commands: list[tuple[str, tuple[str, ...]]] = []
    for form in ("directory", "custom", "plain"):
        commands += [
            (f"backup --format {form}", ("backup", "--format", form, "--jobs", str(lab.options.jobs))),
            (f"backup.verify ({form})", ("backup.verify", "latest", "--grade", "read")),
        ]
        if form == "directory":
            commands += [("restore --swap", ("restore", "--backup", "latest", "--swap", "--yes"))]
    peaks = []
    for name, words in commands:
        peaks.append((name, peak(lab, words)))
        lab.drop(*lab.databases(f"{LIVE}__"))
    return peaks


def peak(lab: Lab, words: tuple[str, ...], env: Mapping[str, str] | None = None) -> float:
    """Of one command, in megabytes (10**6 bytes). ``env`` are further variables of its environment."""
    report = lab.home / "peak"
    _watched(lab, report, words, env or {}).checked()
    found = int(report.read_text(encoding="utf-8")) * 1024 / 1e6
    report.unlink()
    return found


def _watched(lab: Lab, report: Path, words: tuple[str, ...], env: Mapping[str, str]) -> Run:
    return run([sys.executable, "-c", _WATCHED, report, *words], env={**lab.environment(), **env}, cwd=lab.home)
