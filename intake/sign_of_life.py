"""The intake's sign of life: a row it renews every few seconds, for as long as it can commit anything.

The public page about the service reads it (lookup/upkeep/service_status.py). All intake processes share the row, and
one that finds it fresh leaves it alone.
"""

import asyncio
import logging

import asyncpg

from ops.errors import Unavailable
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two signs."""

RENEW = """
INSERT INTO sign_of_life AS sign (service, at)
VALUES ('intake', clock_timestamp())
    ON CONFLICT (service) DO UPDATE
   SET at = excluded.at
 WHERE sign.at < excluded.at - interval '4 seconds'
"""


class SignOfLife:
    """Renews the row until it is cancelled. `deadline`: seconds a commit may take, as for everything handed in."""

    def __init__(self, postgres: Postgres, *, deadline: float) -> None:
        self._postgres = postgres
        self._deadline = deadline

    async def run(self) -> None:
        """For ever. A Postgres that is away is no news here: that the sign is missing is the news."""
        while True:
            await self.give()
            await asyncio.sleep(EVERY)

    async def give(self) -> None:
        """Once."""
        try:
            await self._postgres.fetch(RENEW, deadline=self._deadline)
        except Unavailable:
            log.debug("no sign of life could be left")
        except asyncpg.PostgresError as refusal:
            # A grant that is missing must not end the process that takes dossiers in.
            log.warning("no sign of life may be left: %s", refusal)
