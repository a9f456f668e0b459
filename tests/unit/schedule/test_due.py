"""When a cron expression is due: fields, days, zones, clock changes. A slow reading of crontab(5) is the judge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naap_ops.config.cron import parse
from naap_ops.schedule import due

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # changes by half an hour


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def walk(text: str, zone: ZoneInfo, start: str, count: int) -> list[str]:
    """The due times from ``start`` (UTC) on, by the zone's clock with its offset."""
    found, moment = [], at(start)
    for _ in range(count):
        moment = due.after(parse(text), zone, moment)
        found.append(moment.astimezone(zone).isoformat(timespec="minutes"))
    return found


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0 3 * * *", "2026-11-21T03:00"),  # a Saturday
        ("@daily", "2026-11-22T00:00"),
        ("@hourly", "2026-11-21T02:00"),
        ("@weekly", "2026-11-22T00:00"),
        ("@monthly", "2026-12-01T00:00"),
        ("*/15 * * * *", "2026-11-21T01:45"),
        ("5,35 1-2 * * *", "2026-11-21T01:35"),
        ("0 0 * * 0", "2026-11-22T00:00"),  # Sunday is 0
        ("0 0 * * 7", "2026-11-22T00:00"),  # and 7
        ("0 0 * * sun", "2026-11-22T00:00"),
        ("0 0 * * 1", "2026-11-23T00:00"),  # Monday is 1
        ("0 0 * * Mon-Fri", "2026-11-23T00:00"),
        ("0 0 * * 5-7", "2026-11-22T00:00"),
        ("0 0 1 Feb *", "2027-02-01T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 0 31 * *", "2026-12-31T00:00"),
        ("0 0 13 * 5", "2026-11-27T00:00"),  # the 13th or any Friday
        ("0 0 13 * 1-7", "2026-11-22T00:00"),
        ("10-50/20 * * * *", "2026-11-21T01:50"),
    ],
)
def test_the_next_due_time(text: str, first: str) -> None:
    assert due.after(parse(text), UTC, at("2026-11-21T01:30")) == at(first)


@pytest.mark.parametrize(
    "text",
    [
        "", "daily", "@yearly2", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
        "* * * * 8", "* * * * foo", "5-1 * * * *", "*/0 * * * *", "1, * * * *", "5/10 * * * *", "*-5 * * * *", "-1 * * * *",
        "0 0 30 2 *", "0 0 31 4,6 *", "0 0 */2 * 1", "0 0 1 * */2", "1.5 * * * *", "\u0663 * * * *",
    ],
)  # fmt: skip
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_a_fixed_hour_that_is_leapt_over_runs_once_and_as_much_later() -> None:
    assert walk("30 2 * * *", BERLIN, "2026-03-28T12:00", 2) == ["2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]
    assert walk("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", 1) == ["2026-10-04T02:45+11:00"]


def test_an_hour_that_comes_twice_counts_once() -> None:
    assert walk("30 2 * * *", BERLIN, "2026-10-24T12:00", 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    assert walk("30 1 * * *", NEW_YORK, "2026-10-31T12:00", 2) == ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]


@pytest.mark.parametrize("start", ["2026-03-29T00:00", "2026-10-25T00:00"])
def test_every_hour_is_every_real_hour(start: str) -> None:
    moments, moment = [], at(start)
    for _ in range(6):
        moment = due.after(parse("0 * * * *"), BERLIN, moment)
        moments.append(moment)
    assert moments == [at(start) + timedelta(hours=n) for n in range(1, 7)]


FIELDS = st.tuples(
    st.sampled_from(["0", "*/20", "7,50", "59", "*"]),
    st.sampled_from(["*", "0", "2", "3", "*/6", "1-3", "23"]),
    st.sampled_from(["*", "1", "15", "28-31"]),
    st.sampled_from(["*", "2,3", "oct", "11-12"]),
    st.sampled_from(["*", "0", "7", "mon-fri", "6"]),
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive ones
ZONES = st.sampled_from([UTC, BERLIN, NEW_YORK, LORD_HOWE, ZoneInfo("Asia/Kathmandu")])


@given(FIELDS, MOMENTS, ZONES)
def test_before_and_after_agree(fields: tuple[str, ...], moment: datetime, zone: ZoneInfo) -> None:
    cron = parse(" ".join(fields))
    following = due.after(cron, zone, moment)
    assert following > moment
    assert due.before(cron, zone, following) == following
    assert due.before(cron, zone, following - timedelta(microseconds=1)) <= moment
    assert due.after(cron, zone, due.before(cron, zone, moment)) == following


@given(FIELDS, MOMENTS)
def test_the_next_minute_that_fits_by_a_plain_reading(fields: tuple[str, ...], moment: datetime) -> None:
    cron = parse(" ".join(fields))
    following = due.after(cron, UTC, moment)

    def fits(when: datetime) -> bool:
        days = [when.day in cron.days] if cron.days is not None else []
        days += [when.isoweekday() % 7 in cron.weekdays] if cron.weekdays is not None else []
        return when.minute in cron.minutes and when.hour in cron.hours and when.month in cron.months and (not days or any(days))

    assert fits(following)
    minute = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(3000):
        if minute >= following:
            break
        assert not fits(minute)
        minute += timedelta(minutes=1)


@given(FIELDS, MOMENTS)
def test_plain_numbers_say_the_same(fields: tuple[str, ...], moment: datetime) -> None:
    cron = parse(" ".join(fields))
    again = parse(cron.expression)
    assert due.after(again, UTC, moment) == due.after(cron, UTC, moment)
