"""The PostgreSQL hosts of a lookup: which one is the primary, how far the standbys lag, and which to query.

Each host has its own pool, and the pulse queries the roles once a second. asyncpg can try hosts in turn by itself, but
then a first host that hangs costs every request the whole deadline.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lookup.clock import PRESENT, DatabaseClock, microseconds
from lookup.reading.freshness import SECOND
from lookup.schema import ASKS_FOR, MADE_BY
from ops.errors import Unavailable
from ops.stores import urls
from ops.stores.breaker import Breaker
from ops.stores.calls import Lateness
from ops.stores.postgres import Postgres

# Only for the probe, once a second; batches do not need it.
PROBE = PRESENT.replace(
    "  FROM heartbeat\n",
    f"     , ({ASKS_FOR}) AS schema_asks_for\n     , ({MADE_BY}) AS schema_made_by\n  FROM heartbeat\n",
)

LARGEST_LAG = 10.0
"""Lag in seconds beyond which a standby is queried only when no other host answers."""


class Role(Enum):
    """The role a host reported at its last answer."""

    PRIMARY = "primary"
    STANDBY = "standby"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Present:
    """What a PostgreSQL host reports of its database."""

    epoch: int
    schema_version: int
    schema_asks_for: int
    """The migration that programs must know; see schema.check."""
    schema_made_by: str | None
    """A migration of the schema before this release's, if it has one; see schema.check."""


class Host:
    """One PostgreSQL host and its last known state."""

    def __init__(self, postgres: Postgres, breaker: Breaker) -> None:
        self.postgres = postgres
        self.breaker = breaker
        self.role = Role.UNKNOWN
        self.beat_at = 0
        """The heartbeat at its last answer, microseconds."""
        self.trouble = ""
        """Why the last query failed, for the operator on call; empty when it succeeded."""

    @property
    def name(self) -> str:
        return self.postgres.name


class Hosts:
    """All hosts of a URL; `probe`, run by the pulse once a second, reads their roles.

    A batch is read from the freshest standby, else from the primary; each host is tried at most once for it. All hosts
    tried before the last one share half of `deadline`: otherwise two hanging standbys would delay every query until
    lookups are refused for overload, although the primary works.
    """

    def __init__(
        self,
        url: Callable[[], str],
        clock: DatabaseClock,
        *,
        size: int,
        deadline: float,
        pooled: bool,
        lateness: Lateness | None = None,
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
        """Whether the breaker of at least one host is closed."""
        return any(not host.breaker.open for host in self.all)

    def readers(self) -> Iterator[Host]:
        """The hosts to query for records, in order of preference."""
        standbys = [host for host in self.all if host.role is Role.STANDBY and not host.breaker.open]
        standbys.sort(key=lambda host: -host.beat_at)
        newest = max(host.beat_at for host in self.all)
        near = [host for host in standbys if newest - host.beat_at <= LARGEST_LAG * SECOND]
        yield from near
        yield from self.primaries()
        yield from (host for host in standbys if host not in near)
        yield from (host for host in self.all if host.role is Role.UNKNOWN and not host.breaker.open)

    def primaries(self) -> Iterator[Host]:
        """The primary, if its breaker is closed. Of two hosts that claim to be it, the one with the newer heartbeat."""
        primaries = [host for host in self.all if host.role is Role.PRIMARY]
        if primaries:
            primary = max(primaries, key=lambda host: host.beat_at)
            if not primary.breaker.open:
                yield primary

    async def ask(self, sql: str, *arguments: object, primary: bool = False) -> list[Any]:
        """The rows of a statement whose first row holds PRESENT's columns, which also set the clock.

        Raises Unavailable when no suitable host answers.
        """
        away = Unavailable("No PostgreSQL host that may answer this query can be reached now.")
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
            del away  # its traceback holds this frame: a cycle

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """The rows of any statement. Raises Unavailable when no host answers."""
        away = Unavailable("No PostgreSQL host can be reached now.")
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
        """These hosts, each with its timeout in seconds."""
        asked = list(hosts)
        share = self._deadline / 2 / max(1, len(asked) - 1)
        return [(host, share) for host in asked[:-1]] + [(host, self._deadline) for host in asked[-1:]]

    async def probe(self) -> list[Present]:
        """Query the state of every host. Returns the answers; a host that does not answer is left out."""
        present = await asyncio.gather(*(self._probe(host) for host in self.all))
        return [each for each in present if each is not None]

    def lags(self) -> dict[str, float]:
        """Age of each standby's newest heartbeat, in seconds; 0 for a primary and for an unreachable host."""
        now = self._clock.now()
        return {
            host.name: max(0, now - host.beat_at) / SECOND
            if host.role is Role.STANDBY and not host.breaker.open
            else 0.0
            for host in self.all
        }

    async def present(self) -> dict[str, str]:
        """For the health report: each host's role, or why it is unreachable. Raises Unavailable when all are."""
        if not await self.probe():
            raise Unavailable("No PostgreSQL host answers.", reason="; ".join(host.trouble for host in self.all))
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
        return Present(row["epoch"], row["schema_version"] or 0, row["schema_asks_for"], row["schema_made_by"])

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
    """A function that returns the URL of the n-th host alone, called at every connect."""
    # Read anew at every connect, since its password may have been rotated. The setting may hold several URLs.
    return lambda: "\n".join(urls.each_host(each)[n] for each in urls.Urls(url))
