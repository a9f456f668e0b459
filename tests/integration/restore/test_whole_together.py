"""Restores while others are at work: applications that reconnect at once, a second restore, an end in the middle."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import errors

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import Connection, connect
from naap_ops.restore.locking import target_lock
from tests import restored
from tests.desk import Desk, wait_until

CLIENTS = 8
# What an application may see of a swap: its session ended, or the name free for a moment.
EXPECTED = (errors.AdminShutdown, errors.InvalidCatalogName)
EXPECTED_TEXTS = ("does not exist", "terminating connection", "closed the connection unexpectedly", "connection is closed")


@dataclass
class Client:
    """An application that writes one number after the other and, on any failure, connects again at once."""

    info: ConnInfo
    numbers: Iterator[int]
    stop: threading.Event
    every_time: bool
    acknowledged: list[int] = field(default_factory=list)
    failures: list[psycopg.Error] = field(default_factory=list)
    last: int = 0

    def work(self) -> None:
        while not self.stop.is_set():
            try:
                with psycopg.connect(**self.info.kwargs(), autocommit=True) as connection:  # type: ignore[arg-type]
                    self._write(connection)
            except psycopg.Error as error:
                self.failures.append(error)

    def _write(self, connection: Connection) -> None:
        while not self.stop.is_set():
            number = next(self.numbers)
            connection.execute("insert into written values (%s)", [number])
            self.acknowledged.append(number)
            if self.every_time:
                return


@contextmanager
def clients(info: ConnInfo) -> Iterator[list[Client]]:
    """Half of them keep their session, half connect for every row. At the end each has written once more."""
    stop = threading.Event()
    found = [Client(info, itertools.count(n, CLIENTS), stop, every_time=bool(n % 2)) for n in range(CLIENTS)]
    threads = [threading.Thread(target=client.work) for client in found]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(client.acknowledged for client in found))
        yield found
        done = [len(client.acknowledged) for client in found]
        wait_until(lambda: all(len(client.acknowledged) > then for client, then in zip(found, done, strict=True)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_swap_and_undo_among_clients_that_reconnect(live: Desk) -> None:
    assert live.info is not None
    restored.desk_with_rows(live)
    live.sql("create table written (i bigint)")
    live.backup()
    with (
        closing(connect(live.info, autocommit=False)) as idle,
        closing(connect(live.info, autocommit=False)) as locking,
        sleeping(live.info),
        clients(live.info) as found,
    ):
        idle.execute("select 1")
        locking.execute("lock table word in access exclusive mode")

        run = live.run("restore", "--swap", "--yes", "--json")

        assert run.code == 0, run.err
        assert isinstance(run.json["downtime_seconds"], float)
        assert 0 < run.json["downtime_seconds"] < run.json["seconds"]
        with pytest.raises(psycopg.OperationalError):
            idle.execute("select 1")
    previous = run.json["previous"]
    assert_only_expected(found)
    # What was acknowledged is in the one database or in the other.
    kept = restored.column(live.info.with_dbname(previous), "select i from written")
    new = restored.column(live.info, "select i from written")
    assert set(kept) & set(new) == set()
    assert {number for client in found for number in client.acknowledged} <= {*kept, *new}
    assert kept
    assert new

    with clients(live.info) as found:
        undone = live.run("restore.undo", "--yes", "--json")
        assert undone.code == 0, undone.err
        assert undone.json["downtime_seconds"] > 0
    assert_only_expected(found)


def assert_only_expected(found: list[Client]) -> None:
    for client in found:
        assert client.failures or client.every_time  # who kept a session was sent away
        for error in client.failures:
            assert isinstance(error, EXPECTED) or any(text in str(error) for text in EXPECTED_TEXTS), error


@contextmanager
def sleeping(info: ConnInfo) -> Iterator[None]:
    """A session in the middle of a query."""

    def sleep(connection: Connection) -> None:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select pg_sleep(600)")

    with closing(connect(info, application_name="sleeper")) as connection:
        thread = threading.Thread(target=sleep, args=[connection])
        thread.start()
        query = "select 1 from pg_stat_activity where application_name = 'sleeper' and wait_event = 'PgSleep'"
        wait_until(lambda: restored.column(info, query))
        yield
        thread.join()


# --- stopped at a chosen place --------------------------------------------------------------------------------------


def test_a_second_restore_of_the_same_database_is_told_of_the_first(any_filled: Desk) -> None:
    info = any_filled.info
    assert info is not None
    any_filled.backup(label="quick")
    any_filled.sql(restored.HELD)
    any_filled.backup()
    with restored.load_held(info):
        first = any_filled.spawn("restore", "--swap", "--yes", "--json")
        wait_until(lambda: restored.loading(info))
        for words in (["restore", "--swap"], ["restore.undo"], ["restore", "--swap", "--dry-run"]):
            second = any_filled.run(*words, "--yes", "--json")
            assert second.code == 15, second.err
            assert f"naap_ops restore {first.pid}@" in second.json["message"]
            assert "user postgres" in second.json["message"]
        # Another target is another matter.
        assert any_filled.run("restore", "--into", "new", "--yes", "--backup", "quick").code == 0
        assert len(restored.ours(info, "restore")) == 1
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert len(restored.ours(info, "before")) == 1
    assert restored.ours(info, "restore") == []


def test_the_lock_is_free_as_soon_as_a_call_has_returned(any_filled: Desk) -> None:
    """Not a moment later, when the server has noticed that the session is closed: one command follows the other."""
    assert any_filled.info is not None
    for _ in range(200):
        with target_lock(any_filled.info, restored.NAME):
            pass


def test_a_lock_on_the_database_that_does_not_go_away(any_filled: Desk) -> None:
    info = any_filled.info
    assert info is not None
    any_filled.backup()
    any_filled.sql("update word set w = 'new'")
    with restored.swap_held(info):
        run = any_filled.run("restore", "--swap", "--yes", "--json", NAAP_OPS_RESTORE__LOCK_TIMEOUT="500ms")
        assert run.code == 16, run.err
        assert "holder" in run.json["message"]
    assert any_filled.ask("select w from word") == "new"
    assert restored.ours(info, "restore") == restored.ours(info, "before") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_while_it_waits_it_takes_back_what_it_did(any_filled: Desk, number: signal.Signals) -> None:
    info = any_filled.info
    assert info is not None
    any_filled.backup()
    any_filled.sql("update word set w = 'new'")
    with restored.swap_held(info):
        child = any_filled.spawn("restore", "--swap", "--yes", "--json", environ={"NAAP_OPS_RESTORE__LOCK_TIMEOUT": "60s"})
        wait_until(lambda: restored.swapping(info))
        os.kill(child.pid, number)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
        assert restored.ours(info, "restore") == restored.ours(info, "before") == []
    assert any_filled.ask("select w from word") == "new"
