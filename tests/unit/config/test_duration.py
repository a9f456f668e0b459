"""Spans of time as operators write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naap_ops.config import duration


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30s", timedelta(seconds=30)),
        ("30", timedelta(seconds=30)),
        (30, timedelta(seconds=30)),
        (1.5, timedelta(seconds=1.5)),
        ("48h", timedelta(hours=48)),
        ("5min", timedelta(minutes=5)),
        (" 5 min ", timedelta(minutes=5)),
        ("1h30min", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("2w", timedelta(days=14)),
        ("0", timedelta()),
        (timedelta(days=1), timedelta(days=1)),
    ],
)
def test_reads_what_operators_write(written: object, meant: timedelta) -> None:
    assert duration.parse(written) == meant


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("soon", "not a duration"),
        ("", "not a duration"),
        ("-5s", "not a duration"),
        (-5, "not a duration"),
        ("1e9", "not a duration"),
        ("5m", "write 'min'"),
        ("5 parsecs", "unknown unit 'parsecs'"),
        ("1h30", "every number needs its unit"),
        ("9999999999w", "too long"),
        (True, "a duration is a text"),
        (None, "a duration is a text"),
        (timedelta(seconds=-1), "negative"),
    ],
)
def test_says_what_is_wrong(written: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        duration.parse(written)


@pytest.mark.parametrize(
    ("span", "text"), [("48h", "48h"), ("7d", "7d"), ("90s", "90s"), ("60s", "1min"), ("0", "0s"), ("1.5s", "1500ms")]
)
def test_writes_the_largest_whole_unit(span: str, text: str) -> None:
    assert duration.text(duration.parse(span)) == text


@given(st.integers(min_value=0, max_value=10**12))
def test_text_is_the_inverse_of_parse(milliseconds: int) -> None:
    span = timedelta(milliseconds=milliseconds)
    assert duration.parse(duration.text(span)) == span
