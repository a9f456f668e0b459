"""A restore of one schema or table that is killed, or loses its session: its transaction is gone, what was live is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import restored
from tests.desk import Desk, wait_until

pytestmark = pytest.mark.long

AIMS = {"schema": ("--schema", "app"), "table": ("--table", "app.t")}
ROWS = 20_000
PATIENCE = {"NAAP_OPS_RESTORE__LOCK_TIMEOUT": "60s"}
SEED = 20261121

SAMPLE = f"""
create schema app; create schema other;
create table app.t (i int primary key, s text); insert into app.t select i, md5(i::text) from generate_series(1, {ROWS}) i;
create index on app.t (s);
create table app.word (w text); insert into app.word values ('old');
create table other.r (i int references app.t); insert into other.r select i from app.t;
"""


@pytest.fixture
def desk(any_server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    """With a backup, and a live schema that has one row more."""
    with restored.swept(any_server.info):
        desk = Desk(tmp_path, restored.create(any_server.info, restored.NAME))
        desk.sql(SAMPLE)
        desk.backup()
        desk.sql("insert into app.t values (0, 'since')")
        yield desk


def schemas(desk: Desk) -> list[str]:
    assert desk.info is not None
    return restored.column(desk.info, "select nspname from pg_namespace where nspname !~ '^(pg_|information)' order by 1")


def kill(child: subprocess.Popen[str]) -> None:
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)


@contextmanager
def held_at_its_end(desk: Desk) -> Iterator[None]:
    """Somebody holds the neighbour whose key must be turned: the rows are loaded, nothing is committed."""
    assert desk.info is not None
    with closing(connect(desk.info, autocommit=False)) as holder:
        holder.execute("lock table other.r in share mode")
        yield


@contextmanager
def held_by_a_reader(desk: Desk) -> Iterator[None]:
    """Somebody reads the table: that keeps the restore of a schema from its last steps, that of a table from its first."""
    assert desk.info is not None
    with closing(connect(desk.info, autocommit=False)) as holder:
        holder.execute("select from app.t limit 1")
        yield


@contextmanager
def held_early(desk: Desk) -> Iterator[None]:
    """Somebody holds a catalog that the rows or their indexes need."""
    assert desk.info is not None
    with closing(connect(desk.info, autocommit=False)) as holder:
        holder.execute("lock table pg_catalog.pg_index in share mode")
        yield


def is_waiting(desk: Desk) -> bool:
    return bool(desk.ask("select count(*) from pg_locks where not granted"))


def assert_unchanged(desk: Desk) -> None:
    assert schemas(desk) == ["app", "other", "public"]
    assert desk.ask("select count(*) from app.t") == ROWS + 1
    assert desk.ask("select count(*) from other.r join app.t using (i)") == ROWS


def assert_restores(desk: Desk, aim: tuple[str, ...]) -> None:
    """The next one works, and its undo brings back what was live."""
    wait_until(lambda: desk.run("restore", *aim, "--yes").code == 0)
    assert desk.ask("select count(*) from app.t") == ROWS
    assert len(schemas(desk)) == 4
    undone = desk.run("restore.undo", *aim, "--yes", "--json")
    assert undone.code == 0, undone.err
    assert desk.run("restore.drop-old", undone.json["previous"], "--yes").code == 0
    assert_unchanged(desk)


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("held", [held_at_its_end, held_by_a_reader, held_early])
def test_killed_at_a_place(desk: Desk, aim: str, held: object) -> None:
    with held(desk):  # type: ignore[operator]
        child = desk.spawn("restore", *AIMS[aim], "--yes", environ=PATIENCE)
        wait_until(lambda: is_waiting(desk))
        kill(child)
    assert_unchanged(desk)
    assert_restores(desk, AIMS[aim])


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_politely(desk: Desk, aim: str, number: signal.Signals) -> None:
    with held_at_its_end(desk):
        child = desk.spawn("restore", *AIMS[aim], "--yes", environ=PATIENCE)
        wait_until(lambda: is_waiting(desk))
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
    assert_unchanged(desk)
    assert_restores(desk, AIMS[aim])


@pytest.mark.parametrize("aim", AIMS)
def test_its_session_is_ended(desk: Desk, aim: str) -> None:
    with held_at_its_end(desk):
        child = desk.spawn("restore", *AIMS[aim], "--yes", "--json", environ=PATIENCE)
        wait_until(lambda: is_waiting(desk))
        desk.ask("select pg_terminate_backend(pid) from pg_locks where not granted")
        _, err = child.communicate(timeout=60)
    assert child.returncode == 4, err
    assert_unchanged(desk)
    assert_restores(desk, AIMS[aim])


@pytest.mark.parametrize("aim", AIMS)
def test_pg_restore_is_killed(desk: Desk, aim: str) -> None:
    """In the middle of the rows: those sent so far must not be taken for all."""
    slow = desk.folder / "bin"
    slow.mkdir()
    assert desk.info is not None
    real = restored.tools(desk.info).bindir
    assert real is not None
    for tool in ("pg_dump", "psql"):
        (slow / tool).symlink_to(real / tool)
    restore = f'"{real}/pg_restore" "$@"'
    script = f'case "$*" in *--file=-*) {restore} | head -c 300000; kill -9 $$;; *) exec {restore};; esac'
    (slow / "pg_restore").write_text(f"#!/bin/sh\n{script}\n")
    (slow / "pg_restore").chmod(0o755)
    desk.settings(f'[tools]\nbindir = "{slow}"\n')
    run = desk.run("restore", *AIMS[aim], "--yes", "--json")
    assert run.code == 20, run.err
    assert "-9" in run.json["message"]
    assert_unchanged(desk)
    desk.settings("")
    assert_restores(desk, AIMS[aim])


@pytest.mark.parametrize("aim", AIMS)
def test_two_at_once(desk: Desk, aim: str) -> None:
    with held_at_its_end(desk):
        first = desk.spawn("restore", *AIMS[aim], "--yes", environ=PATIENCE)
        wait_until(lambda: is_waiting(desk))
        for other in (*AIMS.values(), ("--swap",)):
            second = desk.run("restore", *other, "--yes", "--json")
            assert second.code == 15, second.err
            assert str(first.pid) in second.json["message"]
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert desk.ask("select count(*) from app.t") == ROWS


@pytest.mark.long
@pytest.mark.parametrize("aim", AIMS)
def test_killed_at_twenty_instants(desk: Desk, aim: str) -> None:
    chance = random.Random(SEED)
    began = time.monotonic()
    assert desk.program("restore", *AIMS[aim], "--yes").code == 0
    took = time.monotonic() - began
    undone = desk.run("restore.undo", *AIMS[aim], "--yes", "--json").json["previous"]
    assert desk.run("restore.drop-old", undone, "--yes").code == 0
    for number in range(20):
        child = desk.spawn("restore", *AIMS[aim], "--yes")
        time.sleep(took * (number + chance.random()) / 20)
        kill(child)
        if len(schemas(desk)) == 4:  # it was through
            assert desk.ask("select count(*) from app.t") == ROWS
            undone = desk.run("restore.undo", *AIMS[aim], "--yes", "--json").json["previous"]
            assert desk.run("restore.drop-old", undone, "--yes").code == 0
        assert_unchanged(desk)
    assert_restores(desk, AIMS[aim])
