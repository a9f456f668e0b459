"""Row ``table``: one table with 2 % of the bytes out of a full backup, against ``pg_restore -t`` from the same files.

``pg_restore -t`` brings back the columns and rows alone: no primary key, index, foreign key or default of a sequence. Ours
puts the whole table in place, keeps the old one, and counts. So there are two lines: what was asked for, and the same work by
hand, with a list file that holds all of the table's entries.
"""

from __future__ import annotations

from pathlib import Path

from bench.figures import Line, Pairs, alternate
from bench.lab import LIVE, Lab, Options
from bench.sample import SHARE, share

WANTED = 1.2
_MAJORS = (16,)
_BY_HAND = "by_hand"


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    for major in options.each_major(*_MAJORS):
        with Lab(options, major) as lab:
            lines += _one(lab)
    return lines


def _one(lab: Lab) -> list[Line]:
    backup = lab.backup().checked().result
    archive = Path(backup["path"]) / "data"
    lab.execute(f"CREATE DATABASE {_BY_HAND} TEMPLATE {LIVE} STRATEGY file_copy", "postgres")
    listed = lab.by_hand / "list"
    listed.write_text(_entries(lab, archive), encoding="utf-8")
    schema, table = SHARE.split(".")
    own: list[float] = []

    def ours() -> float:
        lab.settle()
        done = lab.ops(
            "restore", "--backup", backup["id"], "--table", SHARE, "--jobs", str(lab.options.jobs), "--yes"
        ).checked()
        own.append(done.result["seconds"])
        _forget_old(lab)
        return done.seconds

    def by_hand(*words: str | Path) -> float:
        lab.execute(f'DROP TABLE "{schema}"."{table}" CASCADE', _BY_HAND)
        lab.settle()
        return lab.tool("pg_restore", "-d", _BY_HAND, *words, archive).checked().seconds

    part = share(lab.info())
    bare = alternate(lab.options.runs, ours, lambda: by_hand("-n", schema, "-t", table))
    engine = Pairs(own[1:], bare.theirs)
    own_bare, own = own, []
    whole = alternate(lab.options.runs, ours, lambda: by_hand("-L", listed))
    what = f"restore --table, {part:.1%} of the bytes, PostgreSQL {lab.major}"
    return [
        bare.line("table", f"{what} / pg_restore -t", wanted=WANTED, own_seconds=own_bare, share=part),
        engine.line("table", "  of that, the command's own seconds (without start-up) / pg_restore -t"),
        whole.line("table", "  the same / pg_restore -L with its key, indexes and foreign keys", own_seconds=own),
    ]


def _entries(lab: Lab, archive: Path) -> str:
    """The lines of pg_restore's list that belong to the table: what somebody would pick by hand."""
    schema, table = SHARE.split(".")
    lines = lab.tool("pg_restore", "-l", archive).checked().stdout.splitlines()
    wanted = (f" {schema} {table} ", f" {schema} {table}_")
    return "\n".join(line for line in lines if not line.startswith(";") and any(word in line for word in wanted)) + "\n"


def _forget_old(lab: Lab) -> None:
    """Drop the schema in which a restored table's predecessor is kept."""
    rows = lab.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'naap_ops_before_%'")
    for (name,) in rows:
        lab.execute(f'DROP SCHEMA "{name}" CASCADE')
