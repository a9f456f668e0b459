"""Metrics for node_exporter's textfile collector: one file per job and database, replaced atomically.

Every run is a process of its own, so what must outlast a failure (when it last went well, how many runs there were) is read
back from the file. One file for each, because two runs of different jobs may end at once.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from prometheus_client import write_to_textfile

from naap_ops.events import Event
from naap_ops.listeners.metrics import Metrics
from naap_ops.listeners.record import OUTCOME, JobOutcome


class Textfiles:
    """Writes ``naap_ops_<job>_<database>.prom`` into a folder, which must exist: node_exporter has to know of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, event: Event) -> None:
        """Raises OSError."""
        if event.name == OUTCOME:
            for member in JobOutcome.from_dict(event.data).members:
                self._write(member)

    def _write(self, outcome: JobOutcome) -> None:
        metrics = _earlier(path := self.path(outcome))
        metrics.record(outcome)
        write_to_textfile(str(path), metrics.registry)

    def path(self, outcome: JobOutcome) -> Path:
        """The file of its job and database."""
        database = quote(outcome.database, safe="") if outcome.database else ""
        return self._folder / f"naap_ops_{outcome.job}{'_' if database else ''}{database}.prom"


def _earlier(path: Path) -> Metrics:
    """What earlier runs wrote. A file that is no Prometheus text is as good as none."""
    metrics = Metrics()
    try:
        metrics.go_on_from(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return Metrics()
    return metrics
