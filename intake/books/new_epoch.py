"""A new epoch after PostgreSQL was restored, and what it tells those that follow the log.

The last change that the log before and after the restore have in common is the newest one in the stream that the log
still has, and that is older than all that are lost. No event of the log alone tells that: what was written after the
restore, before the new epoch, may have lower ids than what was lost.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from intake.books import lost_tail
from intake.books.lost_tail import DEADLINE, PRESENT_EPOCH
from intake.settings import RenewSettings
from lookup.cache import Cache
from lookup.clock import VIETNAM
from lookup.schema import NEW_EPOCH
from ops.errors import Unavailable
from ops.stores.postgres import connect_directly
from ops.stores.redis import Redis

LONGEST_TRANSACTION: Final = timedelta(seconds=10)
"""A change recorded so long before another one may have come after it (lookup/schema/roles.sql)."""

RECORDED_AT = """
SELECT recorded_at
  FROM event
 WHERE NOT bulk
   AND epoch = $1
   AND xid = $2
   AND seq = $3
"""

TELL = """
UPDATE epoch
   SET resume_xid = $2, resume_seq = $3, lost_since = $4
 WHERE number = $1
"""

# A restore that went back behind the beginning of the present epoch lost all of it.
TELL_AS_BEFORE = """
UPDATE epoch AS new
   SET resume_xid = old.resume_xid, resume_seq = old.resume_seq, lost_since = old.lost_since
  FROM epoch AS old
 WHERE new.number = $1
   AND old.number = $1 - 1
RETURNING new.lost_since
"""


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """An epoch that has begun. `lost_since`: what was recorded from then on may be lost; None if it is not known.

    `trouble`: why the stream could not be asked; '' if it was.
    """

    number: int
    lost_since: datetime | None
    trouble: str = ""

    def __str__(self) -> str:
        if self.lost_since is not None:
            since = self.lost_since.astimezone(VIETNAM)
            return f"Followers of the log are told to read again what was recorded since {since:%Y-%m-%d %H:%M:%S}."
        why = self.trouble or "the stream of the epoch before has none of the log's changes"
        return (
            f"Followers of the log are told to begin anew, because it is not known since when changes are lost: {why}. "
            "If you know it, run the command again with --lost-since."
        )


async def begin(settings: RenewSettings, reason: str, lost_since: datetime | None = None) -> NewEpoch:
    """Begin a new epoch, as the owner. `lost_since`: since when changes are lost, instead of what the stream tells.

    While Redis is unavailable the epoch begins all the same. Raises asyncpg's exceptions.
    """
    connection = await connect_directly(settings.owner_url.reveal)
    try:
        epoch = await connection.fetchval(PRESENT_EPOCH)
        common, trouble = "", ""
        if lost_since is None:
            common, trouble = await _common(connection, settings, epoch)
        async with connection.transaction():
            number = await connection.fetchval(NEW_EPOCH, reason)
            if common:
                xid, seq = lost_tail.pair(common)
                recorded_at = await connection.fetchval(RECORDED_AT, epoch, xid, seq)
                lost_since = recorded_at - LONGEST_TRANSACTION
                await connection.execute(TELL, number, xid, seq, lost_since)
            elif lost_since is not None:
                lost_since -= LONGEST_TRANSACTION
                await connection.execute(TELL, number, None, None, lost_since)
            elif not trouble:
                lost_since = await connection.fetchval(TELL_AS_BEFORE, number)
        return NewEpoch(number, lost_since, trouble)
    finally:
        await connection.close()


async def _common(connection: Any, settings: RenewSettings, epoch: int) -> tuple[str, str]:
    """The last common change's id, '' if none is known, and why Redis could not be asked."""
    if settings.redis_url is None:
        return "", "HOSO24_REDIS_URL is not set"
    redis = Redis("redis", settings.redis_url.reveal, size=1, deadline=DEADLINE)
    try:
        return (await lost_tail.find(connection, Cache(redis), epoch)).common, ""
    except Unavailable as away:
        return "", away.detail
    finally:
        await redis.close()
