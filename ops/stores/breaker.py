"""A circuit breaker: a dependency that hangs or refuses costs its deadline once, not once per request."""

import contextlib
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from ops.errors import OurOwnDelay, Unavailable
from ops.observe.metrics import BREAKER_OPEN


class Breaker:
    """Refuses calls to a dependency after `after` failures in a row, until a call has found it back.

    Used as `with breaker:` around one call. Only Unavailable counts as a failure, and not when the delay was
    our own; what the dependency answered, even an error, proves it alive. Refusing raises Unavailable at once.

    Who finds out is the one question. With `pause` given, a single ordinary call goes through after so many
    seconds; without it, only a call made as `with breaker.trial():`, which is never refused. A process that
    has a pulse lets that find out, so that no citizen pays the deadline of a dependency known to hang.
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
        """True while calls are refused or a single one is finding out whether they still have to be."""
        return self._failures >= self._after

    def __enter__(self) -> Self:
        if self.open:
            now = self._monotonic()
            if self._pause is None or now < self._refused_until:
                raise Unavailable(f"{self.name} did not answer a moment ago.")
            self._refused_until = now + self._pause  # this caller finds out; the others wait for its result
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OurOwnDelay):
            return  # the answer may be lying in our own socket
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
        """Around a call that finds out: goes through whatever came before, and counts like any other."""
        try:
            yield
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        self.__exit__(None, None, None)
