"""Who is connected to a process: no more than it can bear, and rather those who ask than those who do not.

A connection costs a descriptor and some memory even if nobody ever says anything on it, and whoever opens thousands
pays next to nothing. So there is a most; when it is reached, the one who has owed a request for longest has to go, and
only where nobody owes one is a newcomer turned away. Of those who do not take their answers a few are borne with.
"""

import resource
from collections import OrderedDict
from typing import Protocol

from ops.observe.metrics import CONNECTIONS, CONNECTIONS_CUT

MOST = 10_000
"""Connections of one process, unless its settings say otherwise."""
MOST_DEAF = 256
"""Connections with more answers unread than the system keeps for them; each may hold a quarter of a megabyte."""
SPARE = 512
"""Descriptors left for everything else: pools, files, and those who are just being hung up on."""


class Guest(Protocol):
    """A connection, as the crowd sees it."""

    @property
    def owes(self) -> bool:
        """Whether its client has said nothing yet, or half of a request."""
        ...

    def cut(self, reason: str) -> None:
        """Hang up at once, and count it under this reason."""
        ...


class ConnectionLimit:
    """The connections of one public port."""

    def __init__(self, service: str, most: int = MOST) -> None:
        self._service = service
        self._most = within_descriptors(most)
        self._inside: set[Guest] = set()
        self._newcomers: OrderedDict[Guest, None] = OrderedDict()
        """In the order in which they came; who has asked for something is taken out when it is looked at."""
        self._deaf: OrderedDict[Guest, None] = OrderedDict()
        self._gauge = CONNECTIONS.labels(service)

    def __len__(self) -> int:
        return len(self._inside)

    def enter(self, guest: Guest) -> bool:
        """Whether there is room for this one; if need be somebody who owes a request has gone for it."""
        if len(self._inside) >= self._most and not self._make_room():
            CONNECTIONS_CUT.labels(self._service, "full").inc()
            return False
        self._inside.add(guest)
        self._newcomers[guest] = None
        self._gauge.inc()
        return True

    def leave(self, guest: Guest) -> None:
        """It is gone. Safe to call twice, and for one that was turned away."""
        if guest in self._inside:
            self._inside.remove(guest)
            self._newcomers.pop(guest, None)
            self._deaf.pop(guest, None)
            self._gauge.dec()

    def deafen(self, guest: Guest) -> None:
        """Its client has stopped taking answers; if that are too many now, the first of them is hung up on."""
        self._deaf[guest] = None
        if len(self._deaf) > MOST_DEAF:
            self._deaf.popitem(last=False)[0].cut("deaf")

    def hear(self, guest: Guest) -> None:
        """Its client takes answers again."""
        self._deaf.pop(guest, None)

    def _make_room(self) -> bool:
        while self._newcomers:
            guest, _ = self._newcomers.popitem(last=False)
            if guest.owes:
                guest.cut("silent")
                self.leave(guest)
                return True
        return False


def within_descriptors(most: int) -> int:
    """As many of these as this process may have descriptors for, with some to spare."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, max(soft - SPARE, soft // 2))


def ask_for_descriptors(most: int) -> None:
    """Raise this process's own limit to what so many connections need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + SPARE if hard == resource.RLIM_INFINITY else min(most + SPARE, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
