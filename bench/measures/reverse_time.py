"""Row ``reverse_time``: making and proving over one long history; reading and planning alone; a large catalog."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.corpus import folder, histories
from bench.figures import Line
from bench.lab import Options
from naap_ops.errors import OpsError
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import installations
from naap_ops.reverse.make import make
from naap_ops.reverse.plan import plan
from naap_ops.reverse.proof import Shadow
from naap_ops.reverse.render import Sql
from naap_ops.reverse.replay import replay, search_path
from naap_ops.reverse.script import parse

MAJOR = 15
HISTORY = "triggerdotdev__trigger.dev"
TABLES, COLUMNS = 10_000, 10


def measure(options: Options) -> list[Line]:
    major = options.majors[0] if options.majors else MAJOR
    lines: list[Line] = []
    with TemporaryDirectory() as place, ScratchServer(installations()[major], Path(place)) as server:
        where = folder()
        if where is not None:
            files = histories(where)[HISTORY]
            lines += [_making(server.info, files), _planning(server.info, files)]
        lines.append(_catalog(server.info, options.runs))
    return lines


def _database(info: ConnInfo, name: str) -> None:
    with connect(info) as connection:
        connection.execute(f"drop database if exists {name} with (force)".encode())
        connection.execute(f"create database {name}".encode())


def _making(info: ConnInfo, files: list[Path]) -> Line:
    _database(info, "making")
    times = []
    with connect(info, dbname="making") as connection:
        search_path(connection, "public")
        shadow = Shadow(connection, snapshot(connection))
        for file in files:
            script = parse(file.read_bytes(), name=file.parent.name)
            began = time.monotonic()
            try:
                make(shadow, script, Sql("public"), state="its history")
            except OpsError:
                break  # the other row says which; here only times are taken
            times.append(time.monotonic() - began)
    median = statistics.median(times)
    measure = f"making and proving a reverse, median of {len(times)} of {len(files)} ({HISTORY})"
    return Line(
        "reverse_time",
        measure,
        f"{median:.3f} s",
        wanted="<= 0.4 s",
        met=median <= 0.4 and len(times) == len(files),
        details={"times": times},
    )


def _planning(info: ConnInfo, files: list[Path]) -> Line:
    _database(info, "planning")
    spent, statements = 0.0, 0
    with connect(info, dbname="planning") as connection:
        search_path(connection, "public")
        catalog = snapshot(connection)
        for file in files:
            began = time.monotonic()
            script = parse(file.read_bytes(), name=file.parent.name)
            spent += time.monotonic() - began
            done = replay(connection, script, catalog)
            catalog = done.after
            began = time.monotonic()
            plan(script, done.steps, Sql("public"))
            spent += time.monotonic() - began
            statements += len(script.statements)
    each = 1000 * spent / statements
    return Line(
        "reverse_time",
        f"reading and planning alone, per statement ({statements})",
        f"{each:.2f} ms",
        wanted="<= 2 ms",
        met=each <= 2,
    )


def _catalog(info: ConnInfo, runs: int) -> Line:
    _database(info, "large")
    times = []
    with connect(info, dbname="large") as connection:
        columns = ", ".join(f"c{at} text" for at in range(COLUMNS - 1))
        for at in range(0, TABLES, 500):
            connection.execute(
                ";".join(f"create table t{n} (id integer primary key, {columns})" for n in range(at, at + 500)).encode()
            )
        connection.execute(
            "analyze pg_catalog.pg_class, pg_catalog.pg_attribute, pg_catalog.pg_constraint, pg_catalog.pg_depend"
        )
        for _ in range(runs):
            began = time.monotonic()
            found = snapshot(connection)
            times.append(time.monotonic() - began)
    median = statistics.median(times)
    count = f"{len(found.rows['table'])} tables, {len(found.rows['column'])} columns"
    return Line(
        "reverse_time",
        f"snapshot of a catalog of {count}",
        f"{median:.2f} s",
        wanted="<= 5 s",
        met=median <= 5,
        details={"times": times},
    )
