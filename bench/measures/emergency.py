"""Row ``emergency``: how long nobody can work, against a usual guide: services stopped, dropdb, createdb, psql < backup.sql.

Ours is what the command reports as its downtime, from services stopped to services started; the commands for them do nothing,
on either side. The load, which the guide has in its downtime, is beside the live database here.
"""

from __future__ import annotations

import shutil

from bench.figures import Line, alternate
from bench.lab import LIVE, Lab, Options

WANTED = 0.1
_MAJORS = (16,)
_NAME = "20260201000000_mistake"
_SETTINGS = ("SERVICES__STOP", "SERVICES__START", "MAINTENANCE__ON", "MAINTENANCE__OFF")
_COMMANDS = {f"NAAP_OPS_{name}": "true" for name in _SETTINGS}
_ROW = f"""insert into public._prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
values (gen_random_uuid(), 'c', now(), '{_NAME}', 1)"""


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    for major in options.each_major(*_MAJORS):
        with Lab(options, major) as lab:
            try:
                lines.append(_one(lab))
            finally:
                for name in ("prisma", ".naap_ops"):
                    shutil.rmtree(lab.home / name, ignore_errors=True)
    return lines


def _one(lab: Lab) -> Line:
    backup = lab.backup().checked().result["id"]
    dump = lab.by_hand / "backup.sql"
    lab.tool("pg_dump", "-f", dump, LIVE).checked()
    whole: list[float] = []

    def ours() -> float:
        _migrate(lab)
        lab.settle()
        done = lab.ops("emergency", "--migration", _NAME, "--backup", backup, "--yes", env=_COMMANDS).checked()
        whole.append(done.seconds)
        lab.drop(*lab.databases(f"{LIVE}__"))
        return float(done.result["downtime_seconds"])

    def theirs() -> float:
        lab.settle()
        steps = [
            lab.tool("dropdb", "--force", LIVE, database="postgres"),
            lab.tool("createdb", LIVE, database="postgres"),
            lab.tool("psql", "-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-f", dump),
        ]
        return sum(step.checked().seconds for step in steps)

    pairs = alternate(lab.options.runs, ours, theirs)
    what = f"downtime of emergency / of dropdb, createdb, psql < backup.sql, PostgreSQL {lab.major}"
    return pairs.line("emergency", what, wanted=WANTED, whole_seconds=whole)


def _migrate(lab: Lab) -> None:
    """What is to be taken back: a folder and a row."""
    folder = lab.home / "prisma" / "migrations" / _NAME
    folder.mkdir(parents=True)
    (folder / "migration.sql").write_text("select 1;\n", encoding="utf-8")
    schema = 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n'
    (lab.home / "prisma" / "schema.prisma").write_text(schema, encoding="utf-8")
    lab.execute(_ROW)
