"""Erasing the events of a removed dossier: what was written about people goes, and the log stays verifiable.

Each event keeps a digest of what it said (column `erased`), so its leaf, its seal and the books stay as they were.
Without the salt, which goes too, nobody can guess from the digest what was there.
"""

from typing import Any

from intake.books.seal import CONTENT_COLUMNS, HASHED_COLUMNS, content_digest

REMOVED = "SELECT removed FROM dossier WHERE code = $1"

EVENTS = f"""
SELECT salt, {", ".join(HASHED_COLUMNS)}
  FROM event
 WHERE code = $1
   AND erased IS NULL
 ORDER BY version
"""

# The salt is compared: an event is erased once, with the digest of what it holds.
ERASE = f"""
UPDATE event
   SET {", ".join(f"{name} = NULL" for name in CONTENT_COLUMNS)}, salt = NULL, erased = $4
 WHERE code = $1
   AND version = $2
   AND salt = $3
"""


# What was written about people elsewhere than in the log.
PAPERS = "UPDATE paper SET content = NULL, erased_at = now() WHERE code = $1 AND erased_at IS NULL"
CONSENTS = "UPDATE consent SET address = NULL WHERE code = $1"
SEARCHED = "DELETE FROM applicant_search WHERE code = $1"
NOTICES = "DELETE FROM notice WHERE code = $1"


class NotRemoved(Exception):
    """The dossier is in use, or there is none: its events are not erased. The message says which, in one sentence."""


async def erase(connection: Any, code: str) -> int:
    """Erase every event of a removed dossier and the content of its papers, in one transaction; its address for notices
    and what a desk would find it by go too. The number of events that were not erased before.

    `connection` has the archivist's role. It can be repeated. Raises NotRemoved, and what the connection raises; then
    nothing is erased.
    """
    removed = await connection.fetchval(REMOVED, code)
    if removed is None:
        raise NotRemoved(f"There is no dossier {code}.")
    if not removed:
        raise NotRemoved(f"{code} is not removed: its events are still needed. Remove the dossier first.")
    async with connection.transaction():
        events = await connection.fetch(EVENTS, code)
        for event in events:
            digest = content_digest([event[name] for name in HASHED_COLUMNS], event["salt"])
            await connection.execute(ERASE, code, event["version"], event["salt"], digest)
        for statement in (PAPERS, CONSENTS, SEARCHED, NOTICES):
            await connection.execute(statement, code)
    return len(events)
