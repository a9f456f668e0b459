"""Tools that are only in a container: a stand-in for `docker exec -i NAME` passes on nothing but words and standard input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from naap_ops.backup.repository import Backup
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.url import to_url
from tests import samples
from tests.conftest import PASSWORD
from tests.desk import Desk

Container = Callable[[Desk, ScratchServer], Desk]


@pytest.fixture
def in_container(tmp_path: Path) -> Container:
    """Makes a desk whose tools are behind the stand-in. What the stand-in was given is in ``tmp_path/words``."""

    def make(desk: Desk, server: ScratchServer) -> Desk:
        program = tmp_path / "docker"
        inside = f"PATH='{server.bindir}:/usr/bin:/bin' PGHOST='{server.info.host}' PGPORT='{server.info.port}'"
        program.write_text(
            '#!/bin/sh\nif [ "$1 $2 $3" != "exec -i naap-db" ]; then echo "no such container: $3" >&2; exit 1; fi\nshift 3\n'
            f"printf '%s\\n' \"$@\" >>'{tmp_path}/words'\nexec env -i {inside} \"$@\"\n",
            encoding="utf-8",
        )
        program.chmod(0o755)
        desk.settings(f"[tools]\nexec = ['{program}', 'exec', '-i', 'naap-db']\n")
        return desk

    return make


def rows(backup: Backup) -> dict[str, int | None]:
    return {t.qualified: t.rows for t in backup.sound.tables}


@pytest.mark.parametrize("kind", ["full", "data"])
@pytest.mark.parametrize("format", ["custom", "plain"])
def test_dumps_travel_over_its_output(
    desk: Desk, server: ScratchServer, in_container: Container, tmp_path: Path, format: str, kind: str
) -> None:
    desk.sql(samples.EVERYTHING)
    local = desk.backup(kind=kind, backup__format=format)
    assert desk.info is not None
    in_container(desk, server)
    answer = desk.run("backup", "--kind", kind, "--format", format, "--json")
    assert answer.code == 0, answer.err
    backup = desk.app().repository.find(answer.json["id"], None)
    assert rows(backup) == rows(local)
    assert backup.sound.tools["origin"] == "tools.exec"
    for grade in ("read", "restore"):
        checked = desk.run("backup.verify", backup.id, "--grade", grade, "--json", NAAP_OPS_SCRATCH_URL=to_url(desk.info))
        assert checked.code == 0, checked.err
        assert checked.json["rows"] == local.sound.rows


def test_the_password_travels_by_standard_input(
    password_server: ScratchServer, in_container: Container, tmp_path: Path
) -> None:
    desk = in_container(Desk(tmp_path, password_server.info.with_dbname("postgres")), password_server)
    answer = desk.run("backup", "--json")
    assert answer.code == 0, answer.err
    words = (tmp_path / "words").read_text(encoding="utf-8")
    assert "pg_dump" in words
    assert not any(secret in words for secret in (PASSWORD, quote(PASSWORD, safe="")))


def test_a_folder_cannot_travel(any_desk: Desk, any_server: ScratchServer, in_container: Container) -> None:
    in_container(any_desk, any_server)
    answer = any_desk.run("backup", "--format", "directory")
    assert answer.code == 2
    assert "one output stream" in answer.err
    assert "--format custom" in answer.err
    assert any_desk.listed() == []
    assert any_desk.leftovers() == []


def test_custom_becomes_the_default(any_desk: Desk, any_server: ScratchServer, in_container: Container) -> None:
    any_desk.sql("create table t as select 1 i")
    in_container(any_desk, any_server)
    answer = any_desk.run("backup", "--json")
    assert (answer.code, answer.json["format"], answer.json["rows"]) == (0, "custom", 1)
    dry = any_desk.run("backup", "--dry-run")
    assert "as custom" in dry.out


def test_a_container_that_is_not_there(any_desk: Desk, any_server: ScratchServer, in_container: Container) -> None:
    in_container(any_desk, any_server)
    text = (any_desk.folder / "naap_ops.toml").read_text(encoding="utf-8")
    any_desk.settings(text.replace("'naap-db'", "'gone'"))
    answer = any_desk.run("backup", "--json")
    assert answer.code == 8
    assert "no such container: gone" in answer.json["message"]
    assert not any_desk.repo.exists()


def test_an_address_that_leads_nowhere_from_inside(any_desk: Desk, any_server: ScratchServer, in_container: Container) -> None:
    """The URL is right on this side; the tools are on the other one."""
    in_container(any_desk, any_server)
    text = (any_desk.folder / "naap_ops.toml").read_text(encoding="utf-8")
    any_desk.settings(f"{text}exec_host = '127.0.0.1'\nexec_port = 1\n")
    for words in (("backup",), ("restore", "--into", "new")):
        answer = any_desk.run(*words, "--json")
        assert answer.code == 4, answer.err
        assert "from inside, psql tried 127.0.0.1, port 1: " in answer.json["message"]
        assert "tools.exec_host and tools.exec_port" in answer.json["hint"]
    assert not any_desk.repo.exists()


def test_a_dump_cut_off_on_its_way(any_desk: Desk, any_server: ScratchServer, tmp_path: Path) -> None:
    """The stream ends early and the command fails: nothing of it remains, whatever was received."""
    any_desk.sql("create table t as select generate_series(1, 50000) i")
    program = tmp_path / "docker"
    program.write_text(
        f"#!/bin/sh\nexport PATH='{any_server.bindir}:/usr/bin:/bin' PGHOST='{any_server.info.host}' PGPORT=5432\n"
        'case "$*" in *--format=*) "$@" | head -c 3000; exit 1;; *) exec "$@";; esac\n'
    )
    program.chmod(0o755)
    any_desk.settings(f"[tools]\nexec = ['{program}']\n")
    answer = any_desk.run("backup")
    assert answer.code == 20, answer.err
    assert any_desk.leftovers() == []
    assert any_desk.listed() == []


@pytest.mark.parametrize(
    ("format", "cut"),
    [("custom", "head -c 3000"), ("custom", "head -c -20"), ("plain", "head -c 3000"), ("plain", "head -c -200")],
)
def test_a_dump_cut_off_silently(any_desk: Desk, any_server: ScratchServer, tmp_path: Path, format: str, cut: str) -> None:
    """The stream ends early, also between two statements, and the command says all is well: reading it back finds out."""
    any_desk.sql("create table t as select generate_series(1, 50000) i")
    program = tmp_path / "docker"
    program.write_text(
        f"#!/bin/sh\nexport PATH='{any_server.bindir}:/usr/bin:/bin' PGHOST='{any_server.info.host}' PGPORT=5432\n"
        f'case "$*" in *--format=*) "$@" | {cut}; exit 0;; *) exec "$@";; esac\n'
    )
    program.chmod(0o755)
    any_desk.settings(f"[tools]\nexec = ['{program}']\n")
    answer = any_desk.run("backup", "--format", format)
    assert answer.code in (13, 20), answer.err
    assert any_desk.leftovers() == []
    assert any_desk.listed() == []


def test_where_the_server_is_from_in_there(any_desk: Desk, any_server: ScratchServer, tmp_path: Path) -> None:
    """tools.exec_host and exec_port, where the other end does not have the server on its own socket."""
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\nexec env -i PATH='{any_server.bindir}:/usr/bin:/bin' PGHOST=/nowhere \"$@\"\n")
    program.chmod(0o755)
    info = any_server.info
    any_desk.settings(f"[tools]\nexec = ['{program}']\n")
    assert any_desk.run("backup").code == 4
    any_desk.settings(f"[tools]\nexec = ['{program}']\nexec_host = '{info.host}'\nexec_port = {info.port}\n")
    assert any_desk.run("backup").code == 0
