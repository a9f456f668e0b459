"""Row ``rollback``: a column of ten million rows rolled back, against the bare ALTER TABLE; how soon the plan is there."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Line, note
from bench.lab import BIN, DURABLE, Options, bare_environment, run
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import server_bindir
from naap_ops.postgres.url import to_url
from naap_ops.prisma import tracking
from naap_ops.prisma.attempts import create as create_table

MAJOR = 16
ROWS_PER_MB = 10_000  # ten million for the default size
TABLES = 200
INIT, COLUMN = "20260101000000_init", "20260201000000_add_column"
ADD = 'ALTER TABLE "big" ADD COLUMN "added" INTEGER;\n'
DROP = 'ALTER TABLE "big" DROP COLUMN "added"'


def measure(options: Options) -> list[Line]:
    major = options.majors[0] if options.majors else MAJOR
    rows = options.size_mb * ROWS_PER_MB
    with TemporaryDirectory() as place, ScratchServer(server_bindir(major), Path(place) / "server", config=DURABLE) as server:
        with connect(server.info) as connection:
            connection.execute("create database shop")
        info = server.info.with_dbname("shop")
        project = Path(place) / "project"
        tables = "".join(f'CREATE TABLE "t{n}" ("id" INTEGER PRIMARY KEY, "v" TEXT);\n' for n in range(TABLES - 1))
        _write(project, INIT, f'CREATE TABLE "big" ("id" INTEGER PRIMARY KEY, "t" TEXT NOT NULL);\n{tables}')
        _write(project, COLUMN, ADD)
        note(f"  {rows:,} rows")
        with connect(info) as connection:
            create_table(connection, "public")
            _apply(connection, project, INIT)
            connection.execute("insert into big select i, md5(i::text) from generate_series(1, %s) i", [rows])
            connection.execute("vacuum analyze big")
        environ = {**bare_environment(), "DIRECT_URL": to_url(info), "HOME": str(project)}
        run([BIN / "naap-ops", "reverse", "--pending"], env=environ, cwd=project).checked()
        ours, theirs, plans = [], [], []
        for number in range(options.runs + 1):
            bare, plan, whole = _pair(info, project, environ)
            if number:
                ours.append(whole)
                theirs.append(bare)
                plans.append(plan)
                note(f"  {number}: rollback {whole:.2f} s, ALTER TABLE {bare:.3f} s, plan {plan:.2f} s")
    more = statistics.median(a - b for a, b in zip(ours, theirs, strict=True))
    plan = statistics.median(plans)
    return [
        Line(
            "rollback",
            f"a column of {rows:,} rows rolled back / bare ALTER TABLE",
            f"{statistics.median(ours):.2f} s",
            f"{statistics.median(theirs):.3f} s",
            f"{more:.2f} s more ({min(ours):.2f}-{max(ours):.2f} s)",
            wanted="<= 2 s more",
            met=more <= 2,
            details={"ours": ours, "theirs": theirs},
        ),
        Line(
            "rollback",
            f"from the command to the plan, {TABLES} tables, reverse at hand",
            f"{plan:.2f} s",
            wanted="<= 3 s",
            met=plan <= 3,
            details={"times": plans},
        ),
    ]


def _write(project: Path, name: str, script: str) -> None:
    folder = project / "prisma" / "migrations" / name
    folder.mkdir(parents=True)
    (folder / "migration.sql").write_text(script, encoding="utf-8")
    (folder.parent / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
    schema = 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n'
    (project / "prisma" / "schema.prisma").write_text(schema, encoding="utf-8")


def _apply(connection: object, project: Path, name: str) -> None:
    from psycopg import Connection

    assert isinstance(connection, Connection)
    data = (project / "prisma" / "migrations" / name / "migration.sql").read_bytes()
    connection.execute(data)
    tracking.mark_applied(connection, "public", name, hashlib.sha256(data).hexdigest())


def _pair(info: ConnInfo, project: Path, environ: Mapping[str, str]) -> tuple[float, float, float]:
    """Seconds: the bare ALTER TABLE, the plan, the whole rollback; each after the column was added."""
    with connect(info) as connection:
        connection.execute(ADD.encode())
        began = time.perf_counter()
        connection.execute(DROP.encode())
        bare = time.perf_counter() - began
        _apply(connection, project, COLUMN)
    words: list[str | Path] = [BIN / "naap-ops", "rollback", "--migration", "latest", "--json"]
    plan = run([*words, "--dry-run"], env=environ, cwd=project).checked()
    whole = run([*words, "--yes"], env=environ, cwd=project).checked()
    assert json.loads(whole.stdout.splitlines()[-1])["strategy"] == "reverse"
    [kept] = (project / ".naap_ops" / "archive" / "migrations").glob(f"*/{COLUMN}")
    kept.rename(project / "prisma" / "migrations" / COLUMN)
    (kept.parent / "untracked.json").unlink()
    kept.parent.rmdir()
    return bare, plan.seconds, whole.seconds
