"""The rules by example, and the six ways in which other tools destroyed good backups."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from naap_ops import clock
from naap_ops.backup.repository import Backup, Repository
from naap_ops.backup.retention import Decision, Policy, plan
from naap_ops.errors import BackupNotFound

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
Publish = Callable[..., Backup]


@dataclass(frozen=True)
class Made:
    """A backup as retention sees it, at an ISO time."""

    at: str
    verified: bool = True
    bad: bool = False
    kept: bool = False
    group: str = "app"

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.at).replace(tzinfo=UTC)

    @property
    def id(self) -> str:
        return f"{clock.stamp(self.moment)}-000000"


def unverified(at: str) -> Made:
    return Made(at, verified=False)


def bad(at: str) -> Made:
    return Made(at, verified=False, bad=True)


def days_ago(*days: int) -> list[Made]:
    return [Made((NOW - day * DAY).isoformat()[:19]) for day in days]


def decisions(backups: Iterable[Made], policy: Policy) -> dict[str, Decision]:
    backups = list(backups)
    at = {backup.id: backup.at for backup in backups}
    return {at[d.id]: d for d in plan(backups, policy, NOW)}


def kept(backups: Iterable[Made], policy: Policy) -> set[str]:
    return {at for at, decision in decisions(backups, policy).items() if decision.keep}


# --- restic's rules -----------------------------------------------------------------------------------------------


def test_daily_counts_days_that_have_a_backup_and_takes_the_newest_of_each() -> None:
    """restic's documentation: "for the last n days which have one or more snapshots, keep only the most recent one"."""
    history = [
        Made("2026-11-20T03:00"),
        Made("2026-11-20T23:59:59"),
        Made("2026-11-17T03:00"),
        Made("2026-11-17T02:59"),
        Made("2026-11-01T03:00"),
        Made("2026-10-31T03:00"),
    ]
    assert kept(history, Policy(daily=3)) == {"2026-11-20T23:59:59", "2026-11-17T03:00", "2026-11-01T03:00"}


def test_days_are_those_of_utc() -> None:
    assert kept([Made("2026-11-20T00:00"), Made("2026-11-19T23:59:59")], Policy(daily=2)) == {
        "2026-11-20T00:00",
        "2026-11-19T23:59:59",
    }


def test_weeks_are_iso_weeks_also_across_the_new_year() -> None:
    history = [Made("2027-01-03T03:00"), Made("2026-12-31T03:00"), Made("2026-12-28T03:00"), Made("2026-12-27T03:00")]
    # Monday 28 December to Sunday 3 January is one week, 2026-W53; the 27th is a Sunday of the week before.
    assert kept(history, Policy(weekly=2)) == {"2027-01-03T03:00", "2026-12-27T03:00"}
    # 1 January 2024 is a Monday; 31 December 2023 the last day of 2023-W52.
    assert kept([Made("2024-01-01T03:00"), Made("2023-12-31T03:00")], Policy(weekly=2)) == {
        "2024-01-01T03:00",
        "2023-12-31T03:00",
    }
    # W01 of two years are two weeks.
    assert len(kept([Made("2025-01-01T03:00"), Made("2024-01-02T03:00")], Policy(weekly=2))) == 2


def test_months_and_years() -> None:
    history = [Made(f"{year}-{month:02}-{day:02}T03:00") for year in (2025, 2026) for month in (3, 11) for day in (1, 20)]
    assert kept(history, Policy(monthly=3)) == {"2026-11-20T03:00", "2026-03-20T03:00", "2025-11-20T03:00"}
    assert kept(history, Policy(yearly=5)) == {"2026-11-20T03:00", "2025-11-20T03:00"}


def test_last_counts_backups() -> None:
    assert kept(days_ago(0, 1, 2, 3), Policy(last=2)) == {b.at for b in days_ago(0, 1)}


def test_rules_are_or_ed_and_named() -> None:
    history = days_ago(*range(40))
    found = decisions(history, Policy(last=2, daily=3, monthly=2, minimum=1))
    reasons = {at: decision.reasons for at, decision in found.items() if decision.keep}
    assert list(reasons.values()) == [
        ["last", "daily", "monthly", "minimum"],
        ["last", "daily"],
        ["daily"],
        ["monthly"],  # 31 October
    ]
    assert {tuple(d.reasons) for d in found.values() if not d.keep} == {("no rule keeps it",)}


def test_an_empty_policy_still_keeps_the_newest_good_one() -> None:
    for policy in (Policy(), Policy(minimum=0)):
        assert kept(days_ago(1, 2, 3), policy) == {b.at for b in days_ago(1)}
    assert plan([], Policy(), NOW) == []


def test_the_floor_is_by_count_not_by_rule() -> None:
    assert kept(days_ago(1, 2, 3, 4), Policy(last=1, minimum=3)) == {b.at for b in days_ago(1, 2, 3)}


def test_pinned_stays_and_takes_no_slot_from_others() -> None:
    history = [
        *days_ago(1, 2, 3),
        Made("2020-01-01T00:00", kept=True),
        Made("2020-01-02T00:00", verified=False, bad=True, kept=True),
    ]
    found = decisions(history, Policy(last=2))
    assert [at for at, d in found.items() if d.keep] == [
        *(b.at for b in days_ago(1, 2)),
        "2020-01-02T00:00",
        "2020-01-01T00:00",
    ]
    assert found["2020-01-01T00:00"].reasons == ["pinned"]


def test_reasons_to_delete() -> None:
    history = [*days_ago(1, 2), bad("2026-11-20T23:00"), unverified("2026-11-01T00:00")]
    found = decisions(history, Policy(last=1))
    assert {at: d.reasons for at, d in found.items() if not d.keep} == {
        "2026-11-20T23:00": ["BAD: counts for nothing"],
        days_ago(2)[0].at: ["no rule keeps it"],
        "2026-11-01T00:00": ["never verified, and newer ones are"],
    }


