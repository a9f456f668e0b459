"""The filter between a script and psql: its own pair makes way for empty lines, ours is put in front, nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naap_ops.restore.restricted import HEAD_BYTES, _Restricted

KEY = b"Kk0"
HEAD = b"--\n-- PostgreSQL database dump\n--\n\n"


def through(text: bytes, sizes: Iterator[int], *, key: str | None = "ours", major: int = 18) -> bytes:
    found: list[bytes] = []
    filtered = _Restricted(found.append, key, major)
    while text:
        size = next(sizes)
        filtered.feed(text[:size])
        text = text[size:]
    filtered.feed(b"")
    return b"".join(found)


def pieces(seed: int) -> Iterator[int]:
    chance = random.Random(seed)
    while True:
        yield chance.choice((1, 2, 3, 5, 17, 4096, HEAD_BYTES))


@pytest.mark.parametrize("seed", range(20))
def test_the_scripts_own_pair_goes_wherever_it_is_cut(seed: int) -> None:
    body = b"select 1;\n" * 7000 + b"\\unrestrict " + KEY + b"x\n" + b"\\. \n"
    text = HEAD + b"\\restrict " + KEY + b"\n" + body + b"\\unrestrict " + KEY + b"\n\n"
    assert through(text, pieces(seed)) == b"\\restrict ours\n" + HEAD + b"\n" + body + b"\n\n"


def test_a_psql_without_the_command_gets_neither() -> None:
    text = HEAD + b"\\restrict " + KEY + b"\nselect 1;\n\\unrestrict " + KEY + b"\n"
    assert through(text, pieces(1), key=None) == HEAD + b"\nselect 1;\n\n"


@given(st.binary(max_size=2000), st.integers())
def test_anything_else_passes_unchanged(text: bytes, seed: int) -> None:
    if not text.startswith(b"\\restrict") and b"\n\\restrict" not in text:
        assert through(text, pieces(seed)) == b"\\restrict ours\n" + text


def test_what_an_older_server_does_not_know_is_left_out_once() -> None:
    setting = b"SET transaction_timeout = 0;\n"
    text = HEAD + setting + b"select 1;\n" + setting
    assert through(text, pieces(1), major=16) == b"\\restrict ours\n" + HEAD + b"select 1;\n" + setting
    assert through(text, pieces(1), major=17) == b"\\restrict ours\n" + text
