"""The end of the log in memory, for those who wait for what is written next.

While somebody waits, one task per process reads the log every POLL_EVERY seconds, keeps the last KEPT events, and wakes
the requests that one of them concerns: PostgreSQL is asked as often for one as for a thousand. A request from further
back reads PostgreSQL. With each look the last event must still be there, as a cursor proves it: after a restore nothing
is answered from here.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

import asyncpg

from intake import metrics
from intake.partners import changes
from intake.partners.changes import Fetch, Follower, Page, cursor_of
from intake.partners.cursor import Cursor
from ops.errors import Refusal, Unavailable

log = logging.getLogger(__name__)

POLL_EVERY: Final = 0.025
"""Seconds between two looks at the log."""
KEPT: Final = 10_000
"""Events that are kept."""
BATCH: Final = 1_000
"""Events of one look."""
LINGERS: Final = 2.0
"""Seconds for which the log is read on when nobody waits any more: most come back at once."""
SWEEP_EVERY: Final = 0.5
"""Seconds between two looks for those that have left."""
MOST_WAITERS: Final = 4_000
"""A request beyond that is answered at once."""

Gone = Callable[[], bool]


class _Waiter:
    __slots__ = ("gone", "woken")

    def __init__(self, gone: Gone) -> None:
        self.gone = gone
        self.woken: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()

    def wake(self, why: Refusal | None = None) -> None:
        if not self.woken.done():
            self.woken.set_result(why)


class Tail:
    """The last events of the log, and the requests that wait for the next ones."""

    def __init__(self, fetch: Fetch, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._rows: deque[Mapping[str, Any]] = deque()
        self._places: dict[Cursor, int] = {}
        """Of each place that an answer can begin at, how many events were read up to it."""
        self._floor: Cursor | None = None
        """The place before the oldest event that is kept; None while nothing is read."""
        self._end: Cursor | None = None
        self._dropped = 0
        self._whole = False
        """Whether the last look saw the end of the log."""
        self._waiters: dict[Follower, set[_Waiter]] = {}
        self._wanted = asyncio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiters.values()))

    def page(self, follower: Follower, after: Cursor, limit: int) -> Page | None:
        """A page from memory; None where PostgreSQL has to be asked.

        A look that PostgreSQL does not answer in time ends the memory, so it is no older than that.
        """
        if self._end is None or after not in self._places:
            return None
        found = []
        for row in islice(self._rows, self._places[after] - self._dropped, None):
            if follower.sees(row):
                found.append(row)
                if len(found) == limit:
                    return Page(found, follower, cursor_of(row), caught_up=False)
        return Page(found, follower, self._end, caught_up=self._whole)

    async def wait(self, follower: Follower, after: Cursor, limit: int, seconds: float, gone: Gone) -> Page | None:
        """The first page behind the end of the log that has an event, or after so many seconds the empty one.

        None where PostgreSQL has to be asked. `gone`: whether the client has left; then an empty page comes soon.
        Raises Unavailable while PostgreSQL cannot be read.
        """
        empty = Page([], follower, after, caught_up=True)
        if self._closed or self.waiting >= MOST_WAITERS:
            return empty
        until = self._monotonic() + seconds
        if self._end is None:
            self._begin(after)
        while True:
            found = self.page(follower, after, limit)
            if found is not None and found.rows:
                return found
            left = until - self._monotonic()
            if left <= 0 or self._closed or gone():
                return found or empty
            if self._end is None or (after < self._end and after not in self._places):
                return None
            await self._woken(follower, left, gone)

    async def run(self) -> None:
        """Read the log while somebody waits, and for LINGERS seconds after that. Runs until it is cancelled."""
        while True:
            await self._wanted.wait()
            try:
                await self._read_on()
                self._forget()
            except Refusal as trouble:
                self._forget(trouble)
            except asyncpg.PostgresError as refused:
                log.warning("The end of the log cannot be read for those who wait: %s", refused)
                self._forget(Unavailable("The log cannot be read now."))
            if not self._waiters:
                self._wanted.clear()
            await asyncio.sleep(POLL_EVERY)

    async def close(self, _: object = None) -> None:
        """Answer all who wait, and let nobody wait any more: the process stops."""
        self._closed = True
        self._wake_all()

    async def _woken(self, follower: Follower, seconds: float, gone: Gone) -> None:
        """Wait for something to look at, or until the time is over. Raises the refusal that ended the reading."""
        waiter = _Waiter(gone)
        waiters = self._waiters.setdefault(follower, set())
        waiters.add(waiter)
        self._wanted.set()
        metrics.FEED_WAITERS.inc()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    if (trouble := await waiter.woken) is not None:
                        raise trouble
        finally:
            metrics.FEED_WAITERS.dec()
            waiters.discard(waiter)
            if not waiters and self._waiters.get(follower) is waiters:
                del self._waiters[follower]

    async def _read_on(self) -> None:
        """Look again and again, until nobody has waited for LINGERS seconds. Raises as next_events does."""
        needed_at = swept_at = self._monotonic()
        while self._end is not None and not self._closed:
            now = self._monotonic()
            if self._waiters:
                needed_at = now
            elif now - needed_at > LINGERS:
                return
            if now - swept_at >= SWEEP_EVERY:
                swept_at = now
                self._sweep()
            await self._look(self._end)
            if self._whole:
                await asyncio.sleep(POLL_EVERY)

    async def _look(self, end: Cursor) -> None:
        """Read on from the end, and wake those whom an event concerns. Raises as next_events does."""
        rows, now = await changes.next_events(self._fetch, end, BATCH)
        self._whole = len(rows) < BATCH
        for row in rows:
            self._keep(row)
        if rows:
            metrics.FEED_LAG.observe((now - rows[0]["recorded_at"]).total_seconds())
            metrics.FEED_ROWS.inc(len(rows))
        for follower, waiters in list(self._waiters.items()) if rows else ():
            if any(map(follower.sees, rows)):
                for waiter in waiters:
                    waiter.wake()

    def _keep(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        self._end = cursor_of(row)
        self._places[self._end] = self._dropped + len(self._rows)
        if len(self._rows) > KEPT and self._floor is not None:
            del self._places[self._floor]
            self._floor = cursor_of(self._rows.popleft())
            self._dropped += 1

    def _begin(self, after: Cursor) -> None:
        self._floor = self._end = after
        self._places[after] = self._dropped = 0
        self._whole = True  # PostgreSQL has just said so

    def _forget(self, why: Refusal | None = None) -> None:
        """Drop what was read. Those who wait are told why, if PostgreSQL cannot be read, and else ask it themselves."""
        self._rows.clear()
        self._places.clear()
        self._floor = self._end = None
        away = isinstance(why, Unavailable) and not isinstance(why, changes.FeedHalted)
        self._wake_all(why if away else None)

    def _wake_all(self, why: Refusal | None = None) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.wake(why)

    def _sweep(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                if waiter.gone():
                    waiter.wake()
