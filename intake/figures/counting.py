"""Counts the public figures, as role hoso24_figures.

Flows (received, finished early, on time or late, …) are added up from the log: each run takes what was recorded since
the one before, and for each dossier it touches adds what it counts for now and takes away what it counted for then. So
a dossier that is taken up again after its end, or whose service is corrected, counts right without a rule of its own,
and the first run is a run like any other, from the beginning of the log. Stocks (in process, overdue, paused) are
counted anew by the first run of a day.

Dates are compared by day in Vietnam, and a result is on time by the end of the work, not by its being fetched: so
reports of this kind are made. The agency is the one that received the dossier. Dossiers of the sandbox do not count.
Each agency has a figure of all its services besides, under an empty service: pages of all agencies read these.
"""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any, Final, NamedTuple

from intake.books import settled

SCORES: Final = ("rated_1", "rated_2", "rated_3")
"""Measures of the ratings: not satisfied, satisfied, very satisfied. Of all agencies: a rating says no code."""

# $1 to $3: up to where was counted before; ($4, $5): up to where this run counts, the one excluded.
_PART = """SELECT code
         FROM event
        WHERE {which}
          AND (epoch, xid, seq) > ($1::int, $2::text::xid8, $3::bigint)
          AND (epoch, xid) < ($4::int, $5::text::xid8)"""

_TOLD = "e.code, version, kind, status, origin, service, channel, submitted_at, due_at, finished_at, occurred_at, sign"
_SINCE = f"""touched AS (
        {_PART.format(which="NOT bulk")}
        UNION
        {_PART.format(which="bulk")}),
     told AS (
        SELECT {_TOLD}
          FROM event AS e
          JOIN touched ON touched.code = e.code,
       LATERAL (VALUES (1, true),
                       (-1, (epoch, xid, seq) <= ($1::int, $2::text::xid8, $3::bigint))) AS of (sign, counted)
         WHERE counted
           AND (epoch, xid) < ($4::int, $5::text::xid8))"""  # noqa: S608 - our own words
# From the beginning every dossier is touched, and nothing was counted before.
_ALL = f"""told AS (
        SELECT {_TOLD}
          FROM event AS e, (VALUES (1)) AS of (sign)
         WHERE (epoch, xid) < ($4::int, $5::text::xid8)
           AND ($1::int, $2::text::xid8, $3::bigint) = (0, '0'::xid8, 0))"""  # noqa: S608 - our own words


def _flows(told: str) -> str:
    return f"""
WITH {told},
     fact AS (
        SELECT sign,
               (array_agg(origin       ORDER BY version DESC))[1] AS agency,
               (array_agg(status       ORDER BY version DESC))[1] AS status,
               (array_agg(due_at       ORDER BY version DESC))[1] AS due_at,
               (array_agg(finished_at  ORDER BY version DESC))[1] AS finished_at,
               (array_agg(service      ORDER BY version DESC) FILTER (WHERE service      IS NOT NULL))[1] AS service,
               (array_agg(channel      ORDER BY version DESC) FILTER (WHERE channel      IS NOT NULL))[1] AS channel,
               (array_agg(submitted_at ORDER BY version DESC) FILTER (WHERE submitted_at IS NOT NULL))[1]
                                                                  AS submitted_at,
               max(occurred_at) FILTER (WHERE kind IN ('received', 'moved'))         AS moved_at,
               array_agg(occurred_at) FILTER (WHERE kind = 'moved' AND status = 5)   AS supplements,
               array_agg(occurred_at) FILTER (WHERE kind = 'due_changed')            AS put_off
          FROM told
         GROUP BY code, sign),
     counted AS (
        SELECT agency, service, channel, measure, sign, at
          FROM fact,
       LATERAL (SELECT 'received' AS measure, submitted_at AS at
                UNION ALL
                SELECT CASE WHEN due_at IS NULL THEN 'undated'
                            WHEN ended < due THEN 'early'
                            WHEN ended = due THEN 'on_time'
                            ELSE 'late' END,
                       finished_at
                  FROM (SELECT (finished_at AT TIME ZONE INTERVAL '7 hours')::date AS ended,
                               (due_at      AT TIME ZONE INTERVAL '7 hours')::date AS due) AS day
                 WHERE status IN (9, 10) AND finished_at IS NOT NULL
                UNION ALL
                SELECT 'refused',    moved_at WHERE status = 3 AND moved_at IS NOT NULL
                UNION ALL
                SELECT 'withdrawn',  moved_at WHERE status = 7 AND moved_at IS NOT NULL
                UNION ALL
                SELECT 'supplement', unnest(supplements)
                UNION ALL
                SELECT 'put_off',    unnest(put_off)) AS one)
INSERT INTO figure (agency, service, month, channel, measure, n)
SELECT agency, coalesce(service, ''), month, channel, measure, sum(sign)
  FROM (SELECT *, date_trunc('month', at AT TIME ZONE INTERVAL '7 hours')::date AS month FROM counted) AS of_month
 WHERE agency NOT IN (SELECT code FROM agency WHERE sandbox)
 GROUP BY GROUPING SETS ((agency, service, month, channel, measure), (agency, month, channel, measure))
HAVING sum(sign) <> 0
    ON CONFLICT (agency, service, month, channel, measure) DO UPDATE SET n = figure.n + excluded.n
"""  # noqa: S608 - our own words


FLOWS, FIRST_FLOWS = _flows(_SINCE), _flows(_ALL)

