"""Row ``reverse``: every migration of the corpus reversed, judged by others: psql runs down.sql, pg_dump compares the schemas.

For each migration two databases are in the state before it. On one the reverse is made and proved, as `invoke reverse` does.
On the other, with rows seeded anew, the migration runs, psql runs the file, and pg_dump and the rows are compared with before;
then the migration once more, and pg_dump with after.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psycopg import sql as composed

from bench.corpus import dump, folder, histories
from bench.figures import Line, note
from bench.lab import Options
from naap_ops.config.settings import ToolsSettings
from naap_ops.errors import ForwardFailed, ShadowSpoiled
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, connect
from naap_ops.postgres.tools import Toolset, find_tools, installations
from naap_ops.reverse import rows
from naap_ops.reverse.make import Reverse, make
from naap_ops.reverse.proof import Shadow
from naap_ops.reverse.render import Sql
from naap_ops.reverse.replay import replay, search_path
from naap_ops.reverse.script import Script, parse
from naap_ops.reverse.seed.quoting import qualified
from naap_ops.reverse.seeding import seed

MAJOR = 15  # the extensions that the histories create come with the system's packages
TIMED = "triggerdotdev__trigger.dev"
_CONFIG = {"temp_file_limit": "2GB", "max_locks_per_transaction": "512", "max_connections": "40", "shared_buffers": "256MB"}


def measure(options: Options) -> list[Line]:
    where = folder()
    if where is None:
        return []
    major = options.majors[0] if options.majors else MAJOR
    tools = find_tools(major, ToolsSettings())
    with TemporaryDirectory() as place, ScratchServer(installations()[major], Path(place), config=_CONFIG) as server:
        jobs = [(name, files, server.info, tools) for name, files in histories(where).items()]
        jobs.sort(key=lambda job: -len(job[1]))
        with ProcessPoolExecutor(options.jobs) as pool:
            found = [outcome for part in pool.map(_history, jobs) for outcome in part]
    return _lines(found)


def _lines(found: list[dict[str, Any]]) -> list[Line]:
    count = Counter(each["outcome"] for each in found)
    made = len(found) - count["does not run"]
    exact = [each for each in found if each["outcome"] == "exact"]
    wrong = [each for each in found if each["outcome"] == "wrong"]
    again = [each for each in exact if each["again"]]
    kept = [each for each in exact if each["rows"]]
    seeded = sum(1 for each in exact if each["seeded"])
    stopped = sum(1 for each in exact if each["stopped"])
    for each in found:
        if each["outcome"] != "exact" or not each["again"] or not each["rows"]:
            note(f"  {each['history']}/{each['name']}: {each['outcome']}: {each['why'][:300]}")
    total = len(exact)
    share = f"{total / made:.2%}"
    median = statistics.median(each["seconds"] for each in found)
    return [
        _line(
            "schema back exactly (pg_dump -s)",
            f"{total} of {made}",
            ">= 99 %",
            total >= 0.99 * made,
            share,
            {"migrations": found},
        ),
        _line("refused with a reason", str(count["refused"])),
        _line("silently wrong", str(len(wrong)), "0", not wrong),
        _line("forward again, same result", f"{len(again)} of {total}", "all", len(again) == total),
        _line("rows as before, but for the losses named", f"{len(kept)} of {total}", "all", len(kept) == total),
        _line("of these with rows in the tables touched", f"{seeded}, of which {stopped} stop at their own check"),
        _line("making and proving, median (beside the judging)", f"{median:.3f} s"),
    ]


def _line(
    measure: str, ours: str, wanted: str = "", met: bool | None = None, ratio: str = "", details: dict[str, Any] | None = None
) -> Line:
    return Line("reverse", measure, ours, "", ratio, wanted, met, details or {})


# --- one history ---------------------------------------------------------------------------------------------------


def _history(job: tuple[str, list[Path], ConnInfo, Toolset]) -> list[dict[str, Any]]:
    name, files, info, tools = job
    walk = _Walk(name, files, info, tools)
    for at in range(len(files)):
        walk.one(at)
    note(f"  {name}: {dict(Counter(each['outcome'] for each in walk.found))}")
    return walk.found


class _Walk:
    def __init__(self, name: str, files: list[Path], info: ConnInfo, tools: Toolset) -> None:
        self.name, self.files, self.info, self.tools = name, files, info, tools
        self.found: list[dict[str, Any]] = []
        self.shadow = self._shadow([])
        self.judged = self._fresh("judge", [])
        self.before = dump(tools, info.with_dbname(self._database("judge")))

    def _database(self, role: str) -> str:
        return f"{role} {self.name}"[:63]

    def _fresh(self, role: str, files: list[Path]) -> Connection:
        database = self._database(role)
        with connect(self.info) as connection:
            connection.execute(composed.SQL("drop database if exists {} with (force)").format(composed.Identifier(database)))
            connection.execute(composed.SQL("create database {}").format(composed.Identifier(database)))
        connection = connect(self.info, dbname=database)
        search_path(connection, "public")
        for file in files:
            connection.execute(file.read_bytes())
            search_path(connection, "public")
        return connection

    def _shadow(self, files: list[Path]) -> Shadow:
        connection = self._fresh("shadow", files)
        return Shadow(connection, snapshot(connection))

    def one(self, at: int) -> None:
        script = parse(self.files[at].read_bytes(), name=self.files[at].parent.name)
        outcome = {
            "history": self.name,
            "name": script.name,
            "again": True,
            "rows": True,
            "seeded": False,
            "stopped": False,
            "why": "",
            "seconds": 0.0,
        }
        tables = self.shadow.touched(script)
        made: Reverse | None = None
        try:
            made = make(self.shadow, script, Sql("public"), state="its history")
            outcome["seconds"] = made.seconds
        except (ShadowSpoiled, ForwardFailed) as failure:
            outcome |= {"outcome": "refused" if isinstance(failure, ShadowSpoiled) else "does not run", "why": failure.text}
            self.shadow.connection.close()
            self.shadow = self._shadow(self.files[: at + 1])
        if made is not None and made.status == "proved":
            self._judge(script, made, tables, outcome, at)
        else:
            if made is not None:
                outcome |= {"outcome": "refused", "why": made.reason}
            self._rebuild(at)
        self.found.append(outcome)

    def _rebuild(self, at: int) -> None:
        self.judged.close()
        self.judged = self._fresh("judge", self.files[: at + 1])
        self.before = self._dump()

    def _dump(self) -> str:
        return dump(self.tools, self.info.with_dbname(self._database("judge")))

    # --- the judge -------------------------------------------------------------------------------------------------

    def _judge(self, script: Script, made: Reverse, tables: list[tuple[str, str]], outcome: dict[str, Any], at: int) -> None:
        assert made.proof is not None
        empty = [name for name in tables if ".".join(name) in made.proof.empty]
        seed(self.judged, tables)
        self._truncate(empty)
        image = rows.image(self.judged, [name for name in tables if name not in empty])
        if not self._forward(script):
            image = rows.Image({})
        outcome["seeded"] = any(table.count for table in image.tables.values())
        after = self._dump()
        status, said = self._psql(made.text)
        if status and made.proof.conditions:
            outcome["stopped"] = True
            self._truncate([(row.schema, row.name) for row in snapshot(self.judged).rows["table"].values()])
            image = rows.Image({})
            status, said = self._psql(made.text)
        if status:
            outcome |= {"outcome": "wrong", "why": f"psql: {said}"}
            self._rebuild(at)
            return
        back = self._dump()
        outcome["outcome"] = "exact" if back == self.before else "wrong"
        if back != self.before:
            outcome["why"] = _first_difference(self.before, back)
        lost = made.differing.unexplained(image, rows.image(self.judged, image.tables))
        outcome["rows"] = not lost
        outcome["why"] += "; ".join(map(str, lost))
        self._forward(script)
        self.before = self._dump()
        outcome["again"] = self.before == after
        if not outcome["again"]:
            outcome["why"] += "again: " + _first_difference(after, self.before)

    def _forward(self, script: Script) -> bool:
        """One simple query, as Prisma sends it; without rows where it fails on those. False then."""
        self.judged.execute("set statement_timeout = '20s'")
        for again in (False, True):
            try:
                replay(self.judged, script, self.shadow.catalog, steps=False, look=False)
            except ForwardFailed:
                if again:
                    raise
                self._truncate([(row.schema, row.name) for row in snapshot(self.judged).rows["table"].values()])
            else:
                search_path(self.judged, "public")
                return not again
        return False

    def _truncate(self, names: list[tuple[str, str]]) -> None:
        if names:
            self.judged.execute(f"truncate {', '.join(map(qualified, names))} cascade".encode())

    def _psql(self, text: str) -> tuple[int, str]:
        command = self.tools.command(
            "psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"], self.info.with_dbname(self._database("judge"))
        )
        done = subprocess.run(
            command.argv, env={**os.environ, **command.env}, input=text, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr.strip()


def _first_difference(one: str, other: str) -> str:
    a, b = set(one.splitlines()), set(other.splitlines())
    return json.dumps({"only before": sorted(a - b)[:3], "only after": sorted(b - a)[:3]})
