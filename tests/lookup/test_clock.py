"""The present is Postgres's, carried forward by a monotonic clock; an age may come out too old, never too young."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookup.clock import DatabaseClock, day_of, microseconds, moment
from tests.clocks import Clock

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MILLISECOND = 1_000


@pytest.fixture
def monotonic() -> Clock:
    return Clock()


@pytest.fixture
def clock(monotonic: Clock) -> DatabaseClock:
    return DatabaseClock(monotonic)


def learn(clock: DatabaseClock, monotonic: Clock, stamp: datetime, *, took: float) -> None:
    """Take in a stamp whose query has just come back after `took` seconds."""
    asked_at = monotonic.now
    monotonic.now += took
    clock.learn(stamp, asked_at)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
def test_moments_survive_the_way_to_microseconds_and_back(naive: datetime) -> None:
    at = naive.replace(tzinfo=UTC)
    assert moment(microseconds(at)) == at


def test_before_postgres_has_answered_the_wall_clock_stands_in() -> None:
    assert abs(DatabaseClock().now() - microseconds(datetime.now(UTC))) < 10_000 * MILLISECOND


def test_present_is_the_stamp_carried_forward(clock: DatabaseClock, monotonic: Clock) -> None:
    learn(clock, monotonic, NOON, took=0)
    monotonic.now += 90
    assert abs(clock.now() - microseconds(NOON + timedelta(seconds=90))) <= 1


def test_present_is_never_earlier_than_postgres_says(clock: DatabaseClock, monotonic: Clock) -> None:
    # Stamped right after the question was sent, so Postgres's clock is the whole round trip further by now.
    learn(clock, monotonic, NOON, took=0.2)
    assert clock.now() >= microseconds(NOON + timedelta(seconds=0.2)) - 1


def test_slow_answer_does_not_spoil_a_good_one(clock: DatabaseClock, monotonic: Clock) -> None:
    learn(clock, monotonic, NOON, took=0.001)
    learn(clock, monotonic, NOON + timedelta(seconds=0.801), took=0.8)  # stamped at the very end of its wait
    assert abs(clock.now() - microseconds(NOON + timedelta(seconds=0.801))) <= 2 * MILLISECOND


def test_slow_answer_is_better_than_an_old_one(clock: DatabaseClock, monotonic: Clock) -> None:
    learn(clock, monotonic, NOON, took=0.001)
    monotonic.now += 60
    learn(clock, monotonic, NOON + timedelta(hours=1), took=0.8)  # Postgres's clock was set forward meanwhile
    assert clock.now() >= microseconds(NOON + timedelta(hours=1))


def test_step_of_postgres_clock_is_followed(clock: DatabaseClock, monotonic: Clock) -> None:
    learn(clock, monotonic, NOON, took=0.001)
    learn(clock, monotonic, NOON - timedelta(hours=1), took=0.001)
    assert abs(clock.now() - microseconds(NOON - timedelta(hours=1))) <= 2 * MILLISECOND


def test_standby_s_clock_counts_until_the_primary_has_answered_once(clock: DatabaseClock, monotonic: Clock) -> None:
    noon = microseconds(NOON)
    clock.learn(NOON - timedelta(hours=1), monotonic.now, primary=False)
    assert abs(clock.now() - noon + 3600 * 1000 * MILLISECOND) <= 1
    monotonic.now += 0.8
    clock.learn(NOON, monotonic.now - 0.8)  # slowly, and all the same it is the primary's
    assert abs(clock.now() - noon - 800 * MILLISECOND) <= 1
    clock.learn(NOON + timedelta(hours=1), monotonic.now, primary=False)
    monotonic.now += 60
    clock.learn(NOON + timedelta(hours=1), monotonic.now, primary=False)
    assert abs(clock.now() - noon - 60_800 * MILLISECOND) <= 1


@pytest.mark.parametrize(("took", "waited", "learnt"), [(0.5, 9.0, True), (0.625, 9.375, False), (0.625, 9.5, True)])
def test_answer_over_twice_as_slow_is_learnt_from_after_ten_seconds(
    clock: DatabaseClock, monotonic: Clock, took: float, waited: float, learnt: bool
) -> None:
    learn(clock, monotonic, NOON, took=0.25)
    monotonic.now += waited
    learn(clock, monotonic, NOON + timedelta(hours=1), took=took)
    assert (clock.now() > microseconds(NOON + timedelta(minutes=30))) is learnt


def test_day_changes_at_midnight_in_vietnam() -> None:
    midnight = microseconds(datetime(2026, 11, 30, 17, 0, tzinfo=UTC))
    assert day_of(midnight - 1) == date(2026, 11, 30)
    assert day_of(midnight) == date(2026, 12, 1)
