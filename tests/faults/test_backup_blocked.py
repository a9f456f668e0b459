"""Others in the way: a second backup, sessions that hold tables or wait for them. They must be named, and nobody starve."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import samples
from tests.desk import Desk, Run, wait_until


@contextmanager
def holding(desk: Desk, statement: str, name: str = "the blocker") -> Iterator[int]:
    """A session in the middle of a transaction; its process id."""
    assert desk.info is not None
    with connect(desk.info, application_name=name, autocommit=False) as session:
        session.execute(statement.encode())
        yield session.info.backend_pid


def waiting_for_lock(desk: Desk, like: str) -> bool:
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name like '{}'"
    return bool(desk.ask(query.format(like)))


# --- two backups ----------------------------------------------------------------------------------------------------


def test_two_at_once(desk: Desk) -> None:
    """The first is held up by a lock, so that it is surely there; the second says who it is, and writes nothing."""
    desk.sql("create table t as select 1 i")
    with holding(desk, "lock table t in access exclusive mode"):
        first = desk.spawn("backup", "--json")
        wait_until(lambda: waiting_for_lock(desk, "naap_ops pg_dump%"))
        guard = desk.ask("select pid from pg_stat_activity where application_name like 'naap_ops backup%'")
        second = desk.run("backup", "--json")
        assert second.code == 15
        assert f"server process {guard}" in second.json["message"]
        assert f"naap_ops backup {first.pid}@" in second.json["message"]
        assert "since 20" in second.json["message"]
        assert len(desk.leftovers()) == 1  # the first one's, untouched
        assert desk.run("backup", "--dry-run").code == 15
    assert first.wait(60) == 0
    first.communicate()
    assert len(desk.listed()) == 1
    assert desk.leftovers() == []
    assert desk.run("backup").code == 0


def test_what_an_ordinary_user_sees_of_the_holder(desk: Desk) -> None:
    """The server hides from other users since when a session is there; that is then left out, not made up."""
    assert desk.info is not None
    role = f"{desk.info.dbname}_reader"
    desk.sql("create table t as select 1 i", f"create role {role} login; grant select on t to {role}")
    reader = Desk(desk.folder, type(desk.info)(desk.info.host, desk.info.port, role, desk.info.dbname))
    try:
        with holding(desk, "select pg_advisory_lock(hashtextextended('naap_ops backup', 0))", "naap_ops backup 1@elsewhere"):
            answer = reader.run("backup", "--json")
        assert answer.code == 15
        assert "naap_ops backup 1@elsewhere" in answer.json["message"]
        assert "since" not in answer.json["message"]
    finally:
        desk.sql(f"drop owned by {role}; drop role {role}")


def test_two_databases_do_not_meet(desk: Desk, any_server: ScratchServer) -> None:
    other = Desk(desk.folder, any_server.info.with_dbname("postgres"))
    desk.sql("create table t as select 1 i")
    with holding(desk, "lock table t in access exclusive mode"):
        first = desk.spawn("backup")
        wait_until(lambda: waiting_for_lock(desk, "naap_ops pg_dump%"))
        assert other.run("backup").code == 0
    assert first.wait(60) == 0
    first.communicate()


# --- locks ----------------------------------------------------------------------------------------------------------


def blocked(answer: Run, pid: int, query: str) -> None:
    assert answer.code == 16, answer.err
    message = answer.json["message"]
    assert f"pid {pid}, user postgres, application the blocker (idle in transaction): {query}" in message
    assert "pg_terminate_backend" in answer.json["hint"]
    assert "--lock-wait-timeout" in answer.json["hint"]


@pytest.mark.parametrize("format", ["directory", "custom", "plain"])
def test_a_table_held_by_another_session(desk: Desk, format: str) -> None:
    desk.sql("create table t as select 1 i")
    with holding(desk, "lock table t in access exclusive mode") as pid:
        answer = desk.run("backup", "--lock-wait-timeout", "1s", "--format", format, "--json")
    blocked(answer, pid, "lock table t in access exclusive mode")
    assert desk.leftovers() == []
    assert desk.listed() == []


def test_patience_shorter_than_our_look(desk: Desk) -> None:
    desk.sql("create table t as select 1 i")
    with holding(desk, "lock table t in access exclusive mode") as pid:
        answer = desk.run("backup", "--lock-wait-timeout", "10ms", "--json")
    blocked(answer, pid, "lock table t in access exclusive mode")


def test_prismas_books_held_by_another_session(desk: Desk) -> None:
    """Read by a session of our own before pg_dump starts: it must not wait for ever where pg_dump would not."""
    assert desk.info is not None
    samples.track(desk.info, "public", ("20260101_a", "applied"))
    with holding(desk, "alter table _prisma_migrations add x int") as pid:
        answer = desk.run("backup", "--lock-wait-timeout", "1s", "--json")
        blocked(answer, pid, "alter table _prisma_migrations add x int")
        dry = desk.run("backup", "--lock-wait-timeout", "1s", "--dry-run", "--json")
        blocked(dry, pid, "alter table _prisma_migrations add x int")
    assert not desk.repo.exists()


def test_a_table_held_by_a_prepared_transaction(desk: Desk) -> None:
    """No session holds it, so there is none to end."""
    assert desk.info is not None
    desk.sql("create table t as select 1 i")
    gid = str(desk.info.dbname)
    with connect(desk.info, autocommit=False) as session:
        session.execute(b"lock table t in access exclusive mode")
        session.execute(sql.SQL("prepare transaction {}").format(gid))
        session.rollback()
    try:
        answer = desk.run("backup", "--lock-wait-timeout", "1s", "--json")
        assert answer.code == 16
        assert "a prepared transaction" in answer.json["message"]
    finally:
        desk.sql(f"rollback prepared '{gid}'")


def test_somebody_who_queues_behind_the_dump(big: Desk) -> None:
    """pg_dump's workers do not wait behind somebody who wants the table for himself: that one is named."""
    assert big.info is not None
    failures: list[BaseException] = []

    def want() -> None:
        try:
            with connect(big.info, application_name="the impatient", autocommit=False) as session:  # type: ignore[arg-type]
                session.execute(b"set local lock_timeout = '60s'")
                session.execute(b"lock table small in access exclusive mode")
                session.rollback()
        except psycopg.Error as error:
            failures.append(error)

    child = big.spawn("backup", "--json")
    wait_until(lambda: big.ask("select count(*) from pg_stat_activity where query like 'COPY%' and state = 'active'"))
    thread = threading.Thread(target=want)
    thread.start()
    out, err = child.communicate(timeout=120)
    thread.join()
    assert failures == []
    assert child.returncode == 16, err
    assert "application the impatient" in out.splitlines()[-1]
    assert "lock table small" in out.splitlines()[-1]
    assert big.leftovers() == []


def test_a_reader_behind_is_not_blocked_for_ever(desk: Desk) -> None:
    """A dump that waits, an ALTER TABLE behind it, a reader behind that: the dump gives up, and they go on."""
    assert desk.info is not None
    info = desk.info
    desk.sql("create table a as select 1 i", "create table b as select 1 i")
    done: list[str] = []

    def run(name: str, statement: str) -> threading.Thread:
        def work() -> None:
            with connect(info, application_name=name) as session:
                session.execute(statement.encode())
                done.append(name)

        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: name in done or waiting_for_lock(desk, name))
        return thread

    with holding(desk, "lock table b in access exclusive mode"):
        dump = desk.spawn("backup", "--lock-wait-timeout", "3s", "--json")
        wait_until(lambda: waiting_for_lock(desk, "naap_ops pg_dump%"))
        threads = [run("migration", "alter table a add j int"), run("reader", "select * from a")]
        assert done == []
        assert dump.wait(60) == 16
        for thread in threads:
            thread.join(60)
        assert sorted(done) == ["migration", "reader"]
    assert "the blocker" in dump.communicate()[0]
