"""Connections: every way to be refused, by a real server, and what a session looks like once open."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from naap_ops.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DatabaseMissing,
    OpsError,
    PrivilegeMissing,
    ServerUnreachable,
)
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer, free_port
from naap_ops.postgres.session import connect, maintenance, server_info
from naap_ops.postgres.tools import installations

FRENCH = "fr_FR.UTF-8"


def refusal(info: ConnInfo, dbname: str | None = None) -> OpsError:
    with pytest.raises(OpsError) as caught:
        connect(info, dbname=dbname).close()
    return caught.value


@pytest.fixture
def guest(any_server: ScratchServer) -> Iterator[ConnInfo]:
    """An ordinary role without any right of its own."""
    with closing(connect(any_server.info)) as admin:
        admin.execute("CREATE ROLE guest LOGIN")
        yield replace(any_server.info, user="guest")
        admin.execute("DROP OWNED BY guest")
        admin.execute("DROP ROLE guest")


def test_a_session_has_no_timeouts_and_utf8(database: ConnInfo) -> None:
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
    with closing(connect(database)) as connection:
        if connection.info.server_version >= 170000:
            names.append("transaction_timeout")
    options = " ".join(f"-c {name}=5000" for name in names)
    with closing(connect(replace(database, params={"options": options}))) as connection:
        for name in names:
            assert connection.execute("SELECT current_setting(%s)", [name]).fetchone() == ("0",)
        assert connection.execute("SHOW client_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SHOW application_name").fetchone() == ("naap_ops",)
        assert connection.autocommit


@pytest.mark.parametrize("style", ["German", "SQL, DMY", "Postgres, MDY"])
def test_a_session_reads_dates_whatever_the_database_prefers(database: ConnInfo, style: str) -> None:
    with closing(connect(database)) as connection:
        name = sql.Identifier(connection.info.dbname)
        for each, value in (("datestyle", style), ("intervalstyle", "sql_standard")):
            connection.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(each), sql.Literal(value)))
    with closing(connect(database)) as connection:
        row = connection.execute(
            "SELECT timestamptz '2026-02-01 12:00:00Z', interval '1 day 2 hours', '03-02-2026'::date"
        ).fetchone()
    assert row is not None
    assert row[0] == datetime(2026, 2, 1, 12, tzinfo=UTC)
    assert row[1] == timedelta(days=1, hours=2)
    assert row[2].month == (3 if "MDY" in style else 2)  # input means what it means to the application


def test_timeouts_stay_lifted_after_a_rollback(any_server: ScratchServer) -> None:
    info = replace(any_server.info, params={"options": "-c statement_timeout=5000"})
    with closing(connect(info, autocommit=False)) as connection:
        assert not connection.autocommit
        connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_what_the_server_says_of_itself(server: ScratchServer) -> None:
    with closing(connect(server.info)) as connection:
        info = server_info(connection)
        control = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert info.version.startswith(str(info.major))
    assert info.version_num // 10000 == info.major
    assert (info.system_identifier,) == control
    assert info.user == "postgres"
    assert info.is_superuser
    assert info.can_createdb
    assert not info.in_recovery


def test_what_an_ordinary_role_may(any_server: ScratchServer, guest: ConnInfo) -> None:
    with closing(connect(guest)) as connection:
        info = server_info(connection)
        assert (info.user, info.is_superuser, info.can_createdb) == ("guest", False, False)
    with closing(connect(any_server.info)) as admin:
        admin.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        try:
            with closing(connect(guest)) as connection:
                assert server_info(connection).system_identifier is None
        finally:
            admin.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")


def test_nobody_listens_there() -> None:
    error = refusal(ConnInfo(host="127.0.0.1", port=free_port(), user="u", dbname="d"))
    assert isinstance(error, ServerUnreachable)
    assert "Connection refused" in error.text


def test_several_addresses_are_one_reason() -> None:
    error = refusal(ConnInfo(host="127.0.0.1,127.0.0.2", port=free_port(), user="u", dbname="d"))
    assert isinstance(error, ServerUnreachable)
    assert "Multiple connection attempts" not in error.text


def test_no_socket_there(tmp_path: Path) -> None:
    error = refusal(ConnInfo(host=str(tmp_path), port=5432, user="u", dbname="d"))
    assert isinstance(error, ServerUnreachable)
    assert str(tmp_path) in error.text


def test_a_name_that_does_not_resolve() -> None:
    assert isinstance(refusal(ConnInfo(host="no-such-host.invalid", port=5432, user="u", dbname="d")), ServerUnreachable)


def test_a_wrong_password_and_none(password_server: ScratchServer) -> None:
    error = refusal(replace(password_server.info, password="not the one"))
    assert isinstance(error, AuthenticationFailed)
    assert "not the one" not in str(error.as_dict())
    assert isinstance(
        refusal(replace(password_server.info, password=None, params={"passfile": "/dev/null"})), AuthenticationFailed
    )
    connect(password_server.info).close()


def test_an_unknown_role(any_server: ScratchServer) -> None:
    assert isinstance(refusal(replace(any_server.info, user='no "such" röle')), AuthenticationFailed)


@pytest.mark.parametrize("name", ["missing", 'a "quoted" % name', "ünïcödé " * 6])
def test_a_missing_database(server: ScratchServer, name: str) -> None:
    error = refusal(server.info, dbname=name)
    assert isinstance(error, DatabaseMissing)
    assert repr(name) in error.text


def test_no_right_to_connect(any_database: ConnInfo, any_server: ScratchServer, guest: ConnInfo) -> None:
    with closing(connect(any_server.info)) as admin:
        name = sql.Identifier(str(any_database.dbname))
        admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))
        error = refusal(guest, dbname=any_database.dbname or "")
        assert isinstance(error, PrivilegeMissing)
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        assert isinstance(refusal(any_database), PrivilegeMissing)


def test_all_slots_taken(any_database: ConnInfo, any_server: ScratchServer, guest: ConnInfo) -> None:
    with closing(connect(any_server.info)) as admin, ExitStack() as stack:
        admin.execute("ALTER ROLE guest CONNECTION LIMIT 1")
        stack.enter_context(closing(connect(guest)))
        error = refusal(guest)
        assert isinstance(error, ServerUnreachable)
        assert "too many connections" in error.text
        assert "connection slots" in error.advice


def test_a_full_server(tmp_path: Path, any_server: ScratchServer) -> None:
    config = {"max_connections": "4", "superuser_reserved_connections": "0", "autovacuum": "off"}
    with ScratchServer(any_server.bindir, tmp_path, config=config) as small, ExitStack() as stack:
        error: OpsError | None = None
        while error is None:
            try:
                stack.enter_context(closing(connect(small.info)))
            except OpsError as caught:
                error = caught
    assert isinstance(error, ServerUnreachable)
    assert "connection slots" in error.advice


def test_tls_demanded_of_a_server_without(password_server: ScratchServer) -> None:
    error = refusal(replace(password_server.info, params={"sslmode": "require"}))
    assert isinstance(error, ConfigurationError)
    assert "does not support SSL" in error.text


def test_tls(tls_server: ScratchServer) -> None:
    trusted = {"sslmode": "verify-full", "sslrootcert": str(tls_server.certificate)}
    with closing(connect(replace(tls_server.info, params=trusted))) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (True,)


def test_tls_with_a_certificate_nobody_vouches_for(tls_server: ScratchServer, tmp_path: Path) -> None:
    missing = refusal(replace(tls_server.info, params={"sslmode": "verify-full", "sslrootcert": str(tmp_path / "none.crt")}))
    assert isinstance(missing, ConfigurationError)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "2"]
    subprocess.run([*command, "-keyout", tmp_path / "k", "-out", tmp_path / "other.crt"], check=True, capture_output=True)
    stranger = refusal(replace(tls_server.info, params={"sslmode": "verify-ca", "sslrootcert": str(tmp_path / "other.crt")}))
    assert isinstance(stranger, ConfigurationError)
    assert "certificate verify failed" in stranger.text


def test_a_word_that_libpq_does_not_know(any_server: ScratchServer) -> None:
    for params in ({"nonsense": "1"}, {"sslmode": "sometimes"}, {"service": "nowhere"}):
        assert isinstance(refusal(replace(any_server.info, params=params)), ConfigurationError)


def test_the_maintenance_session_goes_where_it_can(any_server: ScratchServer, any_database: ConnInfo, guest: ConnInfo) -> None:
    def place(info: ConnInfo, *avoid: str) -> str:
        with closing(maintenance(info, avoid=avoid)) as connection:
            return connection.info.dbname

    assert place(any_database) == "postgres"
    assert place(any_database, "postgres") == "template1"
    assert place(any_database, "postgres", "template1") == any_database.dbname
    with pytest.raises(PrivilegeMissing):
        place(any_server.info, "postgres", "template1")
    with closing(connect(any_server.info)) as admin:
        admin.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        try:
            assert place(guest) == "template1"
        finally:
            admin.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")


@pytest.fixture
def french_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScratchServer]:
    """A server whose messages are French, and which wants a password."""
    bindir = installations().get(15)
    catalogue = Path("/usr/share/locale/fr/LC_MESSAGES/postgres-15.mo")
    if bindir is None or not catalogue.exists() or shutil.which("localedef") is None:
        pytest.skip("needs PostgreSQL 15 with message catalogues, and localedef")
    locales = Path("/tmp") / f"naap_ops-locales-{os.getpid()}"
    locales.mkdir(mode=0o755)
    try:
        subprocess.run(["localedef", "-i", "fr_FR", "-f", "UTF-8", locales / FRENCH], check=False, capture_output=True)
        if not (locales / FRENCH).is_dir():
            pytest.skip("localedef has no source for French")
        monkeypatch.setenv("LOCPATH", str(locales))
        options = {"auth": "scram-sha-256", "password": "le secret", "tcp": True}
        with ScratchServer(bindir, tmp_path, config={"lc_messages": FRENCH}, **options) as scratch:  # type: ignore[arg-type]
            yield scratch
    finally:
        shutil.rmtree(locales)


def test_a_server_that_speaks_french(french_server: ScratchServer) -> None:
    info = french_server.info
    with pytest.raises(psycopg.OperationalError, match="n'existe pas"):
        psycopg.connect(host=info.host, port=info.port, user=info.user, password=info.password, dbname="missing")
    assert isinstance(refusal(info, dbname="missing"), DatabaseMissing)
    assert isinstance(refusal(replace(info, password="faux")), AuthenticationFailed)
    with closing(connect(info)) as admin:
        admin.execute("CREATE ROLE guest LOGIN PASSWORD 'invité'")
        admin.execute("CREATE DATABASE closed")
        admin.execute("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    guest = replace(info, user="guest", password="invité")
    assert isinstance(refusal(guest, dbname="closed"), PrivilegeMissing)
