"""The intake's sign of life: a row that it updates every few seconds while it can commit.

The public page about the service reads it (lookup/upkeep/service_status.py). All intake processes share the row; a
process that finds it fresh does not update it.
"""

import asyncio
import logging

import asyncpg

from ops.errors import Unavailable
from ops.observe.redaction import first_line
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two updates."""
AGAIN = 1.0
"""Seconds after a failed update. Without requests these are what tells the breaker that PostgreSQL is away, or back."""

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
        self._trouble = "No update of sign_of_life has been committed yet."

    async def run(self) -> None:
        """Update the row every EVERY seconds. Ignores connection failures: the missing update is the signal."""
        while True:
            answered = await self.give()
            await asyncio.sleep(EVERY if answered else AGAIN)

    async def give(self) -> bool:
        """Update the row once; whether PostgreSQL answered."""
        before, self._trouble = self._trouble, ""
        try:
            await self._postgres.fetch(RENEW, deadline=self._deadline)
        except Unavailable as away:
            log.debug("Cannot update sign_of_life while PostgreSQL is unavailable")
            self._trouble = f"{away.detail} {away.reason}"
            return False
        except asyncpg.PostgresError as refusal:
            # A missing grant must not end the process that receives dossiers.
            self._trouble = f"PostgreSQL refuses to update sign_of_life: {first_line(refusal)}"
            if self._trouble != before:
                log.warning("%s", self._trouble)
        return True

    async def check(self) -> None:
        """For the health report. Raises Unavailable when the last update was not committed."""
        if self._trouble:
            raise Unavailable(self._trouble)
