"""The intake's sign of life: a row that it updates every few seconds while it can commit.

The public page about the service reads it (lookup/upkeep/service_status.py). All intake processes share the row; a
process that finds it fresh does not update it.
"""

import asyncio
import logging

import asyncpg

from ops.errors import Unavailable
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two updates."""

RENEW = """
INSERT INTO sign_of_life AS sign (service, at)
VALUES ('intake', clock_timestamp())
    ON CONFLICT (service) DO UPDATE
   SET at = excluded.at
 WHERE sign.at < excluded.at - interval '4 seconds'
"""


class SignOfLife:
    """Updates the row until it is cancelled. `deadline` is the timeout of an update in seconds, as for a change."""

    def __init__(self, postgres: Postgres, *, deadline: float) -> None:
        self._postgres = postgres
        self._deadline = deadline

    async def run(self) -> None:
        """Update the row every EVERY seconds. Ignores connection failures: the missing update is the signal."""
        while True:
            await self.give()
            await asyncio.sleep(EVERY)

    async def give(self) -> None:
        """Update the row once."""
        try:
            await self._postgres.fetch(RENEW, deadline=self._deadline)
        except Unavailable:
            log.debug("Cannot update sign_of_life while PostgreSQL is unavailable")
        except asyncpg.PostgresError as refusal:
            # A missing grant must not end the process that receives dossiers.
            log.warning("Cannot update sign_of_life: %s", refusal)
