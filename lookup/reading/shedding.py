"""What is refused first when there is more to do than can be done: batches, then codes nobody has a copy of, then
codes that only Redis has a copy of. What is in process memory is always answered.

It acts on how late the event loop is and on how long a load would have to wait, before any deadline passes: whoever
is let in is answered in time. Whoever is refused is told so a second later: those who are refused ask again, and
thousands who do so at once would take all the time there is, and keep it up for ever.
"""

import asyncio
import enum
import time
from collections.abc import Callable
from typing import Protocol

from lookup import metrics
from ops.errors import Unavailable


class Load(enum.IntEnum):
    """What somebody wants, in the order in which it is refused."""

    BATCH = 1
    """A batch, or a refresh behind an answer."""
    UNKNOWN = 2
    """A code that neither memory nor Redis has a copy of: it would go to Postgres."""
    COLD = 3
    """A code that memory has no copy of: it would go to Redis at least."""


LATE = {Load.BATCH: 0.15, Load.UNKNOWN: 0.4, Load.COLD: 0.8}
"""Refused from this lateness of the event loop on, in seconds."""
WAIT = {Load.BATCH: 0.4, Load.UNKNOWN: 1.0, Load.COLD: 1.5}
"""Refused when a load would wait this long before anybody is asked, in seconds."""
LOOK_EVERY = 0.01
REFUSED_AFTER = 1.0
"""Seconds until a refusal is sent. Refused clients ask again: sent at once, refusals would keep the loop late."""


class Overloaded(Unavailable):
    """Refused before anything was read, because there is more to do than can be done."""

    code = "overloaded"
    title = "Too many people are asking at once. Please try again shortly."
    title_vi = "Hệ thống đang có quá nhiều lượt tra cứu. Vui lòng thử lại sau ít phút."
    usual_retry_after = 2


class Queue(Protocol):
    """Something that gathers loads and knows how long one would wait."""

    @property
    def expected_wait(self) -> float: ...


class Shedding:
    """Decides whether there is room for one more of something. `lateness`: of the loop now, in seconds."""

    def __init__(
        self, lateness: Callable[[], float] = lambda: 0.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._lateness = lateness
        self._monotonic = monotonic
        self._queues: list[tuple[Load, Queue]] = []
        self._looked_at = float("-inf")
        self._level = 0

    def watch(self, *, copies: Queue, loads: Queue) -> None:
        """Take these queues into account: the one for Redis and the one for Postgres."""
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
        """Whether there is room for this; if not, that is counted."""
        if self.level < load:
            return True
        metrics.SHED.labels(load.name.lower()).inc()
        return False

    async def admit(self, load: Load) -> None:
        """Return if there is room for this; raise Overloaded in REFUSED_AFTER seconds if not."""
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
            # A long queue for Postgres is no reason to refuse what Redis can answer.
            wait = max(waits.get(Load.COLD, 0.0), waits.get(Load.UNKNOWN, 0.0) if load <= Load.UNKNOWN else 0.0)
            if late >= LATE[load] or wait >= WAIT[load]:
                level = load
        return level
