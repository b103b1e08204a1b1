"""The connection limit of a process. At the limit, idle connections make room for new ones.

A connection costs a descriptor and some memory even when it sends nothing, and opening thousands costs a client
little. At the limit, the connection that has been idle longest is closed, whatever it requested before: a client that
sends one request on each of thousands of connections keeps no other out. Only where every connection is having a
request answered, the new one is refused. Connections whose clients do not read their answers have a limit of their own.
"""

import heapq
import resource
import time
from collections import OrderedDict
from typing import Protocol

from ops.observe.metrics import CONNECTIONS, CONNECTIONS_CUT

MOST = 10_000
"""The default connection limit of a process."""
MOST_UNREAD = 256
"""Limit of connections whose unread answers overflow the system's buffer; each may hold 256 kB."""
AT_ONCE = 256
"""Idle connections found in one walk through all, which takes some milliseconds for ten thousand."""
WALK_AGAIN = 0.05
"""Seconds between two walks where nearly every connection is busy."""
SPARE = 512
"""Descriptors reserved for pools, files, and connections being closed."""


class LimitedConnection(Protocol):
    """What ConnectionLimit needs of a connection."""

    @property
    def idle_since(self) -> float | None:
        """When its last answer was sent, or it was opened, on a monotonic clock; None while a request is answered."""
        ...

    def cut(self, reason: str) -> None:
        """Close at once, and count it under this reason."""
        ...


class ConnectionLimit:
    """The connections of one public port, at most `most` of them."""

    def __init__(self, service: str, most: int = MOST) -> None:
        self._service = service
        self._most = within_descriptors(most)
        self._inside: set[LimitedConnection] = set()
        self._idle: list[tuple[float, int, LimitedConnection]] = []
        """The longest idle ones when last looked for, the longest last; each is asked again before it is closed."""
        self._next_walk = 0.0
        self._unread: OrderedDict[LimitedConnection, None] = OrderedDict()
        self._gauge = CONNECTIONS.labels(service)

    def __len__(self) -> int:
        return len(self._inside)

    def enter(self, connection: LimitedConnection) -> bool:
        """Add a connection. At the limit it closes the one that has been idle longest; False where all are busy."""
        if len(self._inside) >= self._most and not self._make_room():
            CONNECTIONS_CUT.labels(self._service, "full").inc()
            return False
        self._inside.add(connection)
        self._gauge.inc()
        return True

    def leave(self, connection: LimitedConnection) -> None:
        """Remove a closed connection. Safe to call twice, and for a refused one."""
        if connection in self._inside:
            self._inside.remove(connection)
            self._unread.pop(connection, None)
            self._gauge.dec()

    def stopped_reading(self, connection: LimitedConnection) -> None:
        """Its client has stopped reading answers; above MOST_UNREAD the first of these connections is closed."""
        self._unread[connection] = None
        if len(self._unread) > MOST_UNREAD:
            self._unread.popitem(last=False)[0].cut("deaf")

    def reads_again(self, connection: LimitedConnection) -> None:
        """Its client reads answers again."""
        self._unread.pop(connection, None)

    def _make_room(self) -> bool:
        return self._close_longest_idle() or (self._look_for_idle() and self._close_longest_idle())

    def _close_longest_idle(self) -> bool:
        while self._idle:
            since, _, connection = self._idle.pop()
            if connection in self._inside and connection.idle_since == since:
                connection.cut("silent")
                self.leave(connection)
                return True
        return False

    def _look_for_idle(self) -> bool:
        now = time.monotonic()
        if now < self._next_walk:
            return False
        every = ((each.idle_since, number, each) for number, each in enumerate(self._inside))
        idle = ((since, number, each) for since, number, each in every if since is not None)
        self._idle = heapq.nsmallest(AT_ONCE, idle)[::-1]
        if len(self._idle) < AT_ONCE < len(self._inside):
            self._next_walk = now + WALK_AGAIN
        return True


def within_descriptors(most: int) -> int:
    """`most`, lowered to what this process's limit of descriptors allows beside SPARE."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, max(soft - SPARE, soft // 2))


def ask_for_descriptors(most: int) -> None:
    """Raise this process's soft limit of descriptors to `most` connections and SPARE, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + SPARE if hard == resource.RLIM_INFINITY else min(most + SPARE, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
