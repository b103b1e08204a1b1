"""Deletes what has expired, as the archivist: answers kept for repeated requests, and dead letters, after thirty days,
notices ninety days after their end, desk sessions that have ended; and erases the events of dossiers that the sandbox
removed.

After thirty days a repeat under the same key is refused as a key that was used before, since the event keeps its
identity for good; it never becomes a second change. A letter's thirty days begin anew when its line is refused again.
"""

from collections.abc import AsyncIterator
from typing import Any

from intake.books.erase import erase
from lookup import sandbox

# In one order, so that two runs wait for each other and do not lock each other up. The archivist may lock no row apart.
DELETE_ANSWERS = """
WITH deleted AS (
    DELETE FROM idempotency AS kept
     USING (SELECT client, key
              FROM idempotency
             WHERE first_at < now() - $1 * interval '1 day'
             ORDER BY first_at, client, key
             LIMIT $2) AS expired
     WHERE (kept.client, kept.key) = (expired.client, expired.key)
 RETURNING 1)
SELECT count(*) FROM deleted
"""

# The archivist may not read which letter it is. Those of one moment go together: a body's, ten thousand at most.
DELETE_LETTERS = """
WITH deleted AS (
    DELETE FROM dead_letter
     WHERE last_at < now() - $1 * interval '1 day'
       AND last_at <= (SELECT max(last_at)
                         FROM (SELECT last_at
                                 FROM dead_letter
                                WHERE last_at < now() - $1 * interval '1 day'
                                ORDER BY last_at
                                LIMIT $2) AS first)
 RETURNING client)
SELECT count(*) FROM deleted
"""

DELETE_NOTICES = """
WITH deleted AS (
    DELETE FROM notice AS ended
     USING (SELECT code, version, channel
              FROM notice
             WHERE state <> 'due'
               AND ended_at < now() - $1 * interval '1 day'
             ORDER BY ended_at, code, version, channel
             LIMIT $2) AS expired
     WHERE (ended.code, ended.version, ended.channel) = (expired.code, expired.version, expired.channel)
 RETURNING 1)
SELECT count(*) FROM deleted
"""

DELETE_SESSIONS = """
WITH deleted AS (
    DELETE FROM desk_session AS ended
     USING (SELECT hash FROM desk_session WHERE ends_at < now() ORDER BY ends_at, hash LIMIT $1) AS expired
     WHERE ended.hash = expired.hash
 RETURNING 1)
SELECT count(*) FROM deleted
"""

# Only removals have an id of the sandbox's own.
REMOVED_BY_THE_SANDBOX = """
SELECT code
  FROM event
 WHERE source = $1
   AND source_event_id IS NOT NULL
   AND erased IS NULL
 LIMIT $2
"""

KEPT_DAYS = 30
"""Days for which an answer is kept for repeats of its request, and a line after it was refused last."""
NOTICE_DAYS = 90
"""Days for which it is kept who was told of what, or could not be."""
AT_A_TIME = 1_000
"""Rows of a transaction: what takes milliseconds holds neither requests nor the delivery of changes up."""
LIKE_THE_TRIGGER = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""Server settings of the session: one look-up for each row, whatever the planner thinks of a table of a hundred GB."""


async def delete_answers(connection: Any) -> AsyncIterator[int]:
    """Delete the answers kept longer than KEPT_DAYS; yields how many after each transaction, until none is left.

    `connection` is the archivist's, with LIKE_THE_TRIGGER. What is deleted stays so when it is interrupted; the next
    run goes on. Two at a time do no harm. Raises what the connection raises.
    """
    while deleted := await connection.fetchval(DELETE_ANSWERS, KEPT_DAYS, AT_A_TIME):
        yield deleted


async def delete_letters(connection: Any) -> AsyncIterator[int]:
    """Delete the dead letters whose lines were refused last longer than KEPT_DAYS ago; otherwise as delete_answers."""
    while deleted := await connection.fetchval(DELETE_LETTERS, KEPT_DAYS, AT_A_TIME):
        yield deleted


async def delete_notices(connection: Any) -> AsyncIterator[int]:
    """Delete the notices that ended longer than NOTICE_DAYS ago; otherwise as delete_answers."""
    while deleted := await connection.fetchval(DELETE_NOTICES, NOTICE_DAYS, AT_A_TIME):
        yield deleted


async def delete_sessions(connection: Any) -> AsyncIterator[int]:
    """Delete the desk sessions and one-time links that have ended; otherwise as delete_answers."""
    while deleted := await connection.fetchval(DELETE_SESSIONS, AT_A_TIME):
        yield deleted


async def erase_the_sandboxs(connection: Any) -> AsyncIterator[int]:
    """Erase the events of dossiers that the sandbox removed; yields how many after each dossier, until none is left.

    `connection` as for `delete_answers`; otherwise too it is as that.
    """
    while removed := await connection.fetch(REMOVED_BY_THE_SANDBOX, sandbox.SOURCE, AT_A_TIME):
        for row in removed:
            yield await erase(connection, row["code"])
