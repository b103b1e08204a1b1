"""Batch queues: items that arrive while a round trip is under way share the next one.

Batches grow with load; without load an item is sent at once. This module knows nothing of dossiers.
"""

import asyncio
import collections
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SMALLEST = 8
"""Slow round trips never shrink the limit of a batch below this many items."""
FIRST_PACE = 5000.0
"""Items per second assumed for a queue before it has been measured."""
WINDOW = 0.1
"""Seconds over which the pace is measured."""
ENOUGH = 32
"""Waiting items from which a second round trip starts while one is under way.

Smaller concurrent batches cost client and server more than the shorter wait saves. Values from 16 to 64 performed
alike (2026-11-25).
"""

_log = logging.getLogger(__name__)


class Permits:
    """A limit on concurrent round trips, shared by several queues."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self._sharers: list[BatchQueue[Any]] = []

    def shared_by(self, queue: "BatchQueue[Any]") -> None:
        """Notify this queue whenever a permit becomes free."""
        self._sharers.append(queue)

    def give_back(self, *, closing: bool = False) -> None:
        """Return a permit and offer it to the queues, in rotation; with `closing` no queue starts a batch."""
        self.free += 1
        if closing:
            return
        for queue in self._sharers:
            queue.start_soon()
        self._sharers.append(self._sharers.pop(0))


class BatchQueue(Generic[T]):
    """Collects items and processes them with `run(items)`, in batches of at most `largest`.

    `run` completes every item of its batch. If it raises, the error is logged and the batch is handed to `failed`.
    Items for which `wanted` is false when their batch is formed are dropped; the callback `wanted` completes them.

    A batch starts at once when none is under way. A second one starts when ENOUGH items wait, or when the one under way
    takes longer than `target` seconds. The limit of a batch shrinks when one takes longer than `target` and grows again
    up to `largest`, so that one slow item does not delay hundreds. The event loop's own lateness (`lateness` since a
    moment, in seconds) is subtracted from the measured time.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Awaitable[None]],
        *,
        permits: Permits,
        largest: int,
        wanted: Callable[[T], bool] = lambda _: True,
        failed: Callable[[list[T], Exception], None] = lambda *_: None,
        target: float = 0.025,
        lateness: Callable[[float], float] = lambda _: 0.0,
    ) -> None:
        self._run_batch = run
        self._permits = permits
        self._largest = largest
        self._wanted = wanted
        self._failed = failed
        self._target = target
        self._lateness = lateness
        self._limit = largest
        self._pace = FIRST_PACE
        self._window_began = 0.0
        self._stood_since = 0.0  # items have waited since, without a batch
        self._taken = 0  # items sent since the window began
        self._crowded = False  # every batch since then left items waiting
        self._gathering: collections.deque[T] = collections.deque()
        self._starting = False
        self._under_way = 0
        self._slow = False
        self._timer: asyncio.TimerHandle | None = None
        self._batches: set[asyncio.Task[None]] = set()
        permits.shared_by(self)

    @property
    def waiting(self) -> int:
        """Items not yet sent."""
        return len(self._gathering)

    @property
    def expected_wait(self) -> float:
        """Seconds until an item that enters now is sent: by the recent pace, or the time since the last batch."""
        if not self._gathering:
            return 0.0
        return max(len(self._gathering) / self._pace, time.monotonic() - self._stood_since)

    def enter(self, item: T) -> None:
        """Put this item into the next batch."""
        if not self._gathering:
            self._stood_since = time.monotonic()
        self._gathering.append(item)
        if not self._starting:
            self.start_soon()

    def start_soon(self) -> None:
        """Schedule a batch of the waiting items, if one is due and a permit is free."""
        # One turn of the loop later, so that all items that became ready in this turn share the batch.
        if self._gathering and not self._starting and self._permits.free and self._is_time():
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _is_time(self) -> bool:
        return not self._under_way or self._slow or len(self._gathering) >= min(ENOUGH, self._limit)

    def _look_at_the_clock(self) -> None:
        self._slow = True
        self.start_soon()

    def _start(self) -> None:
        self._starting = False
        while self._permits.free and self._gathering and self._is_time():
            batch = self._next_batch()
            if not batch:
                continue
            self._permits.free -= 1
            self._under_way += 1
            # In a new context: a batch does not belong to the request that started it.
            task = asyncio.create_task(self._run(batch), context=contextvars.Context())
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)
            self._take_time(len(batch))
            self._slow = False
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(self._target, self._look_at_the_clock)

    def _take_time(self, count: int) -> None:
        now = time.monotonic()
        self._stood_since = now
        self._taken += count
        self._crowded = self._crowded and bool(self._gathering)
        seconds = now - self._window_began
        if seconds >= WINDOW:
            pace = self._taken / seconds
            # If batches left no item waiting, the measured pace is only a lower bound.
            if self._crowded or pace > self._pace:
                self._pace += (pace - self._pace) / 4
            self._window_began, self._taken, self._crowded = now, 0, bool(self._gathering)

    def _next_batch(self) -> list[T]:
        batch: list[T] = []
        while self._gathering and len(batch) < self._limit:
            item = self._gathering.popleft()
            if self._wanted(item):
                batch.append(item)
        return batch

    async def _run(self, batch: list[T]) -> None:
        began, closing = time.monotonic(), False
        try:
            await self._run_batch(batch)
            self._learn(max(0.0, time.monotonic() - began - self._lateness(began)), len(batch))
        except asyncio.CancelledError:
            closing = True  # happens only while the loop is closing
            raise
        except Exception as error:
            _log.exception("A batch failed", extra={"items": len(batch)})
            self._failed(batch, error)
        finally:
            self._under_way -= 1
            self._permits.give_back(closing=closing)

    def _learn(self, seconds: float, items: int) -> None:
        if seconds > self._target:
            self._limit = max(SMALLEST, min(self._limit, items) * 3 // 4)
        elif items == self._limit and seconds < self._target / 2:
            self._limit = min(self._largest, self._limit * 3 // 2)
