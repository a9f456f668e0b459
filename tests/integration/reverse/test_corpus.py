"""A sample of real migrations, across all histories and kinds of statements: psql runs the reverse, pg_dump judges it."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from naap_ops.config.settings import ToolsSettings
from naap_ops.errors import ForwardFailed
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, connect
from naap_ops.postgres.tools import Toolset, find_tools, installations
from naap_ops.reverse.make import make
from naap_ops.reverse.proof import Shadow
from naap_ops.reverse.render import Sql
from naap_ops.reverse.replay import replay, search_path
from naap_ops.reverse.script import Script, parse
from tests.samples import histories

MAJOR = 15  # the extensions that the histories create come with the system's packages
SAMPLE = 200
_TABLE = re.compile(r"^CREATE (?:UNLOGGED )?TABLE .*?^\)", re.MULTILINE | re.DOTALL)


def sample(scripts: dict[str, list[Script]]) -> set[tuple[str, str]]:
    """Migrations for each kind of statement in turn, the rarest kinds first, from each history in turn; the same every time."""
    having: dict[str, list[tuple[str, str]]] = {}
    for history, each in scripts.items():
        for script in each:
            for kind in {kind for statement in script.statements for kind in statement.kinds}:
                having.setdefault(kind, []).append((history, script.name))
    chosen: set[tuple[str, str]] = set()
    taken: Counter[str] = Counter()
    kinds = sorted(having, key=lambda kind: (len(having[kind]), kind))
    while len(chosen) < min(SAMPLE, sum(map(len, scripts.values()))):
        for kind in kinds:
            left = [each for each in having[kind] if each not in chosen]
            if left and len(chosen) < SAMPLE:
                best = min(left, key=lambda each: (taken[each[0]], each))
                chosen.add(best)
                taken[best[0]] += 1
    return chosen


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchServer]:
    if MAJOR not in installations():
        pytest.skip(f"PostgreSQL {MAJOR} with the extensions that the histories need is not installed")
    with ScratchServer(installations()[MAJOR], tmp_path_factory.mktemp("corpus"), config={"temp_file_limit": "2GB"}) as running:
        yield running


def _dump(tools: Toolset, info: ConnInfo) -> str:
    command = tools.command("pg_dump", ["--schema-only", "--no-sync"], info)
    done = subprocess.run(command.argv, env={**os.environ, **command.env}, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))]

    def ordered(found: re.Match[str]) -> str:
        head, *columns, end = found.group().splitlines()
        return "\n".join([head, *sorted(line.rstrip(",") for line in columns), end])

    return _TABLE.sub(ordered, "\n".join(lines))


def _psql(tools: Toolset, info: ConnInfo, text: str) -> None:
    command = tools.command("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"], info)
    done = subprocess.run(
        command.argv, env={**os.environ, **command.env}, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_sample_of_every_history_and_every_kind_of_statement(store: ScratchServer) -> None:
    tools = find_tools(MAJOR, ToolsSettings())
    files: dict[str, list[Path]] = histories()
    scripts = {name: [parse(file.read_bytes(), name=file.parent.name) for file in each] for name, each in files.items()}
    chosen = sample(scripts)
    outcome: Counter[str] = Counter()
    wrong: list[str] = []
    for history, each in scripts.items():
        last = max((at for at, script in enumerate(each) if (history, script.name) in chosen), default=-1)
        _walk(store.info, tools, history, each[: last + 1], chosen, outcome, wrong)
    assert not wrong, "\n".join(wrong)
    assert outcome["proved"] + outcome["refused"] == len(chosen) >= SAMPLE
    assert outcome["proved"] >= 0.98 * len(chosen), outcome


def _truncate(connection: Connection) -> None:
    tables = [sql.Identifier(row.schema, row.name) for row in snapshot(connection).rows["table"].values()]
    if tables:
        connection.execute(sql.SQL("truncate {} cascade").format(sql.SQL(", ").join(tables)))


def _forward(connection: Connection, script: Script, catalog: Catalog) -> None:
    """Run a migration; without rows where it does not work with those that were seeded."""
    try:
        replay(connection, script, catalog, steps=False, look=False)
    except ForwardFailed:
        _truncate(connection)
        replay(connection, script, catalog, steps=False, look=False)
    search_path(connection, "public")


def _walk(
    info: ConnInfo,
    tools: Toolset,
    history: str,
    scripts: list[Script],
    chosen: set[tuple[str, str]],
    outcome: Counter[str],
    wrong: list[str],
) -> None:
    database = history[:63]
    with connect(info) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
    there = info.with_dbname(database)
    with connect(there) as connection:
        search_path(connection, "public")
        catalog = snapshot(connection)
        for script in scripts:
            if (history, script.name) not in chosen:
                _forward(connection, script, catalog)
                continue
            before = _dump(tools, there)
            made = make(Shadow(connection, snapshot(connection)), script, Sql("public"), state="its history")
            outcome[made.status] += 1
            if made.status != "proved":
                continue
            assert made.proof is not None
            if made.proof.conditions:  # it stops on the rows that were seeded, as it says
                _truncate(connection)
            after = _dump(tools, there)
            _psql(tools, there, made.text)
            if _dump(tools, there) != before:
                wrong.append(f"{history}/{script.name}: not as before")
            _forward(connection, script, catalog)
            if _dump(tools, there) != after:
                wrong.append(f"{history}/{script.name}: another result the second time")
    with connect(info) as connection:
        connection.execute(sql.SQL("drop database {}").format(sql.Identifier(database)))
