"""The swap under load: clients that reconnect at once, sessions that hold on, everything that may stand in its way."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import psycopg
import pytest
from psycopg import sql

from naap_ops.errors import Blocked, DatabaseMissing, OpsError, PrivilegeMissing, Refused
from naap_ops.postgres import databases
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.databases import Session, rename_swap
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, connect


@dataclass
class Names:
    """A live database that holds the word ``old``, one aside that holds ``new``, and a free name."""

    live: str
    aside: str
    before: str


def run(connection: Connection, statement: str, *names: str) -> None:
    connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))


def word(server: ScratchServer, name: str) -> str:
    with closing(connect(server.info, dbname=name)) as connection:
        row = connection.execute("SELECT word FROM content").fetchone()
    assert row is not None
    return str(row[0])


def make(server: ScratchServer, name: str, content: str, owner: str = "postgres") -> None:
    with closing(connect(server.info)) as admin:
        run(admin, "CREATE DATABASE {} OWNER {}", name, owner)
    with closing(connect(server.info, dbname=name)) as connection:
        connection.execute("CREATE TABLE content (word text)")
        connection.execute("GRANT ALL ON content TO PUBLIC")
        connection.execute("INSERT INTO content VALUES (%s)", [content])


def made(server: ScratchServer, owner: str = "postgres") -> Iterator[Names]:
    tag = secrets.token_hex(4)
    names = Names(*(f'{each} "{tag}" ü%' for each in ("live", "aside", "before")))
    make(server, names.live, "old", owner)
    make(server, names.aside, "new", owner)
    yield names
    with closing(connect(server.info)) as admin:
        for name in (names.live, names.aside, names.before):
            databases.drop(admin, name)
        left = admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'naap\\_ops\\_swap%'").fetchall()
    assert left == []


@pytest.fixture
def names(server: ScratchServer) -> Iterator[Names]:
    yield from made(server)


@pytest.fixture
def any_names(any_server: ScratchServer) -> Iterator[Names]:
    yield from made(any_server)


def swap(info: ConnInfo, names: Names, **options: object) -> float:
    return rename_swap(info, live=names.live, aside=names.aside, before=names.before, **options)  # type: ignore[arg-type]


def assert_swapped(server: ScratchServer, names: Names) -> None:
    assert word(server, names.live) == "new"
    assert word(server, names.before) == "old"
    with closing(connect(server.info)) as admin:
        assert not databases.exists(admin, names.aside)


def assert_untouched(server: ScratchServer, names: Names) -> None:
    assert word(server, names.live) == "old"
    assert word(server, names.aside) == "new"
    with closing(connect(server.info)) as admin:
        assert not databases.exists(admin, names.before)


@dataclass
class Client:
    """An application that connects, asks, and on any failure connects again at once. Keeps what it saw, in order."""

    info: ConnInfo
    every_time: bool
    stop: threading.Event
    words: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    longest_gap: float = 0.0

    def work(self) -> None:
        last = time.monotonic()
        while not self.stop.is_set():
            try:
                with psycopg.connect(**self.info.kwargs(), autocommit=True) as connection:  # type: ignore[arg-type]
                    while not self.stop.is_set():
                        row = connection.execute("SELECT word FROM content").fetchone()
                        assert row is not None
                        self.longest_gap = max(self.longest_gap, time.monotonic() - last)
                        last = time.monotonic()
                        self.words.append(row[0])
                        if self.every_time:
                            break
            except psycopg.Error as error:
                self.failures.append(str(error))


@contextmanager
def busy_clients(info: ConnInfo, count: int) -> Iterator[list[Client]]:
    """Half of them keep their connection, half connect for every query."""
    stop = threading.Event()
    clients = [Client(info, every_time=bool(number % 2), stop=stop) for number in range(count)]
    threads = [threading.Thread(target=client.work) for client in clients]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: all(client.words for client in clients))
        yield clients
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_quiet_database(server: ScratchServer, names: Names) -> None:
    assert swap(server.info, names) >= 0
    assert_swapped(server, names)


def test_clients_that_reconnect_in_a_loop(server: ScratchServer, names: Names) -> None:
    with busy_clients(server.info.with_dbname(names.live), 8) as clients:
        downtime = swap(server.info, names)
        wait_for(lambda: all(client.words[-1] == "new" for client in clients))
    print(f"downtime {downtime:.3f} s, longest gap of a client {max(client.longest_gap for client in clients):.3f} s")
    assert_swapped(server, names)
    for client in clients:
        assert client.words == sorted(client.words, reverse=True)  # old, then new, never back
        missing = [text for text in client.failures if "does not exist" in text]
        assert len(missing) <= 2  # those who were waiting when the name changed hands


def test_there_and_back(any_server: ScratchServer, any_names: Names) -> None:
    with busy_clients(any_server.info.with_dbname(any_names.live), 4) as clients:
        swap(any_server.info, any_names)
        wait_for(lambda: all(client.words[-1] == "new" for client in clients))
        swap(any_server.info, Names(any_names.live, any_names.before, any_names.aside))
        wait_for(lambda: all(client.words[-1] == "old" for client in clients))
    assert_untouched(any_server, any_names)


def test_sessions_that_hold_on(server: ScratchServer, names: Names) -> None:
    """Idle in a transaction with locks, in the middle of a query, in a cursor, and one in the aside database."""
    with (
        closing(connect(server.info, dbname=names.live, autocommit=False)) as idle,
        closing(connect(server.info, dbname=names.live)) as active,
        closing(connect(server.info, dbname=names.aside)) as visitor,
        closing(connect(server.info)) as watcher,
    ):
        idle.execute("LOCK TABLE content")
        visitor.execute("SELECT 1")
        ended: list[Exception] = []

        def sleep() -> None:
            try:
                active.execute("SELECT pg_sleep(600)")
            except psycopg.Error as error:
                ended.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query LIKE 'SELECT pg_sleep%%' AND state = 'active'"
        )
        wait_for(lambda: watcher.execute(query, [names.live]).fetchone() == (1,))
        swap(server.info, names)
        thread.join()
        assert len(ended) == 1
        for connection in (idle, visitor):
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
    assert_swapped(server, names)


def test_autovacuum_at_work_in_both(server: ScratchServer, names: Names) -> None:
    with closing(connect(server.info)) as admin:
        admin.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        admin.execute("ALTER SYSTEM SET autovacuum_vacuum_cost_delay = 100")
        admin.execute("ALTER SYSTEM SET autovacuum_vacuum_cost_limit = 1")
        admin.execute("SELECT pg_reload_conf()")
        try:
            for name in (names.live, names.aside):
                with closing(connect(server.info, dbname=name)) as connection:
                    connection.execute("CREATE TABLE churn AS SELECT g FROM generate_series(1, 200000) g")
                    connection.execute("DELETE FROM churn")
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = ANY(%s)"
            wait_for(lambda: admin.execute(query, [[names.live, names.aside]]).fetchone() != (0,))
            swap(server.info, names)
        finally:
            admin.execute("ALTER SYSTEM RESET ALL")
            admin.execute("SELECT pg_reload_conf()")
    assert_swapped(server, names)


def test_a_session_that_does_not_end(server: ScratchServer, names: Names) -> None:
    """A stopped process cannot act on a signal: the server gives up, all is as before, and new sessions are let in again."""
    told: list[Sequence[Session]] = []
    with closing(connect(server.info, dbname=names.live, application_name="stuck app")) as stuck:
        stuck.execute("SELECT word FROM content")
        pid = stuck.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(Blocked) as caught:
                swap(server.info, names, on_waiting=told.append)
            for expected in (str(pid), "stuck app", "user postgres", "SELECT word FROM content"):
                assert expected in caught.value.text
            assert_untouched(server, names)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert told
    assert {session.pid for sessions in told for session in sessions} == {pid}
    swap(server.info, names)
    assert_swapped(server, names)


def test_a_lock_on_the_database_itself(any_server: ScratchServer, any_names: Names) -> None:
    with closing(connect(any_server.info, application_name="commenter", autocommit=False)) as holder:
        run(holder, "COMMENT ON DATABASE {} IS 'x'", any_names.live)
        with pytest.raises(Blocked) as caught:
            swap(any_server.info, any_names, lock_timeout=0.5)
        assert "commenter" in caught.value.text
        assert str(holder.info.backend_pid) in caught.value.text
    assert_untouched(any_server, any_names)


def test_prepared_transactions_are_named(server: ScratchServer, names: Names) -> None:
    with closing(connect(server.info, dbname=names.live)) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO content VALUES ('prepared')")
        connection.execute("PREPARE TRANSACTION 'the \"gid\"'")
        try:
            with pytest.raises(Refused, match='the "gid"'):
                swap(server.info, names)
        finally:
            connection.execute("ROLLBACK PREPARED 'the \"gid\"'")
    assert_untouched(server, names)


def test_no_live_database(server: ScratchServer, names: Names) -> None:
    rename_swap(server.info, live=None, aside=names.aside, before=names.before)
    assert word(server, names.before) == "new"
    assert word(server, names.live) == "old"


def test_databases_named_as_the_maintenance_ones(any_server: ScratchServer, any_names: Names) -> None:
    """Hosted services give out a database named postgres: the swap must not be done from within it."""
    with closing(connect(any_server.info, dbname="template1")) as admin:
        run(admin, "ALTER DATABASE postgres RENAME TO kept_postgres")
        run(admin, "ALTER DATABASE {} RENAME TO postgres", any_names.live)
    try:
        names = Names("postgres", any_names.aside, any_names.before)
        swap(any_server.info, names)
        assert_swapped(any_server, names)
    finally:
        with closing(connect(any_server.info, dbname="template1")) as admin:
            databases.drop(admin, "postgres")
            run(admin, "ALTER DATABASE kept_postgres RENAME TO postgres")


def test_names_that_do_not_fit(any_server: ScratchServer, any_names: Names) -> None:
    info = any_server.info
    with pytest.raises(DatabaseMissing):
        rename_swap(info, live="no such", aside=any_names.aside, before=any_names.before)
    with pytest.raises(DatabaseMissing):
        rename_swap(info, live=any_names.live, aside="no such", before=any_names.before)
    with pytest.raises(Refused):
        rename_swap(info, live=any_names.live, aside=any_names.aside, before="postgres")
    assert_untouched(any_server, any_names)


def test_what_is_done_in_the_same_transaction(any_server: ScratchServer, any_names: Names) -> None:
    def comment(text: str, connection: Connection) -> None:
        run(connection, f"COMMENT ON DATABASE {{}} IS '{text}'", any_names.live)

    def fail(connection: Connection) -> None:
        comment("lost", connection)
        raise Refused(reason="second thoughts")

    with pytest.raises(Refused, match="second thoughts"):
        swap(any_server.info, any_names, also=fail)
    assert_untouched(any_server, any_names)
    swap(any_server.info, any_names, also=partial(comment, "kept"))
    assert_swapped(any_server, any_names)
    with closing(connect(any_server.info)) as admin:
        assert databases.properties(admin, any_names.live).comment == "kept"
        assert databases.properties(admin, any_names.before).comment is None


def test_an_interrupt_leaves_the_names_as_they_were(any_server: ScratchServer, any_names: Names) -> None:
    class Stop(BaseException):
        pass

    def interrupt(sessions: Sequence[Session]) -> None:
        raise Stop

    with closing(connect(any_server.info, dbname=any_names.live)) as stuck:
        os.kill(stuck.info.backend_pid, signal.SIGSTOP)
        try:
            with pytest.raises(Stop):
                swap(any_server.info, any_names, on_waiting=interrupt)
            assert_untouched(any_server, any_names)
        finally:
            os.kill(stuck.info.backend_pid, signal.SIGCONT)


# --- without superuser ------------------------------------------------------------------------------------------------


@pytest.fixture
def operator(server: ScratchServer) -> Iterator[str]:
    """A role that may create databases, as hosted services give out, and one beside it."""
    with closing(connect(server.info)) as admin:
        admin.execute("CREATE ROLE operator LOGIN CREATEDB")
        admin.execute("CREATE ROLE app LOGIN")
        yield "operator"
        admin.execute("DROP ROLE operator, app")


@pytest.fixture
def owned(server: ScratchServer, operator: str) -> Iterator[Names]:
    yield from made(server, owner=operator)


def test_an_owner_who_is_no_superuser(server: ScratchServer, owned: Names, operator: str) -> None:
    info = replace(server.info, user=operator)
    app = replace(server.info, user="app", dbname=owned.live)
    with closing(connect(app)) as session:
        with pytest.raises(PrivilegeMissing) as caught:
            swap(info, owned)
        assert f"pid {session.info.backend_pid} of app" in caught.value.text
        assert "pg_signal_backend" in caught.value.advice
    assert_untouched(server, owned)
    with closing(connect(server.info)) as admin:
        admin.execute("GRANT pg_signal_backend TO operator")
    with busy_clients(app, 4) as clients:
        swap(info, owned)
        wait_for(lambda: all(client.words[-1] == "new" for client in clients))
    assert_swapped(server, owned)


def test_a_superusers_session_in_the_way(server: ScratchServer, owned: Names, operator: str) -> None:
    with closing(connect(server.info)) as admin:
        admin.execute("GRANT pg_signal_backend TO operator")
    with closing(connect(server.info, dbname=owned.live)), pytest.raises(PrivilegeMissing, match="of postgres"):
        swap(replace(server.info, user=operator), owned)
    assert_untouched(server, owned)


def test_rights_that_are_missing(server: ScratchServer, owned: Names, operator: str) -> None:
    def refusal(user: str) -> OpsError:
        with pytest.raises(PrivilegeMissing) as caught:
            swap(replace(server.info, user=user), owned)
        return caught.value

    assert "owner" in refusal("app").text
    with closing(connect(server.info)) as admin:
        admin.execute("ALTER ROLE operator NOCREATEDB")
    assert "CREATEDB" in refusal(operator).text
    assert_untouched(server, owned)
