"""`invoke emergency`: a migration taken back by the backup before it, with services stopped and started around it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from naap_ops import redact
from naap_ops.errors import (
    BackupDamaged,
    BackupNotFound,
    Busy,
    CommandFailed,
    OpsError,
    ProcedureUnfinished,
    ProgramMissing,
    Refused,
)
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.restore import aside, ready
from naap_ops.restore.locking import procedure_lock
from naap_ops.restore.source import BackupSource
from tests import emergencies, restored
from tests.emergencies import Scene
from tests.integration.prisma.conftest import INIT, PROFILE, WALLET

WORDS = ("emergency", "--migration", "wallet", "--yes", "--json")


@pytest.fixture
def scene(server: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    with emergencies.scene(server, tmp_path) as scene:
        yield scene


@pytest.fixture
def any_scene(any_server: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    with emergencies.scene(any_server, tmp_path) as scene:
        yield scene


@pytest.mark.pg(15, 16, 18)
def test_with_commands(scene: Scene) -> None:
    scene.commands()
    planned = scene.run(*WORDS, "--dry-run")
    assert planned.code == 0, planned.err
    scene.assert_before()
    assert (scene.said, scene.journals()) == ([], [])
    answer = scene.run(*WORDS)
    assert answer.code == 0, answer.err
    scene.assert_taken_back()
    assert scene.said == ["on", "stop", "start", "off"]
    assert "told stop" in answer.err
    found = answer.json
    assert (found["migration"], found["strategy"], found["outcome"]) == (WALLET, "restore", "done")
    assert (found["lost"], found["exact"]) == ({"public.User": 2, "public.Wallet": 2}, True)
    assert found["untracked"] == {"public": [WALLET]}
    assert [each["name"] for each in found["steps"]] == [each["name"] for each in planned.json["steps"]]
    assert {each["state"] for each in found["steps"]} == {"done"}
    assert 0 < found["swap_seconds"] <= found["downtime_seconds"] < found["seconds"]
    text = Path(found["record"]).read_text()
    assert "- public.User: 2" in text
    assert "command of services_stop: ./say.sh stop: status 0" in text
    record = json.loads(Path(found["record"]).with_suffix(".json").read_text())
    assert [each["argv"][-1] for each in record["commands"]] == ["on", "stop", "start", "off"]
    again = scene.run(*WORDS)
    assert again.code == Refused.exit_code
    assert "nothing to go back from" in again.err


@pytest.mark.pg(15, 18)
def test_without_commands(scene: Scene) -> None:
    """Connections are refused at the database; the services are left to the operator, who said --yes."""
    refused = scene.run(*WORDS[:-2])
    assert refused.code == Refused.exit_code
    scene.assert_before()
    answer = scene.run(*WORDS, "--maintenance-first")
    assert answer.code == 0, answer.err
    scene.assert_taken_back()
    assert scene.accepts()
    assert [note for note in answer.json["notes"] if "left to you" in note]


def test_held(any_scene: Scene) -> None:
    answer = any_scene.run(*WORDS, "--hold")
    assert answer.code == 0, answer.err
    any_scene.assert_taken_back(held=True)
    assert any_scene.run("status", "--json").json["migrations"]


def test_cascade(any_scene: Scene) -> None:
    """The backup from before the older one has neither; without the flag the later one is named."""
    scene = any_scene
    refused = scene.run("emergency", "--migration", PROFILE, "--yes")
    assert refused.code == Refused.exit_code
    assert WALLET in refused.err
    none = scene.run("emergency", "--migration", PROFILE, "--yes", "--cascade")
    assert none.code == Refused.exit_code
    assert "no verified backup" in none.err
    backup = scene.listed()[0]
    scene.edit(backup, lambda raw: raw["prisma"][0]["migrations"].pop())
    answer = scene.run("emergency", "--migration", PROFILE, "--yes", "--cascade", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["migrations"] == [WALLET, PROFILE]
    assert (scene.books, scene.folders) == ([INIT], [INIT])


def damaged(scene: Scene) -> type[OpsError]:
    [file] = [path for path in scene.path(scene.listed()[0]).rglob("*.gz") if path.is_file()][:1] or [
        next(path for path in scene.path(scene.listed()[0]).rglob("*.dat*") if path.is_file())
    ]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return BackupDamaged


def missing(scene: Scene) -> type[OpsError]:
    shutil.rmtree(scene.repo)
    return Refused


def program_gone(scene: Scene) -> type[OpsError]:
    (scene.folder / "say.sh").unlink()
    return ProgramMissing


@pytest.mark.parametrize("spoil", [damaged, missing, program_gone])
def test_found_before_anything_is_stopped(any_scene: Scene, spoil: object) -> None:
    scene = any_scene
    scene.commands()
    wanted = spoil(scene)  # type: ignore[operator]
    answer = scene.run(*WORDS)
    assert answer.code == wanted.exit_code, answer.err
    assert scene.said == []
    scene.assert_before()
    assert scene.run("emergency", "--resume", "--yes").code == 11  # nothing is unfinished


def test_a_backup_that_has_it_is_no_way_back(any_scene: Scene) -> None:
    scene = any_scene
    late = scene.backup()
    answer = scene.run(*WORDS, "--backup", late.id)
    assert answer.code == Refused.exit_code
    assert WALLET in answer.err
    assert scene.run(*WORDS, "--backup", "nothing").code == BackupNotFound.exit_code
    scene.assert_before()


def test_a_command_that_fails(any_scene: Scene) -> None:
    """It stops there and says so; nothing else may begin; resumed when mended, it goes through."""
    scene = any_scene
    scene.commands('if [ "$1" = stop ] && [ ! -e mended ]; then echo "no such unit" >&2; exit 3; fi')
    answer = scene.run(*WORDS)
    assert answer.code == CommandFailed.exit_code
    assert "no such unit" in answer.err
    assert "--resume" in answer.err
    assert scene.run(*WORDS).code == ProcedureUnfinished.exit_code
    assert scene.users == 5
    (scene.folder / "mended").touch()
    assert scene.run("emergency", "--resume", "--yes", "--dry-run").code == 0
    resumed = scene.run("emergency", "--resume", "--yes", "--json")
    assert resumed.code == 0, resumed.err
    scene.assert_taken_back()
    assert scene.said == ["on", "stop", "start", "off"]


def test_a_password_that_is_a_part_of_every_name(any_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As postgres:postgres@postgres/postgres is; and of the migration, and of the folder. What is masked for people must not be
    lost on the procedure."""
    scene = any_scene
    assert scene.info is not None
    assert scene.info.dbname is not None
    monkeypatch.setattr(redact, "_known", {scene.info.dbname[2:8], "server", "wallet", "services", scene.folder.name})
    scene.commands('[ "$1" = start ] && [ ! -e ok ] && { echo "no such unit"; exit 3; }')
    assert scene.run(*WORDS).code == 20
    (scene.project.parent / "ok").touch()
    (scene.folder / "ok").touch()
    answer = scene.run("emergency", "--resume", "--yes", "--json")
    assert answer.code == 0, answer.err
    scene.assert_taken_back()


