"""Probes PostgreSQL and Redis once a second: the primary, its time, the epoch, whether Redis answers.

Only the pulse's probes pass an open breaker, so it also notices when a dependency is back. While no primary is known
it beats four times as often: a new primary issues receipts at once, and their codes must be found.
"""

import asyncio
import logging
from collections.abc import Callable

from lookup import metrics, schema
from lookup.cache import Cache
from lookup.catalogue import CatalogueCopy
from lookup.reading.freshness import SECOND
from lookup.reading.hosts import Hosts
from lookup.reading.memory import Memory
from lookup.reading.vitals import Vitals
from lookup.upkeep.freshness_sli import FreshnessSli
from lookup.upkeep.service_status import ServiceStatus
from ops.errors import Unavailable

log = logging.getLogger(__name__)

EVERY = 1.0
AWAY_EVERY = 0.25
"""Seconds between two beats while no primary is known.

When PostgreSQL is back, new dossiers are looked up at once; a refused connection costs little.
"""
CATALOGUE_EVERY = 60.0
SERVICE_EVERY = 5.0
"""Seconds between two reads of announced maintenance and of intake's sign of life."""


class Pulse:
    """Keeps a process's vitals and its copy of the catalogue current while `run` runs.

    `refresh` is called at the end of every beat, to remake what depends on these.
    """

    def __init__(
        self,
        hosts: Hosts,
        cache: Cache,
        vitals: Vitals,
        catalogue: CatalogueCopy,
        memory: Memory,
        slices: FreshnessSli,
        service: ServiceStatus,
        refresh: Callable[[], None],
    ) -> None:
        self._hosts = hosts
        self._cache = cache
        self._vitals = vitals
        self._catalogue = catalogue
        self._memory = memory
        self._slices = slices
        self._service = service
        self._refresh = refresh

    async def start(self) -> None:
        """Beat once before the first request. Raises WrongSchema; does not wait for unreachable dependencies."""
        await self.beat()
        await self._read_catalogue()
        await self._read_service()
        self._refresh()

    async def run(self) -> None:
        """Beat until cancelled. Raises WrongSchema, which ends the process."""
        catalogue_due, service_due = CATALOGUE_EVERY, SERVICE_EVERY
        while True:
            pause = EVERY if any(self._hosts.primaries()) else AWAY_EVERY
            await asyncio.sleep(pause)
            catalogue_due, service_due = catalogue_due - pause, service_due - pause
            if service_due <= 0:
                service_due = SERVICE_EVERY
                await self._read_service()
            await self.beat()
            if catalogue_due <= 0 or not self._catalogue.known:
                catalogue_due = CATALOGUE_EVERY
                await self._read_catalogue()

    async def beat(self) -> None:
        """Probe every PostgreSQL host and Redis once; unreachable ones are skipped."""
        await asyncio.gather(self._ask_postgres(), self._ask_redis())
        self._slices.look()
        metrics.FEED_AGE.set(self._vitals.feed.age / SECOND)
        for name, lag in self._hosts.lags().items():
            metrics.STANDBY_LAG.labels(name).set(lag)
        metrics.MEMORY_COPIES.set(len(self._memory))
        metrics.MEMORY_BYTES.set(self._memory.used)
        self._refresh()

    async def _ask_postgres(self) -> None:
        present = await self._hosts.probe()
        if present:
            # A standby may not have received the newest migration or epoch yet.
            schema.check(
                max(each.schema_version for each in present),
                max(each.schema_asks_for for each in present),
                next((each.schema_made_by for each in present if each.schema_made_by), None),
            )
            self._vitals.feed.enter(max(each.epoch for each in present))

    async def _ask_redis(self) -> None:
        try:
            with self._vitals.redis.trial():
                epoch = await self._cache.epoch()
        except Unavailable:
            return
        if epoch is not None:
            self._vitals.feed.enter(epoch)

    async def _read_catalogue(self) -> None:
        try:
            await self._catalogue.refresh()
        except Unavailable:
            log.info("Cannot read the catalogue; the last copy stays in use")

    async def _read_service(self) -> None:
        try:
            await self._service.read()
        except Unavailable as away:
            log.info("Cannot read announced maintenance; the last copy stays in use: %s", away.detail)
