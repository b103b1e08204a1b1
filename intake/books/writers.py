"""Open writing transactions, for which delivery waits: which session holds one and for how long.

Our roles have timeouts, but a session may set its own aside. A lookup only reads, so a session of its role that holds a
transaction id does what no lookup does: it is ended. A writer's is not, as nothing of ours may end it but the server's
administrator; the metric names it.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from intake import metrics

log = logging.getLogger(__name__)

Fetch = Callable[..., Awaitable[Sequence[Any]]]

READERS_SECONDS = 2.0
"""Seconds after which a reader's session that holds a transaction id is ended."""
NAMED_SECONDS = 2.0
"""Seconds after which a transaction is named by the metric; most end long before."""

# Every writing transaction, a prepared one too, holds a lock on its own id, and every role may read pg_locks, and of
# pg_stat_activity these three columns. A prepared one has no session.
WRITERS = """
SELECT lock.transactionid::text                    AS xid,
       coalesce(lock.pid::text, '')                AS pid,
       coalesce(session.usename::text, 'prepared') AS role,
       coalesce(session.application_name, '')      AS application
  FROM pg_locks AS lock
  LEFT JOIN pg_stat_activity AS session USING (pid)
 WHERE lock.locktype = 'transactionid'
   AND lock.mode = 'ExclusiveLock'
   AND lock.granted
"""

# Asked once more whose it is: the process id may be another session's by now. Without the membership that roles.sql
# gives, ending it would be refused.
END_READERS = """
SELECT lock.pid,
       CASE WHEN pg_has_role(session.usesysid, 'USAGE') THEN pg_terminate_backend(lock.pid) ELSE false END AS ended
  FROM pg_locks AS lock
  JOIN pg_stat_activity AS session USING (pid)
 WHERE lock.locktype = 'transactionid'
   AND lock.mode = 'ExclusiveLock'
   AND lock.granted
   AND lock.transactionid::text = ANY ($1)
   AND session.usename = 'hoso24_reader'
"""


class OpenWriters:
    """The writing transactions that are open, each with the moment at which it was first seen."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._refused = False

    async def look(self, fetch: Fetch) -> None:
        """Set the metrics, and end readers' sessions. `fetch`: the rows of a statement, as the relay's role.

        Raises what `fetch` raises. A missing right to end a session is logged once.
        """
        now = time.monotonic()
        rows = await fetch(WRITERS)
        self._since = {row["xid"]: self._since.get(row["xid"], now) for row in rows}
        metrics.OLDEST_WRITER.set(now - min(self._since.values(), default=now))
        metrics.WRITER.clear()
        for row in rows:
            seconds = now - self._since[row["xid"]]
            if seconds >= NAMED_SECONDS:
                metrics.WRITER.labels(row["pid"], row["role"], row["application"]).set(seconds)
        await self._end_readers(fetch, [xid for xid, since in self._since.items() if now - since >= READERS_SECONDS])

    async def _end_readers(self, fetch: Fetch, xids: Sequence[str]) -> None:
        if not xids:
            return
        for row in await fetch(END_READERS, xids):
            if row["ended"]:
                metrics.READERS_ENDED.inc()
                log.error(
                    "Ended a session of hoso24_reader that held a transaction id, which no lookup does: process %s. Is "
                    "a lookup taken over?",
                    row["pid"],
                )
            elif not self._refused:
                self._refused = True
                log.warning(
                    "A session of hoso24_reader holds delivery up, and hoso24_relay may not end it: run "
                    "lookup/schema/roles.sql as the server's administrator"
                )

    def stop(self) -> None:
        """Clear the metrics, and forget what was seen."""
        self._since.clear()
        metrics.OLDEST_WRITER.set(0)
        metrics.WRITER.clear()
