"""Times are UTC and say so, in forms that sort and can be read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from naap_ops import clock

MOMENTS = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.timezones())  # noqa: DTZ001


def test_forms() -> None:
    moment = datetime(2026, 11, 21, 4, 15, 0, 123999, tzinfo=timezone(timedelta(hours=1)))
    assert clock.stamp(moment) == "20261121T031500Z"
    assert clock.iso(moment) == "2026-11-21T03:15:00.123Z"
    assert clock.now().tzinfo is UTC


@given(MOMENTS)
def test_iso_can_be_read_back_to_the_millisecond(moment: datetime) -> None:
    again = clock.parse(clock.iso(moment))
    assert timedelta(0) <= moment.astimezone(UTC) - again < timedelta(milliseconds=1)
    assert clock.iso(again) == clock.iso(moment)


@given(MOMENTS, MOMENTS)
def test_both_forms_sort_as_the_moments_do(one: datetime, other: datetime) -> None:
    earlier, later = sorted((one.astimezone(UTC), other.astimezone(UTC)))
    assert clock.stamp(earlier) <= clock.stamp(later)
    assert clock.iso(earlier) <= clock.iso(later)
