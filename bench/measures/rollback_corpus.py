"""Row ``rollback_corpus``: the last ten migrations of twenty real histories deployed and rolled back, one by one.

By the commands themselves: ``naap-ops deploy``, with its backup and its proved reverse, and ``naap-ops rollback``, which takes
the way that loses least. After each rollback real Prisma must be content (status clean, deploy finds nothing), and pg_dump must
say what it said before the migration was deployed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psycopg import sql

from bench.corpus import folder, histories
from bench.figures import Line, note
from bench.lab import Options
from naap_ops.app import App
from naap_ops.config.settings import ToolsSettings
from naap_ops.config.sources import load
from naap_ops.errors import OpsError
from naap_ops.events import Events
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import Toolset, find_tools, installations
from naap_ops.postgres.url import to_url
from naap_ops.prisma import applier
from tests.prisma.engines import Prisma, install

MAJOR = 15
HISTORIES, LAST = 20, 10
GENERATION = "7.8"
_SCHEMA = 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n'


@dataclass
class Tally:
    """What became of the migrations: rolled back with everybody content, refused by name, or wrong."""

    content: int = 0
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ways: dict[str, int] = field(default_factory=dict)


def measure(options: Options) -> list[Line]:
    where = folder()
    if where is None:
        return []
    major = options.majors[0] if options.majors else MAJOR
    found = histories(where)
    largest = sorted(found, key=lambda name: -len(found[name]))[:HISTORIES]
    tally = Tally()
    with TemporaryDirectory() as place, ScratchServer(installations()[major], Path(place) / "server") as server:
        tools = find_tools(major, ToolsSettings())
        packages = install(Path(place))
        for name in largest:
            _history(name, found[name], Path(place) / name, server.info, tools, packages, tally)
            note(f"  {name}: content {tally.content}, refused {len(tally.refused)}, wrong {len(tally.wrong)}")
    total = tally.content + len(tally.refused) + len(tally.wrong)
    for each in (*tally.refused, *tally.wrong):
        note(f"  {each}")
    told = ", ".join(f"by {way} {count}" for way, count in sorted(tally.ways.items()))
    return [
        Line(
            "rollback_corpus",
            f"rolled back, Prisma content, pg_dump as before ({len(largest)} histories, {told}; refused {len(tally.refused)})",
            f"{tally.content} of {total}",
            wanted="all",
            met=0 < tally.content == total,
            details={"refused": tally.refused, "wrong": tally.wrong, "ways": tally.ways},
        )
    ]


def _history(
    name: str, paths: list[Path], project: Path, server: ConnInfo, tools: Toolset, packages: Path, tally: Tally
) -> None:
    """Deploy all but the last ones, then those one at a time behind a proved reverse, then back again."""
    with connect(server) as connection:
        for (old,) in connection.execute("select datname from pg_database where datname like 'shop%'").fetchall():
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(old)))
        connection.execute("create database shop")
    info = server.with_dbname("shop")
    (project / "prisma" / "migrations").mkdir(parents=True)
    (project / "prisma" / "schema.prisma").write_text(_SCHEMA, encoding="utf-8")
    (project / "prisma" / "migrations" / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
    environ = {"PATH": os.environ["PATH"], "HOME": str(project), "DIRECT_URL": to_url(info), "DATABASE_URL": to_url(info)}
    app = App(load({}, cwd=project, environ=environ), Events())
    names = [f"{number:04}_{path.parent.name}" for number, path in enumerate(paths)]
    for path, named in zip(paths[:-LAST], names[:-LAST], strict=True):
        _put(project, path, named)
    before: dict[str, str] = {}
    try:
        applier.deploy(info, app.project(), app.events, schema="public")
    except OpsError as error:
        tally.refused.append(f"{name}: {' '.join(error.text.split())[:200]}")
        return
    for path, named in zip(paths[-LAST:], names[-LAST:], strict=True):
        before[named] = _dumped(tools, info)
        _put(project, path, named)
        done = _command(project, environ, "deploy", "--allow-unproved", named)
        if done.get("error"):
            tally.refused.append(f"{name} {named}: not deployed: {' '.join(done['message'].split())[:200]}")
            return
    prisma = Prisma(GENERATION, packages, project / "prisma", info)
    for named in reversed(list(before)):
        done = _command(project, environ, "rollback", "--migration", named)
        if done.get("error") == "Undecided":  # of rows that it changed itself: somebody has to choose, and here that is us
            done = _command(project, environ, "rollback", "--migration", named, "--strategy", "restore")
        if done.get("error"):
            tally.refused.append(f"{name} {named}: {' '.join(done['message'].split())[:200]}")
            return
        status, deployed = prisma.status(), prisma.deploy()
        now = _dumped(tools, info)
        if status == "clean" and deployed == [] and now == before[named]:
            tally.content += 1
            tally.ways[done["strategy"]] = tally.ways.get(done["strategy"], 0) + 1
        else:
            tally.wrong.append(f"{name} {named}: status {status}, deploy {deployed}, same schema {now == before[named]}")


def _command(project: Path, environ: dict[str, str], *words: str) -> dict[str, Any]:
    """What a command says as JSON; its failure as well."""
    argv = [str(Path(sys.executable).parent / "naap-ops"), *words, "--yes", "--json"]
    done = subprocess.run(argv, cwd=project, env=environ, capture_output=True, text=True, check=False)
    said = done.stdout.strip().splitlines()
    found = json.loads(said[-1]) if said else {"error": "nothing", "message": done.stderr}
    assert isinstance(found, dict)
    return found


def _put(project: Path, path: Path, named: str) -> None:
    target = project / "prisma" / "migrations" / named
    target.mkdir()
    shutil.copy(path, target / "migration.sql")


def _dumped(tools: Toolset, info: ConnInfo) -> str:
    """The schema without what keeps books of it, in the order of its lines: a table made anew comes last in a dump."""
    words = ["--schema-only", "--no-sync", "--exclude-schema=naap_ops", "--exclude-table=public._prisma_migrations"]
    command = tools.command("pg_dump", words, info)
    done = subprocess.run(command.argv, env={**os.environ, **command.env}, capture_output=True, text=True, check=True)
    lines = [line.strip().rstrip(",") for line in done.stdout.splitlines()]
    return "\n".join(sorted(line for line in lines if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))))
