"""Real servers for the tests: every installed major of PostgreSQL, started when first asked for, one of each per worker.

``server`` runs a test once per major (``pg15`` ... ``pg18``); ``@pytest.mark.pg(16, 18)`` or ``--pg 16,18`` narrow the matrix.
Where there are 16 or 18 as well, 15 and 17 are left to the long tests. ``any_server`` is one server for tests to which the
major does not matter. ``database`` and ``any_database`` are fresh empty databases there, dropped afterwards.

The servers live in numbered slots, in memory (``/dev/shm``) where it has room, for a database is made and dropped in a fifth of
the time there; else below the temporary folder. A slot belongs to the process that holds its lock, so test runs side by side do
not meet, and what a killed run left behind is ended by the next one that takes the slot.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from naap_ops.errors import Busy
from naap_ops.lock import FileLock
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.databases import drop
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import installations
from tests.desk import end_spawned
from tests.prisma import engines
from tests.s3server import WeedServer

# Started in the background or by nohup, we would ignore these, and so would every program that a test starts and signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

DEFAULT_MAJOR = 16
SELDOM = (15, 17)  # with the long tests, where a test runs on others as well
TLS_MAJORS = (17, 15)  # of those the tests know, these are built with OpenSSL
PASSWORD = "s p%c'\"\\$ü:@/?#"

# Small and ready for what tests do: many databases, prepared transactions, logical slots.
CONFIG = {
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_prepared_transactions": "10",
    "wal_level": "logical",
    "max_wal_senders": "4",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pg", default="", help="majors of PostgreSQL to test on, e.g. 16,18 (default: all installed)")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What was cut short is not made good by running what had failed until then once more."""
    cache = getattr(session.config, "cache", None)
    if cache is not None and exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        cache.set("cache/lastfailed", {})


def _majors(config: pytest.Config) -> list[int]:
    wanted = {int(word) for word in str(config.getoption("--pg")).split(",") if word}
    return [major for major in installations() if not wanted or major in wanted]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" not in metafunc.fixturenames:
        _also(metafunc)
        return
    majors = _majors(metafunc.config)
    for marker in metafunc.definition.iter_markers("pg"):
        majors = [major for major in majors if major in marker.args]
    often = [major for major in majors if major not in SELDOM]
    marks = {major: [pytest.mark.long] for major in majors if often and major in SELDOM}
    params = [pytest.param(major, id=f"pg{major}", marks=marks.get(major, [])) for major in majors]
    metafunc.parametrize("server", params, indirect=True)


def _also(metafunc: pytest.Metafunc) -> None:
    """What runs on any server runs on further majors with the long tests, where it is marked so."""
    marker = metafunc.definition.get_closest_marker("also")
    if marker is None or "any_server" not in metafunc.fixturenames:
        return
    further = [major for major in _majors(metafunc.config) if major in marker.args and major != DEFAULT_MAJOR]
    params = [pytest.param(major, id=f"pg{major}", marks=[pytest.mark.long]) for major in further]
    metafunc.parametrize("any_server", [pytest.param(None, id="any"), *params], indirect=True)


class Servers:
    """The servers of this process, started on demand."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: dict[str, ScratchServer] = {}

    def get(self, major: int, name: str = "plain", **options: object) -> ScratchServer:
        key = f"{name}{major}"
        if key not in self._running:
            server = ScratchServer(installations()[major], self._folder / key, config=CONFIG, **options)  # type: ignore[arg-type]
            self._running[key] = self._stack.enter_context(server)
        return self._running[key]


_NAME = f"naap_ops-tests-{os.geteuid()}"
_ROOT = Path(tempfile.gettempdir()) / _NAME
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 6 << 30  # what the servers of two workers have been seen to take, twice over


def _servers_root() -> Path:
    try:
        roomy = shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES and os.access(_MEMORY, os.W_OK | os.X_OK)
    except OSError:
        roomy = False
    return _MEMORY / _NAME if roomy else _ROOT


def _slot(stack: ExitStack, root: Path) -> Path:
    for number in itertools.count():
        folder = root / str(number)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        assert folder.stat().st_uid == os.geteuid()
        try:
            stack.enter_context(FileLock(folder / ".lock", what="a test run"))
        except Busy:
            continue
        return folder
    raise AssertionError


@pytest.fixture(autouse=True)
def _spawned_end_with_their_test() -> Iterator[None]:
    yield
    end_spawned()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(_slot(stack, _servers_root()), stack)


@pytest.fixture(scope="session")
def prisma_packages() -> Path:
    """Where npm has put Prisma 6 and the engines of 7; skips where there is no Node."""
    if reason := engines.why_not():
        pytest.skip(f"no real Prisma: {reason}")
    _ROOT.mkdir(mode=0o711, parents=True, exist_ok=True)
    return engines.install(_ROOT)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[WeedServer]:
    """A real S3 store, SeaweedFS, running. Tests that stop it start it again."""
    with ExitStack() as stack:
        server = WeedServer(_slot(stack, _ROOT) / "weed")
        stack.callback(server.stop)
        server.start()
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: Servers) -> ScratchServer:
    """A running server; the test runs once per major."""
    return servers.get(request.param)


@pytest.fixture
def any_server(request: pytest.FixtureRequest, servers: Servers) -> ScratchServer:
    """A running server of the default major, or of the first there is; the mark ``also`` names further ones."""
    majors = _majors(request.config)
    if not majors:
        pytest.skip("no server installation found")
    chosen = getattr(request, "param", None)
    return servers.get(chosen or (DEFAULT_MAJOR if DEFAULT_MAJOR in majors else majors[0]))


@pytest.fixture
def password_server(request: pytest.FixtureRequest, servers: Servers) -> ScratchServer:
    """A server on 127.0.0.1 that wants the password :data:`PASSWORD` (SCRAM) and offers no TLS."""
    majors = _majors(request.config)
    if not majors:
        pytest.skip("no server installation found")
    major = DEFAULT_MAJOR if DEFAULT_MAJOR in majors else majors[0]
    return servers.get(major, "password", auth="scram-sha-256", password=PASSWORD, tcp=True)


@pytest.fixture
def tls_server(request: pytest.FixtureRequest, servers: Servers) -> ScratchServer:
    """The same with TLS by a self-signed certificate, ``tls_server.certificate``."""
    majors = [major for major in TLS_MAJORS if major in _majors(request.config)]
    if not majors:
        pytest.skip("no server built with TLS found")
    return servers.get(majors[0], "tls", auth="scram-sha-256", password=PASSWORD, tls=True)


def _strategy(server: ScratchServer) -> LiteralString:
    """Copying the files costs a third of writing them to the log, in memory; on a disk twice as much."""
    return " STRATEGY file_copy" if server.workdir.is_relative_to(_MEMORY) else ""


def _fresh(server: ScratchServer) -> Iterator[ConnInfo]:
    name = f"test_{secrets.token_hex(6)}"
    with closing(connect(server.info)) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0" + _strategy(server)).format(sql.Identifier(name)))
    yield server.info.with_dbname(name)
    with closing(connect(server.info)) as connection:
        drop(connection, name)


@pytest.fixture
def database(server: ScratchServer) -> Iterator[ConnInfo]:
    """A fresh empty database on ``server``."""
    yield from _fresh(server)


@pytest.fixture
def any_database(any_server: ScratchServer) -> Iterator[ConnInfo]:
    """A fresh empty database on ``any_server``."""
    yield from _fresh(any_server)
