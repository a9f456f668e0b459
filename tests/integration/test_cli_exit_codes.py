"""Every exit code of DESIGN.md, section 6, is brought about for real, and says what it should."""

from __future__ import annotations

import os
import re
import resource
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from naap_ops.errors import tree
from naap_ops.postgres import installed
from naap_ops.postgres.scratch import ScratchServer, free_port
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import installations
from naap_ops.postgres.url import to_url
from tests import samples
from tests.conftest import Servers
from tests.desk import BUG, Desk, Run, wait_until

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Place:
    """What a case may use."""

    desk: Desk
    server: ScratchServer
    password_server: ScratchServer

    def url(self, **parts: str) -> str:
        """The password server's address with parts replaced."""
        info = self.password_server.info
        with_all = {
            "user": info.user or "",
            "password": info.password or "",
            "dbname": "postgres",
            "port": str(info.port),
            **parts,
        }
        quoted = {name: quote(value, safe="") for name, value in with_all.items()}
        return f"postgresql://{quoted['user']}:{quoted['password']}@127.0.0.1:{quoted['port']}/{quoted['dbname']}"


@pytest.fixture
def place(at_work: Desk, any_server: ScratchServer, password_server: ScratchServer) -> Place:
    return Place(at_work, any_server, password_server)


def internal(place: Place) -> Run:
    driver = place.desk.folder / "bug.py"
    driver.write_text(BUG)
    return place.desk.program("backup", "--json", argv0=(sys.executable, str(driver)))


def no_database(place: Place) -> Run:
    return place.desk.run("backup", "--json", "--url", place.url(dbname="gone"))


def privilege(place: Place) -> Run:
    with connect(place.desk.info) as connection:  # type: ignore[arg-type]
        role = f"nobody_{secrets.token_hex(4)}"
        connection.execute(f"create role {role} login".encode())
        try:
            info = place.server.info
            reader = Desk(place.desk.folder, type(info)(info.host, info.port, role, place.desk.info.dbname))  # type: ignore[union-attr]
            return reader.run("backup", "--json")
        finally:
            connection.execute(f"drop role {role}".encode())


def storage(place: Place) -> Run:
    (place.desk.folder / "file").write_text("")
    return place.desk.run("backup", "--json", "--repo", "file/backups")


def no_space(place: Place) -> Run:
    limit = 300
    return place.desk.program(
        "backup",
        "--json",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        environ={"PYTHONDONTWRITEBYTECODE": "1"},
    )


def ambiguous(place: Place) -> Run:
    for _ in range(2):
        assert place.desk.run("backup").code == 0
    return place.desk.run("backup.show", place.desk.listed()[0].id[:4], "--json")


def damaged(place: Place) -> Run:
    backup = place.desk.backup()
    (place.desk.path(backup) / "globals.sql").unlink()
    return place.desk.run("backup.verify", backup.id, "--json")


def newer_format(place: Place) -> Run:
    backup = place.desk.backup()
    place.desk.edit(backup, lambda raw: raw.update(manifest_version=2))
    return place.desk.run("backup.show", backup.id, "--json")


def busy(place: Place) -> Run:
    with connect(place.desk.info) as connection:  # type: ignore[arg-type]
        connection.execute(b"select pg_advisory_lock(hashtextextended('naap_ops backup', 0))")
        return place.desk.run("backup", "--json")


def blocked(place: Place) -> Run:
    with connect(place.desk.info, autocommit=False) as connection:  # type: ignore[arg-type]
        connection.execute(b"lock table t in access exclusive mode")
        return place.desk.run("backup", "--json", "--lock-wait-timeout", "200ms")


def refused(place: Place) -> Run:
    """The scratch server cannot hold the backup: nothing is said about the backup."""
    backup = place.desk.backup()
    place.desk.edit(backup, lambda raw: raw.update(extensions=[{"name": "nowhere", "version": "1", "schema": "public"}]))
    return place.desk.run(
        "backup.verify", backup.id, "--grade", "restore", "--json", NAAP_OPS_SCRATCH_URL=to_url(place.server.info)
    )


def command_failed(place: Place) -> Run:
    tools = place.desk.folder / "bin"
    tools.mkdir()
    for tool in ("pg_dump", "pg_dumpall", "pg_restore", "psql"):
        (tools / tool).write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {place.server.bindir}/{tool} --version\necho no luck >&2; exit 3\n'
        )
        (tools / tool).chmod(0o755)
    return place.desk.run("backup", "--json", "--format", "custom", "--compression", "none", NAAP_OPS_TOOLS__BINDIR=str(tools))


