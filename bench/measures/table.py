"""Row ``table``: one table with 2 % of the bytes out of a full backup, against ``pg_restore -t`` from the same files.

``pg_restore -t`` brings back the columns and rows alone: no primary key, index, foreign key or statistics. Ours puts the whole
table in place, keeps the old one, and counts. So there are more lines: without the start-up of our process; the same work by
hand, with a list file that holds all of the table's entries; and that for the largest table, where start-up weighs little.
"""

from __future__ import annotations

from pathlib import Path

from bench.figures import Line, Pairs, alternate
from bench.lab import LIVE, Lab, Options
from bench.sample import LARGE, SMALL, share

WANTED = 1.2
_MAJORS = (16,)
_BY_HAND = "by_hand"


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    for major in options.each_major(*_MAJORS):
        with Lab(options, major) as lab:
            backup = lab.backup().checked().result
            lab.execute(f"CREATE DATABASE {_BY_HAND} TEMPLATE {LIVE} STRATEGY file_copy", "postgres")
            small, large = _Table(lab, backup, SMALL), _Table(lab, backup, LARGE)
            lines += [*small.rows_alone(), small.everything(), large.everything()]
    return lines


class _Table:
    """One table, brought back by both sides."""

    def __init__(self, lab: Lab, backup: dict[str, str], name: str) -> None:
        self.lab = lab
        self.id = backup["id"]
        self.archive = Path(backup["path"]) / "data"
        self.name = name
        self.schema, self.table = name.split(".")
        self.quoted = f'"{self.schema}"."{self.table}"'
        self.rows = lab.execute(f"SELECT count(*) FROM {self.quoted}")
        self.what = f"restore --table {name}, {share(lab.info(), name):.1%} of the bytes, PostgreSQL {lab.major}"
        self.own: list[float] = []

    def rows_alone(self) -> list[Line]:
        self.own.clear()
        words = ("-n", self.schema, "-t", self.table)
        pairs = alternate(self.lab.options.runs, self.ours, lambda: self.by_hand(*words))
        engine = Pairs(self.own[1:], pairs.theirs)  # the first is the warm-up
        return [
            pairs.line("table", f"{self.what} / pg_restore -t", wanted=WANTED, own_seconds=list(self.own)),
            engine.line("table", "  of that, the command's own seconds (without start-up) / pg_restore -t"),
        ]

    def everything(self) -> Line:
        self.own.clear()
        listed = self.lab.by_hand / "list"
        listed.write_text(self._entries(), encoding="utf-8")
        pairs = alternate(self.lab.options.runs, self.ours, lambda: self.by_hand("-L", listed))
        return pairs.line("table", f"  {self.what} / pg_restore -L, with its key and indexes", own_seconds=list(self.own))

    def ours(self) -> float:
        self.lab.settle()
        words = ("--backup", self.id, "--table", self.name, "--jobs", str(self.lab.options.jobs), "--yes")
        done = self.lab.ops("restore", *words).checked()
        self.own.append(done.result["seconds"])
        self._check(LIVE)
        self._forget_old()
        return done.seconds

    def by_hand(self, *words: str | Path) -> float:
        self.lab.execute(f"DROP TABLE {self.quoted} CASCADE", _BY_HAND)
        self.lab.settle()
        seconds = self.lab.tool("pg_restore", "-d", _BY_HAND, *words, self.archive).checked().seconds
        self._check(_BY_HAND)
        return seconds

    def _check(self, database: str) -> None:
        if self.lab.execute(f"SELECT count(*) FROM {self.quoted}", database) != self.rows:
            raise SystemExit(f"bench: {self.name} does not have its rows in {database}")

    def _entries(self) -> str:
        """The lines of pg_restore's list that belong to the table: what somebody would pick by hand."""
        lines = self.lab.tool("pg_restore", "-l", self.archive).checked().stdout.splitlines()
        wanted = (f" {self.schema} {self.table} ", f" {self.schema} {self.table}_")
        return "\n".join(line for line in lines if not line.startswith(";") and any(word in line for word in wanted)) + "\n"

    def _forget_old(self) -> None:
        """Drop the schemas in which the table's predecessors are kept."""
        for (name,) in self.lab.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'naap_ops_before_%'"):
            self.lab.execute(f'DROP SCHEMA "{name}" CASCADE')
