"""The state of a lookup process and its dependencies: clock, feed, breakers, load."""

from collections.abc import Callable
from typing import Protocol

from lookup.clock import DatabaseClock
from lookup.reading.feed import Feed
from lookup.reading.shedding import Shedding
from ops.stores.breaker import Breaker


class Reachable(Protocol):
    """Whether any PostgreSQL host is believed reachable."""

    @property
    def reachable(self) -> bool: ...


class Vitals:
    """The clock, the feed, which stores answer, and the load; shared by all lookups of a process."""

    def __init__(
        self,
        clock: DatabaseClock,
        feed: Feed,
        postgres: Reachable,
        redis: Breaker,
        shedding: Shedding,
        lateness: Callable[[float], float],
    ) -> None:
        self.clock = clock
        self.feed = feed
        self.postgres = postgres
        self.redis = redis
        self.shedding = shedding
        self.lateness = lateness
        """Lateness of the event loop since a moment (monotonic), in seconds."""

    @property
    def unconfirmed(self) -> bool:
        """True when the feed is silent and no PostgreSQL host is reachable either."""
        return self.feed.silent and not self.postgres.reachable