def partial(place: Place) -> Run:
    place.desk.settings(f"[databases]\ngood.url = '{to_url(place.desk.info)}'\nbad.url = '{place.url(dbname='gone')}'\n")  # type: ignore[arg-type]
    return place.desk.run("backup", "--all-databases", "--json")


def interrupted(place: Place) -> Run:
    with connect(place.desk.info, autocommit=False) as connection:  # type: ignore[arg-type]
        connection.execute(b"lock table t in access exclusive mode")
        child = place.desk.spawn("backup", "--json")
        wait_until(lambda: place.desk.ask("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"))
        os.kill(child.pid, signal.SIGTERM)
        out, err = child.communicate(timeout=60)
    return Run(child.returncode, out, err)


def _migration(place: Place, forward: str) -> Path:
    folder = place.desk.folder / "prisma" / "migrations" / "20260101000000_a"
    folder.mkdir(parents=True)
    (folder.parents[1] / "schema.prisma").write_text('datasource db {\n  provider = "postgresql"\n}\n')
    (folder / "migration.sql").write_text(forward)
    return folder


def reverse_refused(place: Place) -> Run:
    _migration(place, "alter table t add colum n integer")
    return place.desk.run("reverse", "--migration", "latest", "--json")


def proof_failed(place: Place) -> Run:
    folder = _migration(place, "create table n (i integer)")
    assert place.desk.run("reverse", "--migration", "latest").code == 0
    (folder / "down.sql").write_text("select 1;\n")
    return place.desk.run("reverse.prove", "--migration", "latest", "--json")


def findings(place: Place) -> Run:
    _migration(place, "drop table t")
    return place.desk.run("lint", "--migration", "latest", "--json")


def out_of_step(place: Place) -> Run:
    _migration(place, "alter table t add column n integer")
    return place.desk.run("status", "--json")


CASES: dict[str, tuple[Callable[[Place], Run], str]] = {
    "ok": (lambda p: p.desk.run("backup", "--json"), ""),
    "internal": (internal, "bug of naap_ops"),
    "usage": (lambda p: p.desk.run("backup", "--kind", "half", "--json"), "half"),
    "configuration": (lambda p: p.desk.run("backup", "--json", NAAP_OPS_BACKUP__JOBS="none"), "NAAP_OPS_BACKUP__JOBS"),
    "unreachable": (lambda p: p.desk.run("backup", "--json", "--url", p.url(port=str(free_port()))), "127.0.0.1"),
    "authentication": (lambda p: p.desk.run("backup", "--json", "--url", p.url(password="wrong%")), "refused user postgres"),
    "no_database": (no_database, "'gone' does not exist"),
    "privilege": (privilege, "permission denied for table t"),
    "tools": (lambda p: p.desk.run("backup", "--json", NAAP_OPS_TOOLS__BINDIR="/nowhere"), "tools.bindir = /nowhere"),
    "storage": (storage, "file/backups"),
    "no_space": (no_space, "no room left"),
    "not_found": (lambda p: p.desk.run("backup.show", "20200101", "--json"), "no backup '20200101'"),
    "ambiguous": (ambiguous, "fits 2 backups"),
    "damaged": (damaged, "globals.sql is missing"),
    "newer_format": (newer_format, "manifest version 2"),
    "busy": (busy, "already running"),
    "blocked": (blocked, "lock table t"),
    "refused": (refused, "nothing is proved"),
    "command_failed": (command_failed, "no luck"),
    "reverse_refused": (reverse_refused, "line 1"),
    "proof_failed": (proof_failed, ""),
    "findings": (findings, ""),
    "out_of_step": (out_of_step, ""),
    "partial": (partial, "1 of 2 failed"),
    "interrupted": (interrupted, "interrupted"),
}


VERDICTS = {"proof_failed", "findings", "out_of_step"}


def table() -> dict[str, int]:
    """The table of DESIGN.md: name -> code."""
    text = (ROOT / "DESIGN.md").read_text(encoding="utf-8").partition("## 6. Exit codes")[2]
    return {name: int(code) for code, name in re.findall(r"^\| (\d+) \| (\w+) \|", text, re.MULTILINE)}


