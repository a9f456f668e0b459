"""Log lines that machines read."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from naap_ops import redact
from naap_ops.listeners.jsonlog import FileLog, StderrLog
from tests.unit.listeners.conftest import ERROR, event, outcome, started


def test_one_object_per_line_appended(tmp_path: Path) -> None:
    path = tmp_path / "log" / "naap_ops.jsonl"
    for each in (started(), event(outcome()), event(outcome(failed=True))):
        FileLog(path)(each)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("started", "info"),
        ("outcome", "info"),
        ("outcome", "error"),
    ]
    assert all(line["time"].endswith("Z") for line in lines)
    assert lines[1] | outcome().as_dict() == lines[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rotation_needs_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = FileLog(path)
    log(started())
    path.rename(tmp_path / "log.1")
    log(started())
    assert len(path.read_text().splitlines()) == len((tmp_path / "log.1").read_text().splitlines()) == 1


@pytest.mark.usefixtures("_no_lasting_secrets")
def test_no_secret_gets_in() -> None:
    redact.register("hushhush")
    lines: list[str] = []
    StderrLog(lines.append)(event(outcome(failed=True, error={**ERROR, "message": "no hushhush at postgresql://u:pw@h/d"})))
    (line,) = lines
    assert "hushhush" not in line
    assert json.loads(line)["error"]["message"] == "no *** at postgresql://u:***@h/d"
