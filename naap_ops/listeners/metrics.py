"""Prometheus metrics of outcomes. Names and meanings are listed in DESIGN.md; a test holds the two together."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.parser import text_string_to_metric_families

from naap_ops import clock
from naap_ops.events import Event
from naap_ops.listeners.record import OUTCOME, JobOutcome

PREFIX = "naap_ops_"
LABELS = ("job", "database")
RUNS = "runs"
GAUGES = {
    "last_run_timestamp_seconds": "When the job last ended, unix time",
    "last_success_timestamp_seconds": "When the job last ended well, unix time",
    "last_run_success": "1 if the last run of the job ended well, else 0",
    "last_run_exit_code": "Exit code of the last run, 0 for success",
    "last_run_duration_seconds": "How long the last run took",
    "last_success_duration_seconds": "How long the last run that ended well took",
    "last_success_bytes": "Bytes of the backup that the last run that ended well was about",
    "last_success_rows": "Rows of the backup that the last run that ended well was about",
    "newest_verified_timestamp_seconds": "When the newest verified backup was begun, unix time",
    "verified_backups": "How many verified backups there are",
}

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """A registry of its own, fed with outcomes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges = {name: Gauge(PREFIX + name, text, LABELS, registry=self.registry) for name, text in GAUGES.items()}
        self._runs = Counter(PREFIX + RUNS, "Runs of the job by how they ended", (*LABELS, "status"), registry=self.registry)

    def __call__(self, event: Event) -> None:
        if event.name == OUTCOME:
            for member in JobOutcome.from_dict(event.data).members:
                self.record(member)

    def record(self, outcome: JobOutcome) -> None:
        """Take in one outcome. What it does not know leaves the last known value standing."""
        ended = clock.parse(outcome.finished_at).timestamp()
        age = outcome.newest_verified_age_seconds
        self._set(outcome, "last_run_timestamp_seconds", ended)
        self._set(outcome, "last_run_success", float(outcome.ok))
        self._set(outcome, "last_run_exit_code", 0 if outcome.ok else (outcome.error or {}).get("code", 1))
        self._set(outcome, "last_run_duration_seconds", outcome.seconds)
        self._set(outcome, "newest_verified_timestamp_seconds", None if age is None else ended - age)
        self._set(outcome, "verified_backups", outcome.verified_count)
        if outcome.ok:
            self._set(outcome, "last_success_timestamp_seconds", ended)
            self._set(outcome, "last_success_duration_seconds", outcome.seconds)
            self._set(outcome, "last_success_bytes", outcome.bytes)
            self._set(outcome, "last_success_rows", outcome.rows)
        self._runs.labels(outcome.job, outcome.database or "", outcome.status).inc()

    def _set(self, outcome: JobOutcome, name: str, value: float | None) -> None:
        if value is not None:
            self._gauges[name].labels(outcome.job, outcome.database or "").set(value)

    def text(self) -> bytes:
        """All of it in the text format that textfiles have."""
        return generate_latest(self.registry)

    def go_on_from(self, text: str) -> None:
        """Take over the values of an earlier process. Raises ValueError for what is not Prometheus's text format."""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removeprefix(PREFIX)
                labels = [sample.labels.get(label, "") for label in LABELS]
                if name in self._gauges:
                    self._gauges[name].labels(*labels).set(sample.value)
                elif name == f"{RUNS}_total":
                    self._runs.labels(*labels, sample.labels.get("status", "")).inc(sample.value)
