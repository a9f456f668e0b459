"""The histories of real Prisma migrations to measure with, and what pg_dump says of a schema, made comparable."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from bench.figures import note
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.tools import Toolset

CORPUS = "NAAP_OPS_CORPUS"
ONLY = "BENCH_HISTORIES"
_BESIDE = Path(__file__).resolve().parents[1].parent / "shared" / "corpus"
# A history that starts from `prisma db push`: its first migrations stand on a schema that this file stands in for.
_BASED = {"livepeer__naap": ("livepeer__naap--web-next", "before.sql")}
_TABLE = re.compile(r"^CREATE (?:UNLOGGED )?TABLE .*?^\)", re.MULTILINE | re.DOTALL)


def folder() -> Path | None:
    """Where the histories are, None (and a word about it) when they are not there."""
    found = Path(os.environ.get(CORPUS, _BESIDE))
    if found.is_dir():
        return found
    note(f"  no corpus of Prisma projects: {found} is missing, and {CORPUS} does not name its folder; skipped")
    return None


def histories(where: Path) -> dict[str, list[Path]]:
    """History -> its files in the order in which they apply; those that only make a starting state included. Only those that
    BENCH_HISTORIES names, where it names some; one that is not there ends it: nothing measured must not look like all is well.
    """
    found = {}
    for each in sorted(where.iterdir()):
        files = sorted(each.glob("*/migration.sql"))
        if each.name in _BASED and files:
            base, before = _BASED[each.name]
            files = [*sorted((where / base).glob("*/migration.sql")), each / before, *files]
        if files:
            found[each.name] = files
    only = os.environ.get(ONLY, "").split()
    if unknown := [name for name in only if name not in found]:
        raise SystemExit(f"{ONLY}: no history {', '.join(unknown)} in {where}")
    return {name: files for name, files in found.items() if not only or name in only}


def dump(tools: Toolset, info: ConnInfo) -> str:
    """The schema as ``pg_dump --schema-only`` writes it, comments out, columns of a table in the order of their names."""
    command = tools.command("pg_dump", ["--schema-only", "--no-sync"], info)
    done = subprocess.run(command.argv, env={**os.environ, **command.env}, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))]
    return _TABLE.sub(lambda found: _sorted(found.group()), "\n".join(lines))


def _sorted(table: str) -> str:
    head, *columns, end = table.splitlines()
    return "\n".join([head, *sorted(line.rstrip(",") for line in columns), end])
