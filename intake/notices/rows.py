"""Tables `notice` and `notice_cursor`: which events citizens are told of, and every way in which a notice changes.

States: `due` → `sent` when a server took it, → `dead` when it refused for good or nobody took it in two days, →
`superseded` when it would tell of the past: the dossier moved on, a newer notice follows, the consent is withdrawn, or
the dossier is removed or restricted.

A process holds a row by a lease, whose end is its token: what another process has taken since is not changed any more.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from intake.books import settled
from lookup.status import Status

NEWS_HOURS: Final = 48
"""Nobody is told of an event that was recorded longer ago: the first start, or one after a restore, mails no past."""
PAGE: Final = 1_000
"""Events of a look."""

Fetch = Callable[..., Awaitable[Sequence[Mapping[str, Any]]]]

_S = Status
_STANDS: Final[dict[str, set[Status]]] = {
    "accepted": {_S.RECEIVED, _S.PROCESSING},
    "refused": {_S.REJECTED},
    "supplement": {_S.SUPPLEMENT_REQUIRED},
    "re_appointment": {_S.RECEIVED, _S.PROCESSING},
    "ready": {_S.COMPLETED},
    "returned": {_S.RETURNED},
}
"""Kind → the statuses in which it still tells the truth."""

# The first event of the news, else the last of all.
BEGIN = f"""
WITH news AS MATERIALIZED (
    SELECT epoch, xid, seq
      FROM event
     WHERE NOT bulk
       AND recorded_at > now() - interval '{NEWS_HOURS} hours'
), place AS (
    (SELECT epoch, xid, seq - 1 AS seq, 1 AS choice FROM news ORDER BY epoch, xid, seq LIMIT 1)
     UNION ALL
    (SELECT epoch, xid, seq, 2 FROM event WHERE NOT bulk ORDER BY epoch DESC, xid DESC, seq DESC LIMIT 1)
     UNION ALL
    (SELECT 0, '0'::xid8, 0, 3)
)
SELECT epoch, xid, seq FROM place ORDER BY choice LIMIT 1
"""

START = f"""
INSERT INTO notice_cursor (epoch, xid, seq, looked_back_in)
SELECT epoch, xid, seq, {settled.EPOCH}
  FROM ({BEGIN}) AS place
ON CONFLICT (one) DO NOTHING
"""

# Asked without a lock and without a transaction's id: mostly there is nothing.
NEWS = f"""
SELECT c.epoch IS NULL AS unbegun,
       EXISTS (SELECT FROM event
                WHERE NOT bulk
                  AND (epoch, xid, seq) > (c.epoch, c.xid, c.seq)
                  AND {settled.BEFORE_OPEN_ONES}) AS news
  FROM (VALUES (true)) AS here (one)
  LEFT JOIN notice_cursor AS c USING (one)
"""

# The cursor is restored together with the log, so it misses nothing that the log has behind it. What was written after
# a restore and before its new epoch may have lower ids: with each epoch it goes back once. Nothing is told twice.
CURSOR = f"""
SELECT c.epoch, c.xid, c.seq, c.looked_back_in < {settled.EPOCH} AS goes_back
  FROM notice_cursor AS c
   FOR UPDATE SKIP LOCKED
"""

GO_BACK = f"""
UPDATE notice_cursor AS c
   SET (epoch, xid, seq) = (SELECT p.epoch, p.xid, p.seq
                              FROM (VALUES (c.epoch, c.xid, c.seq), ($1, $2::xid8, $3)) AS p (epoch, xid, seq)
                             ORDER BY p.epoch, p.xid, p.seq
                             LIMIT 1),
       looked_back_in = {settled.EPOCH}
