"""Row ``snapshot_memory``: the most memory the Python process ever held (VmHWM) at work with S3, at full size and at 4 times.

As in the row ``memory``, the tools it starts are not counted. Wanted is a bound, and that it does not grow with the database.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Line, note
from bench.lab import LIVE, Lab, Options
from bench.measures.memory import peak
from bench.store import Store, encryption

WANTED_MB = 250
WANTED_GROWTH = 1.25  # "about the same": what the heap's own moods amount to
_MAJORS = (16,)
_LARGER = 4


def measure(options: Options) -> list[Line]:
    sizes = (options.size_mb, _LARGER * options.size_mb)
    lines: list[Line] = []
    for major in options.each_major(*_MAJORS):
        found: list[dict[str, float]] = []
        for size_mb in sizes:
            with Store() as store, Lab(options, major, size_mb=size_mb) as lab:
                found.append(dict(_peaks(lab, store)))
        lines += [_line(f"{what}, PostgreSQL {major}", sizes, found[0][what], found[1][what]) for what in found[0]]
    return lines


def _line(what: str, sizes: tuple[int, int], small: float, large: float) -> Line:
    return Line(
        row="snapshot_memory",
        measure=f"peak memory of the Python process at {sizes[1]} MB / at {sizes[0]} MB: {what}",
        ours=f"{large:.0f} MB",
        theirs=f"{small:.0f} MB",
        ratio=f"{large / small:.2f}",
        wanted=f"<= {WANTED_MB} MB, <= {WANTED_GROWTH}",
        met=max(small, large) <= WANTED_MB and large <= small * WANTED_GROWTH,
        details={"megabytes": {str(sizes[0]): small, str(sizes[1]): large}},
    )


def _peaks(lab: Lab, store: Store) -> Iterator[tuple[str, float]]:
    keys = encryption(lab.by_hand)
    jobs = ("--jobs", str(lab.options.jobs))
    for form in ("directory", "custom", "plain"):
        for how, extra in (("", {}), (", encrypted", keys)):
            with store.bucket() as bucket:
                env = store.environment(bucket) | extra
                yield _noted(lab, f"snapshot --format {form}{how}", ("snapshot", "--format", form, *jobs), env)
                if form == "directory":
                    yield _noted(lab, f"backup.verify{how}", ("backup.verify", "latest", "--grade", "read"), env)
                    words = ("restore", "--backup", "latest", "--into", f"{LIVE}__copy", "--yes", *jobs)
                    yield _noted(lab, f"restore --into{how}", words, env)
                    lab.drop(*lab.databases(f"{LIVE}__"))


def _noted(lab: Lab, what: str, words: tuple[str, ...], env: dict[str, str]) -> tuple[str, float]:
    found = peak(lab, words, env)
    note(f"  {what}, {lab.size_mb} MB: {found:.0f} MB")
    return what, found
