"""Row ``snapshot``: to S3, published and read-verified, against what most containers do and against our backup to a folder.

What most containers do: ``pg_dump -Fc`` to a file, with the compression it has by default, then ``aws s3 cp``, and nothing is
looked at. One more line has them use our compression, which is quicker. Where ``aws`` is not on PATH, boto3's ``upload_file``
in a process of its own stands for it: both are the library s3transfer.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.figures import Line, alternate
from bench.lab import Lab, Options, bare_environment, run
from bench.store import Store

WANTED = 0.65
WANTED_TO_FOLDER = 1.15
_MAJORS = (16, 17)  # of the installations in the wheels, the one has gzip only, the other zstd

_UPLOAD = """
import sys, boto3
path, bucket, key = sys.argv[1:]
boto3.client("s3").upload_file(path, bucket, key)
"""


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    with Store() as store:
        for major in options.each_major(*_MAJORS):
            with Lab(options, major) as lab:
                lines += [*_against_containers(lab, store), _against_folder(lab, store)]
    return lines


def _against_containers(lab: Lab, store: Store) -> Iterator[Line]:
    level = lab.compression if lab.major >= 16 else lab.compression.partition(":")[2]
    for words, wanted in (((), WANTED), ((f"-Z{level}",), None)):
        pairs = alternate(lab.options.runs, lambda: snapshot(lab, store), partial(_by_hand, lab, store, *words))
        theirs = f"{' '.join(['pg_dump -Fc', *words])}, then {_uploader()}, PostgreSQL {lab.major}"
        yield pairs.line("snapshot", f"snapshot to S3, read and published / {theirs}", wanted=wanted)


def _against_folder(lab: Lab, store: Store) -> Line:
    pairs = alternate(lab.options.runs, lambda: snapshot(lab, store), lambda: _to_folder(lab))
    return pairs.line("snapshot", f"snapshot to S3 / backup to a folder, PostgreSQL {lab.major}", wanted=WANTED_TO_FOLDER)


def snapshot(lab: Lab, store: Store, **extra: str) -> float:
    """Our side: the wall time of the whole program. ``extra`` are variables of its environment."""
    lab.settle()
    with store.bucket() as bucket:
        done = lab.ops("snapshot", "--jobs", str(lab.options.jobs), env=store.environment(bucket) | extra).checked()
        if done.result["verified"] != "read":
            done.fail("published without having been read")
        return done.seconds


def _to_folder(lab: Lab) -> float:
    lab.settle()
    done = lab.backup().checked()
    lab.forget(done.result["id"])
    return done.seconds


def _by_hand(lab: Lab, store: Store, *words: str) -> float:
    """The same tool; the file is removed afterwards, as a container does, but outside of the measurement."""
    target = lab.by_hand / "backup.dump"
    lab.settle()
    with store.bucket() as bucket:
        dumped = lab.tool("pg_dump", "-Fc", *words, "-f", target).checked()
        uploaded = run(_upload(target, bucket), env=bare_environment() | store.environment(bucket), cwd=lab.home).checked()
    target.unlink()
    return dumped.seconds + uploaded.seconds


def _uploader() -> str:
    return "aws s3 cp" if shutil.which("aws") else "boto3's upload_file"


def _upload(file: Path, bucket: str) -> list[str | Path]:
    if aws := shutil.which("aws"):
        return [aws, "s3", "cp", "--no-progress", file, f"s3://{bucket}/{file.name}"]
    return [sys.executable, "-c", _UPLOAD, file, bucket, file.name]
