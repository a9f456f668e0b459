"""``python bench/run.py [ROW ...]`` runs the benchmarks and prints one table. See bench/README.md for what the rows mean."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import figures, store
from bench.lab import Options, clean
from naap_ops.errors import OpsError

ROWS = (
    "backup",
    "restore",
    "emergency",
    "table",
    "memory",
    "list",
    "flips",
    "kills",
    "snapshot",
    "staging",
    "snapshot_memory",
    "fetched",
    "encryption",
    "reverse",
    "reverse_time",
    "rollback",
    "rollback_corpus",
    "images_corpus",
    "salvage",
    "images",
)


def main() -> int:
    arguments = _arguments()
    if arguments.clean:
        store.clean()
        clean()
        return 0
    options = Options(
        size_mb=arguments.size_mb,
        runs=arguments.runs,
        jobs=arguments.jobs,
        majors=tuple(arguments.major),
        fresh=arguments.fresh,
        seed=arguments.seed,
    )
    lines: list[figures.Line] = []
    loads = [os.getloadavg()[0]]
    for row in arguments.rows or ROWS:
        figures.note(f"{row}:{figures.load()}")
        lines += importlib.import_module(f"bench.measures.{row}").measure(options)
        loads.append(os.getloadavg()[0])
    moment = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    print(
        f"{moment}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"database {options.size_mb} MB, -j {options.jobs}, median of {options.runs}, load {min(loads):.1f}-{max(loads):.1f}"
    )
    print(figures.table(lines))
    if arguments.json:
        print(
            json.dumps({"at": moment, "size_mb": options.size_mb, "loads": loads, "lines": [line.as_dict() for line in lines]})
        )
    return 1 if any(line.met is False for line in lines) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmarks of naap_ops against the stock tools, side by side.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--size-mb", type=int, default=1000, help="size of the sample database (default: 1000)")
    parser.add_argument("--runs", type=int, default=5, help="pairs that count, after one warm-up (default: 5)")
    parser.add_argument("--jobs", type=int, default=2, help="parallel jobs of both sides (default: 2)")
    parser.add_argument("--major", type=int, action="append", default=[], help="PostgreSQL major (default: by row)")
    parser.add_argument("--seed", type=int, default=0, help="of the random positions and instants (default: 0)")
    parser.add_argument("--fresh", action="store_true", help="build the sample database anew")
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON on the last line")
    parser.add_argument("--clean", action="store_true", help="remove .bench/ and end")
    arguments = parser.parse_args()
    unknown = [row for row in arguments.rows if row not in ROWS]
    if unknown:
        parser.error(f"unknown row {unknown[0]!r}: choose from {', '.join(ROWS)}")
    return arguments


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OpsError as error:
        sys.exit(f"bench: {error.text}")