def test_aborted_after_the_swap(any_scene: Scene) -> None:
    """What was live meanwhile is kept: rows may be in it."""
    scene = any_scene
    assert scene.info is not None
    scene.commands('if [ "$1" = start ] && [ ! -e mended ]; then exit 1; fi')
    assert scene.run(*WORDS).code == CommandFailed.exit_code
    scene.sql('insert into "User" values (77)')
    (scene.folder / "mended").touch()
    [journal] = scene.journals()
    answer = scene.run("emergency", "--abort", journal.stem, "--yes", "--json")
    assert answer.code == 0, answer.err
    scene.assert_before()
    assert scene.said[-2:] == ["start", "off"]
    undone = answer.json["undone"]
    assert restored.ours(scene.info, "undone") == [undone]
    assert scene.ask('select count(*) from "User" where id = 77', dbname=undone) == 1
    assert undone in Path(answer.json["record"]).read_text()
    assert scene.run(*WORDS).code == 0
    assert (scene.users, scene.folders) == (3, [INIT, PROFILE])


def test_two_operators(any_scene: Scene) -> None:
    assert any_scene.info is not None
    with procedure_lock(any_scene.info, any_scene.info.dbname or "", "an emergency"):
        assert any_scene.run(*WORDS).code == Busy.exit_code
    any_scene.assert_before()


