"""One load per key, one round trip per moment: concurrent loads are shared and travel together.

While a batch is in flight the next one gathers, so batches grow with load and nothing waits when there is
none. No domain words here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Batcher(Generic[K, V]):
    """Gathers keys and loads them with `load(keys)`, at most `in_flight` batches of at most `largest` keys at a time.

    `load` returns a value per key; a value that is an exception is raised to the callers of that key only, and
    so is a LookupError for a key without a value.
    Whatever `load` itself raises goes to every caller of that batch.
    """

    def __init__(
        self,
        load: Callable[[Sequence[K]], Awaitable[Mapping[K, V | Exception]]],
        *,
        in_flight: int,
        largest: int,
    ) -> None:
        self._load = load
        self._free = in_flight
        self._largest = largest
        self._loads: dict[K, asyncio.Future[V]] = {}
        self._gathering: list[K] = []
        self._starting = False
        self._batches: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V:
        """The value of this key, loaded together with whatever else is wanted now.

        A cancelled caller leaves the load to the others who wait for it.
        """
        future = self._loads.get(key)
        if future is None:
            future = self._loads[key] = asyncio.get_running_loop().create_future()
            self._gathering.append(key)
            self._start_soon()
        return await asyncio.shield(future)

    def _start_soon(self) -> None:
        # One turn of the loop later, so that everything that became ready in this turn travels together.
        if self._free and not self._starting:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._starting = False
        while self._free and self._gathering:
            keys, self._gathering = self._gathering[: self._largest], self._gathering[self._largest :]
            self._free -= 1
            batch = asyncio.create_task(self._run(keys))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _run(self, keys: list[K]) -> None:
        try:
            values: Mapping[K, V | Exception] = await self._load(keys)
        except asyncio.CancelledError:
            for key in keys:
                self._loads.pop(key).cancel()
            raise
        except Exception as error:
            values = dict.fromkeys(keys, error)
        finally:
            self._free += 1
        for key in keys:
            self._deliver(self._loads.pop(key), values.get(key, LookupError(f"nothing was loaded for {key!r}")))
        if self._gathering:
            self._start_soon()

    @staticmethod
    def _deliver(future: "asyncio.Future[V]", value: V | Exception) -> None:
        if isinstance(value, Exception):
            future.set_exception(value)
            future.exception()  # every caller may have gone; that is not worth a warning
        else:
            future.set_result(value)
