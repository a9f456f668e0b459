"""The real tools of every major against their server: here, and through a prefix that shares nothing but stdin and stdout."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from psycopg import sql

from naap_ops import process
from naap_ops.errors import CapabilityMissing
from naap_ops.postgres import databases
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import Toolset, find_tools, installations

PASSWORDS = ["plain-secret", "with space ", " 'quotes\" `$HOME` $(id) \\n \\", "100% ünï ☃ @:/?#"]
NAME = 'Tools "öf" % all $majors'


@dataclass
class Settings:
    bindir: Path | None = None
    exec: Sequence[str] = field(default_factory=list)
    exec_host: str | None = None
    exec_port: int | None = None


def major_of(server: ScratchServer) -> int:
    return next(major for major, bindir in installations().items() if bindir == server.bindir)


@pytest.fixture
def tools(server: ScratchServer) -> Toolset:
    """The tools of the server's own installation."""
    return find_tools(major_of(server), Settings(bindir=server.bindir))


@pytest.fixture
def content(server: ScratchServer) -> Iterator[ConnInfo]:
    """A database with three tables and a name that needs care."""
    with closing(connect(server.info)) as admin:
        name = f"{NAME} {secrets.token_hex(3)}"
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        info = server.info.with_dbname(name)
        with closing(connect(info)) as connection:
            for table in ("one", "two", "three"):
                statement = "CREATE TABLE {} AS SELECT g AS id, repeat('é', 50) AS text FROM generate_series(1, 1000) g"
                connection.execute(sql.SQL(statement).format(sql.Identifier(table)))
        yield info
        databases.drop(admin, name)


def execute(tools: Toolset, tool: str, args: Sequence[str], info: ConnInfo, data: bytes = b"", **options: object) -> bytes:
    command = tools.command(tool, args, info, **options)  # type: ignore[arg-type]
    return process.run(command.argv, env=command.env, input=command.preamble + data)[1]


def counts(info: ConnInfo) -> dict[str, int]:
    with closing(connect(info)) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        found = {}
        for table in tables:
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
            found[table] = row[0] if row else -1
    return found


def prefix(folder: Path, bindir: Path, environment: Mapping[str, str]) -> list[str]:
    """What ``docker exec -i name`` does: drops its own words, runs the rest with an environment of its own."""
    words = shlex.join(f"{name}={value}" for name, value in {"PATH": f"{bindir}:/usr/bin:/bin", **environment}.items())
    script = folder / "docker"
    script.write_text(f'#!/bin/sh\nshift 3\nexec env -i {words} "$@"\n')
    script.chmod(0o755)
    return [str(script), "exec", "-i", "naap-db"]


def test_every_installed_major_has_tools(server: ScratchServer) -> None:
    major = major_of(server)
    found = find_tools(major, Settings())
    assert found.major == major
    assert found.version.startswith(str(major))
    assert not found.remote


def test_a_local_dump_and_restore(tools: Toolset, content: ConnInfo, database: ConnInfo, tmp_path: Path) -> None:
    file = tmp_path / "dump"
    execute(tools, "pg_dump", ["-Fc", "-f", str(file)], content)
    execute(tools, "pg_restore", ["--exit-on-error", "-d", str(database.dbname), str(file)], database)
    assert counts(database) == {"one": 1000, "two": 1000, "three": 1000}


