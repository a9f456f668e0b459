"""Whatever the history and the policy: what must survive survives, and every decision has a reason."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from naap_ops import clock
from naap_ops.backup.retention import Decision, Policy, plan

NOW = datetime(2026, 11, 21, 3, 15, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """A backup as retention sees it."""

    moment: datetime
    state: str  # good, unverified, bad
    kept: bool = False
    group: Hashable = "app"
    suffix: str = "000000"

    @property
    def id(self) -> str:
        return f"{clock.stamp(self.moment)}-{self.suffix}"

    @property
    def verified(self) -> bool:
        return self.state == "good"

    @property
    def bad(self) -> bool:
        return self.state == "bad"


# Minutes to years ago, and a little ahead: clocks differ.
AGES = st.one_of(st.integers(-60, 60 * 24), st.integers(0, 60 * 24 * 40), st.integers(0, 60 * 24 * 365 * 4))
MOMENTS = AGES.map(lambda minutes: NOW - timedelta(minutes=minutes))
HISTORIES = st.lists(
    st.builds(
        Made,
        moment=MOMENTS,
        state=st.sampled_from(["good", "good", "unverified", "bad"]),
        kept=st.sampled_from([False, False, False, True]),
        group=st.sampled_from(["app", "app", "app_staging", ("app", "schema")]),
        suffix=st.sampled_from(["000000", "5f3a1c", "ffffff"]),
    ),
    max_size=40,
    unique_by=lambda made: (made.group, made.id),
)
COUNTS = st.integers(0, 5)
POLICIES = st.builds(
    Policy,
    last=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=COUNTS,
    minimum=st.integers(0, 6),
    max_age=st.none() | st.integers(0, 60 * 24 * 400).map(lambda minutes: timedelta(minutes=minutes)),
)
RULES = ("last", "daily", "weekly", "monthly", "yearly")


@dataclass(frozen=True)
class Outcome:
    group: list[Made]
    decisions: dict[str, Decision]

    @property
    def good(self) -> list[Made]:
        """Newest first."""
        return sorted((b for b in self.group if b.verified), key=lambda b: b.id, reverse=True)

    def keeps(self, backup: Made) -> bool:
        return self.decisions[backup.id].keep


def outcomes(history: Sequence[Made], policy: Policy) -> list[Outcome]:
    """One per group, each planned as part of the whole."""
    groups: dict[Hashable, list[Made]] = defaultdict(list)
    for backup in sorted(history, key=lambda b: b.id, reverse=True):
        groups[backup.group].append(backup)
    decisions = plan(history, policy, NOW)
    assert len(decisions) == len(history)
    found = []
    for group in groups.values():
        found.append(Outcome(group, {d.id: d for d in decisions[: len(group)]}))
        assert [d.id for d in decisions[: len(group)]] == [b.id for b in group], "newest first within each group"
        del decisions[: len(group)]
    return found


def deleted(history: Sequence[Made], policy: Policy) -> set[tuple[Hashable, str]]:
    return {(b.group, b.id) for outcome in outcomes(history, policy) for b in outcome.group if not outcome.keeps(b)}


@given(HISTORIES, POLICIES)
def test_the_newest_good_backup_of_each_group_survives(history: list[Made], policy: Policy) -> None:
    for outcome in outcomes(history, policy):
        assert not outcome.good or outcome.keeps(outcome.good[0])


@given(HISTORIES, POLICIES)
def test_the_floor_holds_and_is_made_of_the_newest_good_ones(history: list[Made], policy: Policy) -> None:
    for outcome in outcomes(history, policy):
        floor = outcome.good[: max(1, policy.minimum)]
        assert all(outcome.keeps(backup) for backup in floor)


@given(HISTORIES, POLICIES)
def test_pinned_backups_survive_whatever_their_state(history: list[Made], policy: Policy) -> None:
    for outcome in outcomes(history, policy):
        assert all(outcome.keeps(backup) for backup in outcome.group if backup.kept)


@given(HISTORIES, POLICIES)
def test_nothing_goes_while_the_newest_good_one_is_too_old_or_missing(history: list[Made], policy: Policy) -> None:
    for outcome in outcomes(history, policy):
        stale = policy.max_age is not None and outcome.good and NOW - outcome.good[0].moment.astimezone(UTC) > policy.max_age
        if not outcome.good or stale:
            assert all(outcome.keeps(backup) for backup in outcome.group)


@given(HISTORIES, POLICIES)
def test_bad_and_unverified_backups_take_no_slot(history: list[Made], policy: Policy) -> None:
    """What happens to the good ones is what would happen if there were no others."""
    only_good = {
        b for outcome in outcomes([b for b in history if b.verified], policy) for b in outcome.group if outcome.keeps(b)
    }
    assert {b for outcome in outcomes(history, policy) for b in outcome.good if outcome.keeps(b)} == only_good


@given(HISTORIES, POLICIES)
def test_what_may_become_the_next_good_one_is_spared(history: list[Made], policy: Policy) -> None:
    for outcome in outcomes(history, policy):
        newest = outcome.good[0].id if outcome.good else ""
        assert all(outcome.keeps(b) for b in outcome.group if b.state == "unverified" and b.id > newest)


@given(HISTORIES, POLICIES)
def test_every_decision_has_its_reasons(history: list[Made], policy: Policy) -> None:
    for outcome in outcomes(history, policy):
        for backup in outcome.group:
            decision = outcome.decisions[backup.id]
            assert decision.reasons
            assert all(decision.reasons)
            rules = set(decision.reasons) & {*RULES, "minimum"}
            assert not rules or (decision.keep and backup.verified)
            assert all(rule == "minimum" or getattr(policy, rule) > 0 for rule in rules)


@given(HISTORIES, POLICIES)
def test_no_rule_keeps_more_than_it_was_given(history: list[Made], policy: Policy) -> None:
    for outcome in outcomes(history, policy):
        for rule in RULES:
            assert sum(rule in d.reasons for d in outcome.decisions.values()) <= getattr(policy, rule)


@given(HISTORIES, POLICIES, st.sampled_from([*RULES, "minimum"]), st.integers(1, 5))
def test_asking_for_more_never_deletes_more(history: list[Made], policy: Policy, rule: str, more: int) -> None:
    larger = dataclasses.replace(policy, **{rule: getattr(policy, rule) + more})
    assert deleted(history, larger) <= deleted(history, policy)


@given(HISTORIES, POLICIES)
def test_carrying_out_the_plan_leaves_nothing_more_to_do(history: list[Made], policy: Policy) -> None:
    gone = deleted(history, policy)
    left = [b for b in history if (b.group, b.id) not in gone]
    assert deleted(left, policy) == set()


@given(HISTORIES, POLICIES, st.randoms())
def test_the_order_in_which_backups_are_listed_does_not_matter(history: list[Made], policy: Policy, random: object) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert deleted(shuffled, policy) == deleted(history, policy)


@given(HISTORIES, HISTORIES, POLICIES)
def test_groups_do_not_touch_each_other(one: list[Made], other: list[Made], policy: Policy) -> None:
    mine = [dataclasses.replace(b, group="mine") for b in one]
    assume(len({b.id for b in mine}) == len(mine))
    theirs = [b for b in other if b.group != "mine"]
    assert deleted([*mine, *theirs], policy) == deleted(mine, policy) | deleted(theirs, policy)


@given(st.lists(MOMENTS, min_size=1, max_size=40, unique_by=clock.stamp), st.integers(1, 6))
def test_daily_is_the_newest_of_each_of_the_last_days_that_have_one(moments: list[datetime], days: int) -> None:
    """An independent statement of restic's rule."""
    newest_of: dict[object, datetime] = {}
    for moment in sorted(moments):
        newest_of[moment.date()] = moment
    expected = {newest_of[day] for day in sorted(newest_of)[-days:]}  # type: ignore[type-var]
    history = [Made(moment, "good") for moment in moments]
    (outcome,) = outcomes(history, Policy(daily=days))
    assert {b.moment for b in history if outcome.keeps(b)} == expected
