"""No secret leaves the process, and text without secrets stays as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from naap_ops import redact
from naap_ops.redact import MASK

pytestmark = pytest.mark.usefixtures("_no_lasting_secrets")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://app:pw@host:5432/db?schema=x", "postgresql://app:***@host:5432/db?schema=x"),
        ("postgres://u:p%40ss%2F@h/db", "postgres://u:***@h/db"),
        ("postgres://u:@h/db", "postgres://u:***@h/db"),
        ("postgres://:pw@h/db", "postgres://:***@h/db"),
        ("s3://key:secret@host", "s3://key:***@host"),
        ("two: postgres://a:b@c/d, postgres://e:f@g/h.", "two: postgres://a:***@c/d, postgres://e:***@g/h."),
        ("'postgres://u:p@h1,h2:5433/db'", "'postgres://u:***@h1,h2:5433/db'"),
        ('{"url": "postgres://u:p@h/db", "mail": "a@b"}', '{"url": "postgres://u:***@h/db", "mail": "a@b"}'),
        # written by hand, without percent-encoding
        ("postgres://u:p@ss@host/db", "postgres://u:***@host/db"),
        ("postgres://u:p@ss/w#r?d:x@host/db", "postgres://u:***@host/db"),
        ("postgres://u:it's$%&()@host/db", "postgres://u:***@host/db"),
        ('postgres://u:a"b@host/db', "postgres://u:***@host/db"),
        ("postgres://u:p\\@h", "postgres://u:***@h"),
    ],
)
def test_passwords_in_urls(text: str, expected: str) -> None:
    assert redact.text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host=h password=geheim user=u", "host=h password=*** user=u"),
        ("host=h password='with space' user=u", "host=h password=*** user=u"),
        (r"password='it\'s' user=u", "password=*** user=u"),
        ("password = geheim user=u", "password = *** user=u"),
        ("password=a'b\"c user=u", "password=*** user=u"),
        ("PGPASSWORD=geheim psql", "PGPASSWORD=*** psql"),
        ('PGPASSWORD="with space" psql', "PGPASSWORD=*** psql"),
        ("POSTGRES_PASSWORD=geheim", "POSTGRES_PASSWORD=***"),
        ("AWS_SECRET_ACCESS_KEY=abc/d+e== x", "AWS_SECRET_ACCESS_KEY=*** x"),
        ("AWS_SESSION_TOKEN=abc", "AWS_SESSION_TOKEN=***"),
        ("sslpassword=x&sslmode=require", "sslpassword=***&sslmode=require"),
        ("postgres://h/db?user=u&password=p&sslmode=x", "postgres://h/db?user=u&password=***&sslmode=x"),
        ("prisma://accelerate.prisma-data.net/?api_key=eyJ.x", "prisma://accelerate.prisma-data.net/?api_key=***"),
        ("--password=geheim", "--password=***"),
    ],
)
def test_passwords_by_keyword(text: str, expected: str) -> None:
    assert redact.text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        'FATAL: password authentication failed for user "app"',
        "fe_sendauth: no password supplied",
        "Is the server running on host localhost (127.0.0.1) and accepting TCP/IP connections on port 5432?",
        "postgres://u@host:5432/db?options=a@b",
        "https://registry.example:4873/@scope/package",
        "http://h:80 and mail to a@b.c",
        '{"url": "http://h:80", "mail": "a@b"}',
        "ssh://git@host:22/x:y@z",
        "COPY public.t (a) FROM stdin; -- a:b@c",
        "passwordless=yes",
        "the secret is out",
    ],
)
def test_text_without_secrets_stays(text: str) -> None:
    assert redact.text(text) == text


@pytest.mark.parametrize("text", ["a" * 1_000_000, "password " * 100_000, "://" * 5_000, "x=" * 100_000])
def test_long_text_is_no_trap(text: str) -> None:
    """Backtracking in the patterns must not make a long line of stderr take for ever."""
    assert redact.text(text) == text


@given(st.text())
def test_any_text_without_secrets_stays(text: str) -> None:
    assume("://" not in text)
    assume(not re.search("(?i)password|secret|token|api_?key", text))
    assert redact.text(text) == text


# What can stand in a password without making the end of the URL a matter of opinion.
PASSWORDS = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1).filter(
    lambda p: not re.match(r"\d{1,5}(\W|$)", p) and not re.search('"[,:}\\]]', p)
)


@given(PASSWORDS, st.sampled_from(["postgres", "postgresql", "s3"]))
def test_any_password_in_a_url_is_masked(password: str, scheme: str) -> None:
    assert redact.text(f"cannot reach {scheme}://app:{password}@db.example:5432/x now") == (
        f"cannot reach {scheme}://app:{MASK}@db.example:5432/x now"
    )


@given(st.text(min_size=4), st.text(), st.text())
def test_registered_secrets_are_masked_wherever_they_stand(secret: str, before: str, after: str) -> None:
    assume(secret.strip("*"))
    assume(secret not in MASK * 3)
    known = set(redact._known)
    try:
        redact.register(secret)
        assert secret not in redact.text(before + secret + after)
        assert secret not in " ".join(redact.argv([before, secret + after]))
    finally:
        redact._known.clear()
        redact._known.update(known)


def test_the_longest_secret_goes_first() -> None:
    redact.register("geheim")
    redact.register("geheim-und-mehr")
    assert redact.text("geheim-und-mehr, geheim") == "***, ***"


@pytest.mark.parametrize("secret", [None, "", "abc"])
def test_what_is_too_short_to_be_told_from_text_is_left_to_the_patterns(secret: str | None) -> None:
    redact.register(secret)
    assert redact.text("abc abcd") == "abc abcd"


@given(st.text())
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = redact.text(text)
    assert redact.text(once) == once
