"""A breaker refuses after failures, lets one call find out, and closes when that one succeeds."""

import asyncio

import pytest

from ops.errors import OurOwnDelay, Unavailable
from ops.stores.breaker import Breaker
from tests.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(breaker: Breaker) -> None:
    with pytest.raises(Unavailable, match="gone"), breaker:
        raise Unavailable("gone")


def refuses(breaker: Breaker) -> bool:
    try:
        with breaker:
            return False
    except Unavailable:
        return True


def test_opens_after_so_many_failures_in_a_row(clock: Clock) -> None:
    breaker = Breaker("it", after=2, pause=1.0, monotonic=clock)
    fail(breaker)
    assert not refuses(breaker)  # a success in between starts the count anew
    fail(breaker)
    fail(breaker)
    assert breaker.open
    assert refuses(breaker)


def test_one_call_finds_out_and_success_closes(clock: Clock) -> None:
    breaker = Breaker("it", after=1, pause=1.0, monotonic=clock)
    fail(breaker)
    clock.now += 1.1
    with breaker:
        assert refuses(breaker)  # one call is trying already
    assert not breaker.open
    assert not refuses(breaker)


def test_failed_attempt_to_find_out_keeps_it_open(clock: Clock) -> None:
    breaker = Breaker("it", after=1, pause=1.0, monotonic=clock)
    fail(breaker)
    clock.now += 1.1
    fail(breaker)
    assert refuses(breaker)
    clock.now += 1.1
    assert not refuses(breaker)


def test_an_answer_that_is_an_error_proves_the_dependency_alive(clock: Clock) -> None:
    breaker = Breaker("it", after=1, pause=1.0, monotonic=clock)
    fail(breaker)
    clock.now += 1.1
    with pytest.raises(KeyError), breaker:
        raise KeyError
    assert not breaker.open


def test_cancelled_call_says_nothing(clock: Clock) -> None:
    breaker = Breaker("it", after=1, pause=1.0, monotonic=clock)
    with pytest.raises(asyncio.CancelledError), breaker:
        raise asyncio.CancelledError
    assert not breaker.open
    fail(breaker)
    clock.now += 1.1
    with pytest.raises(asyncio.CancelledError), breaker:
        raise asyncio.CancelledError
    assert breaker.open


def test_without_a_pause_only_a_trial_finds_out(clock: Clock) -> None:
    breaker = Breaker("it", after=1, monotonic=clock)
    fail(breaker)
    clock.now += 3600
    assert refuses(breaker)
    with pytest.raises(Unavailable, match="still"), breaker.trial():
        raise Unavailable("still")
    assert refuses(breaker)
    with breaker.trial():
        pass
    assert not refuses(breaker)


def test_trial_that_fails_counts_like_any_other_call(clock: Clock) -> None:
    breaker = Breaker("it", after=1, monotonic=clock)
    with pytest.raises(Unavailable), breaker.trial():
        raise Unavailable("gone")
    assert breaker.open


def test_delay_of_our_own_making_opens_nothing(clock: Clock) -> None:
    breaker = Breaker("it", after=1, monotonic=clock)
    for _ in range(10):
        with pytest.raises(OurOwnDelay), breaker:
            raise OurOwnDelay
    assert not breaker.open
