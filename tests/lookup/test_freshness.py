"""The published bounds: nothing past the soft age goes out unmarked, nothing past the hard age at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookup.reading.freshness import SECOND, Freshness, FreshnessVerdict

FRESHNESS = Freshness(soft=60, hard=86_400, negative=5)
YOUNG = (FreshnessVerdict.SERVE, FreshnessVerdict.SERVE_AND_REFRESH)
ages = st.integers(0, 2 * 86_400 * SECOND)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        (0, FreshnessVerdict.SERVE),
        (26, FreshnessVerdict.SERVE),
        (31, FreshnessVerdict.SERVE_AND_REFRESH),
        (53, FreshnessVerdict.SERVE_AND_REFRESH),
        (61, FreshnessVerdict.REFRESH),
        (86_400, FreshnessVerdict.REFRESH),
        (86_401, FreshnessVerdict.DISCARD),
    ],
)
def test_verdict_follows_from_age(seconds: int, verdict: FreshnessVerdict) -> None:
    assert {FRESHNESS.judge(1, seconds * SECOND) for _ in range(50)} == {verdict}


@pytest.mark.parametrize(
    ("age", "verdict"),
    [
        (30 * SECOND, FreshnessVerdict.SERVE),
        (30 * SECOND + 1, FreshnessVerdict.SERVE_AND_REFRESH),
        (60 * SECOND, FreshnessVerdict.SERVE_AND_REFRESH),
        (60 * SECOND + 1, FreshnessVerdict.REFRESH),
        (86_400 * SECOND, FreshnessVerdict.REFRESH),
        (86_400 * SECOND + 1, FreshnessVerdict.DISCARD),
    ],
)
def test_bounds_themselves_are_within_when_chance_shortens_nothing(
    age: int, verdict: FreshnessVerdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    assert FRESHNESS.judge(1, age) is verdict


@pytest.mark.parametrize(
    ("age", "verdict"), [(5 * SECOND, FreshnessVerdict.SERVE), (5 * SECOND + 1, FreshnessVerdict.DISCARD)]
)
def test_none_is_repeated_up_to_its_bound_and_not_after(age: int, verdict: FreshnessVerdict) -> None:
    assert FRESHNESS.judge(0, age) is verdict


@given(st.integers(1, 2**31 - 1), ages)
def test_what_is_served_unasked_needs_no_mark(version: int, age: int) -> None:
    if FRESHNESS.judge(version, age) in YOUNG:
        assert not FRESHNESS.is_stale(age)


@given(ages)
def test_negative_answer_is_never_served_late(age: int) -> None:
    assert FRESHNESS.judge(0, age) is (FreshnessVerdict.SERVE if age <= 5 * SECOND else FreshnessVerdict.DISCARD)


def test_copies_filled_together_do_not_expire_together() -> None:
    assert {FRESHNESS.judge(1, 57 * SECOND) for _ in range(200)} == {
        FreshnessVerdict.SERVE_AND_REFRESH,
        FreshnessVerdict.REFRESH,
    }


def test_bound_itself_needs_no_mark() -> None:
    assert [FRESHNESS.is_stale(age) for age in (60 * SECOND, 60 * SECOND + 1)] == [False, True]


def test_age_from_the_future_counts_as_young() -> None:
    assert FRESHNESS.judge(1, -SECOND) is FreshnessVerdict.SERVE


def test_redis_keeps_a_record_as_long_as_it_may_be_served() -> None:
    assert FRESHNESS.ttl == 86_400
    assert FRESHNESS.negative_ttl == 5
    assert Freshness(negative=0.1).negative_ttl == 1
