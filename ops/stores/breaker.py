"""A circuit breaker: a dependency that hangs or refuses costs one timeout, not one per request."""

import contextlib
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from ops.errors import OurOwnDelay, Unavailable
from ops.observe.metrics import BREAKER_OPEN


class Breaker:
    """Refuses calls to a dependency after `after` failures in a row, until a probe succeeds.

    Used as `with breaker:` around one call. Only Unavailable counts as a failure, except OurOwnDelay; any answer of the
    dependency, even an error, proves it alive. Refusing raises Unavailable at once.

    Two ways to probe a failed dependency: with `pause`, one ordinary call is let through after so many seconds; without
    it, only calls made as `with breaker.trial():`, which are never refused. A process with a pulse probes in that, so
    that no request waits for a dependency known to hang.
    """

    def __init__(
        self, name: str, *, after: int, pause: float | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._after = after
        self._pause = pause
        self._monotonic = monotonic
        self._failures = 0
        self._refused_until = 0.0
        BREAKER_OPEN.labels(name).set(0)

    @property
    def open(self) -> bool:
        """True while calls are refused, or one probes whether they still have to be."""
        return self._failures >= self._after

    def __enter__(self) -> Self:
        if self.open:
            now = self._monotonic()
            if self._pause is None or now < self._refused_until:
                raise Unavailable(f"{self.name} did not answer a moment ago.")
            self._refused_until = now + self._pause  # this call probes; the others are refused until its result
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OurOwnDelay):
            return  # the answer may be unread in our own socket
        if isinstance(error, Unavailable):
            self._failures += 1
            if self.open:
                self._refused_until = self._monotonic() + (self._pause or 0.0)
                BREAKER_OPEN.labels(self.name).set(1)
        elif error is None or isinstance(error, Exception):
            self._failures = 0
            BREAKER_OPEN.labels(self.name).set(0)
        # A cancelled call (BaseException) says nothing about the dependency.

    @contextlib.contextmanager
    def trial(self) -> Iterator[None]:
        """Around a probe: it is never refused, and its result counts like any other call's."""
        try:
            yield
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        self.__exit__(None, None, None)