RETURNING epoch, xid, seq
"""

# Accepted is what was not before. A dossier that is handed back after it was stopped has no result.
MAKE = f"""
WITH looked AS MATERIALIZED (
    SELECT epoch, xid, seq, code, version, kind, status, received_at, recorded_at, origin
      FROM event
     WHERE NOT bulk
       AND (epoch, xid, seq) > ($1, $2::xid8, $3)
       AND {settled.BEFORE_OPEN_ONES}
     ORDER BY epoch, xid, seq
     LIMIT $4
), told AS (
    SELECT e.code, e.version, c.channel,
           CASE WHEN e.kind = 'due_changed'                                            THEN 're_appointment'
                WHEN e.kind NOT IN ('received', 'moved')                               THEN NULL
                WHEN e.status IN ({_S.RECEIVED:d}, {_S.PROCESSING:d})
                     AND e.received_at IS NOT NULL AND was.received_at IS NULL         THEN 'accepted'
                WHEN e.status IS NOT DISTINCT FROM was.status                          THEN NULL
                WHEN e.status = {_S.REJECTED:d}                                        THEN 'refused'
                WHEN e.status = {_S.SUPPLEMENT_REQUIRED:d}                             THEN 'supplement'
                WHEN e.status = {_S.COMPLETED:d}                                       THEN 'ready'
                WHEN e.status = {_S.RETURNED:d} AND was.status = {_S.COMPLETED:d}      THEN 'returned'
           END AS kind
      FROM looked AS e
      JOIN consent AS c ON c.code = e.code
       AND c.channel = ANY ($5)
       AND c.given_at <= e.recorded_at
       AND c.withdrawn_at IS NULL
       AND c.address IS NOT NULL
      JOIN agency AS a ON a.code = e.origin AND NOT a.sandbox
      LEFT JOIN event AS was ON was.code = e.code AND was.version = e.version - 1
     WHERE e.recorded_at > now() - interval '{NEWS_HOURS} hours'
       AND NOT EXISTS (SELECT FROM hold AS h
                        WHERE h.code = e.code AND h.kind = 'restricted' AND h.lifted_at IS NULL)
), made AS (
    INSERT INTO notice (code, version, channel, kind)
    SELECT code, version, channel, kind FROM told WHERE kind IS NOT NULL
    ON CONFLICT (code, version, channel) DO NOTHING
    RETURNING 1
), moved AS (
    UPDATE notice_cursor AS n
       SET epoch = last.epoch, xid = last.xid, seq = last.seq
      FROM (SELECT epoch, xid, seq FROM looked ORDER BY epoch DESC, xid DESC, seq DESC LIMIT 1) AS last
)
SELECT (SELECT count(*) FROM looked) AS looked, (SELECT count(*) FROM made) AS made
"""

TAKE = """
WITH due AS (
    SELECT code, version, channel
      FROM notice
     WHERE state = 'due'
       AND channel = $1
       AND next_at <= now()
       AND (lease_until IS NULL OR lease_until <= now())
     ORDER BY next_at, code, version
     LIMIT $2
       FOR UPDATE SKIP LOCKED
)
UPDATE notice AS n
   SET lease_until = clock_timestamp() + make_interval(secs => $3)
  FROM due
  JOIN event   AS e ON e.code = due.code AND e.version = due.version
  JOIN dossier AS d ON d.code = due.code
  JOIN agency  AS a ON a.code = d.agency
  LEFT JOIN consent AS c ON c.code = due.code AND c.channel = due.channel AND c.withdrawn_at IS NULL
 WHERE n.code = due.code
   AND n.version = due.version
   AND n.channel = due.channel
RETURNING n.code, n.version, n.channel, n.kind, n.tries, n.made_at, n.lease_until, e.due_at, e.recorded_at, d.status,
          d.removed, c.address, a.name_vi AS agency_vi, a.name_en AS agency_en, a.hotline AS phone,
          EXISTS (SELECT FROM notice AS newer
                   WHERE newer.code = n.code AND newer.channel = n.channel AND newer.version > n.version) AS overtaken,
          EXISTS (SELECT FROM hold AS h
                   WHERE h.code = n.code AND h.kind = 'restricted' AND h.lifted_at IS NULL)               AS restricted
"""

_HELD = "code = $1 AND version = $2 AND channel = $3 AND state = 'due' AND lease_until = $4"

END = f"""
UPDATE notice
   SET state = $5, tries = tries + $6, last = $7, ended_at = now(), lease_until = NULL
 WHERE {_HELD}
