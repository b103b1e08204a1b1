"""The freshness SLI: counts slices of ten seconds of a ready process as fresh or late.

The relay writes a heartbeat once a second. A slice is fresh when every heartbeat in it arrived within a second of being
written and none was overdue by more than a second. The process counts slices itself, so that a gap in scraping hides
none.
"""

import time
from collections.abc import Callable

from lookup import metrics
from lookup.reading.feed import Feed
from lookup.reading.freshness import SECOND

SLICE = 10.0
"""Length of a slice, in seconds."""
BEATS_EVERY = 1 * SECOND
LATE = 1 * SECOND
"""Delay from which a heartbeat is late, in microseconds."""


class FreshnessSli:
    """Counts slices by verdict. Call `look` about once a second; `ready`: whether the process is ready."""

    def __init__(self, feed: Feed, ready: Callable[[], bool], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._ready = ready
        self._monotonic = monotonic
        self._began: float | None = None
        self._late = False

    def look(self) -> None:
        """Check the heartbeat now, and count the slices that have ended."""
        now = self._monotonic()
        if not self._ready():
            self._began = None
            return
        slowest, self._feed.slowest = self._feed.slowest, 0
        if self._began is None:
            self._began, self._late = now, False
        self._late = self._late or slowest >= LATE or self._feed.age >= BEATS_EVERY + LATE
        ended = int((now - self._began) / SLICE)
        if ended:
            metrics.FRESHNESS_SLICES.labels("late" if self._late else "fresh").inc(ended)
            self._began += ended * SLICE
            self._late = False
