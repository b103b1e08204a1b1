"""The Postgres hosts of a lookup: which one is the primary, how far behind the others are, and whom to ask.

One pool a host, and the roles are asked for with every beat of the pulse. The drivers can try hosts in turn by
themselves, but then a first host that hangs costs everybody the whole deadline.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lookup.clock import PRESENT, DatabaseClock, microseconds
from lookup.reading.freshness import SECOND
from lookup.schema import ASKS_FOR
from ops.errors import Unavailable
from ops.stores import urls
from ops.stores.breaker import Breaker
from ops.stores.calls import Lateness
from ops.stores.postgres import Postgres

# Once a second, and so not part of every batch.
PROBE = PRESENT.replace("  FROM heartbeat\n", f"     , ({ASKS_FOR}) AS schema_asks_for\n  FROM heartbeat\n")

LARGEST_LAG = 10.0
"""A standby further behind than this, in seconds, is asked only when nobody else answers."""


class Role(Enum):
    """What a host said it is when it was last asked."""

    PRIMARY = "primary"
    STANDBY = "standby"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Present:
    """What a Postgres says of itself."""

    epoch: int
    schema_version: int
    schema_asks_for: int
    """The migration that programs have to know; see schema.check."""


class Host:
    """One Postgres, and what is known of it."""

    def __init__(self, postgres: Postgres, breaker: Breaker) -> None:
        self.postgres = postgres
        self.breaker = breaker
        self.role = Role.UNKNOWN
        self.beat_at = 0
        """The heartbeat it had when it was last asked, microseconds."""
        self.trouble = ""
        """Why it could not be asked the last time, for whoever is on call; empty when it could."""

    @property
    def name(self) -> str:
        return self.postgres.name


class Hosts:
    """All hosts of a URL, asked for their roles by `probe`, with every beat of the pulse.

    A batch is read from the freshest standby, else from the primary; each host is asked at most once for it. All who
    are asked before the last one share half of `deadline`: two standbys that hang would otherwise keep every query for
    so long that lookups are refused for overload, though the primary is well.
    """

    def __init__(
        self,
        url: Callable[[], str],
        clock: DatabaseClock,
        *,
        size: int,
        deadline: float,
        lateness: Lateness | None = None,
        pooled: bool = False,
    ) -> None:
        self._clock = clock
        self._deadline = deadline
        count = len(urls.each_host(urls.first(url())))
        names = ["postgres"] if count == 1 else [f"postgres-{n + 1}" for n in range(count)]
        self.all = [
            Host(
                Postgres(
                    name,
                    nth_host(url, n),
                    size=size,
                    deadline=deadline,
                    lateness=lateness,
                    stateless=True,
                    pooled=pooled,
                ),
                Breaker(name, after=2),
            )
            for n, name in enumerate(names)
        ]

    @property
    def reachable(self) -> bool:
        """Whether any host can be asked, as far as is known."""
        return any(not host.breaker.open for host in self.all)

    def readers(self) -> Iterator[Host]:
        """Whom to ask for records, best first."""
        standbys = [host for host in self.all if host.role is Role.STANDBY and not host.breaker.open]
        standbys.sort(key=lambda host: -host.beat_at)
        newest = max((host.beat_at for host in self.all), default=0)
        near = [host for host in standbys if newest - host.beat_at <= LARGEST_LAG * SECOND]
        yield from near
        yield from self.primaries()
        yield from (host for host in standbys if host not in near)
        yield from (host for host in self.all if host.role is Role.UNKNOWN and not host.breaker.open)

    def primaries(self) -> Iterator[Host]:
        """The primary, if it can be asked. Of two that call themselves so, the one whose heartbeat goes on."""
        primaries = [host for host in self.all if host.role is Role.PRIMARY]
        if primaries:
            primary = max(primaries, key=lambda host: host.beat_at)
            if not primary.breaker.open:
                yield primary

    async def ask(self, sql: str, *arguments: object, primary: bool = False) -> list[Any]:
        """The rows of one statement that begins with PRESENT's columns; teaches the clock what time it is.

        Raises Unavailable when nobody who is fit to answer does.
        """
        away = Unavailable("No Postgres that could answer this can be reached now.")
        try:
            for host, deadline in self._in_turn(self.primaries() if primary else self.readers()):
                try:
                    with host.breaker:
                        rows = await self._ask(host, sql, *arguments, deadline=deadline)
                except Unavailable as error:
                    away = error
                    continue
                if not (primary and rows[0]["standby"]):
                    return rows
            raise away
        finally:
            del away  # or this frame would hold what holds it by its traceback, until the garbage collector comes

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """The rows of any statement. Raises Unavailable when nobody answers."""
        away = Unavailable("No Postgres can be reached now.")
        try:
            for host, deadline in self._in_turn(self.readers()):
                try:
                    with host.breaker:
                        return await host.postgres.fetch(sql, *arguments, deadline=deadline)
                except Unavailable as error:
                    away = error
            raise away
        finally:
            del away  # as above

    def _in_turn(self, hosts: Iterator[Host]) -> list[tuple[Host, float]]:
        """Each of these, and how long it may take, in seconds."""
        asked = list(hosts)
        share = self._deadline / 2 / max(1, len(asked) - 1)
        return [(host, share) for host in asked[:-1]] + [(host, self._deadline) for host in asked[-1:]]

    async def probe(self) -> list[Present]:
        """Ask every host what it is. Says what those that answered said."""
        present = await asyncio.gather(*(self._probe(host) for host in self.all))
        return [each for each in present if each is not None]

    def lags(self) -> dict[str, float]:
        """How old the newest heartbeat of each host is, in seconds; 0 where it is no standby, or is away."""
        now = self._clock.now()
        return {
            host.name: max(0, now - host.beat_at) / SECOND
            if host.role is Role.STANDBY and not host.breaker.open
            else 0.0
            for host in self.all
        }

    async def present(self) -> dict[str, str]:
        """For a health report: each host's role, and why one could not be asked. Raises Unavailable when none can."""
        if not await self.probe():
            raise Unavailable("No Postgres answers.", reason="; ".join(host.trouble for host in self.all))
        return {host.name: f"unreachable: {host.trouble}" if host.trouble else host.role.value for host in self.all}

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(host.postgres.close() for host in self.all))

    async def _probe(self, host: Host) -> Present | None:
        try:
            with host.breaker.trial():
                (row,) = await self._ask(host, PROBE)
        except Unavailable:
            host.role = Role.UNKNOWN if host.breaker.open else host.role
            return None
        return Present(row["epoch"], row["schema_version"] or 0, row["schema_asks_for"])

    async def _ask(self, host: Host, sql: str, *arguments: object, deadline: float | None = None) -> list[Any]:
        asked_at = time.monotonic()
        try:
            rows = await host.postgres.fetch(sql, *arguments, deadline=deadline)
        except Unavailable as away:
            host.trouble = away.reason or away.detail
            raise
        host.trouble = ""
        first = rows[0]
        host.role = Role.STANDBY if first["standby"] else Role.PRIMARY
        host.beat_at = microseconds(first["beat_at"])
        self._clock.learn(first["asked_at"], asked_at, primary=not first["standby"])
        return rows


def nth_host(url: Callable[[], str], n: int) -> Callable[[], str]:
    """The URL of the n-th host alone, for whoever asks for it at every connect."""
    # The URL is asked for anew at every connect, since its password may have been rotated. There may be several.
    return lambda: "\n".join(urls.each_host(each)[n] for each in urls.Urls(url))
