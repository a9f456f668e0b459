"""Addresses: pooled or not, masked whatever their shape."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naap_ops import redact
from naap_ops.config import dsn


@pytest.fixture(autouse=True, scope="module")
def _no_lasting_secrets() -> Iterator[None]:
    before = set(redact._known)
    yield
    redact._known.clear()
    redact._known.update(before)


@pytest.mark.parametrize(
    ("url", "reason", "instead"),
    [
        ("postgresql://u:p@h:6432/db", "port 6432", "5432"),
        ("postgresql://u:p@h/db?port=6432", "port 6432", "5432"),
        ("postgresql://u:p@h/db?pgbouncer=true", "pgbouncer=true", ""),
        ("postgresql://u:p@h/db?PGBOUNCER=x&pgbouncer=True", "pgbouncer=true", ""),
        ("postgresql://u:p@ep-x-1-pooler.eu.aws.neon.tech/db", "-pooler", "ep-x-1.eu.aws.neon.tech"),
        ("postgresql://u:p@aws-0-eu.pooler.supabase.com:6543/db", "transaction mode", "session mode"),
        ("postgresql://u:p@db.ref.supabase.co:6543/db", "port 6543", "5432"),
        ("postgresql://u:p@a:5432,b:6432/db", "port 6432", "5432"),
        ("prisma://accelerate.prisma-data.net/?api_key=k", "prisma:// goes through", "postgresql://"),
        ("prisma+postgres://localhost:51213/?api_key=k", "prisma+postgres:// goes through", "postgresql://"),
        ("host=h port=6432 dbname=db", "port 6432", "5432"),
        ("host='x-pooler.neon.tech' dbname=db", "-pooler", "x.neon.tech"),
    ],
)
def test_poolers_are_known(url: str, reason: str, instead: str) -> None:
    refusal = dsn.refusal(url)
    assert refusal is not None
    assert reason in refusal.reason
    assert instead in refusal.instead


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:5432/db",
        "postgresql://u:p@h:6432/db?pgbouncer=false",
        "postgresql://u:p@pooler.internal/db",
        "postgresql://u:p@my-pooler/db",
        "postgresql://u:p@ep-x.eu.aws.neon.tech/db?sslmode=require&channel_binding=require",
        "postgresql://u.ref:p@aws-0-eu.pooler.supabase.com:5432/postgres",
        "host=h port=5432",
        "not a url",
        "mysql://u:p@h:6432x/db",
    ],
)
def test_direct_ones_pass(url: str) -> None:
    assert dsn.refusal(url) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:p@h/db", "db"),
        ("postgresql://u:p@h/a%20b?schema=x", "a b"),
        ("postgresql://u:p@h/db?dbname=other", "other"),
        ("postgresql://u:p@h", "u"),
        ("postgresql://h/", None),
        ("host=h dbname='a b'", "a b"),
        ("host=h user=u", "u"),
        ("mysql://u:p@h/db", None),
        ("prisma://h/?api_key=k", None),
        ("garbage", None),
    ],
)
def test_database_name(url: str, name: str | None) -> None:
    assert dsn.database_name(url) == name


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:hushhush@h:5432/db",
        "postgresql://user:hush@hush@h/db",
        "postgresql://user:hush/hush?hush#hush@h/db",
        "postgresql://user:hushhush",
        "postgresql://h/db?password=hushhush",
        "prisma://accelerate.prisma-data.net/?api_key=hushhush",
        "host=h password=hushhush",
        "host=h password='hush hush' dbname=d",
        r"host=h password='hush\'hush' dbname=d",
        "hushhush",
        '"postgresql://user:hushhush@h/db"',
    ],
)
def test_masked_leaves_nothing_of_the_password(text: str) -> None:
    assert "hush" not in dsn.masked(text)


@pytest.mark.parametrize(
    "url", ["postgresql://h:5432/db", "postgresql://[::1]:5432/db", "postgresql://u@h/db?schema=core", "s3://bucket/x"]
)
def test_masked_leaves_the_rest(url: str) -> None:
    assert dsn.masked(url) == url


def test_masked_keeps_the_address() -> None:
    assert dsn.masked("postgresql://user:hushhush@h:5432/db?schema=core") == "postgresql://user:***@h:5432/db?schema=core"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_masked_never_shows_a_raw_password(password: str) -> None:
    assert dsn.masked(f"postgresql://user:{password}@h/db") == "postgresql://user:***@h/db"


def test_secrets_are_registered_raw_and_decoded() -> None:
    dsn.register_secrets("postgresql://user:p%40ssw0rd@h/db")
    assert redact.text("was p@ssw0rd, p%40ssw0rd") == "was ***, ***"


def test_secrets_of_keyword_strings_are_registered() -> None:
    dsn.register_secrets("host=h password='quoted secret'")
    assert redact.text("was quoted secret") == "was ***"


def test_a_password_that_is_a_public_name_is_left_to_the_patterns() -> None:
    dsn.register_secrets("postgresql://plexica:plexica@h/plexica")
    dsn.register_secrets("postgresql://postgres:postgres@localhost/naap")
    assert redact.text("database plexica of postgres") == "database plexica of postgres"
    assert dsn.masked("postgresql://plexica:plexica@h/plexica") == "postgresql://plexica:***@h/plexica"


def test_parts_do_not_show_the_password() -> None:
    assert "hush" not in repr(dsn.split("postgresql://u:hush@h/db?password=hush"))