RETURNING code
"""

TRY_LATER = f"""
UPDATE notice
   SET tries = tries + 1, last = $6, next_at = now() + make_interval(secs => $5), lease_until = NULL
 WHERE {_HELD}
RETURNING code
"""

LEAVE = f"""
UPDATE notice
   SET lease_until = NULL
 WHERE {_HELD}
RETURNING code
"""

# How long something waits for us: a first attempt that is due, or an event that was not looked at.
STANDING = """
SELECT (SELECT coalesce(max(extract(epoch FROM now() - next_at)), 0)::float8
          FROM notice
         WHERE state = 'due' AND tries = 0 AND next_at <= now() AND channel = ANY ($1)) AS waits,
       (SELECT coalesce(max(extract(epoch FROM now() - first.recorded_at)), 0)::float8
          FROM (SELECT e.recorded_at
                  FROM event AS e, notice_cursor AS c
                 WHERE NOT e.bulk
                   AND (e.epoch, e.xid, e.seq) > (c.epoch, c.xid, c.seq)
                 ORDER BY e.epoch, e.xid, e.seq
                 LIMIT 1) AS first)                                                   AS behind,
       (SELECT count(*) FROM notice WHERE state = 'due' AND tries > 0)                AS failing
"""


class Leased(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that this process holds, with what it tells. `recorded_at`: of its event; `phone`: the agency's."""

    code: str
    version: int
    channel: str
    kind: str
    tries: int
    made_at: datetime
    lease_until: datetime
    due_at: datetime | None
    recorded_at: datetime
    status: int
    removed: bool
    address: str | None
    agency_vi: str
    agency_en: str
    phone: str | None
    overtaken: bool
    restricted: bool

    @property
    def key(self) -> tuple[str, int, str, datetime]:
        """What has to stand in the row for a change to count."""
        return self.code, self.version, self.channel, self.lease_until

    @property
    def moot(self) -> str | None:
        """Why it is not sent any more; None while it still tells the truth to somebody who wants to know."""
        if self.removed or self.restricted:
            return "The dossier is not told of any more."
        if self.address is None:
            return "The consent was withdrawn."
        if self.overtaken or self.status not in _STANDS[self.kind]:
            return "The dossier has moved on."
        return None


async def follow(connection: Any, channels: Sequence[str]) -> int:
    """Make the notices of the next page of the log, in one transaction; how many events it has, at most PAGE.

    0 while another process does it. Raises what the connection raises.
    """
    seen = await connection.fetchrow(NEWS)
    if seen["unbegun"]:
        await connection.execute(START)
    elif not seen["news"]:
        return 0
    async with connection.transaction():
        cursor = await connection.fetchrow(CURSOR)
        if cursor is None:
            return 0
        if cursor["goes_back"]:
            place = await connection.fetchrow(BEGIN)
            cursor = await connection.fetchrow(GO_BACK, *place)
        row = await connection.fetchrow(MAKE, cursor["epoch"], cursor["xid"], cursor["seq"], PAGE, channels)
        return int(row["looked"])


async def take(fetch: Fetch, channel: str, most: int, lease: float) -> list[Leased]:
    """Lease up to `most` due notices of a channel for so many seconds; those that others hold are passed over."""
    return [msgspec.convert(dict(row.items()), Leased) for row in await fetch(TAKE, channel, most, lease)]


async def end(fetch: Fetch, row: Leased, state: str, last: str, *, tried: bool = True) -> bool:
    """It is sent, dead or superseded; False where it is no longer ours. `tried`: an attempt was made."""
    return bool(await fetch(END, *row.key, state, int(tried), last))


async def try_later(fetch: Fetch, row: Leased, seconds: float, last: str) -> bool:
    """An attempt failed: the next one after so many seconds. False as in `end`."""
    return bool(await fetch(TRY_LATER, *row.key, seconds, last))


async def leave(fetch: Fetch, row: Leased) -> None:
    """Give the lease back; whoever holds it now is not disturbed."""
    await fetch(LEAVE, *row.key)