# $1: the day in Vietnam.
STOCKS = """
INSERT INTO figure (agency, service, month, channel, measure, n)
SELECT origin, coalesce(service, ''), date_trunc('month', $1::date)::date, channel, measure, count(*)
  FROM dossier,
LATERAL (SELECT CASE WHEN status IN (5, 6, 8) THEN 'paused' ELSE 'in_process' END AS measure
         UNION ALL
         SELECT 'overdue'
          WHERE status IN (2, 4) AND (due_at AT TIME ZONE INTERVAL '7 hours')::date < $1::date) AS one
 WHERE status IN (1, 2, 4, 5, 6, 8)
   AND NOT removed
   AND origin NOT IN (SELECT code FROM agency WHERE sandbox)
 GROUP BY GROUPING SETS ((origin, service, channel, measure), (origin, channel, measure))
"""
FORGET_STOCKS = "DELETE FROM figure WHERE measure IN ('in_process', 'overdue', 'paused')"

# Ratings are few, and are counted anew: they are written without an order to follow.
RATINGS = """
INSERT INTO figure (agency, service, month, channel, measure, n)
SELECT '', '', date_trunc('month', day::timestamp)::date AS month, language, 'rated_' || score, sum(n)
  FROM rating
 GROUP BY month, language, score
"""
FORGET_RATINGS = "DELETE FROM figure WHERE agency = ''"

# Two runs at once: the other one waits here, and then finds nothing left to count.
BEGIN = """
INSERT INTO figure_cursor (epoch, xid, seq)
VALUES (0, '0', 0)
    ON CONFLICT (one) DO NOTHING
"""
CURSOR = """
SELECT epoch, xid::text AS xid, seq, stocks_on
  FROM figure_cursor
   FOR UPDATE
"""
HORIZON = f"""
SELECT {settled.EPOCH} AS epoch,
       pg_snapshot_xmin(pg_current_snapshot())::text AS xid,
       (now() AT TIME ZONE INTERVAL '7 hours')::date AS today
"""
# The last event that this run counts.
REACHED = """
SELECT epoch, xid::text AS xid, seq
  FROM ((SELECT epoch, xid, seq FROM event WHERE NOT bulk AND (epoch, xid) < ($1, $2::text::xid8)
          ORDER BY epoch DESC, xid DESC, seq DESC LIMIT 1)
        UNION ALL
        (SELECT epoch, xid, seq FROM event WHERE bulk     AND (epoch, xid) < ($1, $2::text::xid8)
          ORDER BY epoch DESC, xid DESC, seq DESC LIMIT 1)) AS last
 ORDER BY epoch DESC, last.xid DESC, seq DESC
 LIMIT 1
"""
ADVANCE = """
UPDATE figure_cursor
   SET epoch = $1, xid = $2::text::xid8, seq = $3, at = now(), stocks_on = $4
"""
FORGET = "DELETE FROM figure"
START_AGAIN = "UPDATE figure_cursor SET epoch = 0, xid = '0', seq = 0, stocks_on = NULL"
ROOM = "SET LOCAL work_mem = '256MB'"
"""The first run sorts the whole log."""
BY_INDEX = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
"""A later run looks each dossier up: the planner takes a ten-thousandth of the log for a third of it."""
AS_USUAL = "RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin"


class Counted(NamedTuple):
    """What a run did. `changed`: figures that were added to; `stocks`: whether those were counted too."""

    changed: int
    stocks: bool
    today: date


async def count(connection: Any, *, rebuild: bool = False, stocks: bool = False) -> Counted:
    """Bring the figures up to what is settled of the log, in one transaction.

    `rebuild`: from the beginning of the log, whatever was counted before; readers see the old figures until it is done.
    `stocks`: count them too, even if a run of today has. An interrupted run leaves everything as it was. Raises what
    the connection raises.
    """
    await connection.execute(BEGIN)
    async with connection.transaction():
        if rebuild:
            await connection.fetchrow(CURSOR)
            await connection.execute(FORGET)
            await connection.execute(START_AGAIN)
        before = await connection.fetchrow(CURSOR)
        # Each statement below sees what is committed when it begins; all count up to this horizon.
        horizon = await connection.fetchrow(HORIZON)
        up_to = horizon["epoch"], horizon["xid"]
        reached = await connection.fetchrow(REACHED, *up_to)
        changed = 0
        if reached is not None and reached != (before["epoch"], before["xid"], before["seq"]):
            flows = FIRST_FLOWS if before["epoch"] == 0 else FLOWS
            await connection.execute(ROOM if before["epoch"] == 0 else BY_INDEX)
            changed = _rows(await connection.execute(flows, before["epoch"], before["xid"], before["seq"], *up_to))
        stocks = stocks or before["stocks_on"] != horizon["today"]
        await connection.execute(AS_USUAL)
        if stocks:
            await _anew(connection.execute, FORGET_STOCKS, STOCKS, horizon["today"])
        await _anew(connection.execute, FORGET_RATINGS, RATINGS)
        place = reached or before
        counted_on = horizon["today"] if stocks else before["stocks_on"]
        await connection.execute(ADVANCE, place["epoch"], place["xid"], place["seq"], counted_on)
    return Counted(changed, stocks, horizon["today"])


async def _anew(execute: Callable[..., Awaitable[str]], forget: str, insert: str, *arguments: object) -> None:
    await execute(forget)
    await execute(insert, *arguments)


def _rows(status: str) -> int:
    """Of `INSERT 0 12`: 12."""
    return int(status.rpartition(" ")[2])
