"""The connection limit of a process. At the limit, idle connections make room for new ones.

A connection costs a descriptor and some memory even when it sends nothing, and opening thousands costs a client
little. At the limit, the connection that has been open longest without sending a request is closed; if there is none,
the new connection is refused. Connections whose clients do not read their answers have a limit of their own.
"""

import resource
from collections import OrderedDict
from typing import Protocol

from ops.observe.metrics import CONNECTIONS, CONNECTIONS_CUT

MOST = 10_000
"""The default connection limit of a process."""
MOST_UNREAD = 256
"""Limit of connections whose unread answers overflow the system's buffer; each may hold 256 kB."""
SPARE = 512
"""Descriptors reserved for pools, files, and connections being closed."""


class LimitedConnection(Protocol):
    """What ConnectionLimit needs of a connection."""

    @property
    def owes(self) -> bool:
        """Whether its client has sent nothing yet, or only part of a request."""
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
        self._newcomers: OrderedDict[LimitedConnection, None] = OrderedDict()
        """In order of arrival; those that have sent a request are removed when room is needed."""
        self._unread: OrderedDict[LimitedConnection, None] = OrderedDict()
        self._gauge = CONNECTIONS.labels(service)

    def __len__(self) -> int:
        return len(self._inside)

    def enter(self, connection: LimitedConnection) -> bool:
        """Add a connection. At the limit it closes the oldest one that owes a request, or returns False."""
        if len(self._inside) >= self._most and not self._make_room():
            CONNECTIONS_CUT.labels(self._service, "full").inc()
            return False
        self._inside.add(connection)
        self._newcomers[connection] = None
        self._gauge.inc()
        return True

    def leave(self, connection: LimitedConnection) -> None:
        """Remove a closed connection. Safe to call twice, and for a refused one."""
        if connection in self._inside:
            self._inside.remove(connection)
            self._newcomers.pop(connection, None)
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
        while self._newcomers:
            connection, _ = self._newcomers.popitem(last=False)
            if connection.owes:
                connection.cut("silent")
                self.leave(connection)
                return True
        return False


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
