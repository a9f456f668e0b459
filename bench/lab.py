"""The place where it is measured: a server with full durability, the sample database in it, and both sides' commands.

Everything is below ``.bench/<major>/``. ``seed-<size>/`` is the data directory of a server that holds the sample database,
stopped cleanly and kept between runs; each lab starts from a copy of it, so that no run inherits what an earlier one left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from psycopg import sql

from bench import sample
from naap_ops.backup.engines.base import choose_compression
from naap_ops.config.settings import ToolsSettings
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import Toolset, find_tools, server_bindir
from naap_ops.postgres.url import to_url

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"
BIN = Path(sys.executable).parent

LIVE = "bench"

# As a production server is set: nothing of the durability is switched off.
DURABLE: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
_BUILDING: Mapping[str, str] = {"max_wal_size": "8GB", "shared_buffers": "512MB", "autovacuum": "off"}


@dataclass(frozen=True)
class Options:
    """What the command line asks for. ``majors`` is empty when each row may choose its own."""

    size_mb: int = 1000
    runs: int = 5
    jobs: int = 2
    majors: tuple[int, ...] = ()
    fresh: bool = False
    seed: int = 0

    def each_major(self, *default: int) -> tuple[int, ...]:
        return self.majors or default


@dataclass(frozen=True)
class Run:
    """One finished command. ``seconds`` is the wall time of the whole process, start-up included."""

    seconds: float
    status: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object on the last line of stdout."""
        loaded: dict[str, Any] = json.loads(self.stdout.strip().splitlines()[-1])
        return loaded

    def checked(self) -> Run:
        """Itself, when it succeeded; otherwise the benchmark ends here."""
        if self.status != 0:
            self.fail("it failed")
        return self

    def fail(self, what: str) -> NoReturn:
        raise SystemExit(f"bench: {what} (status {self.status})\n{self.stdout[-2000:]}\n{self.stderr[-4000:]}")


def run(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Run:
    """Run a command to its end and take its time from outside."""
    began = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in argv], env=env, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    seconds = time.perf_counter() - began
    return Run(seconds, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def bare_environment() -> dict[str, str]:
    """The caller's environment without anything that either side would take for a setting."""
    dropped = ("PG", "NAAP_OPS_", "DATABASE_URL", "DIRECT_URL", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


class Lab:
    """``with Lab(options, major) as lab:`` gives a running server with the sample database :data:`LIVE` of ``size_mb``."""

    def __init__(self, options: Options, major: int, *, size_mb: int | None = None) -> None:
        self.options = options
        self.major = major
        self.size_mb = size_mb or options.size_mb
        self.home = HOME / str(major)
        self.repository = self.home / "backups"
        self.by_hand = self.home / "by_hand"
        self.server = ScratchServer(server_bindir(major), self.home / "server", config=DURABLE)
        self.tools: Toolset = find_tools(major, ToolsSettings())
        self._open = ExitStack()

    @property
    def compression(self) -> str:
        """What ``auto`` means with this major's tools; given to both sides."""
        return choose_compression("auto", self.tools, plain=False)

    def __enter__(self) -> Lab:
        seed = _seed(self.major, self.size_mb, fresh=self.options.fresh)
        try:
            self._open.enter_context(self.server)  # first: it refuses when another run is at work here
            for folder in (self.repository, self.by_hand):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            self.server.stop()
            shutil.rmtree(self.server.data)
            _copy(seed, self.server.data)
            os.sync()
            self.server.start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()
        for folder in (self.repository, self.by_hand):
            shutil.rmtree(folder, ignore_errors=True)

    # --- both sides -----------------------------------------------------------------------------------------------

    def info(self, database: str = LIVE) -> ConnInfo:
        return self.server.info.with_dbname(database)

    def settle(self) -> None:
        """Before a measured run: nobody pays for what an earlier run left in memory."""
        self.execute("CHECKPOINT", "postgres")
        os.sync()

    def execute(self, statement: str, database: str = LIVE) -> list[tuple[Any, ...]]:
        """Run one statement; its rows, if it has any."""
        with connect(self.info(database)) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def drop(self, *databases: str) -> None:
        for name in databases:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            self.execute(statement.as_string(), "postgres")

    def databases(self, prefix: str = "") -> list[str]:
        rows = self.execute("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1", "postgres")
        return [name for (name,) in rows if name.startswith(prefix)]

    # --- ours -----------------------------------------------------------------------------------------------------

    def environment(self, database: str = LIVE) -> dict[str, str]:
        return bare_environment() | {"DIRECT_URL": to_url(self.info(database)), "NAAP_OPS_REPOSITORY": str(self.repository)}

    def ops(self, *words: str, env: Mapping[str, str] | None = None) -> Run:
        """``naap-ops WORDS --json`` as an operator runs it, in a folder without settings. ``env``: further variables."""
        return run([BIN / "naap-ops", *words, "--json"], env=self.environment() | dict(env or {}), cwd=self.home)

    def backup(self, *words: str) -> Run:
        return self.ops("backup", "--jobs", str(self.options.jobs), *words)

    def forget(self, *ids: str) -> None:
        """Remove backups outside of any measurement."""
        for id in ids:
            shutil.rmtree(self.repository / LIVE / id)

    # --- theirs ---------------------------------------------------------------------------------------------------

    def tool(self, name: str, *words: str | Path, database: str = LIVE) -> Run:
        """A stock tool as typed by hand, from the same installation."""
        assert self.tools.bindir is not None
        env = bare_environment() | dict(self.info(database).tool_env())
        return run([self.tools.bindir / name, *words], env=env, cwd=self.home)


def _seed(major: int, size_mb: int, *, fresh: bool) -> Path:
    """The kept data directory of that size; made if it is not there."""
    seed = HOME / str(major) / f"seed-{size_mb}"
    if fresh:
        shutil.rmtree(seed, ignore_errors=True)
    if seed.is_dir():
        return seed
    print(f"building a sample database of {size_mb} MB on PostgreSQL {major} ...", file=sys.stderr, flush=True)
    making = seed.with_name(seed.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    with ScratchServer(server_bindir(major), HOME / str(major) / "server", config=_BUILDING) as server:
        with connect(server.info) as connection:
            connection.execute(f"CREATE DATABASE {LIVE} TEMPLATE template0".encode())
        sample.fill(server.info.with_dbname(LIVE), size_mb)
        server.stop()
        _copy(server.data, making)
    making.rename(seed)
    return seed


def _copy(source: Path, target: Path) -> None:
    """A data directory with its owner and modes: the server's user is not always ours."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def clean() -> None:
    """Remove all that benchmarks keep. A server that a killed run left behind is ended first."""
    for record in HOME.glob("*/server/scratch.json"):
        server = ScratchServer(server_bindir(int(record.parent.parent.name)), record.parent)
        with server:
            pass
    shutil.rmtree(HOME, ignore_errors=True)
