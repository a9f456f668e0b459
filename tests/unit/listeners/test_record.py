"""The record of an outcome: complete, JSON-ready, one line for people."""

from __future__ import annotations

import json

from naap_ops.listeners.record import JobOutcome
from tests.unit.listeners.conftest import ERROR, outcome, several

FIELDS = {
    "job",
    "database",
    "status",
    "id",
    "url",
    "bytes",
    "rows",
    "seconds",
    "sha256",
    "previous_good",
    "newest_verified_age_seconds",
    "verified_count",
    "error",
    "hint",
    "detail",
    "host",
    "started_at",
    "finished_at",
    "parts",
}


def test_it_survives_json() -> None:
    whole = several(outcome(), outcome(database="plexica", failed=True))
    raw = json.loads(whole.to_json())
    assert set(raw) == set(raw["parts"][0]) == FIELDS
    assert raw["parts"][1]["error"] == ERROR
    assert JobOutcome.from_dict(raw) == whole
    assert "\n" not in whole.to_json()


def test_what_went_well_in_one_line() -> None:
    assert outcome().line() == "backup of naap ok: 20261121T031500Z-5f3a1c, 4,321 rows, 1,234,567 bytes, 12.5 s"
    assert outcome("prune", None, id=None, rows=None, bytes=None).line() == "prune ok: 12.5 s"
    assert several(outcome(), outcome(database="b")).line() == "backup of 2 databases ok in 12.5 s"


def test_a_failure_says_why_and_what_there_still_is() -> None:
    told = outcome(failed=True, newest_verified_age_seconds=5400).line()
    assert told == (
        "backup of naap FAILED: cannot reach PostgreSQL at h:1: refused (ServerUnreachable, code 4). Is the server running? "
        "The newest verified backup is 1.5 h old."
    )
    assert outcome(failed=True, verified_count=0).line().endswith("There is no verified backup.")
    assert "verified" not in outcome(failed=True).line()  # not known


def test_a_message_of_several_lines_is_one_line() -> None:
    assert outcome(failed=True, error={**ERROR, "message": "a\nb\r\n  c"}).line().startswith("backup of naap FAILED: a b c (")


def test_several_name_those_that_failed() -> None:
    told = several(outcome(), outcome(database="b", failed=True), outcome(database="c", failed=True)).line()
    assert told.startswith("backup: 2 of 3 failed: backup of b FAILED")
    assert "backup of c FAILED" in told
    assert "naap" not in told
