"""Load shedding. Under overload batches are refused first, then codes without a cached copy, then codes that only
Redis has a copy of. Codes in process memory are always answered.

The measures are the lateness of the event loop and the expected wait in the queues, so requests are refused before
their deadline, and admitted requests are answered in time. A refusal is sent after one second: refused clients retry,
and thousands of immediate retries would keep the process overloaded.
"""

import asyncio
import enum
import time
from collections.abc import Callable
from typing import Protocol

from lookup import metrics
from ops.errors import Unavailable


class Load(enum.IntEnum):
    """Kinds of load, in the order in which they are refused."""

    BATCH = 1
    """A batch, or a refresh behind an answer."""
    UNKNOWN = 2
    """A code without a copy in memory and Redis: it needs PostgreSQL."""
    COLD = 3
    """A code without a copy in memory: it needs at least Redis."""


LATE = {Load.BATCH: 0.15, Load.UNKNOWN: 0.4, Load.COLD: 0.8}
"""Lateness of the event loop from which a load is refused, in seconds."""
WAIT = {Load.BATCH: 0.4, Load.UNKNOWN: 1.0, Load.COLD: 1.5}
"""Expected wait in a queue from which a load is refused, in seconds."""
LOOK_EVERY = 0.01
REFUSED_AFTER = 1.0
"""Seconds until a refusal is sent. Refused clients retry: immediate refusals would keep the loop late."""


class Overloaded(Unavailable):
    """Refused before anything was read, because the process is overloaded."""

    code = "overloaded"
    title = "Too many people are asking at once. Please try again shortly."
    title_vi = "Hệ thống đang có quá nhiều lượt tra cứu. Vui lòng thử lại sau ít phút."
    usual_retry_after = 2


class Queue(Protocol):
    """A queue that can tell the expected wait of a new item."""

    @property
    def expected_wait(self) -> float: ...


class Shedding:
    """Decides whether a load is admitted. `lateness`: of the event loop now, in seconds."""

    def __init__(self, lateness: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lateness = lateness
        self._monotonic = monotonic
        self._queues: list[tuple[Load, Queue]] = []
        self._looked_at = float("-inf")
        self._level = 0

    def watch(self, *, copies: Queue, loads: Queue) -> None:
        """Take the waits of these queues into account: `copies` for Redis, `loads` for PostgreSQL."""
        self._queues += [(Load.COLD, copies), (Load.UNKNOWN, loads)]

    @property
    def level(self) -> int:
        """0 when everything is admitted, else the highest Load that is refused."""
        now = self._monotonic()
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self._level = self._measure()
            metrics.SHEDDING.set(self._level)
        return self._level

    def admits(self, load: Load) -> bool:
        """Whether this load is admitted; a refusal is counted in lookup_shed_total."""
        if self.level < load:
            return True
        metrics.SHED.labels(load.name.lower()).inc()
        return False

    async def admit(self, load: Load) -> None:
        """Return if this load is admitted; otherwise raise Overloaded after REFUSED_AFTER seconds."""
        if not self.admits(load):
            await asyncio.sleep(REFUSED_AFTER)
            raise Overloaded

    def _measure(self) -> int:
        late = self._lateness()
        waits: dict[Load, float] = {}
        for least, queue in self._queues:
            waits[least] = max(waits.get(least, 0.0), queue.expected_wait)
        level = 0
        for load in Load:
            # A long queue for PostgreSQL does not delay answers from Redis.
            wait = max(waits.get(Load.COLD, 0.0), waits.get(Load.UNKNOWN, 0.0) if load <= Load.UNKNOWN else 0.0)
            if late >= LATE[load] or wait >= WAIT[load]:
                level = load
        return level
