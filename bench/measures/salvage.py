"""Row ``salvage``: a few thousand rows written since the backup brought over, against the restore that made it necessary.

Twice: with inserts and updates alone, where counting says that no key of a settled row has to be moved; and with deletes on one
side and changes of the backup's rows on both, where keys of whole tables are moved and the backup is asked.
"""

from __future__ import annotations

from bench.figures import Line, note
from bench.lab import LIVE, Lab, Options
from bench.measures.memory import peak

WANTED = {"inserts and updates": 0.5, "deletes and changes in both, too": 1.0}
WANTED_MB = 150
_MAJORS = (16,)
_WORDS = ("salvage", "--since-backup", "--yes")
_ITEM = "insert into core.order_item select i, 1 + i % 1000, 1 + i % 100, 1, 1 from generate_series({}, {}) i"
_WRITES = (_ITEM.format(900_000_001, 900_002_000), """update public."Invoice" set note = 'since' where number <= 2000""")
_DELETES = (
    "delete from core.order_item where id % 100 = 1 and id < 100000",
    "update core.product set price = 1 where id <= 50",
)
_LIVE = (
    "update core.order_item set quantity = 9 where id % 1000 = 1 and id < 100000",
    _ITEM.format(800_000_001, 800_001_000),
    "update core.product set price = 2 where id <= 5",
)


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    for major in options.each_major(*_MAJORS):
        lines += _case(options, major, "inserts and updates", _WRITES, ())
        lines += _case(options, major, "deletes and changes in both, too", (*_WRITES, *_DELETES), _LIVE)
    return lines


def _case(options: Options, major: int, what: str, old: tuple[str, ...], live: tuple[str, ...]) -> list[Line]:
    with Lab(options, major) as lab:
        lab.backup().checked()
        for statement in old:
            lab.execute(statement)
        restore = lab.ops("restore", "--swap", "--yes", "--jobs", str(options.jobs)).checked()
        for statement in live:
            lab.execute(statement)
        dry = [lab.ops(*_WORDS, "--dry-run").checked().seconds for _ in range(options.runs)]
        memory = peak(lab, (*_WORDS, "--dry-run"))
        lab.settle()
        done = lab.ops(*_WORDS).checked()
        rows = sum(each[kind] for each in done.result["tables"].values() for kind in ("inserted", "updated", "deleted"))
        again = lab.ops(*_WORDS).checked()
        assert not any(each[kind] for each in again.result["tables"].values() for kind in ("inserted", "updated", "deleted"))
        lab.drop(*lab.databases(f"{LIVE}__"))
    note(f"  {what}: {rows:,} rows in {done.seconds:.1f} s (restore {restore.seconds:.1f} s), dry runs {dry}, {memory:.0f} MB")
    ratio = done.seconds / restore.seconds
    return [
        Line(
            row="salvage",
            measure=f"{rows:,} rows, {what} / the restore before it, PostgreSQL {major}",
            ours=f"{done.seconds:.1f} s",
            theirs=f"{restore.seconds:.1f} s",
            ratio=f"{ratio:.2f}",
            wanted=f"<= {WANTED[what]}",
            met=ratio <= WANTED[what],
            details={"dry": dry},
        ),
        Line(
            row="salvage",
            measure=f"peak memory of the Python process: {what}",
            ours=f"{memory:.0f} MB",
            wanted=f"<= {WANTED_MB} MB",
            met=memory <= WANTED_MB,
            details={"megabytes": memory},
        ),
    ]
