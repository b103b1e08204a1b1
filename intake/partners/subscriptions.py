"""A webhook's row: its states, what the deliverer reads of it, and every way in which it changes.

States: `unproven` → `active` when the receiver answers a signed ping with 2xx, → `unreachable` when it does not;
`active` → `paused` when all attempts at a page failed, → `gone` when the receiver answers 410. Only its client leads a
webhook out of `unreachable`, `paused` and `gone`, by a new ping.

A deliverer holds a row by a lease. Its token rises with each lease, and a deliverer saves only where its own token
still stands, so that one that was stopped for longer than its lease cannot move the cursor. Where the client has
changed the row meanwhile, what was sent does not count, and goes out again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from intake.outgoing.sending import TIMED_OUT
from intake.partners.changes import NEWEST, NEWEST_LIVE, Fetch, agencies_seen
from intake.partners.cursor import BEGINNING, SEAL_BYTES, Cursor, parse
from lookup.catalogue import Agency, Catalogue

Lot = Literal["prompt", "usual", "slow"]
"""Which connections a webhook is served by: those that succeeded within a minute, all others, and those whose last
attempt timed out. A thousand receivers that hang hold none of the first."""
LOTS: Final[dict[Lot, int]] = {"prompt": 100, "usual": 100, "slow": 50}
"""Connections of a process at a time, by lot."""

_LOT = f"""
CASE WHEN w.attempt > 0 AND w.last_error LIKE '{TIMED_OUT}%'                          THEN 'slow'
     WHEN w.attempt = 0 AND w.succeeded_at > now() - interval '1 minute' THEN 'prompt'
     ELSE 'usual' END
"""

TAKE = f"""
WITH due AS (
    SELECT w.id, w.client
      FROM webhook AS w
      JOIN client AS c ON c.id = w.client
     WHERE w.state IN ('unproven', 'active')
       AND w.next_at <= now()
       AND (w.lease_until IS NULL OR w.lease_until <= now())
       AND {_LOT} = $1
       AND c.disabled_at IS NULL
       AND 'follow' = ANY (c.actions)
       AND (w.state = 'unproven' OR w.page_end IS NOT NULL
            OR (w.epoch, w.xid, w.seq) < (SELECT n.epoch, n.xid, n.seq FROM ({NEWEST_LIVE}) AS n)
            OR w.bulk AND (w.epoch, w.xid, w.seq) < (SELECT n.epoch, n.xid, n.seq FROM ({NEWEST}) AS n))
     ORDER BY w.next_at
     LIMIT $2
       FOR UPDATE OF w SKIP LOCKED
)
UPDATE webhook AS w
   SET lease_until = now() + make_interval(secs => $3), lease_token = w.lease_token + 1
  FROM due
  JOIN client AS c ON c.id = due.client
 WHERE w.id = due.id
RETURNING w.id, w.client, w.url, w.agency, w.mine, w.bulk, w.format, w.generation, w.rotated_at, w.state, w.page_end,
          w.attempt, w.lease_token, w.epoch, w.xid, w.seq, c.agency AS scope, c.sandbox, now() AS now,
          coalesce((SELECT seal FROM event WHERE NOT bulk AND (epoch, xid, seq) = (w.epoch, w.xid, w.seq)),
                   (SELECT seal FROM event WHERE bulk     AND (epoch, xid, seq) = (w.epoch, w.xid, w.seq))) AS seal
"""

_MINE = "id = $1 AND lease_token = $2 AND state = $3 AND url = $4"
"""The row is as it was taken: nobody has taken it since, and its client has not changed what counts."""

FREEZE = f"""
UPDATE webhook
   SET page_end = $5, lease_until = now() + make_interval(secs => $6)
 WHERE {_MINE} AND page_end IS NULL
RETURNING id
"""

DELIVERED = f"""
UPDATE webhook
   SET epoch = $6, xid = $7::xid8, seq = $8, page_end = NULL, attempt = 0, succeeded_at = now(), next_at = now(),
       lease_until = now() + make_interval(secs => $9)
 WHERE {_MINE} AND page_end = $5
RETURNING id
"""

PASSED_OVER = f"""
UPDATE webhook
   SET epoch = $6, xid = $7::xid8, seq = $8, page_end = NULL, next_at = now(),
       lease_until = now() + make_interval(secs => $9)
 WHERE {_MINE} AND page_end IS NOT DISTINCT FROM $5
RETURNING id
"""

PROVEN = f"""
UPDATE webhook
   SET state = 'active', attempt = 0, succeeded_at = now(), next_at = now(), lease_until = NULL
 WHERE {_MINE}
RETURNING id
"""

FAILED = f"""
UPDATE webhook
   SET state = $5, attempt = $6, failed_at = now(), last_error = $7, next_at = now() + make_interval(secs => $8),
       lease_until = NULL
 WHERE {_MINE}
RETURNING id
"""

LEAVE = """
UPDATE webhook
   SET lease_until = NULL, next_at = greatest(next_at, now() + make_interval(secs => $3))
 WHERE id = $1 AND lease_token = $2
RETURNING id
"""

AGENCIES = """
SELECT code, parent, successor, sandbox, valid_from, valid_to
  FROM agency
"""

# Changes with each agency that is added or changed.
AGENCIES_STAMP = f"""
SELECT coalesce(sum(hash_record_extended(a, 0)), 0)::text AS stamp
  FROM ({AGENCIES}) AS a
