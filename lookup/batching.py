"""One load per key, one round trip per moment: concurrent loads are shared and travel together.

While a batch is in flight the next one gathers, so batches grow with load and nothing waits when there is
none. No domain words here.
"""

import asyncio
import collections
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from ops.errors import OurOwnDelay

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SMALLEST = 8
"""A batch is never made smaller than this for being slow."""


class Places:
    """How many round trips may be under way at once, for however many batchers share them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self._sharers: list[Batcher[Any, Any]] = []

    def shared_by(self, batcher: "Batcher[Any, Any]") -> None:
        """Tell this batcher whenever a place has become free."""
        self._sharers.append(batcher)

    def give_back(self) -> None:
        """One round trip has ended. Whoever was served last asks last the next time."""
        self.free += 1
        for batcher in self._sharers:
            batcher.start_soon()
        self._sharers.append(self._sharers.pop(0))


class _Wanted(Generic[V]):
    """One key that is being loaded, and everybody who waits for it."""

    __slots__ = ("callers", "since")

    def __init__(self) -> None:
        self.callers: list[asyncio.Future[V]] = []
        self.since = time.monotonic()


class Batcher(Generic[K, V]):
    """Gathers keys and loads them with `load(keys)`, in batches of at most `largest` keys, as places are free.

    `load` returns a value per key; a value that is an exception is raised to the callers of that key only, and
    so is a LookupError for a key without a value. Whatever `load` itself raises goes to every caller of that batch.

    Batches shrink while one takes longer than `target` seconds and grow again up to `largest`: where each key is
    slow, one slow key does not hold up hundreds. A key that has waited for longer than `patience` seconds is given up
    before it is asked for (OurOwnDelay), and one that nobody waits for any more is not asked for at all.
    """

    def __init__(
        self,
        load: Callable[[Sequence[K]], Awaitable[Mapping[K, V | Exception]]],
        *,
        places: Places,
        largest: int,
        target: float = 0.025,
        patience: float = 2.0,
    ) -> None:
        self._load = load
        self._places = places
        self._largest = largest
        self._target = target
        self._patience = patience
        self._limit = largest
        self._seconds = 0.0  # a batch takes, smoothed
        self._gathering: dict[K, _Wanted[V]] = {}
        self._order: collections.deque[K] = collections.deque()
        self._loading: dict[K, _Wanted[V]] = {}
        self._starting = False
        self._batches: set[asyncio.Task[None]] = set()
        places.shared_by(self)

    @property
    def waiting(self) -> int:
        """Keys gathered and not asked for yet."""
        return len(self._gathering)

    @property
    def expected_wait(self) -> float:
        """Seconds until a key that is wanted now is asked for, by the pace of the last batches."""
        return len(self._gathering) // self._limit * self._seconds / self._places.count

    def want(self, key: K, *, begun_later: bool = False) -> "asyncio.Future[V]":
        """A future of this caller's own: the value of this key, loaded together with whatever else is wanted now.

        It may be cancelled: that leaves the load to the others who wait for it. `begun_later`: share only a load
        that has not begun yet.
        """
        wanted = self._gathering.get(key)
        if wanted is None and not begun_later:
            wanted = self._loading.get(key)
        if wanted is None:
            wanted = self._gathering[key] = _Wanted()
            self._order.append(key)
            self.start_soon()
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        wanted.callers.append(future)
        return future

    async def get(self, key: K, *, begun_later: bool = False) -> V:
        """The value of this key, as `want` promises it."""
        return await self.want(key, begun_later=begun_later)

    def start_soon(self) -> None:
        """Begin a batch with what has gathered, if there is a place."""
        # One turn of the loop later, so that everything that became ready in this turn travels together.
        if self._gathering and self._places.free and not self._starting:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._starting = False
        while self._places.free and self._gathering:
            batch = self._next_batch()
            if not batch:
                continue
            self._places.free -= 1
            self._loading |= batch
            task = asyncio.create_task(self._run(batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    def _next_batch(self) -> dict[K, _Wanted[V]]:
        batch: dict[K, _Wanted[V]] = {}
        overdue = time.monotonic() - self._patience
        while self._order and len(batch) < self._limit:
            key = self._order.popleft()
            wanted = self._gathering.pop(key)
            if wanted.since < overdue:
                _deliver(wanted, OurOwnDelay("There were too many before it."))
            elif any(not caller.done() for caller in wanted.callers):
                batch[key] = wanted
        return batch

    async def _run(self, batch: dict[K, _Wanted[V]]) -> None:
        began = time.monotonic()
        try:
            values: Mapping[K, V | Exception] = await self._load(list(batch))
        except asyncio.CancelledError:
            for key, wanted in batch.items():
                self._forget(key, wanted)
                for caller in wanted.callers:
                    caller.cancel()
            raise
        except Exception as error:
            values = dict.fromkeys(batch, error)
        else:
            self._learn(time.monotonic() - began, len(batch))
        finally:
            self._places.give_back()
        for key, wanted in batch.items():
            self._forget(key, wanted)
            _deliver(wanted, values.get(key, LookupError(f"nothing was loaded for {key!r}")))

    def _learn(self, seconds: float, keys: int) -> None:
        self._seconds += (seconds - self._seconds) / 8
        if seconds > self._target:
            self._limit = max(SMALLEST, min(self._limit, keys) * 3 // 4)
        elif keys == self._limit and seconds < self._target / 2:
            self._limit = min(self._largest, self._limit * 3 // 2)

    def _forget(self, key: K, wanted: _Wanted[V]) -> None:
        if self._loading.get(key) is wanted:
            del self._loading[key]


def _deliver(wanted: _Wanted[V], value: V | Exception) -> None:
    for caller in wanted.callers:
        if caller.done():
            continue
        if isinstance(value, Exception):
            caller.set_exception(value)
            caller.exception()  # every caller may have gone; that is not worth a warning
        else:
            caller.set_result(value)
