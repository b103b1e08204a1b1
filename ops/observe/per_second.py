"""A limit of events per second."""

import time
from collections.abc import Callable


class PerSecond:
    """Allows at most `per_second` events in each second of `monotonic`."""

    def __init__(self, per_second: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._second = -1
        self._left = 0

    def take(self) -> bool:
        """Count an event; whether it is within the limit."""
        second = int(self._monotonic())
        if second != self._second:
            self._second, self._left = second, self._per_second
        self._left -= 1
        return self._left >= 0