"""

# How long rows wait for us and not for their receivers: since the next event, or since the page before it was taken, so
# that a receiver that is slow to answer, or has an import to catch up with, is not our delay. The next event counts,
# whoever sees it: a cursor moves on past others' events as well.
STANDING = """
SELECT w.state,
       count(*)                                      AS count,
       count(*) FILTER (WHERE w.attempt > 0)         AS failing,
       coalesce(max(extract(epoch FROM now() - greatest(n.recorded_at, w.succeeded_at, w.created_at)))
                FILTER (WHERE w.attempt = 0 AND n.recorded_at IS NOT NULL), 0)::float8 AS behind
  FROM webhook AS w
  JOIN client AS c ON c.id = w.client AND c.disabled_at IS NULL AND NOT c.sandbox AND 'follow' = ANY (c.actions)
  LEFT JOIN LATERAL (
        SELECT least((SELECT recorded_at
                        FROM event
                       WHERE NOT bulk AND (epoch, xid, seq) > (w.epoch, w.xid, w.seq)
                       ORDER BY epoch, xid, seq
                       LIMIT 1),
                     (SELECT recorded_at
                        FROM event
                       WHERE bulk AND w.bulk AND (epoch, xid, seq) > (w.epoch, w.xid, w.seq)
                       ORDER BY epoch, xid, seq
                       LIMIT 1)) AS recorded_at) AS n ON w.state = 'active'
 GROUP BY w.state
"""


@dataclass(frozen=True, slots=True)
class Leased:
    """A webhook that this process holds. `page_end`: the end of the page under way, None without one."""

    id: str
    client: str
    url: str
    agency: str | None
    mine: bool
    bulk: bool
    format: str
    generation: int
    rotated_at: datetime | None
    state: str
    attempt: int
    token: int
    scope: str
    sandbox: bool
    cursor: Cursor
    page_end: Cursor | None
    taken_at: datetime
    """By PostgreSQL's clock."""

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What has to stand in the row for a change to count."""
        return self.id, self.token, self.state, self.url

    @property
    def frozen(self) -> str | None:
        """`page_end` as the row has it."""
        return None if self.page_end is None else self.page_end.text


async def take(fetch: Fetch, lot: Lot, most: int, lease: float) -> list[Leased]:
    """Lease up to `most` due webhooks of a lot for so many seconds; those that others hold are passed over."""
    return [_leased(row) for row in await fetch(TAKE, lot, most, lease)]


def _leased(row: Mapping[str, Any]) -> Leased:
    cursor = Cursor(row["epoch"], row["xid"], row["seq"], bytes((row["seal"] or b"")[:SEAL_BYTES]))
    same = ("id", "client", "url", "agency", "mine", "bulk", "format", "generation", "rotated_at", "state", "attempt")
    return Leased(
        **{name: row[name] for name in same},
        token=row["lease_token"],
        scope=row["scope"],
        sandbox=row["sandbox"],
        cursor=BEGINNING if cursor[:3] == BEGINNING[:3] else cursor,
        page_end=None if row["page_end"] is None else parse(row["page_end"]),
        taken_at=row["now"],
    )


async def freeze(fetch: Fetch, row: Leased, end: Cursor, lease: float) -> bool:
    """Write where the page ends, before it is sent; False where the row is no longer ours, or was changed."""
    return bool(await fetch(FREEZE, *row.key, end.text, lease))


async def delivered(fetch: Fetch, row: Leased, end: Cursor, lease: float) -> bool:
    """The page up to there was taken by the receiver: the next one may go. False as in `freeze`."""
    return bool(await fetch(DELIVERED, *row.key, row.frozen, *end[:3], lease))


async def passed_over(fetch: Fetch, row: Leased, end: Cursor, lease: float) -> bool:
    """Nothing up to there is this client's. False as in `freeze`."""
    return bool(await fetch(PASSED_OVER, *row.key, row.frozen, *end[:3], lease))


async def proven(fetch: Fetch, row: Leased) -> bool:
    """The receiver answered the ping. False as in `freeze`."""
    return bool(await fetch(PROVEN, *row.key))


async def failed(fetch: Fetch, row: Leased, state: str, attempt: int, error: str, wait: float) -> bool:
    """An attempt failed: the state from now on, failures in a row, why, and seconds until the next attempt."""
    return bool(await fetch(FAILED, *row.key, state, attempt, error, wait))


async def leave(fetch: Fetch, row: Leased, wait: float = 0.0) -> None:
    """Give the lease back; whoever holds it now is not disturbed."""
    await fetch(LEAVE, row.id, row.token, wait)


async def agencies_stamp(fetch: Fetch) -> str:
    """What tells one state of the agencies from another."""
    (row,) = await fetch(AGENCIES_STAMP)
    return str(row["stamp"])


async def agencies(fetch: Fetch) -> Catalogue:
    """The agencies with what decides who sees what; nothing else of the catalogue."""
    return Catalogue({row["code"]: Agency(name_vi="", name_en="", **row) for row in await fetch(AGENCIES)})


def seen_by(catalogue: Catalogue, row: Leased, day: date) -> frozenset[str]:
    """The agencies whose events this webhook tells on that day: those of its client's scope now, or a part of them."""
    seen = agencies_seen(catalogue, row.scope, day, sandbox=row.sandbox)
    return seen if row.agency is None else seen & agencies_seen(catalogue, row.agency, day, sandbox=row.sandbox)
