"""OK, WARN or CRIT: every reason, and what must not count."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from naap_ops import clock
from naap_ops.backup.health import Health, Limits, Status, health, span, unknown
from naap_ops.backup.manifest import FileFact, Scope
from naap_ops.backup.repository import Backup, Record, Repository
from tests.unit.backup.conftest import MakeManifest

LIMITS = Limits(timedelta(hours=26), timedelta(hours=48), 50)
NOW = clock.parse("2026-11-21T12:00:00.000Z")
Make = Callable[..., Backup]


@pytest.fixture
def make(repository: Repository, make_manifest: MakeManifest) -> Make:
    """``make(hours=3)``: a verified backup of the whole database from three hours ago."""

    def one(hours: float = 3.0, size: int = 1000, grade: str = "read", **fields: object) -> Backup:
        id = clock.new_id(NOW - timedelta(hours=hours))
        verified = {"grade": grade, "at": clock.iso(NOW), "by": "a test"}
        manifest = make_manifest(id=id, bytes=size, verified=verified, files=[FileFact("x", size, "")], **fields)
        return Backup("app", id, repository.storage, manifest)

    return one


def judged(*backups: Backup, limits: Limits = LIMITS) -> Health:
    return health(sorted(backups, key=lambda b: b.id, reverse=True), limits, NOW)


def failed(backup: Backup) -> Backup:
    backup.records.append(Record(clock.iso(NOW), "failed", {"grade": "hash", "problems": ["data/1.dat: missing"]}))
    backup.__dict__.pop("checks", None)
    return backup


def drilled(backup: Backup, hours: float, **data: object) -> Backup:
    backup.records.append(Record(clock.iso(NOW - timedelta(hours=hours)), "drilled", dict(data)))
    return backup


def test_all_is_well(make: Make) -> None:
    newest = make(3)
    assert judged(newest, make(27), make(51)) == Health(Status.OK, [], newest.id, 3 * 3600, 1000)


@pytest.mark.parametrize(
    ("hours", "status"), [(25.99, Status.OK), (26, Status.OK), (26.01, Status.WARN), (48, Status.WARN), (48.01, Status.CRIT)]
)
def test_age(make: Make, hours: float, status: Status) -> None:
    found = judged(make(hours))
    assert found.status is status
    assert found.age_seconds == pytest.approx(hours * 3600, abs=1)
    assert len(found.reasons) == (status is not Status.OK)


def test_only_verified_ones_count(make: Make) -> None:
    found = judged(make(2, grade="hash"), make(30))
    assert (found.status, found.age_seconds) == (Status.WARN, 30 * 3600)
    assert judged(make(2, grade="none")).reasons == ["there is no verified backup"]
    assert judged().reasons == ["there is no backup"]
    assert judged().status is judged(make(2, grade="none")).status is Status.CRIT


def test_the_newest_is_bad(make: Make) -> None:
    bad, good = failed(make(2)), make(20)
    found = judged(bad, good)
    assert (found.status, found.id) == (Status.CRIT, good.id)
    assert found.reasons == [f"the newest backup {bad.id} is BAD: data/1.dat: missing"]
    assert judged(make(1), failed(make(2))).status is Status.OK  # it is over


def test_the_newest_cannot_be_read(make: Make, repository: Repository) -> None:
    spoilt = Backup("app", clock.new_id(NOW - timedelta(hours=1)), repository.storage)
    found = judged(spoilt, make(20))
    assert found.status is Status.CRIT
    assert spoilt.id in found.reasons[0]


def test_a_part_saved_this_morning_hides_no_missing_night(make: Make) -> None:
    part = make(1, scope=Scope(schemas=["tenant_a"]))
    structure = make(1, kind="schema")
    found = judged(part, structure, make(50))
    assert (found.status, found.age_seconds) == (Status.CRIT, 50 * 3600)
    assert judged(part, structure).status is Status.OK  # who only saves parts is judged by these


@pytest.mark.parametrize(
    ("size", "others", "status"),
    [
        (1501, [1000] * 7, Status.WARN),
        (1500, [1000] * 7, Status.OK),
        (499, [1000] * 7, Status.WARN),
        (500, [1000] * 7, Status.OK),
        (1000, [1000, 1000, 1000, 1000, 9, 9, 9], Status.OK),  # the median, not the mean
        (1000, [1000] * 7 + [100_000] * 9, Status.OK),  # the last seven only
        (5000, [1000], Status.WARN),
        (5000, [], Status.OK),
    ],
)
def test_size_against_the_median_of_the_last_seven(make: Make, size: int, others: list[int], status: Status) -> None:
    found = judged(make(1, size), *(make(2 + n, each) for n, each in enumerate(others)))
    assert found.status is status
    assert ("median" in " ".join(found.reasons)) == (status is Status.WARN)


def test_sizes_of_other_kinds_and_of_bad_ones_are_not_compared(make: Make) -> None:
    without = Scope(exclude_table_data=["public.log"])
    assert judged(make(1, 100), make(2, 9000, scope=without), failed(make(3, 9000))).status is Status.OK
    archive, script = (make(hours, size, format=form) for hours, size, form in ((1, 100, "custom"), (2, 9000, "plain")))
    assert judged(archive, script, make(3, 90, format="custom")).status is Status.OK
    assert judged(make(1, 100, compression="zstd:1"), make(2, 900, compression="none")).status is Status.OK


@pytest.mark.parametrize(("hours", "ahead"), [(-1.0, "1 h"), (-24 * 365, "365 days")])
def test_a_backup_from_the_future_warns_and_does_not_count(make: Make, hours: float, ahead: str) -> None:
    future = make(hours)
    found = judged(future, make(3))
    assert (found.status, found.age_seconds) == (Status.WARN, 3 * 3600)
    assert found.reasons == [f"backup {future.id} is {ahead} from the future: a clock was moved; it is not counted"]
    assert judged(future, make(50)).status is Status.CRIT
    alone = judged(future)
    assert (alone.status, alone.age_seconds) == (Status.WARN, None)


def test_clocks_that_differ_by_a_little_are_no_news(make: Make) -> None:
    found = judged(make(-0.05))
    assert (found.status, found.age_seconds) == (Status.OK, 0)


def test_drills(make: Make) -> None:
    demanded = Limits(LIMITS.warn_age, LIMITS.crit_age, LIMITS.size_change, timedelta(days=7))
    assert judged(make(), limits=demanded).reasons == ["there was no drill"]
    assert judged(make(), limits=demanded).status is Status.WARN
    assert judged(drilled(make(), 100, ok=True, seconds=3.0, rows=2, tables=1), limits=demanded).status is Status.OK
    late = judged(drilled(make(), 200, ok=True), limits=demanded)
    assert (late.status, late.reasons) == (Status.WARN, ["the last drill was 8 days ago, more than 7 days"])
    assert judged(drilled(make(), 2000, ok=True)).status is Status.OK  # not demanded


def test_a_failed_drill_is_critical_until_one_passes(make: Make) -> None:
    old, new = make(30), make(3)
    drilled(old, 20, ok=False, error="rows differ")
    found = judged(old, new)
    assert found.status is Status.CRIT
    assert found.reasons[0].endswith(f"of backup {old.id}, failed: rows differ")
    drilled(new, 2, ok=True)
    assert judged(old, new).status is Status.OK
    drilled(new, 1, problem="the record cannot be read")
    assert judged(old, new).status is Status.CRIT
    drilled(new, 0.5, ok=False, problems=["public.t: 2 rows, not 3", "it's another"])
    assert judged(old, new).reasons[0].endswith("failed: public.t: 2 rows, not 3; it's another")


def test_the_worst_wins_and_every_reason_is_told(make: Make) -> None:
    found = judged(drilled(make(30, 5000), 1, ok=False), make(54))
    assert found.status is Status.CRIT
    assert len(found.reasons) == 3


def test_spans_for_people() -> None:
    assert [span(timedelta(hours=h)) for h in (0.5, 1, 26.51, 95, 240)] == ["30 min", "1 h", "26.5 h", "95 h", "10 days"]


def test_what_cannot_be_looked_at_is_critical() -> None:
    assert unknown("no such bucket") == Health(Status.CRIT, ["no such bucket"])
