"""A run happens once: of many who claim it, one gets it; how it ended is kept; what is old is forgotten."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from naap_ops.backup.repository import Repository
from naap_ops.errors import StorageError
from naap_ops.schedule.journal import Journal
from naap_ops.storage.local import LocalStorage

DUE = datetime(2026, 11, 21, 3, tzinfo=UTC)

# Waits for its input to close, so that all of them claim at once.
RACER = """
import sys
from datetime import datetime
from pathlib import Path
from naap_ops.schedule.journal import Journal
from naap_ops.storage.local import LocalStorage
journal = Journal(LocalStorage(Path(sys.argv[1])))
print("ready", flush=True)
for line in sys.stdin:
    print(int(journal.claim("snapshot", "naap", datetime.fromisoformat(line.strip()), 1, lease=True)), flush=True)
"""


def test_of_several_processes_one_gets_each_run(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for number in range(40):
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write((DUE + timedelta(days=number)).isoformat() + "\n")
            racer.stdin.flush()
    claims = [racer.communicate()[0].split() for racer in racers]
    assert [sorted(each) for each in zip(*claims, strict=True)] == [["0", "0", "1"]] * 40


def test_how_it_ended(tmp_path: Path) -> None:
    journal = Journal(LocalStorage(tmp_path))
    assert journal.last("prune", "naap") is None
    assert journal.claim("prune", "naap", DUE, 1, lease=True)
    assert not journal.claim("prune", "naap", DUE, 1, lease=True)
    found = journal.last("prune", "naap")
    assert found is not None
    assert (found.due, found.attempt, found.end, found.as_dict()["status"]) == (DUE, 1, None, "unfinished")
    journal.end("prune", "naap", DUE, 1, code=9, message="the store is away")
    found = journal.last("prune", "naap")
    assert found is not None
    assert (found.as_dict()["status"], found.as_dict()["message"]) == ("failed", "the store is away")
    assert journal.claim("prune", "naap", DUE, 2, lease=True)
    assert journal.dues("prune", "naap") == {DUE: 2}
    assert journal.dues("prune", "other") == journal.dues("check", "naap") == {}


@pytest.mark.parametrize("alias", ["a/b %", ".schedule", "Größe", None])
def test_it_is_no_database_of_the_repository(tmp_path: Path, alias: str | None) -> None:
    storage = LocalStorage(tmp_path)
    assert Journal(storage).claim("check", alias, DUE, 1, lease=False)
    assert Journal(storage).dues("check", alias) == {DUE: 1}
    assert Repository(storage).aliases() == []
    assert Repository(storage).backups() == []


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    journal = Journal(LocalStorage(tmp_path))
    for number in range(30):
        moment = DUE + timedelta(days=number)
        assert journal.claim("check", None, moment, 1, lease=True)
        journal.end("check", None, moment, 1, code=0)
    assert sorted(journal.dues("check", None)) == [DUE + timedelta(days=number) for number in range(10, 30)]
    assert len(list(LocalStorage(tmp_path).list())) == 40


def test_a_place_that_cannot_be_written_is_an_error_and_no_answer(tmp_path: Path) -> None:
    (tmp_path / ".schedule").write_text("a file in the way")
    with pytest.raises(StorageError):
        Journal(LocalStorage(tmp_path)).claim("check", None, DUE, 1, lease=True)