@pytest.mark.parametrize("name", CASES)
def test_every_code_is_what_the_table_says(place: Place, name: str) -> None:
    bring_about, says = CASES[name]
    answer = bring_about(place)
    assert answer.code == table()[name], answer.err
    if name in VERDICTS:  # the task did what it was asked to; its answer is the object that it always prints
        assert "code" not in answer.json
    elif answer.code:
        assert answer.json["code"] == answer.code
        assert says in answer.json["message"]
        assert answer.json["hint"] or name == "interrupted"
        assert place.password_server.info.password not in answer.out + answer.err  # type: ignore[operator]


def test_the_table_is_whole() -> None:
    assert set(CASES) == set(table())
    assert {error.name: error.exit_code for error in tree()}.items() <= table().items()


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:6432/d",
        "postgresql://u:p@h/d?pgbouncer=true",
        "prisma://accelerate.prisma-data.net/?api_key=abcd1234",
        "mysql://h/d",
    ],
)
def test_urls_no_dump_is_possible_through(at_work: Desk, url: str) -> None:
    for answer in (
        at_work.run("backup", "--url", url, "--json"),
        at_work.run("backup", "--json", DIRECT_URL="", DATABASE_URL=url),
    ):
        assert answer.code == 3
        assert "DIRECT_URL" in answer.json["hint"] or "DIRECT_URL" in answer.json["message"]
        assert "abcd1234" not in answer.out + answer.err


def test_no_database_configured_at_all(tmp_path: Path) -> None:
    answer = Desk(tmp_path, None).run("backup", "--json")
    assert answer.code == 3
    assert "DATABASE_URL" in answer.json["hint"]


def test_a_table_behind_row_level_security(at_work: Desk) -> None:
    """A user who may read the table but sees only some rows: a dump of those would look like a backup."""
    info = at_work.info
    assert info is not None
    role = f"{info.dbname}_reader"
    at_work.sql(
        f"create role {role} login; grant select on t to {role}",
        "alter table t enable row level security; create policy p on t using (i < 2)",
    )
    try:
        reader = Desk(at_work.folder, type(info)(info.host, info.port, role, info.dbname))
        for format in ("directory", "custom", "plain"):
            answer = reader.run("backup", "--format", format, "--json")
            assert answer.code == 7, answer.err
            assert role in answer.json["message"]
            assert "row-level security" in answer.json["message"]
        assert reader.leftovers() == []
    finally:
        at_work.sql(f"drop owned by {role}; drop role {role}")


def test_prismas_books_that_may_not_be_read(at_work: Desk) -> None:
    info = at_work.info
    assert info is not None
    role = f"{info.dbname}_reader"
    samples.track(info, "public", ("20260101_a", "applied"))
    at_work.sql(f"create role {role} login; grant select on t to {role}")
    try:
        answer = Desk(at_work.folder, type(info)(info.host, info.port, role, info.dbname)).run("backup", "--json")
        assert answer.code == 7
        assert "_prisma_migrations" in answer.json["message"]
    finally:
        at_work.sql(f"drop owned by {role}; drop role {role}")


# --- tools: before anything is written --------------------------------------------------------------------------------


@pytest.fixture
def majors() -> dict[int, Path]:
    found = installations()
    if len(found) < 2:
        pytest.skip("only one major of PostgreSQL is installed")
    return found


@pytest.mark.parametrize("direction", ["too old", "too new"])
def test_tools_of_another_major(servers: Servers, tmp_path: Path, majors: dict[int, Path], direction: str) -> None:
    ours, theirs = sorted(majors)[-2:] if direction == "too old" else sorted(majors)[:2]
    server, bindir = (theirs, majors[ours]) if direction == "too old" else (ours, majors[theirs])
    desk = Desk(tmp_path, servers.get(server).info)
    answer = desk.run("backup", "--json", NAAP_OPS_TOOLS__BINDIR=str(bindir))
    assert answer.code == 8
    assert direction in answer.json["message"]
    assert str(bindir) in answer.json["message"]
    assert not desk.repo.exists()


def stand_in(folder: Path, real: Path, script: str) -> Path:
    """Tools that are the real ones, but for what ``script`` does first in pg_dump."""
    folder.mkdir()
    for tool in ("pg_dumpall", "pg_restore", "psql"):
        (folder / tool).symlink_to(real / tool)
    (folder / "pg_dump").write_text(f'#!/bin/sh\n{script}\nexec "{real}/pg_dump" "$@"\n')
    (folder / "pg_dump").chmod(0o755)
    return folder


