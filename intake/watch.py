"""What a process that works with the catalogue looks at in the background: the schema's version, and the catalogue."""

import asyncio
import logging

from lookup import schema
from lookup.catalogue import CatalogueCopy
from ops.errors import Unavailable
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)


class Watch:
    """Checks the schema and refreshes the catalogue; goes on while PostgreSQL is unavailable."""

    def __init__(self, postgres: Postgres, catalogue: CatalogueCopy) -> None:
        self._postgres = postgres
        self._catalogue = catalogue

    async def schema_version(self) -> int:
        """The version of the schema. Raises Unavailable."""
        (row,) = await self._postgres.fetch(schema.STATE)
        return int(row["version"])

    async def look(self) -> None:
        """Check and refresh once. Raises WrongSchema."""
        try:
            (row,) = await self._postgres.fetch(schema.STATE)
            schema.check(*row)
            await self._catalogue.refresh()
        except Unavailable as away:
            log.info("The catalogue stays as it was last read: %s", away)

    async def run(self) -> None:
        """Check and refresh every minute; every second until the first success. Raises WrongSchema."""
        while True:
            await asyncio.sleep(60 if self._catalogue.known else 1)
            await self.look()
