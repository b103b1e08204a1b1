"""Freshness as it is promised and counted: ten seconds of a ready process are fresh, or they are not.

The relay writes a heartbeat once a second. A slice is fresh when every heartbeat in it came less than a second after it
was written, and none that was due stayed away for longer than that. Counted here and not where the metrics are
gathered, so that no pause of a scraper can hide a slice.
"""

import time
from collections.abc import Callable

from lookup import metrics
from lookup.reading.feed import Feed
from lookup.reading.freshness import SECOND

SLICE = 10.0
"""Seconds."""
BEATS_EVERY = 1 * SECOND
LATE = 1 * SECOND
"""A heartbeat is late from here on, microseconds."""


class FreshnessSli:
    """Counts slices by verdict. `look` has to be called about once a second; `ready`: whether the process is."""

    def __init__(self, feed: Feed, ready: Callable[[], bool], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._ready = ready
        self._monotonic = monotonic
        self._began: float | None = None
        self._late = False

    def look(self) -> None:
        """Take note of how things are now, and count a slice if one has ended."""
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