def test_a_compression_the_tool_was_built_without(servers: Servers, tmp_path: Path) -> None:
    if 17 not in installations():
        pytest.skip("no PostgreSQL 17")
    server = servers.get(17)
    script = 'case "$*" in *zstd*) echo "pg_dump: error: this build does not support compression with zstd" >&2; exit 1;; esac'
    tools = stand_in(tmp_path / "bin", server.bindir, script)
    desk = Desk(tmp_path, server.info)
    answer = desk.run("backup", "--compression", "zstd:3", "--json", NAAP_OPS_TOOLS__BINDIR=str(tools))
    assert answer.code == 8
    assert "built without zstd" in answer.json["message"]
    assert not desk.repo.exists()
    auto = desk.run("backup", "--dry-run", "--json", NAAP_OPS_TOOLS__BINDIR=str(tools))
    assert auto.json["compression"] == "gzip:1"


def test_tls_demanded_of_tools_built_without(tls_server: ScratchServer, tmp_path: Path) -> None:
    """psycopg would connect; pg_dump would not, after the lock was taken and the snapshot made."""
    script = (
        'if [ "$PGSSLMODE" = require ] || [ "$PGSSLMODE" = verify-ca ]; then '
        'echo "pg_dump: error: sslmode value \\"require\\" invalid when SSL support is not compiled in" >&2; exit 1; fi'
    )
    tools = stand_in(tmp_path / "bin", tls_server.bindir, script)
    info = tls_server.info.with_dbname("postgres")
    desk = Desk(tmp_path, info.with_params(sslmode="verify-ca", sslrootcert=str(tls_server.certificate)))
    assert desk.run("backup", "--json").code == 0
    answer = desk.run("backup", "--json", "--repo", "elsewhere", NAAP_OPS_TOOLS__BINDIR=str(tools))
    assert answer.code == 8, answer.err
    assert "built without TLS" in answer.json["message"]
    assert not (tmp_path / "elsewhere").exists()


def test_tls_demanded_of_a_server_without(password_server: ScratchServer, tmp_path: Path) -> None:
    desk = Desk(tmp_path, password_server.info.with_params(sslmode="require"))
    answer = desk.run("backup", "--json")
    assert answer.code == 3
    assert "TLS" in answer.json["message"]


def test_no_tools_anywhere(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of a major for which nothing is installed: what is there instead is said."""
    server = servers.get(max(installations()))
    monkeypatch.setattr(installed, "places", lambda _: iter(()))
    desk = Desk(tmp_path, server.info)
    answer = desk.run("backup", "--json")
    assert answer.code == 8
    assert f"for PostgreSQL {max(installations())} was not found" in answer.json["message"]
    assert f"postgresql-client-{max(installations())}" in answer.json["hint"]
    assert not desk.repo.exists()


# --- ids ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def several(at_work: Desk) -> Desk:
    for label in ("one", "two", "two"):
        assert at_work.run("backup", "--label", label).code == 0
    return at_work


def test_latest_prefixes_and_labels(several: Desk) -> None:
    newest, middle, oldest = (b.id for b in several.listed())

    def shown(ref: str) -> object:
        return several.run("backup.show", ref, "--json").json.get("id")

    assert [b.sound.label for b in several.listed()] == ["two", "two", "one"]  # also within one second
    assert shown("latest") == shown("two") == newest
    assert shown("one") == oldest
    assert shown(oldest) == oldest
    unique = next(n for n in range(4, 24) if not newest.startswith(oldest[:n]) and not middle.startswith(oldest[:n]))
    assert shown(oldest[:unique]) == oldest
    assert several.run("backup.show", oldest[:4]).code == 12
    assert several.run("backup.show", "tw").code == 11
    assert several.run("backup.show", oldest[:-1] + "g").code == 11


def test_a_name_is_never_a_part_of_another(several: Desk) -> None:
    """`app` must not find what belongs to `app_staging`."""
    folder = several.path(several.listed()[0]).parent
    folder.rename(folder.with_name(folder.name + "_staging"))
    assert several.run("backup.show", "latest").code == 11
    assert several.run("backup.list", "--json").json == {"backups": []}
    found = several.run("backup.list", "--all-databases", "--json").json["backups"]
    assert {b["database"] for b in found} == {f"{folder.name}_staging"}
