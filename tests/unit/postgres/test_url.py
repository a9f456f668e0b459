"""Prisma's URL to libpq and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from naap_ops import redact
from naap_ops.errors import UnusableUrl
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.url import parse_url, to_url


@pytest.fixture(autouse=True, scope="module")
def _no_lasting_secrets() -> Iterator[None]:
    before = set(redact._known)
    yield
    redact._known.clear()
    redact._known.update(before)


def parsed(url: str) -> tuple[str | None, int | None, str | None, str | None, str | None]:
    info = parse_url(url)
    return info.host, info.port, info.user, info.password, info.dbname


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("postgresql://u:p@h:5433/db", ("h", 5433, "u", "p", "db")),
        ("postgres://u:p@h/db", ("h", None, "u", "p", "db")),
        ("POSTGRESQL://u:p@h/db", ("h", None, "u", "p", "db")),
        ("  postgresql://u:p@h/db\n", ("h", None, "u", "p", "db")),
        ("postgresql://", (None, None, None, None, None)),
        ("postgresql:///db", (None, None, None, None, "db")),
        ("postgresql://h", ("h", None, None, None, None)),
        ("postgresql://h/", ("h", None, None, None, None)),
        ("postgresql://h/db/", ("h", None, None, None, "db")),
        ("postgresql://u@h/db", ("h", None, "u", None, "db")),
        ("postgresql://u:@h/db", ("h", None, "u", None, "db")),
        ("postgresql://:p@h/db", ("h", None, None, "p", "db")),
        ("postgresql://:5433/db", (None, 5433, None, None, "db")),
        ("postgresql://u:p%40%3A%2F%23%25%3F@h/db", ("h", None, "u", "p@:/#%?", "db")),
        ("postgresql://u:p%C3%A4ss@h/d%20b", ("h", None, "u", "päss", "d b")),
        ("postgresql://u:100%@h/db", ("h", None, "u", "100%", "db")),
        ("postgresql://u:a+b@h/db", ("h", None, "u", "a+b", "db")),
        ("postgresql://u:p@q@h/db", ("h", None, "u", "p@q", "db")),
        ("postgresql://u:p:q@h/db", ("h", None, "u", "p:q", "db")),
        ("postgresql://u%40corp:p@h/%22W%C3%B6rst%22%2Fdb", ("h", None, "u@corp", "p", '"Wörst"/db')),
        ("postgresql://u@[::1]:5433/db", ("::1", 5433, "u", None, "db")),
        ("postgresql://u@[fe80::1%25eth0]/db", ("fe80::1%eth0", None, "u", None, "db")),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/db", ("/var/run/postgresql", None, "u", None, "db")),
        ("postgresql://u@localhost:5433/db?host=/var/run/postgresql", ("/var/run/postgresql", 5433, "u", None, "db")),
        ("postgresql:///db?host=/tmp&port=5433&user=u&password=p", ("/tmp", 5433, "u", "p", "db")),
        ("postgresql://h1:1,h2:1/db", ("h1,h2", 1, None, None, "db")),
        ("host=h port=5433 dbname='a b' user=u password='p q'", ("h", 5433, "u", "p q", "a b")),
        ("dbname=db", (None, None, None, None, "db")),
    ],
)
def test_where_and_as_whom(url: str, parts: tuple[object, ...]) -> None:
    assert parsed(url) == parts


def test_several_hosts_stay_libpqs_lists() -> None:
    info = parse_url("postgresql://u@h1:1,[::1]:2,h3/db?target_session_attrs=read-write")
    assert info.kwargs() == {
        "host": "h1,::1,h3",
        "port": "1,2,",
        "user": "u",
        "dbname": "db",
        "target_session_attrs": "read-write",
    }
    assert info.address == "h1:1,[::1]:2,h3:5432"
    assert info.tool_env()["PGPORT"] == "1,2,"


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("connection_limit=5&pool_timeout=2&statement_cache_size=0&socket_timeout=3&pgbouncer=false", {}),
        ("max_connection_lifetime=1&max_idle_connection_lifetime=1&single_use_connections=true&uselibpqcompat=true&supa=x", {}),
        ("connect_timeout=10&application_name=web+app", {"connect_timeout": "10", "application_name": "web app"}),
        ("options=-c%20statement_timeout%3D5", {"options": "-c statement_timeout=5"}),
        ("keepalives_idle=30", {"keepalives_idle": "30"}),
        ("sslmode=require&channel_binding=require", {"sslmode": "require", "channel_binding": "require"}),
        ("client_encoding=latin1&replication=database", {}),
        ("connect_timeout=", {}),
    ],
)
def test_parameters_kept_and_dropped(query: str, params: dict[str, str]) -> None:
    assert parse_url(f"postgresql://u@h/db?{query}").params == params


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("sslaccept=accept_invalid_certs", {"sslmode": "require"}),
        ("sslaccept=accept_invalid_certs&sslmode=prefer", {"sslmode": "prefer"}),
        ("sslaccept=accept_invalid_certs&sslcert=/ca.pem", {"sslmode": "require"}),
        ("sslaccept=accept_invalid_certs&sslrootcert=/ca.pem", {"sslmode": "require"}),
        ("sslaccept=strict", {"sslmode": "verify-full"}),
        ("sslaccept=strict&sslmode=require", {"sslmode": "verify-full"}),
        ("sslaccept=strict&sslmode=disable", {"sslmode": "disable"}),
        ("sslaccept=anything", {"sslmode": "verify-full"}),
        ("sslaccept=strict&sslcert=/ca.pem", {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
        ("sslcert=/ca.pem", {"sslmode": "verify-ca", "sslrootcert": "/ca.pem"}),
        ("sslmode=require&sslcert=/ca.pem", {"sslmode": "require", "sslrootcert": "/ca.pem"}),
        ("sslcert=/c.pem&sslkey=/k.pem", {"sslcert": "/c.pem", "sslkey": "/k.pem"}),
        ("sslcert=/c.pem&sslrootcert=/ca.pem", {"sslcert": "/c.pem", "sslrootcert": "/ca.pem"}),
        ("sslidentity=/c.p12&sslpassword=hushhush&sslmode=require", {"sslmode": "require"}),
        ("sslmode=no-verify&sslrootcert=/ca.pem", {"sslmode": "require"}),
        ("ssl=true", {"sslmode": "require"}),
        ("ssl=true&sslmode=verify-full", {"sslmode": "verify-full"}),
    ],
)
def test_tls(query: str, params: dict[str, str]) -> None:
    assert parse_url(f"postgresql://u@h/db?{query}").params == params


def test_certificates_are_found_beside_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prisma").mkdir()
    (tmp_path / "prisma" / "ca.pem").touch()
    assert parse_url("postgresql://h/db?sslcert=ca.pem").params["sslrootcert"] == "prisma/ca.pem"
    (tmp_path / "ca.pem").touch()
    assert parse_url("postgresql://h/db?sslcert=ca.pem").params["sslrootcert"] == "ca.pem"


def test_schema() -> None:
    assert parse_url("postgresql://u@h/db").schema == "public"
    assert parse_url("postgresql://u@h/db?schema=").schema == "public"
    assert parse_url("postgresql://u@h/db?schema=My%20Core").schema == "My Core"
    assert "schema" not in parse_url("postgresql://u@h/db?schema=core").kwargs()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:hush@h:6432/db", "port 6432 is a pooler's"),
        ("postgresql://u:hush@h/db?pgbouncer=true", "pgbouncer=true"),
        ("postgresql://u:hush@ep-x-pooler.eu.neon.tech/db", "-pooler"),
        ("postgresql://u:hush@x.pooler.supabase.com:6543/db", "transaction mode"),
        ("prisma://accelerate.prisma-data.net/?api_key=hush", "Prisma's own proxy"),
        ("prisma+postgres://accelerate.prisma-data.net/?api_key=hush", "Prisma's own proxy"),
        ("host=h port=6432 password=hush", "port 6432"),
        ("mysql://u:hush@h/db", "mysql:// is not PostgreSQL"),
        ("http://h/db", "http:// is not PostgreSQL"),
        ("postgresql+asyncpg://u:hush@h/db", "postgresql+asyncpg:// is not PostgreSQL"),
        ("file:./dev.db", "neither a postgresql:// URL nor libpq keywords"),
        ("hush", "neither a postgresql:// URL nor libpq keywords"),
        ("", "neither a postgresql:// URL nor libpq keywords"),
        ('"postgresql://u:hush@h/db"', "wrapped in quote characters"),
        ("postgresql://u:hush@h:port/db", "port is not a number"),
        ("postgresql://u:hush@h:0/db", "port is not a number"),
        ("postgresql://u:hush@h:65536/db", "port is not a number"),
        ("postgresql://u:hush@h:-1/db", "port is not a number"),
        ("postgresql://u:hush@h:٣/db", "port is not a number"),
        ("postgresql://h/db?port=hush", "port is not a number"),
        ("host=h port=hush", "port is not a number"),
        ("postgresql://u:pa/hush@h/db", "unencoded '/'"),
        ("postgresql://u:12/hush@h/db", "unencoded '/'"),
        ("postgresql://u:12/hush@h", "unencoded '/'"),
        ("postgresql://u:p@w:12/hush@h", "unencoded '/'"),
        ("postgresql://u:12?sslhush@h/db", "unencoded '/', '?' or '@'"),
        ("postgresql://u:p@h/a/hush", "database name holds an unencoded '/'"),
        ("postgresql://u:pa#hush@h/db", "unencoded '#'"),
        ("postgresql://u:pa?hush@h/db", "unencoded '/', '?' or '@'"),
        ("postgresql://u:hush@::1/db", "IPv6 address needs brackets"),
        ("postgresql://u:hush@[::1/db", "brackets"),
        ("postgresql://u:hush@[::1]x/db", "brackets"),
        ("postgresql://u:hush%FF@h/db", "not UTF-8"),
        ("postgresql://u:hush%00@h/db", "NUL"),
        ("postgresql://u@h/db?options=%00", "NUL"),
        ("postgresql://u:hush@h/db?sslmode=maybe", "sslmode 'maybe'"),
        ("postgresql://u:hush@h/db?sslmod=require", "TLS parameter nobody knows, 'sslmod'"),
        ("postgresql://u:hush@h/db?connect_timeout=soon", "connect_timeout 'soon'"),
        ("postgresql://u@h/db?sslkey=/k&sslcert=/c&sslpassword=hush", "sslkey without passphrase"),
        ("host=h sslkey=/k sslpassword=hush", "sslkey without passphrase"),
        ("host=h hush", "libpq does not understand"),
        ("host=h hush=x", "libpq does not understand"),
    ],
)
def test_what_cannot_be_used(url: str, reason: str) -> None:
    with pytest.raises(UnusableUrl) as caught:
        parse_url(url, source="DATABASE_URL in .env")
    assert caught.value.exit_code == 3
    assert caught.value.text.startswith("DATABASE_URL in .env cannot be used: ")
    assert reason in caught.value.text
    assert caught.value.advice
    assert "hush" not in caught.value.text + caught.value.advice


def test_without_a_source_the_message_still_reads() -> None:
    with pytest.raises(UnusableUrl, match="the database URL cannot be used"):
        parse_url("x")


# --- and back -----------------------------------------------------------------------------------------------------

anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
hosts = st.sampled_from(["h", "db.example.com", "::1", "10.0.0.1", "/var/run/post gres", None])


@given(hosts, st.none() | st.integers(1, 65535).filter(lambda p: p not in (6432, 6543)), anything, anything, anything, anything)
def test_to_url_and_parse_url_are_inverse(
    host: str | None, port: int | None, user: str, password: str, dbname: str, schema: str
) -> None:
    info = ConnInfo(host, port, user, dbname, password, {"sslmode": "require", "options": f"-c x={dbname}"}, schema)
    assert parse_url(to_url(info)) == info


@given(anything, anything, anything)
def test_libpq_reads_the_same_from_keywords_and_url(user: str, password: str, dbname: str) -> None:
    info = ConnInfo("h", 5433, user, dbname, password)
    expected = {key: str(value) for key, value in info.kwargs().items()}
    assert conninfo_to_dict(to_url(info)) == expected
    assert conninfo_to_dict(make_conninfo(**info.kwargs())) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///db",
        "postgresql://u@h1:1,h2:2,[::1]/db?target_session_attrs=primary",
        "postgresql://u:p@localhost:5433/db?host=%2Fvar%2Frun%2Fpostgresql&schema=core",
        "postgresql://:p@h/db",
    ],
)
def test_urls_that_come_back_as_they_were(url: str) -> None:
    again = parse_url(to_url(parse_url(url)))
    assert again == parse_url(url)


def test_without_the_password() -> None:
    info = ConnInfo("h", 5432, "u", "db", "hushhush", schema="core")
    assert to_url(info, password=False) == "postgresql://u@h:5432/db?schema=core"
