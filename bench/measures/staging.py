"""Row ``staging``: the most disk that a snapshot to S3 takes up at once, against its largest table's file times its jobs.

While the store takes everything at once, little lies on the disk. So there is a second line, with a store that takes a third of
what pg_dump makes: there the dump has to wait.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.figures import Line, note
from bench.lab import Lab, Options
from bench.store import Relay, Store

WANTED = 2.0
_MAJORS = (16,)
_SLOWER = 3
_INTERVAL_SECONDS = 0.005


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    with Store() as store:
        for major in options.each_major(*_MAJORS):
            with Lab(options, major) as lab:
                lines += _both(lab, store)
    return lines


def _both(lab: Lab, store: Store) -> list[Line]:
    quick = _one(lab, store, None)
    rate = quick.manifest["bytes"] / quick.seconds / _SLOWER
    with store.relay(bytes_per_second=rate) as relay:
        slow = _one(lab, store, relay)
    return [_line(lab, "the store as it is", quick), _line(lab, f"a store that takes {rate / 1e6:.1f} MB/s", slow)]


@dataclass(frozen=True)
class _Snapshot:
    """``peak``: the most bytes below the staging folder; ``seconds`` of the whole program."""

    peak: int
    seconds: float
    manifest: dict[str, Any]


def _one(lab: Lab, store: Store, relay: Relay | None) -> _Snapshot:
    folder = lab.by_hand / "staging"
    folder.mkdir(exist_ok=True)
    lab.settle()
    with store.bucket() as bucket:
        env = store.environment(bucket, through=relay) | {"NAAP_OPS_STAGING": str(folder)}
        with _Watch(folder) as watch:
            done = lab.ops("snapshot", "--jobs", str(lab.options.jobs), env=env).checked()
        return _Snapshot(watch.peak, done.seconds, store.manifest(bucket, done.result))


def _line(lab: Lab, how: str, taken: _Snapshot) -> Line:
    peak, manifest = taken.peak, taken.manifest
    sizes = {file["path"]: file["bytes"] for file in manifest["files"]}
    largest = max(sizes[table["file"]] for table in manifest["tables"] if table["file"])
    ratio = peak / (largest * lab.options.jobs)
    note(f"  {how}: {peak / 1e6:.1f} MB of {manifest['bytes'] / 1e6:.1f} MB, {taken.seconds:.1f} s")
    return Line(
        row="staging",
        measure=f"peak of the staging folder / largest table file x {lab.options.jobs} jobs, {how}, PostgreSQL {lab.major}",
        ours=f"{peak / 1e6:.1f} MB",
        theirs=f"{largest * lab.options.jobs / 1e6:.1f} MB",
        ratio=f"{ratio:.2f}",
        wanted=f"<= {WANTED:.2f}",
        met=ratio <= WANTED,
        details={"peak": peak, "largest": largest, "all_files": manifest["bytes"], "seconds": taken.seconds},
    )


class _Watch:
    """``with _Watch(folder) as watch:`` looks at the folder all the time; ``peak`` is the most bytes its files ever had."""

    def __init__(self, folder: Path) -> None:
        self.peak = 0
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            self.peak = max(self.peak, self._bytes())

    def _bytes(self) -> int:
        total = 0
        for folder, _, names in os.walk(self._folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(folder, name)).st_size
        return total
