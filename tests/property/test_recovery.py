"""Whatever the history of runs: a recovery is told exactly when something works that did not the last time."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from naap_ops.listeners.failing import Memory
from naap_ops.listeners.news import compose, healed, remember
from naap_ops.listeners.record import JobOutcome

JOBS = st.sampled_from(["backup", "prune"])
DATABASES = st.sampled_from(["a", "b", "a/b", "ü"])
# One run: its job, and how each of some databases fared. One database is a run of its own, more are parts of one.
RUNS = st.lists(st.tuples(JOBS, st.dictionaries(DATABASES, st.booleans(), min_size=1)), max_size=12)


def one(job: str, database: str | None, ok: bool, parts: tuple[JobOutcome, ...] = ()) -> JobOutcome:
    error = None if ok else {"code": 4, "class": "X", "message": "no"}
    return JobOutcome(job, database, "ok" if ok else "failed", "h", "t", "t", 1.0, error=error, parts=parts)


@given(RUNS)
def test_recoveries_are_told_exactly_when_they_happen(runs: list[tuple[str, dict[str, bool]]]) -> None:
    last: dict[tuple[str, str], bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        for job, fared in runs:
            parts = tuple(one(job, database, ok) for database, ok in fared.items())
            run = parts[0] if len(parts) == 1 else one(job, None, all(fared.values()), parts)
            memory = Memory(Path(folder))  # every run is a process of its own
            assert remember(run, memory) is None
            again = healed(run, memory)
            assert set(again) == {(job, d) for d, ok in fared.items() if ok and last.get((job, d)) is False}
            news = compose(run, again, ("failure", "recovery"))
            assert (news is None) == (all(fared.values()) and not again)
            for key in again:
                memory.recovered(*key)
            last |= {(job, database): ok for database, ok in fared.items()}
