"""How many of our lookup's queries Postgres has in flight, looked at every twenty milliseconds from a thread."""

import asyncio
import threading
from types import TracebackType
from typing import Self

import asyncpg

from loadtests.bench.servers import APPLICATION

EVERY_SECONDS = 0.02

# A role sees its own sessions. Not told apart by their text, which Postgres cuts off before it names a table.
IN_FLIGHT = f"""
SELECT count(*)
  FROM pg_stat_activity
 WHERE application_name = '{APPLICATION}'
   AND state = 'active'
"""


class Watch:
    """Looks for as long as the block runs. Leaving it raises whatever ended the looking early."""

    def __init__(self, reader: str) -> None:
        self.most = 0
        self.looks = 0
        self._reader = reader
        self._over = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="activity")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if error is None and self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            asyncio.run(self._look())
        except Exception as fault:
            self._fault = fault

    async def _look(self) -> None:
        connection = await asyncpg.connect(self._reader)
        try:
            while not self._over.is_set():
                self.most = max(self.most, await connection.fetchval(IN_FLIGHT))
                self.looks += 1
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            await connection.close()
