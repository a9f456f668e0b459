"""Row ``kills``: SIGKILL of the whole process group at random instants of ``backup`` and of ``restore --swap``.

The instants are spread over the time that the command takes when nobody kills it: one in each twentieth of it, the exact place
random. For the swap, which is over in milliseconds at the very end, half of them fall into the last fifth. After each:

- backup: whatever is listed verifies at grade read; the next backup succeeds and leaves nothing half-made behind.
- restore: the live database answers with every row, of the old content or of the restored one and never of both; the next
  restore succeeds, the database is then the restored one, and no aside database is left.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import time
from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from bench.figures import Line, note
from bench.lab import BIN, LIVE, Lab, Options

KILLS = 20
_MAJORS = (16,)
_SIZE_MB = 100
_END = 0.8  # of the time a swap takes: where its last fifth begins
_TIMED_RUNS = 3
# The server notices that a killed client is gone when it next talks to it; until then that one's locks stand.
_BUSY = 15
_PATIENCE_SECONDS = 15.0
_MARKER = "public.not_in_the_backup"


def measure(options: Options) -> list[Line]:
    lines = []
    for major in options.each_major(*_MAJORS):
        with Lab(options, major, size_mb=_SIZE_MB) as lab:
            jobs = ("--jobs", str(options.jobs))
            lines.append(_Backups(lab, ("backup", *jobs)).line())
            id = lab.backup().checked().result["id"]
            lines.append(_Swaps(lab, ("restore", "--backup", str(id), "--swap", "--yes", *jobs)).line())
    return lines


class _Trial(ABC):
    """Kills one command again and again and looks at what is left."""

    def __init__(self, lab: Lab, words: tuple[str, ...]) -> None:
        self.lab = lab
        self.words = words
        self.name = words[0]
        self.chance = random.Random(f"{lab.options.seed} {self.name}")
        self.waits = 0

    @abstractmethod
    def before(self) -> None:
        """Make things as they are before a kill."""

    @abstractmethod
    def left(self) -> str:
        """What the kill left behind, for the record."""

    @abstractmethod
    def problem(self) -> str | None:
        """What is wrong after a kill; None when nothing is."""

    def instants(self, length: float) -> list[float]:
        """One in each twentieth of ``length``."""
        return [(number + self.chance.random()) / KILLS * length for number in range(KILLS)]

    def line(self) -> Line:
        length = statistics.median(self._length() for _ in range(_TIMED_RUNS))
        recovered, too_late = 0, 0
        left: Counter[str] = Counter()
        for instant in self.instants(length):
            self.before()
            too_late += not self._kill(instant)
            left[self.left()] += 1
            problem = self.problem()
            recovered += problem is None
            note(f"  {self.name} killed at {instant:.3f} of {length:.3f} s: {problem or 'recovered'}")
        note(f"  {self.name}: left behind {', '.join(f'{what} ({count})' for what, count in left.most_common())}")
        return Line(
            row="kills",
            measure=f"SIGKILL of the process group of {self.name}: recovered, nothing lost",
            ours=f"{recovered} of {KILLS}",
            wanted=f"{KILLS} of {KILLS}",
            met=recovered == KILLS,
            details={
                "seconds": length,
                "ended_before_the_kill": too_late,
                "waits_for_the_server": self.waits,
                "left": dict(left),
            },
        )

    def _length(self) -> float:
        self.before()
        return self.lab.ops(*self.words).checked().seconds

    def _kill(self, instant: float) -> bool:
        """Start the command and kill its process group after ``instant`` seconds. False if it had ended by itself."""
        with subprocess.Popen(
            [str(BIN / "naap-ops"), *self.words],
            env=self.lab.environment(),
            cwd=self.lab.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as child:
            time.sleep(instant)
            if child.poll() is not None:
                return False
            os.killpg(child.pid, signal.SIGKILL)
        return True

    def again(self) -> dict[str, Any] | str:
        """The same command run to its end: its result, or what went wrong. While the server clears up, busy is an answer."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            run = self.lab.ops(*self.words)
            if run.status == 0:
                return run.result
            if run.status != _BUSY or time.monotonic() > deadline:
                return f"the next one ends with {run.status}: {run.stderr.strip()[-500:]}"
            self.waits += 1
            time.sleep(0.1)


