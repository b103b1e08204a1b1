"""Who arrives when, asks for what, and what becomes of it: the arithmetic of an open loop, without a socket.

Arrivals come at a fixed rate whatever became of those before them. They are numbered in their order, so that a number
says when it came, and nothing else has to be kept.
"""

import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.system.computed_dossiers import PER_DAY, code

OK = 200
REFUSALS = (429, 503)
MILLISECONDS = 1000
GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Flood:
    """What comes: `rate` a second for `seconds`, for `count` dossiers beginning with number `first`.

    An arrival takes the next free of `connections`, which go round the `ports` of this machine, or waits for one
    with at most `queue` others; and leaves `patience` seconds after the arrival, answered or not.
    """

    ports: Sequence[int]
    first: int
    count: int
    rate: float
    seconds: float
    connections: int
    queue: int | None = None
    patience: float = 2.5
    seed: int = 1


@dataclass(frozen=True)
class Report:
    """What became of them: `arrivals` = good + refused + broken + turned away + given up.

    Times are counted from the arrival, in milliseconds.
    """

    arrivals: int
    sent: int
    good: int
    refused: dict[str, int]
    """By status; refused in time."""
    broken: int
    """Connections lost before the answer, and answers of any other status."""
    turned_away: int
    """Found no connection free and the queue full."""
    given_up: int
    """Not answered in time, whether they had been sent or still waited for a connection."""
    seconds: float
    """Until the last good answer, and at least for as long as they came."""
    median: float
    p99: float
    lag: float = 0.0
    """The longest the generator was late with its arrivals; it counts as theirs."""
    busy: float = 0.0
    """The share of its core the generator took."""

    @property
    def goodput(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds


class Arrivals:
    """All arrivals of one flood: number n arrives at n / rate. `now` is in seconds since the first."""

    def __init__(self, flood: Flood) -> None:
        self.count = max(1, int(flood.rate * flood.seconds))
        self._rate = flood.rate
        self._patience = flood.patience
        self._longest = flood.queue if flood.queue is not None else self.count
        self._queue: deque[int] = deque()
        self._next = 0
        self._turned_away = 0
        self._sent = 0
        self._good: list[float] = []
        self._refused = dict.fromkeys(REFUSALS, 0)
        self._broken = 0
        self._late = 0
        self._last_good = flood.seconds

    def take(self, now: float) -> int | None:
        """The one that has waited longest and has not given up yet; None when none waits."""
        self._let_go(now)
        come = min(self.count, int(now * self._rate) + 1)
        if come > self._next:
            self._let_in(come)
            self._let_go(now)
        if not self._queue:
            return None
        self._sent += 1
        return self._queue.popleft()

    def _let_in(self, come: int) -> None:
        room = self._longest - len(self._queue)
        self._queue.extend(range(self._next, min(come, self._next + room)))
        self._turned_away += max(0, come - self._next - room)
        self._next = come

    def _let_go(self, now: float) -> None:
        while self._queue and now - self._queue[0] / self._rate > self._patience:
            self._queue.popleft()

    def settle(self, n: int, status: int, now: float) -> None:
        """Number n has been answered; status 0 when the connection was lost."""
        took = now - n / self._rate
        if took > self._patience:
            self._late += 1
        elif status == OK:
            self._good.append(took)
            self._last_good = max(self._last_good, now)
        elif status in self._refused:
            self._refused[status] += 1
        else:
            self._broken += 1

    @property
    def over(self) -> bool:
        """Whether none waits, none comes any more, and all that were sent have been answered."""
        settled = len(self._good) + sum(self._refused.values()) + self._broken + self._late
        return self._next == self.count and not self._queue and settled == self._sent

    def report(self, lag: float, busy: float) -> Report:
        """What became of them. Those without an answer yet have given up."""
        refused = sum(self._refused.values())
        return Report(
            arrivals=self.count,
            sent=self._sent,
            good=len(self._good),
            refused={str(status): count for status, count in self._refused.items()},
            broken=self._broken,
            turned_away=self._turned_away,
            given_up=self.count - len(self._good) - refused - self._broken - self._turned_away,
            seconds=self._last_good,
            median=percentile(self._good, 0.5) * MILLISECONDS,
            p99=percentile(self._good, 0.99) * MILLISECONDS,
            lag=lag * MILLISECONDS,
            busy=busy,
        )


class Requests:
    """Finished requests, put together from parts made beforehand.

    The n-th asks for another dossier than all before it, until each has been asked for, in an order that looks random,
    for a client of the same carriers as in `wrk/codes.lua`.
    """

    def __init__(self, first: int, count: int, seed: int) -> None:
        self._first = first
        self._count = count
        self._step = int(count * GOLDEN) or 1
        while math.gcd(self._step, count) > 1:
            self._step += 1
        self._random = random.Random(seed)
        self._start = self._random.randrange(count)
        days = range((first + count - 1) // PER_DAY + 1)
        self._days = [f"GET /api/v1/dossiers/{code(day * PER_DAY)[:-5]}".encode() for day in days]
        self._within = [b"%05d HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 100." % n for n in range(PER_DAY)]
        self._networks = [b"%d.%d." % (64 + n // 256, n % 256) for n in range(1 << 14)]
        self._hosts = [b"%d\r\n\r\n" % n for n in range(1 << 8)]

    def nth(self, n: int) -> bytes:
        """The request of arrival n."""
        return self.about(self._first + (self._start + n * self._step) % self._count)

    def about(self, number: int) -> bytes:
        """A request for the dossier with this number."""
        day, within = divmod(number, PER_DAY)
        client = self._random.getrandbits(22)
        return self._days[day] + self._within[within] + self._networks[client >> 8] + self._hosts[client & 255]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them keeps within; 0 for none."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else 0.0
