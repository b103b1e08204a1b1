"""A round trip that many take together: whoever arrives while one is under way gathers for the next.

Batches grow with load, and nobody waits when there is none. No domain words here.
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
"""A batch is never made smaller than this for being slow."""
FIRST_PACE = 5000.0
"""Items a second that a stage is thought to manage before it has been seen at work."""
WINDOW = 0.1
"""Seconds over which the pace is taken."""
ENOUGH = 32
"""Waiting items from which on a second round trip starts beside one that is under way.

Smaller batches side by side cost both ends more than the waiting saves. Values from 16 to 64 behaved alike when this
one was chosen (2026-11-25).
"""

_log = logging.getLogger(__name__)


class Permits:
    """How many round trips may be under way at once, for however many stages share them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self._sharers: list[BatchQueue[Any]] = []

    def shared_by(self, stage: "BatchQueue[Any]") -> None:
        """Tell this stage whenever a place has become free."""
        self._sharers.append(stage)

    def give_back(self, *, nobody: bool = False) -> None:
        """One round trip has ended: offer its place to the stages, each time beginning with another, or to `nobody`."""
        self.free += 1
        if nobody:
            return
        for stage in self._sharers:
            stage.start_soon()
        self._sharers.append(self._sharers.pop(0))


class BatchQueue(Generic[T]):
    """Gathers items and takes them on a round trip with `run(items)`, in batches of at most `largest`.

    `run` sees to every item it is given, whatever happens; one it raises for all the same is handed to `failed`, and
    logged. `wanted` is asked about each item as its batch is put together: one that nobody waits for any more, or that
    has waited for too long, is left out, and is the asked one's to see to.

    A batch is begun at once where none is under way. A further one is begun beside it when enough have gathered to be
    worth a round trip, or when the one under way is slow: small batches side by side would cost more than they save.
    Batches shrink while one takes longer than `target` seconds and grow again up to `largest`: where each item is slow,
    one slow item does not hold up hundreds. What the loop itself was late meanwhile (`lateness` since a moment) says
    nothing about the items.
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
        self._stood_since = 0.0  # somebody has waited, and nobody has been taken along
        self._taken = 0  # along, since the window began
        self._crowded = False  # somebody had to stay behind, each time since then
        self._gathering: collections.deque[T] = collections.deque()
        self._starting = False
        self._under_way = 0
        self._slow = False
        self._timer: asyncio.TimerHandle | None = None
        self._batches: set[asyncio.Task[None]] = set()
        permits.shared_by(self)

    @property
    def waiting(self) -> int:
        """Items gathered and not taken along yet."""
        return len(self._gathering)

    @property
    def expected_wait(self) -> float:
        """Seconds until an item that enters now is taken along: by the pace of late, or how long nobody has been."""
        if not self._gathering:
            return 0.0
        return max(len(self._gathering) / self._pace, time.monotonic() - self._stood_since)

    def enter(self, item: T) -> None:
        """Take this item along on the next round trip."""
        if not self._gathering:
            self._stood_since = time.monotonic()
        self._gathering.append(item)
        if not self._starting:
            self.start_soon()

    def start_soon(self) -> None:
        """Begin a batch with what has gathered, if it is time for one and there is a place."""
        # One turn of the loop later, so that everything that became ready in this turn travels together.
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
            # In a context of its own: a batch is no part of the request that happened to begin it.
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
            # Where nobody had to stay behind, it may be able to do more than was asked of it, and not less.
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
            closing = True  # only a loop that is being closed does this
            raise
        except Exception as error:
            _log.exception("A round trip of %d failed.", len(batch))
            self._failed(batch, error)
        finally:
            self._under_way -= 1
            self._permits.give_back(nobody=closing)

    def _learn(self, seconds: float, items: int) -> None:
        if seconds > self._target:
            self._limit = max(SMALLEST, min(self._limit, items) * 3 // 4)
        elif items == self._limit and seconds < self._target / 2:
            self._limit = min(self._largest, self._limit * 3 // 2)