class _Backups(_Trial):
    def before(self) -> None:
        shutil.rmtree(self.lab.repository / LIVE, ignore_errors=True)

    def left(self) -> str:
        folder = self.lab.repository / LIVE
        there = list(folder.iterdir()) if folder.is_dir() else []
        if not there:
            return "nothing"
        if any((path / "manifest.json").exists() for path in there):
            return "a published backup"
        return "a partial" if there[0].suffix == ".partial" else "files without a manifest"

    def problem(self) -> str | None:
        listed = self._listed()
        for id in listed:
            if self.lab.ops("backup.verify", id, "--grade", "read").status != 0:
                return f"{id} is listed and does not verify"
        made = self.again()
        if isinstance(made, str):
            return made
        there = sorted(path.name for path in (self.lab.repository / LIVE).iterdir())
        if there != sorted([*listed, made["id"]]):
            return f"after the next backup there is {', '.join(there)}"
        return None if self._listed() == [made["id"], *listed] else "the list is not what it was with the new one on top"

    def _listed(self) -> list[str]:
        return [str(each["id"]) for each in self.lab.ops("backup.list").checked().result["backups"]]


class _Swaps(_Trial):
    """The live database has one table more than the backup, and that tells which of the two a database is."""

    def __init__(self, lab: Lab, words: tuple[str, ...]) -> None:
        super().__init__(lab, words)
        self.rows = self._rows(LIVE)

    def instants(self, length: float) -> list[float]:
        half = KILLS // 2
        early = [(number + self.chance.random()) / half * length * _END for number in range(half)]
        late = [(_END + (number + self.chance.random()) / half * (1 - _END)) * length for number in range(half)]
        return early + late

    def before(self) -> None:
        self.lab.drop(*self.lab.databases(f"{LIVE}__"))
        self.lab.execute(f"CREATE TABLE IF NOT EXISTS {_MARKER} (n int)")

    def left(self) -> str:
        if self.lab.databases(f"{LIVE}__before_"):
            return "the databases swapped"
        return "an aside database" if self.lab.databases(f"{LIVE}__restore_") else "nothing"

    def problem(self) -> str | None:
        if LIVE not in self.lab.databases():
            return "there is no live database"
        return self._state() or self._recovery()

    def _state(self) -> str | None:
        """What the killed run left must be all old, or all new with the old one kept."""
        kept = self.lab.databases(f"{LIVE}__before_")
        if self._is_old(LIVE):
            return "the old database is live and kept as well" if kept else self._lost(LIVE)
        if len(kept) != 1 or not self._is_old(kept[0]):
            return f"the new database is live, and kept is {kept or 'nothing'}"
        return self._lost(LIVE) or self._lost(kept[0])

    def _recovery(self) -> str | None:
        done = self.again()
        if isinstance(done, str):
            return done
        left = self.lab.databases(f"{LIVE}__restore_")
        if left:
            return f"after the next restore {', '.join(left)} is left"
        if self._is_old(LIVE) or done["previous"] not in self.lab.databases():
            return "after the next restore the databases are not swapped"
        return self._lost(LIVE) or self._lost(str(done["previous"]))

    def _is_old(self, database: str) -> bool:
        return self.lab.execute(f"SELECT to_regclass('{_MARKER}') IS NOT NULL", database) == [(True,)]

    def _lost(self, database: str) -> str | None:
        return None if self._rows(database) == self.rows else f"{database} does not have the rows it had"

    def _rows(self, database: str) -> dict[str, int]:
        """Exact rows of every table but the marker."""
        tables = self.lab.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
            database,
        )
        names = [name for (name,) in tables if name != _MARKER]
        return {name: self.lab.execute(f"SELECT count(*) FROM {name}", database)[0][0] for name in names}
