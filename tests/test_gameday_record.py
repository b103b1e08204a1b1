"""The record of a game day: what windows count, what they time, and that it does not grow for ever."""

import math
import random
import statistics
from typing import Any

import pytest

from loadtests.gameday import record as records
from loadtests.gameday.record import Record, Seen, quantile


@pytest.fixture
def record() -> Record:
    return Record(monotonic=lambda: 100.0)


def note(record: Record, at: float, kind: str = "known", outcome: str = "good", why: str = "", **more: Any) -> None:
    seen = Seen(at, 0.01, kind, outcome, why)
    record.note(seen._replace(**more))


def test_row_comes_back_as_it_was(record: Record) -> None:
    seen = [
        Seen(1.25, 0.5, "known", "good", "", "lookup-1", "cache", 3.0),
        Seen(1.5, 0.25, "at_least", "unavailable", "answered 503", "", "none", None, retried=True),
        Seen(2.0, 4.0, "submit", "refused", "no answer within 10 s", "20123"),
    ]
    for each in seen:
        record.note(each)
    assert list(record.window(0.0)) == seen


def test_window_begins_with_its_beginning_and_ends_before_its_end(record: Record) -> None:
    for at in (1.0, 2.0, 3.0, 4.0):
        note(record, at)
    assert record.window(2.0, 4.0).total == 2
    assert record.window(2.0).total == 3
    assert record.window(4.5).total == 0


def test_window_is_in_the_order_of_asking(record: Record) -> None:
    note(record, 3.0)
    note(record, 1.0, seconds=5.0)
    assert [seen.at for seen in record.window(0.0)] == [1.0, 3.0]


def test_window_finds_what_was_asked_in_it_and_answered_long_after(record: Record) -> None:
    for n in range(100):
        note(record, n / 10)
    note(record, 1.05, seconds=20.0)
    note(record, 1.06, seconds=19.97)  # noted a moment after one that was answered later
    assert [seen.at for seen in record.window(1.01, 1.09)] == [1.05, 1.06]
    assert record.window(9.75).total == 2


def test_row_noted_just_before_one_that_was_answered_earlier_is_found(record: Record) -> None:
    note(record, 21.04, seconds=0.005)
    note(record, 21.0, seconds=0.02)
    assert [seen.at for seen in record.window(21.04)] == [21.04]


def test_failures_and_times_are_those_of_lookups(record: Record) -> None:
    note(record, 1.0)
    note(record, 1.1, outcome="stale", age=70.0)
    note(record, 1.2, outcome="unavailable", why="answered 503", seconds=0.5)
    note(record, 1.4, "page", "wrong", "a version that was never made")
    note(record, 1.5, outcome="limited", why="answered 429", seconds=3.0)
    note(record, 1.6, "submit", "refused", "answered 503", seconds=20.0)
    note(record, 1.7, "move", "unavailable", "no answer", seconds=300.0)
    window = record.window(0.0)
    assert (window.total, window.failed, window.stale) == (7, 2, 1)
    assert (window.first_failed, window.last_failed) == (1.2, 1.4)
    assert window.longest == 0.5
    assert window.oldest_age == 70.0
    assert (window.count("good", "stale"), window.count("refused"), window.count("unavailable")) == (2, 1, 2)
    assert (window.of_kind("known"), window.of_kind("submit", "move")) == (4, 2)
    assert window.whys()["answered 503"] == 2


def test_named_kinds_are_all_that_counts(record: Record) -> None:
    note(record, 1.0)
    note(record, 1.2, "move", "unavailable", "no answer", seconds=300.0)
    note(record, 1.3, "at_least", "unavailable", "answered 503")
    changes, exact = record.window(0.0, None, "submit", "move"), record.window(0.0, None, "at_least")
    assert (changes.total, changes.failed, changes.longest) == (1, 1, 300.0)
    assert (exact.total, exact.failed) == (1, 1)
    assert [seen.kind for seen in changes] == ["move"]


def test_what_was_asked_twice_is_counted(record: Record) -> None:
    note(record, 1.0)
    note(record, 1.1, retried=True)
    assert record.window(0.0, 5.0).retried == 1


def test_quantiles_are_exact(record: Record) -> None:
    chance = random.Random(24)
    seconds = [chance.expovariate(100.0) for _ in range(1000)]
    for n, each in enumerate(seconds):
        note(record, n / 100, seconds=each)
    window = record.window(0.0)
    assert window.quantile(0.5) == pytest.approx(sorted(seconds)[499], rel=1e-6)
    assert window.quantile(0.99) == pytest.approx(sorted(seconds)[989], rel=1e-6)
    assert window.quantile(1.0) == window.longest
    assert math.isnan(record.window(50.0).quantile(0.5))
    assert statistics.median(seconds) == pytest.approx(window.quantile(0.5), rel=0.05)
    assert quantile([1.0], 0.0) == 1.0


def test_longest_time_without_a_change_reaches_to_both_ends(record: Record) -> None:
    for at in (12.0, 13.0, 18.0):
        note(record, at - 1.0, "submit", seconds=1.0)
    note(record, 14.0, "move", "unavailable", "given up", seconds=1.0)
    assert record.window(10.0, 20.0).longest_without_change == 5.0
    assert record.window(0.0, 20.0).longest_without_change == 12.0
    assert record.window(10.0, 40.0).longest_without_change == 22.0
    assert record.window(13.5, 17.5).longest_without_change == 4.0


def test_change_that_began_before_the_window_is_acknowledged_within_it(record: Record) -> None:
    note(record, 1.0, "submit", "refused", "answered 503", seconds=11.0)
    window = record.window(10.0, 14.0)
    assert window.total == 0
    assert window.longest_without_change == 2.0


def test_lag_is_the_worst_of_each_second(record: Record) -> None:
    for at, lag in ((1.1, 0.01), (1.2, 0.5), (1.3, 0.02), (2.1, 0.03)):
        record.note_lag(at, lag)
    assert len(record.lags) == 2
    assert record.window(0.0, 2.0).lag == 0.5
    assert record.window(2.0, 3.0).lag == 0.03
    assert record.window(5.0).lag == 0.0


def test_who_was_turned_away_is_counted(record: Record) -> None:
    record.turned_away.extend((1.0, 9.0))
    assert record.window(0.0, 5.0).turned_away == 1


def test_reasons_beyond_measure_become_one(record: Record) -> None:
    for n in range(3 * records.WORDS):
        note(record, 1.0, outcome="wrong", why=f"reason {n}")
    assert len(record.window(0.0).whys()) <= records.WORDS
    assert record.window(0.0).whys().total() == 3 * records.WORDS


def test_rate_is_that_of_what_was_asked(record: Record) -> None:
    for n in range(11):
        note(record, 10.0 + n / 5)
        note(record, 10.0 + n / 5, "move")
    assert record.window(0.0).rate == pytest.approx(5.5)
    assert record.window(0.0, 10.1).rate == 0.0
