"""When a delivery that failed is tried again: the schedule of Standard Webhooks, and what receivers ask for."""

import random
from typing import Final

WAITS: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds after the first failure, the second and so on. After one more, which is the tenth, no attempt follows."""
SPREAD: Final = 0.2
"""Each wait is up to this share longer or shorter, so that receivers that failed together are not asked together."""
MOST_ASKED_FOR: Final = 3600.0
"""Seconds of Retry-After that are obeyed at most."""


def wait_after(failures: int, asked_for: float | None = None, draw: random.Random | None = None) -> float | None:
    """Seconds until the next attempt after so many failures in a row; None when no further one is made.

    `asked_for`: seconds of a Retry-After; a wait is never shorter than that.
    """
    if failures > len(WAITS):
        return None
    drawn = (draw or random).uniform(1 - SPREAD, 1 + SPREAD)
    return max(WAITS[failures - 1] * drawn, min(asked_for or 0.0, MOST_ASKED_FOR))
