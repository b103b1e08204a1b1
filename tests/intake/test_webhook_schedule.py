"""When a failed delivery is tried again."""

import random
from datetime import UTC, datetime

import pytest

from intake.outgoing.sending import seconds_asked_for
from intake.partners.schedule import SPREAD, WAITS, wait_after

NOW = datetime(2026, 12, 1, 2, 0, tzinfo=UTC)


def test_ten_attempts_over_three_days_each_wait_a_fifth_longer_or_shorter() -> None:
    draw = random.Random(1)
    waits = [[wait_after(failures, draw=draw) for _ in range(500)] for failures in range(1, 11)]
    assert all(wait is None for wait in waits[9])
    for usual, drawn in zip(WAITS, waits[:9], strict=True):
        seconds = [wait for wait in drawn if wait is not None]
        assert len(seconds) == 500
        assert usual * (1 - SPREAD) <= min(seconds) < usual * 0.85
        assert usual * 1.15 < max(seconds) <= usual * (1 + SPREAD)
    assert sum(WAITS) == pytest.approx(75 * 3600 + 35 * 60 + 5)


@pytest.mark.parametrize(("asked", "least", "most"), [(600.0, 600, 600), (1.0, 4, 6), (86_400.0, 3600, 3600)])
def test_a_receiver_may_ask_for_a_longer_wait_of_an_hour_at_most(asked: float, least: float, most: float) -> None:
    wait = wait_after(1, asked)
    assert wait is not None
    assert least <= wait <= most


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("9" * 400, 999_999_999.0),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
        ("soon", None),
        ("Tue, 01 Dec 2026 02:10:00 GMT", 600.0),
        ("Tue, 01 Dec 2026 09:10:00 +0700", 600.0),
        ("Tue, 01 Dec 2026 01:00:00 GMT", 0.0),
        ("Tue, 99 Dec 2026 01:00:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_asked_for(header, NOW) == seconds
