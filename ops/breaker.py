"""A circuit breaker: a dependency that hangs or refuses costs its deadline once, not once per request."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ops.errors import Unavailable
from ops.metrics import BREAKER_OPEN


class Breaker:
    """Refuses calls to a dependency for `pause` seconds after `after` failures in a row.

    Used as `with breaker:` around one call. Only Unavailable counts as a failure; what the dependency
    answered, even an error, proves it alive. When the pause is over a single call goes through to find
    out; the others stay refused until it has succeeded. Refusing raises Unavailable at once.
    """

    def __init__(self, name: str, *, after: int, pause: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._after = after
        self._pause = pause
        self._monotonic = monotonic
        self._failures = 0
        self._refused_until = 0.0
        BREAKER_OPEN.labels(name).set(0)

    @property
    def open(self) -> bool:
        """True while calls are refused or a single one is finding out whether they still have to be."""
        return self._failures >= self._after

    def __enter__(self) -> Self:
        if self.open:
            now = self._monotonic()
            if now < self._refused_until:
                raise Unavailable(f"{self.name} did not answer a moment ago.")
            self._refused_until = now + self._pause  # this caller finds out; the others wait for its result
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Unavailable):
            self._failures += 1
            if self.open:
                self._refused_until = self._monotonic() + self._pause
                BREAKER_OPEN.labels(self.name).set(1)
        elif error is None or isinstance(error, Exception):
            self._failures = 0
            BREAKER_OPEN.labels(self.name).set(0)
        # A cancelled call (BaseException) says nothing about the dependency.
