"""How many of something there may be in a second."""

import time
from collections.abc import Callable


class PerSecond:
    """So many in each second, and no more."""

    def __init__(self, per_second: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._second = -1
        self._left = 0

    def take(self) -> bool:
        """Whether there is one left."""
        second = int(self._monotonic())
        if second != self._second:
            self._second, self._left = second, self._per_second
        self._left -= 1
        return self._left >= 0
