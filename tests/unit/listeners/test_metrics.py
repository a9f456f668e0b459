"""Metrics: their names are those of DESIGN.md, and textfiles carry them from run to run."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from naap_ops.listeners.metrics import GAUGES, PREFIX, Metrics
from naap_ops.listeners.textfile import Textfiles
from tests.unit.listeners.conftest import event, outcome, several

DESIGN = Path(__file__).parents[3] / "DESIGN.md"
LABELS = ("job", "database", "status")
ENDED = 1795230912.5  # 2026-11-21T03:15:12.500Z


def read(text: str) -> dict[str, float]:
    """Samples as ``name{job,database}`` or ``name{job,database,status}``."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        f"{s.name.removeprefix(PREFIX)}{{{','.join(s.labels[n] for n in LABELS if n in s.labels)}}}": s.value for s in samples
    }


def test_the_table_in_the_design_is_what_there_is() -> None:
    section = DESIGN.read_text(encoding="utf-8").split("### Metrics")[1].split("\n## ")[0].split("\n### ")[0]
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)
    in_code = [(PREFIX + name, "gauge") for name in GAUGES] + [(f"{PREFIX}runs_total", "counter")]
    assert listed == in_code


def test_every_metric_is_set_by_a_good_run() -> None:
    metrics = Metrics()
    metrics(event(outcome(newest_verified_age_seconds=12, verified_count=7)))
    found = read(metrics.text().decode())
    assert found == {
        "last_run_timestamp_seconds{backup,naap}": ENDED,
        "last_success_timestamp_seconds{backup,naap}": ENDED,
        "last_run_success{backup,naap}": 1,
        "last_run_exit_code{backup,naap}": 0,
        "last_run_duration_seconds{backup,naap}": 12.5,
        "last_success_duration_seconds{backup,naap}": 12.5,
        "last_success_bytes{backup,naap}": 1234567,
        "last_success_rows{backup,naap}": 4321,
        "newest_verified_timestamp_seconds{backup,naap}": ENDED - 12,
        "verified_backups{backup,naap}": 7,
        "runs_total{backup,naap,ok}": 1,
    }


def test_a_failure_leaves_what_was_known_of_the_last_success(tmp_path: Path) -> None:
    write = Textfiles(tmp_path)
    write(event(outcome(newest_verified_age_seconds=12)))
    write(event(outcome(failed=True, finished_at="2026-11-22T03:15:12.500Z", seconds=1.0)))
    (path,) = tmp_path.iterdir()
    assert path.name == "naap_ops_backup_naap.prom"
    found = read(path.read_text())
    assert found["last_success_timestamp_seconds{backup,naap}"] == ENDED
    assert found["last_run_timestamp_seconds{backup,naap}"] == ENDED + 86400
    assert found["last_success_bytes{backup,naap}"] == 1234567
    assert found["last_success_duration_seconds{backup,naap}"] == 12.5
    assert found["last_run_duration_seconds{backup,naap}"] == 1.0
    assert found["newest_verified_timestamp_seconds{backup,naap}"] == ENDED - 12
    assert (found["last_run_success{backup,naap}"], found["last_run_exit_code{backup,naap}"]) == (0, 4)
    assert (found["runs_total{backup,naap,ok}"], found["runs_total{backup,naap,failed}"]) == (1, 1)


def test_each_database_has_its_file_and_node_exporter_may_read_it(tmp_path: Path) -> None:
    Textfiles(tmp_path)(event(several(outcome(database="a"), outcome(database="b/ü", failed=True))))
    Textfiles(tmp_path)(event(outcome("prune", None)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "naap_ops_backup_a.prom",
        "naap_ops_backup_b%2F%C3%BC.prom",
        "naap_ops_prune.prom",
    ]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 for path in tmp_path.iterdir())


def test_where_a_database_has_several_parts_a_failure_counts(tmp_path: Path) -> None:
    Textfiles(tmp_path)(event(several(outcome(failed=True), outcome())))
    found = read((tmp_path / "naap_ops_backup_naap.prom").read_text())
    assert (found["last_run_success{backup,naap}"], found["last_success_rows{backup,naap}"]) == (0, 4321)


@pytest.mark.parametrize("spoilt", ["", "naap_ops_last_run_success{job=", "\0\0\0", "half a line\nnaap_ops_runs_total{} x\n"])
def test_a_spoilt_file_is_replaced(tmp_path: Path, spoilt: str) -> None:
    path = tmp_path / "naap_ops_backup_naap.prom"
    path.write_text(spoilt)
    Textfiles(tmp_path)(event(outcome()))
    assert read(path.read_text())["runs_total{backup,naap,ok}"] == 1


def test_names_with_anything_in_them_come_through(tmp_path: Path) -> None:
    name = 'a"b\\c\nd {}'
    for _ in range(2):
        Textfiles(tmp_path)(event(outcome(database=name)))
    (path,) = tmp_path.iterdir()
    assert read(path.read_text())[f"runs_total{{backup,{name},ok}}"] == 2


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """node_exporter would not look into it."""
    with pytest.raises(FileNotFoundError):
        Textfiles(tmp_path / "missing")(event(outcome()))
