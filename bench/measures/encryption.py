"""Row ``encryption``: a snapshot to S3 encrypted with age against the same one unencrypted."""

from __future__ import annotations

from bench.figures import Line, alternate
from bench.lab import Lab, Options
from bench.measures.snapshot import snapshot
from bench.store import Store, encryption

WANTED = 1.25
_MAJORS = (16, 17)  # gzip only; zstd, beside which encrypting is a larger part


def measure(options: Options) -> list[Line]:
    with Store() as store:
        return [_one(options, major, store) for major in options.each_major(*_MAJORS)]


def _one(options: Options, major: int, store: Store) -> Line:
    with Lab(options, major) as lab:
        keys = encryption(lab.by_hand)
        pairs = alternate(options.runs, lambda: snapshot(lab, store, **keys), lambda: snapshot(lab, store))
        return pairs.line("encryption", f"snapshot to S3 with age / without, PostgreSQL {major}", wanted=WANTED)
