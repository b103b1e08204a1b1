"""What a lookup process knows of its surroundings: clock, feed, which stores answer, how much there is to do."""

from collections.abc import Callable
from typing import Protocol

from lookup.clock import DatabaseClock
from lookup.reading.feed import Feed
from lookup.reading.shedding import Shedding
from ops.stores.breaker import Breaker


class Reachable(Protocol):
    """Whether Postgres can be asked at all, as far as is known."""

    @property
    def reachable(self) -> bool: ...


class Vitals:
    """What a process knows of the world around it: the clock, the feed, who answers, how much there is to do."""

    def __init__(
        self,
        clock: DatabaseClock,
        feed: Feed,
        postgres: Reachable,
        redis: Breaker,
        shedding: Shedding | None = None,
        lateness: Callable[[float], float] = lambda _: 0.0,
    ) -> None:
        self.clock = clock
        self.feed = feed
        self.postgres = postgres
        self.redis = redis
        self.shedding = shedding or Shedding()
        self.lateness = lateness
        """How late the loop has been since a moment (monotonic), in seconds."""

    @property
    def unconfirmed(self) -> bool:
        """True when the feed has fallen silent and Postgres cannot be asked either."""
        return self.feed.silent and not self.postgres.reachable
