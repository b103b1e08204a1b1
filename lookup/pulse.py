"""Once a second: what time is it in Postgres, which epoch, is the schema ours, does everything answer?

This is also what notices that a dependency is back: the breakers let a call through after their pause, and
the pulse makes one whether or not a citizen asks.
"""

import asyncio
import logging

from lookup import metrics, schema
from lookup.cache import Cache
from lookup.catalogue import CatalogueCopy
from lookup.freshness import SECOND
from lookup.reader import Vitals
from lookup.store import Present, Store
from ops.errors import Unavailable

log = logging.getLogger(__name__)

EVERY = 1.0
CATALOGUE_EVERY = 60.0


class Pulse:
    """Keeps a process's vitals and its copy of the catalogue current, for as long as `run` runs."""

    def __init__(self, store: Store, cache: Cache, vitals: Vitals, catalogue: CatalogueCopy) -> None:
        self._store = store
        self._cache = cache
        self._vitals = vitals
        self._catalogue = catalogue

    async def start(self) -> None:
        """Beat once before the first request. Raises WrongSchema; an absent dependency is no reason to wait."""
        await self.beat()
        await self._read_catalogue()

    async def run(self) -> None:
        """Beat for ever. Ends only with WrongSchema, which ends the process."""
        beats = 0
        while True:
            await asyncio.sleep(EVERY)
            await self.beat()
            beats += 1
            if beats * EVERY >= CATALOGUE_EVERY or not self._catalogue.known:
                beats = 0
                await self._read_catalogue()

    async def beat(self) -> None:
        """Ask Postgres and Redis once; what is away is skipped."""
        present = await self._ask_postgres()
        if present is not None:
            schema.check(present.schema_version)
            self._vitals.enter(present.epoch)
        await self._ask_redis()
        metrics.FEED_AGE.set(self._vitals.feed_age() / SECOND)

    async def _ask_postgres(self) -> Present | None:
        try:
            with self._vitals.postgres:
                return await self._store.present()
        except Unavailable:
            return None

    async def _ask_redis(self) -> None:
        try:
            with self._vitals.redis:
                epoch = await self._cache.epoch()
                read = await self._cache.read(self._vitals.epoch, [])
        except Unavailable:
            return
        if epoch is not None:
            self._vitals.enter(epoch)
        self._vitals.saw_feed(read.feed_at)

    async def _read_catalogue(self) -> None:
        try:
            with self._vitals.postgres:
                await self._catalogue.refresh()
        except Unavailable:
            log.info("the catalogue could not be read; names stay as they were")
