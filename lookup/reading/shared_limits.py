"""Processes of one installation tell each other, through Redis, which networks have used much of an allowance.

Only names over 1/16 of their allowance are told (lookup/reading/limits.py), so nearly no citizen's address is ever in a
message, and Redis sees keyed hashes only. Between two exchanges each process admits by what it knows: what it learns
late is what all together admit too much.

Without Redis each process limits by itself, no lookup waits for it, and the first exchange after that makes up for it.
This is counted in lookup_limits_shared_total{outcome="unavailable"}.
"""

import asyncio
import hashlib
import logging

import redis.exceptions

from lookup import metrics
from lookup.cache import Cache
from lookup.reading.limits import Limits, Name
from ops.errors import Unavailable
from ops.stores.breaker import Breaker

EVERY = 0.1
"""Seconds between two exchanges."""
NAMES_AT_ONCE = 200
"""Limit of names in one exchange: Redis serves nothing else meanwhile."""

_log = logging.getLogger(__name__)


class SharedLimits:
    """Keeps one process's limits in step with the others' while `run` runs.

    `key`: what all processes have, and Redis does not; without it names cannot be recognised. `breaker`: Redis's.
    """

    def __init__(self, limits: Limits, cache: Cache, breaker: Breaker, *, key: bytes) -> None:
        self._limits = limits
        self._cache = cache
        self._breaker = breaker
        self._key = hashlib.sha256(key).digest()
        self._counted = 0
        self._alone = False

    async def run(self) -> None:
        """Exchange every EVERY seconds until cancelled, and add what was disclosed to the metrics."""
        while True:
            await asyncio.sleep(EVERY)
            await self.exchange()

    async def exchange(self) -> None:
        """One exchange, if there is anything to tell. A failure is counted, and logged when it begins and ends."""
        metrics.DISCLOSED.inc(self._limits.disclosed - self._counted)
        self._counted = self._limits.disclosed
        taken = self._limits.take_spent(NAMES_AT_ONCE)
        if not taken:
            return
        seconds = [number for _, spent, ahead in taken for number in (ahead, spent)]
        try:
            with self._breaker:
                together = await self._cache.spend([self._hashed(name) for name, _, _ in taken], seconds)
        except (Unavailable, redis.exceptions.ResponseError) as away:
            self._limits.give_back(taken)
            metrics.LIMITS_SHARED.labels("unavailable").inc()
            self._note(alone=True, why=str(away))
            return
        for (name, _, _), ahead in zip(taken, together, strict=True):
            self._limits.hear(name, ahead)
        metrics.LIMITS_SHARED.labels("done").inc()
        self._note(alone=False)

    def _note(self, *, alone: bool, why: str = "") -> None:
        if alone and not self._alone:
            _log.warning("Limits are not shared with other processes: each limits by itself: %s", why)
        elif self._alone and not alone:
            _log.info("Limits are shared with other processes again")
        self._alone = alone

    def _hashed(self, name: Name) -> str:
        network, scope = name
        text = network if isinstance(network, bytes) else network.encode()
        return hashlib.blake2b(b"%d %b%b" % (len(text), text, scope.encode()), digest_size=8, key=self._key).hexdigest()
