"""Row ``list``: ``invoke --list`` in the checkout against the same with an empty tasks.py: what our task modules import."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Line, alternate
from bench.lab import BIN, ROOT, Options, bare_environment, run

WANTED = 1.5
_PAIRS = 5  # times the runs asked for: these are tenths of a second, and the machine's own jitter is of that size


def measure(options: Options) -> list[Line]:
    with TemporaryDirectory() as name:
        empty = Path(name)
        (empty / "tasks.py").write_text("", encoding="utf-8")

        def listing(folder: Path) -> float:
            # An empty tasks.py makes Invoke say "No tasks found" and exit with 1; that is the comparison asked for.
            return run([BIN / "invoke", "--list"], env=bare_environment(), cwd=folder).seconds

        pairs = alternate(options.runs * _PAIRS, lambda: listing(ROOT), lambda: listing(empty), quiet=True)
    return [pairs.line("list", "invoke --list / the same with an empty tasks.py", wanted=WANTED)]