def test_a_group_is_a_world_of_its_own() -> None:
    structure_only = [Made(b.at, group="app, schema only") for b in days_ago(0, 1)]
    assert kept([*days_ago(5, 6), *structure_only], Policy(last=1)) == {days_ago(0)[0].at, days_ago(5)[0].at}


# --- how others lost theirs ---------------------------------------------------------------------------------------

MEANT = Policy(last=7, daily=14, minimum=3, max_age=48 * timedelta(hours=1))


def test_the_clock_alone_deletes_nothing_while_every_dump_fails() -> None:
    """An age rule that kept running while every dump failed (pgbackweb#121)."""
    old = days_ago(*range(30, 60))
    failures = [bad(b.at) for b in days_ago(*range(30))]
    found = decisions([*old, *failures], MEANT)
    assert all(d.keep for d in found.values())
    assert found[days_ago(59)[0].at].reasons == ["refused: the newest verified backup is 30 days old, more than 48 h"]
    # Nor without the limit of age: rules count backups, not days gone by.
    without = Policy(last=7, daily=14)
    assert {b.at for b in days_ago(*range(30, 44))} <= kept([*old, *failures], without)
    assert kept(old, without) == kept([*old, *failures], without)


def test_an_empty_dump_that_succeeded_displaces_nothing() -> None:
    """A 0-byte dump that "succeeded" and triggered retention (DBackup#154)."""
    policy = Policy(last=2, minimum=1)
    assert kept([*days_ago(1, 2), unverified(NOW.isoformat()[:19])], policy) == {b.at for b in days_ago(0, 1, 2)}


def test_failed_runs_do_not_fill_the_window() -> None:
    """Failed runs filling the keep-last window (Portabase#332)."""
    failures = [bad(f"2026-11-21T0{hour}:00") for hour in range(10)]
    assert kept([*days_ago(1, 2, 3), *failures], Policy(last=3)) == {b.at for b in days_ago(1, 2, 3)}


def test_the_newest_is_told_by_its_time_whoever_wrote_it(repository: Repository, publish: Publish) -> None:
    """The newest deleted after an upgrade, because the new names sorted before the old ones (wal-g#636)."""
    for id, toolkit in (
        ("20261119T030000Z-ffffff", "z 9"),
        ("20261120T030000Z-000000", "a 10"),
        ("20261119T030000Z-000000", ""),
    ):
        publish("app", id, toolkit=toolkit)
    found = plan(repository.backups("app"), Policy(last=1), NOW)
    assert [(d.id, d.keep) for d in found] == [
        ("20261120T030000Z-000000", True),
        ("20261119T030000Z-ffffff", False),
        ("20261119T030000Z-000000", False),
    ]


def test_other_peoples_files_are_no_backups_of_ours(repository: Repository, publish: Publish) -> None:
    """Anything under a prefix deleted, another tool's files included (the postgres-backup-s3 family)."""
    publish("app", "20261120T030000Z-000000")
    root = Path(repository.storage.url)
    foreign = [root / "app" / "app_2020-01-01T00:00:00.dump", root / "app" / "20200101T000000Z-zzzzzz" / "manifest.json"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    publish("app", "20261119T030000Z-000000")
    backups = {b.id: b for b in repository.backups()}
    for decision in plan(list(backups.values()), Policy(last=1), NOW):
        if not decision.keep:
            repository.delete(backups[decision.id])
    assert sorted(path.name for path in (root / "app").iterdir()) == [
        "20200101T000000Z-zzzzzz",
        "20261120T030000Z-000000",
        "app_2020-01-01T00:00:00.dump",
    ]


def test_a_database_whose_name_starts_alike_is_another(repository: Repository, publish: Publish) -> None:
    """`latest` as a prefix match, restoring app_staging over app."""
    publish("app_staging", "20261120T030000Z-000000")
    with pytest.raises(BackupNotFound):
        repository.find("latest", "app")
    publish("app", "20261101T030000Z-000000")
    assert repository.find("latest", "app").alias == "app"
    assert all(d.keep for d in plan(repository.backups(), Policy(last=1), NOW)), "each is the last of its own database"


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "deletes"), [(47, True), (48, True), (49, False), (24 * 30, False)], ids=["fresh", "at the limit", "stale", "old"]
)
def test_nothing_goes_when_the_newest_good_one_is_too_old(hours: int, deletes: bool) -> None:
    newest = NOW - timedelta(hours=hours)
    history = [Made((newest - day * DAY).isoformat()[:19]) for day in range(4)]
    found = decisions([*history, bad("2026-11-21T11:00")], Policy(last=1, max_age=timedelta(hours=48)))
    assert all(d.keep for d in found.values()) != deletes
    if not deletes:
        assert found["2026-11-21T11:00"].reasons[0].startswith("refused: the newest verified backup is ")


def test_nothing_goes_where_nothing_is_good() -> None:
    found = decisions([bad("2026-11-20T00:00"), bad("2026-11-19T00:00")], Policy(last=1))
    assert {tuple(d.reasons) for d in found.values()} == {("refused: no verified backup in this group",)}
    assert all(d.keep for d in found.values())


def test_manifests_that_cannot_be_read_are_left_alone(repository: Repository, publish: Publish) -> None:
    """As after going back to an older version of this toolkit."""
    publish("app", "20261120T030000Z-000000")
    for id in ("20261118T030000Z-000000", "20261119T030000Z-000000"):
        publish("app", id, manifest_version=99)
    assert all(d.keep for d in plan(repository.backups(), Policy(last=1), NOW))
