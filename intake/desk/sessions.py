"""Sessions of officers, and one-time links that begin one in a trial. PostgreSQL stores hashes only.

A session ends 60 minutes after its last request and 10 hours after its first one, at sign-out, when its row is
deleted, and with its officer's. Its officer's name, agency and roles are read anew with each request.
"""

import hashlib
import secrets
from typing import Any, Final

from intake.desk.officers import LOCAL, Officer
from ops.stores.postgres import Postgres

LINK_MINUTES: Final = 30
"""For which a one-time link can be used."""

_IN_FORCE = """s.hash = $1
           AND s.kind = 'session'
           AND s.issuer = $2
           AND now() < s.ends_at
           AND now() < s.seen_at + interval '60 minutes'"""

# One row in a minute: most requests of an officer write nothing here.
FIND = f"""
WITH seen AS (
    UPDATE desk_session AS s
       SET seen_at = now()
     WHERE {_IN_FORCE}
           AND s.seen_at < now() - interval '1 minute'
)
SELECT o.issuer, o.subject, o.name, o.agency, o.roles
  FROM desk_session AS s
  JOIN officer AS o USING (issuer, subject)
 WHERE {_IN_FORCE}
   AND o.disabled_at IS NULL
"""  # noqa: S608 - our own words

BEGIN = """
INSERT INTO desk_session (hash, issuer, subject, ends_at)
SELECT $1, issuer, subject, now() + interval '10 hours'
  FROM officer
 WHERE issuer = $2 AND subject = $3 AND disabled_at IS NULL
RETURNING subject
"""

END = """
DELETE FROM desk_session
 WHERE hash = $1
"""

# In one statement: of two that use a link at once, one finds it.
USE_LINK = """
WITH used AS (
    DELETE FROM desk_session
     WHERE hash = $1 AND kind = 'link' AND now() < ends_at
    RETURNING issuer, subject
)
INSERT INTO desk_session (hash, issuer, subject, ends_at)
SELECT $2, issuer, subject, now() + interval '10 hours'
  FROM used
  JOIN officer USING (issuer, subject)
 WHERE disabled_at IS NULL
RETURNING subject
"""

MAKE_LINK = """
INSERT INTO desk_session (hash, kind, issuer, subject, ends_at)
SELECT $1, 'link', issuer, subject, now() + $4 * interval '1 minute'
  FROM officer
 WHERE issuer = $2 AND subject = $3 AND disabled_at IS NULL
RETURNING subject
"""


class Sessions:
    """Sessions of the officers of one issuer; those of any other are not found. All methods raise Unavailable."""

    def __init__(self, postgres: Postgres, issuer: str | None) -> None:
        self._postgres = postgres
        self.issuer = issuer or LOCAL

    @property
    def local(self) -> bool:
        """Whether officers sign in by one-time links."""
        return self.issuer == LOCAL

    async def find(self, secret: str) -> Officer | None:
        """The officer of this session; None when it has ended."""
        rows = await self._postgres.fetch(FIND, _hash(secret), self.issuer)
        return _officer(rows[0]) if rows else None

    async def begin(self, subject: str) -> str | None:
        """The secret of a new session of the issuer's subject; None when no such officer may sign in."""
        secret = _new_secret()
        return secret if await self._postgres.fetch(BEGIN, _hash(secret), self.issuer, subject) else None

    async def use_link(self, link: str) -> str | None:
        """The secret of a new session; None for a link that was used, has expired or never was, and under an issuer."""
        secret = _new_secret()
        if not self.local:
            return None
        return secret if await self._postgres.fetch(USE_LINK, _hash(link), _hash(secret)) else None

    async def end(self, secret: str) -> None:
        """End a session; nothing if it has ended."""
        await self._postgres.fetch(END, _hash(secret))


async def make_link(connection: Any, subject: str, minutes: int = LINK_MINUTES) -> str | None:
    """The secret of a new one-time link for a local officer; None if there is no such officer."""
    secret = _new_secret()
    made = await connection.fetchval(MAKE_LINK, _hash(secret), LOCAL, subject, minutes)
    return secret if made else None


def _officer(row: Any) -> Officer:
    return Officer(row["issuer"], row["subject"], row["name"], row["agency"], frozenset(row["roles"]))


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