def test_a_remote_dump_and_restore(
    tools: Toolset, server: ScratchServer, content: ConnInfo, database: ConnInfo, tmp_path: Path
) -> None:
    """Without tools.exec_host the other end's own default (here a variable of its own) says where the server is."""
    there = {"PGHOST": str(server.socket_dir), "PGPORT": str(server.port)}
    settings = Settings(exec=prefix(tmp_path, server.bindir, there))
    remote = find_tools(tools.major, settings)
    assert (remote.remote, remote.version) == (True, tools.version)
    elsewhere = {"host": "db.invalid", "port": 1, "params": {"sslmode": "require"}}
    archive = execute(remote, "pg_dump", ["-Fc"], replace(content, **elsewhere))  # type: ignore[arg-type]
    assert archive.startswith(b"PGDMP")
    listing = execute(remote, "pg_restore", ["--list"], replace(content, **elsewhere), archive)  # type: ignore[arg-type]
    wanted = b"".join(line for line in listing.splitlines(keepends=True) if b" two " in line)
    assert wanted
    args = ["-d", str(database.dbname), "--exit-on-error", "-L", "@files/list"]
    execute(remote, "pg_restore", args, replace(database, **elsewhere), archive, files={"list": wanted})  # type: ignore[arg-type]
    assert counts(database) == {"two": 1000}
    plain = execute(remote, "pg_dump", ["-Fp", "-t", "one"], replace(content, **elsewhere))  # type: ignore[arg-type]
    execute(remote, "psql", ["-X", "-1", "-v", "ON_ERROR_STOP=1"], replace(database, **elsewhere), plain)  # type: ignore[arg-type]
    assert counts(database) == {"one": 1000, "two": 1000}


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("where", ["here", "there"])
def test_passwords(password_server: ScratchServer, password: str, where: str, tmp_path: Path) -> None:
    role = f"role {secrets.token_hex(3)}"
    with closing(connect(password_server.info)) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), password))
        try:
            major = major_of(password_server)
            options: dict[str, object] = {"bindir": password_server.bindir}
            if where == "there":
                words = prefix(tmp_path, password_server.bindir, {})
                options = {"exec": words, "exec_host": password_server.info.host, "exec_port": password_server.port}
            tools = find_tools(major, Settings(**options))  # type: ignore[arg-type]
            info = replace(password_server.info, user=role, password=password)
            said = execute(tools, "psql", ["-X", "-A", "-t", "-c", "SELECT current_user"], info)
            assert said.decode().strip() == role
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
@pytest.mark.parametrize("where", ["here", "there"])
def test_no_secret_in_any_command_line(password_server: ScratchServer, where: str, tmp_path: Path) -> None:
    info = password_server.info
    options: dict[str, object] = {"bindir": password_server.bindir}
    if where == "there":
        options = {"exec": prefix(tmp_path, password_server.bindir, {}), "exec_host": info.host, "exec_port": info.port}
    tools = find_tools(major_of(password_server), Settings(**options))  # type: ignore[arg-type]
    files = {"list": b""} if tools.remote else {}  # with files, the shell stays beside the tool
    command = tools.command("psql", ["-X", "-c", "SELECT pg_sleep(600)"], info, files=files)
    with closing(connect(info)) as watcher, process.start(command.argv, env=command.env, stdin=process.PIPE) as child:
        child.stdin.write(command.preamble)
        child.stdin.flush()
        query = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'"
        while not (row := watcher.execute(query).fetchone()):
            assert child.poll() is None, child.stderr_tail
            time.sleep(0.01)
        lines = [path.read_bytes() for path in _command_lines(child.pid)]
        watcher.execute("SELECT pg_terminate_backend(%s)", row)
        assert child.wait() != 0
    assert len(lines) == (2 if tools.remote else 1)
    assert any(b"pg_sleep" in line for line in lines)
    assert info.password is not None
    assert not any(info.password.encode() in line for line in lines)


def _command_lines(pid: int) -> Iterator[Path]:
    yield Path(f"/proc/{pid}/cmdline")
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            yield from _command_lines(int(child))


# --- what a build can do ----------------------------------------------------------------------------------------------


def really_dumps(tools: Toolset, info: ConnInfo, method: str, folder: Path) -> bool:
    """The same question put to a real dump."""
    option = "6" if tools.major < 16 and method == "gzip" else method
    command = tools.command("pg_dump", ["-Fd", "-f", str(folder / f"dump-{method}"), f"--compress={option}"], info)
    return process.run(command.argv, env=command.env, check=False)[0] == 0


def test_compression_is_answered_as_a_dump_would(tools: Toolset, content: ConnInfo, tmp_path: Path) -> None:
    for method in ("gzip", "zstd", "lz4"):
        assert tools.supports_compression(method) == really_dumps(tools, content, method, tmp_path), method
    assert tools.supports_compression("none")
    assert tools.supports_compression("gzip")
    assert not tools.supports_compression("brotli") or tools.major > 18


def test_tls_is_answered_as_a_connection_would(tools: Toolset, tls_server: ScratchServer) -> None:
    info = replace(tls_server.info, params={"sslmode": "require"})
    command = tools.command("psql", ["-X", "-c", "SELECT 1"], info)
    assert tools.supports_tls() == (process.run(command.argv, env=command.env, check=False)[0] == 0)


def test_what_is_asked_for_and_lacking_is_said_first(tools: Toolset) -> None:
    plain = ConnInfo(host="h", port=1, user="u", dbname="d")
    strict = replace(plain, params={"sslmode": "verify-full"})
    tools.check(plain, compression="gzip")
    if not tools.supports_tls():
        with pytest.raises(CapabilityMissing, match="TLS"):
            tools.check(strict)
    else:
        tools.check(strict)
    if not tools.supports_compression("zstd"):
        with pytest.raises(CapabilityMissing, match="zstd"):
            tools.check(plain, compression="zstd")


def test_the_same_answers_through_a_prefix(tools: Toolset, server: ScratchServer, tmp_path: Path) -> None:
    settings = Settings(exec=prefix(tmp_path, server.bindir, {}), exec_host="db", exec_port=1)
    remote = find_tools(tools.major, settings)
    for method in ("none", "gzip", "zstd", "lz4"):
        assert remote.supports_compression(method) == tools.supports_compression(method)
    assert remote.supports_tls() == tools.supports_tls()
    # Beside the server, over its socket, TLS has no meaning: it is not missed.
    local = find_tools(tools.major, Settings(exec=settings.exec))
    local.check(ConnInfo(host="h", port=1, user="u", dbname="d", params={"sslmode": "require"}))