def test_deployed_again_by_a_pod(any_scene: Scene) -> None:
    """A server whose own image has the folder deploys it right after the swap: it is told, and with --hold kept from it."""
    scene = any_scene
    scene.commands()
    deploy = f"insert into _prisma_migrations values (gen_random_uuid()::text, $$c$$, now(), $${WALLET}$$)"
    scene.settings((scene.folder / "naap_ops.toml").read_text())
    code = f"""
import sys
from naap_ops.restore import ready
from naap_ops.postgres.session import connect
put = ready.put_in_place
def and_deploy(info, *rest, **more):
    found = put(info, *rest, **more)
    with connect(info) as connection:
        connection.execute({deploy!r})
    return found
ready.put_in_place = and_deploy
from naap_ops.cli import main
main(["naap-ops", *sys.argv[1:]])
"""
    answer = scene.program("-c", code, *WORDS, argv0=(sys.executable,))
    assert answer.code == 23, answer.err
    assert "--hold" in answer.err
    assert scene.run("emergency", "--abort", "--yes").code == 0
    scene.assert_before()


def test_a_client_that_never_stops_connecting(any_scene: Scene) -> None:
    scene = any_scene
    assert scene.info is not None
    info, ended = scene.info, threading.Event()

    def connect_for_ever() -> None:
        while not ended.is_set():
            try:
                with connect(info) as connection:
                    connection.execute('select count(*) from "User"')
            except (OpsError, psycopg.Error):  # refused, or put out between the two
                continue

    clients = [threading.Thread(target=connect_for_ever) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        answer = scene.run(*WORDS)
    finally:
        ended.set()
        for each in clients:
            each.join()
    assert answer.code == 0, answer.err
    scene.assert_taken_back()


def test_the_runbook(any_scene: Scene) -> None:
    page = any_scene.folder / "page.md"
    answer = any_scene.run("emergency", "--migration", "wallet", "--runbook", str(page))
    assert answer.code == 0, answer.err
    text = page.read_text()
    assert f"invoke emergency --migration {WALLET} --backup {any_scene.listed()[0].id}" in text
    assert f"WHERE migration_name = '{WALLET}'" in text
    any_scene.assert_before()


def test_git_is_told_and_an_abort_takes_that_back(any_scene: Scene) -> None:
    scene = any_scene
    scene.commands('if [ "$1" = start ] && [ ! -e mended ]; then exit 1; fi')

    def git(*words: str) -> str:
        own = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        return subprocess.run(["git", *own, *words], cwd=scene.folder, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("add", "prisma")
    git("commit", "-qm", "deployed")
    assert scene.run(*WORDS).code == CommandFailed.exit_code
    assert f"prisma/migrations/{WALLET}/migration.sql" in git("diff", "--cached", "--name-only", "--no-renames")
    (scene.folder / "mended").touch()
    assert scene.run("emergency", "--abort", "--yes").code == 0
    scene.assert_before()
    assert git("status", "--porcelain", "--untracked-files=no") == ""


# --- what was loaded, what is live ------------------------------------------------------------------------------------

MORE = (
    'create index "by name, \'x\'" on "Profile" (id desc)',
    'create function "two words"(a int, b "User") returns int language sql as $$ select 1 $$',
    'alter table "User" add constraint positive check (id > 0)',
    'create view ids as select id from "User"',
    "create type mood as enum ('a', 'b'); create schema \"other one\"; create table \"other one\".t (i serial primary key)",
    "create function f() returns trigger language plpgsql as $$ begin return new; end $$;"
    ' create trigger tr before insert on "Profile" execute function f()',
)


@pytest.fixture
def rich(any_server: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    """Its backup has objects of many kinds."""
    with emergencies.scene(any_server, tmp_path, *MORE) as scene:
        yield scene


def test_a_rich_catalog_is_as_it_was_loaded(rich: Scene) -> None:
    answer = rich.run(*WORDS)
    assert answer.code == 0, answer.err
    assert answer.json["differences"] == []
    rich.assert_taken_back()
    assert not list((rich.folder / ".naap_ops/journal").glob("*.catalog.json"))


def test_what_is_missing_afterwards_is_said(rich: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody drops and makes objects between the swap and the look."""
    put = ready.put_in_place

    def and_meddle(*words: Any, **options: Any) -> Any:
        found = put(*words, **options)
        rich.sql(
            "drop index \"by name, 'x'\"",
            'drop function "two words"',
            'alter table "User" drop constraint positive',
            'drop table "other one".t',
            "create table uninvited (id int)",
        )
        return found

    monkeypatch.setattr(ready, "put_in_place", and_meddle)
    answer = rich.run(*WORDS)
    assert answer.code == 0, answer.err
    told = "\n".join(answer.json["differences"])
    for name in ("by name, 'x'", "two words", "positive", "other one", "uninvited"):
        assert name in told
        assert name in answer.err + answer.out
        assert name in Path(answer.json["record"]).read_text()
    assert any(line.startswith("look: ") for line in answer.json["todo"])


@pytest.mark.parametrize(
    ("drop", "word"),
    [
        ("drop index \"by name, 'x'\"", "INDEX public by name, 'x'"),
        ('drop function "two words"', "FUNCTION public two words("),
        ('alter table "User" drop constraint positive', None),
        ('alter table "User" drop constraint "User_pkey"', "CONSTRAINT public User User_pkey"),
        ("drop view ids", "VIEW public ids"),
        ('drop schema "other one" cascade', "TABLE other one t"),
        ('drop trigger tr on "Profile"', "TRIGGER public Profile tr"),
    ],
)
def test_what_the_load_has_left_out_is_found_before_anything_is_stopped(
    rich: Scene, monkeypatch: pytest.MonkeyPatch, drop: str, word: str | None
) -> None:
    """pg_restore says that all is well, and it is not. What stands inside of a table's definition has no entry of its own."""
    rich.commands()
    load = BackupSource.load

    def and_lose(self: BackupSource, info: ConnInfo, *words: Any) -> None:
        load(self, info, *words)
        with connect(info) as connection:
            connection.execute(drop.encode())

    monkeypatch.setattr(BackupSource, "load", and_lose)
    if "other one" in drop:  # its rows would be missed first
        monkeypatch.setattr(aside, "differences", lambda *_: [])
        monkeypatch.setattr(aside, "_check", lambda *_: {})
    answer = rich.run(*WORDS)
    if word is None:
        assert answer.code == 0, answer.err
        return
    assert answer.code == BackupDamaged.exit_code, answer.err
    assert f"not in the loaded database: {word}" in answer.json["message"]
    assert rich.said == []
    rich.assert_before()


@pytest.mark.parametrize("code", [0, 1])
def test_prisma_is_asked_where_it_is_installed(any_scene: Scene, code: int) -> None:
    """Without a configured command, once the services are up; nothing is fetched for it."""
    scene = any_scene
    scene.commands()
    (scene.folder / "node_modules" / "prisma").mkdir(parents=True)
    programs = scene.folder / "programs"
    programs.mkdir()
    said = scene.folder / "said"
    (programs / "npx").write_text(f'#!/bin/sh\necho "npx $* $DATABASE_URL" | cut -c1-60 >> "{said}"\nexit {code}\n')
    (programs / "npx").chmod(0o755)
    answer = scene.run(*WORDS, PATH=f"{programs}:{os.environ['PATH']}")
    assert answer.code == 0, answer.err
    assert " ".join(scene.said).startswith("on stop start off npx --no-install prisma migrate status postgresql://")
    assert ("as Prisma itself says" if code == 0 else "ended with 1") in answer.json["status"]


def test_deployed_again_later_it_is_among_what_is_left_to_do(any_scene: Scene) -> None:
    """By services that carry the folder in their image, as they start."""
    row = f"insert into _prisma_migrations values (gen_random_uuid()::text, $$c$$, now(), $${WALLET}$$)"
    script = any_scene.folder / "again.py"
    script.write_text(f"import os, psycopg\npsycopg.connect(os.environ['DATABASE_URL'], autocommit=True).execute({row!r})\n")
    any_scene.commands(f'if [ "$1" = start ]; then "{sys.executable}" "{script}" || exit 1; fi')
    answer = any_scene.run(*WORDS)
    assert answer.code == 0, answer.err
    assert answer.json["again"] == [WALLET]
    assert any(WALLET in line and "--hold" in line for line in answer.json["todo"])


def test_other_settings_when_it_is_gone_on_with(any_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections were refused at the database: they are let in again, though there is a command for the page by now."""
    scene = any_scene
    swap = ready.put_in_place
    monkeypatch.setattr(ready, "put_in_place", lambda *_, **__: (_ for _ in ()).throw(Refused(reason="not now")))
    assert scene.run(*WORDS).code == 17
    assert not scene.accepts()
    monkeypatch.setattr(ready, "put_in_place", swap)
    scene.commands()
    assert scene.run("emergency", "--abort", "--yes").code == 0
    assert scene.accepts()
    scene.assert_before()


def test_what_is_told_can_be_typed(any_scene: Scene) -> None:
    """The old database's name has quotes and spaces in it."""
    answer = any_scene.run(*WORDS)
    [line] = [line for line in answer.json["todo"] if "drop-old" in line]
    words = shlex.split(line.split("`")[1])
    assert words == ["invoke", "restore.drop-old", answer.json["previous"]]
    assert any_scene.run(*words[1:], "--yes").code == 0
