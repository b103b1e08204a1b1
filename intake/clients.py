"""The clients of the intake: authentication, its limits, permitted actions and scope.

A client is a desk, a portal or a business system. Its token is shown once, when it is made; the database stores a hash.
Its scope is an agency with all agencies below it.
"""

import collections
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from lookup.catalogue import Catalogue
from ops.errors import Kind, Refusal
from ops.stores.postgres import Postgres

FIND_CLIENT = """
SELECT id, name, token_hash, agency, actions
  FROM client
  JOIN client_token ON client = id
 WHERE id = $1
   AND disabled_at IS NULL
   AND revoked_at IS NULL
   AND (expires_at IS NULL OR now() < expires_at)
"""

ADD_CLIENT = """
WITH added AS (
    INSERT INTO client (id, name, agency, actions)
    VALUES ($1, $2, $4, $5)
    ON CONFLICT (id) DO UPDATE
       SET name = excluded.name, agency = excluded.agency, actions = excluded.actions, disabled_at = NULL
    RETURNING id)
INSERT INTO client_token (client, n, token_hash)
SELECT id, 1, $3
  FROM added
ON CONFLICT (client, n) DO UPDATE
   SET token_hash = excluded.token_hash
"""

WRONG_AT_ONCE, WRONG_PER_SECOND = 20, 1.0
"""Wrong tokens of one address that are compared with PostgreSQL, at once and after that."""
WRONG_AT_ONCE_OF_ALL, WRONG_PER_SECOND_OF_ALL = 200, 20.0
"""The same of all addresses of a process together: a botnet has thousands."""
REMEMBERED = 10_000
"""Addresses with wrong tokens, and right tokens, that a process remembers."""

ACTIONS = ("receive", "move", "bind", "read", "correct", "sync", "follow")
_TOKEN = re.compile(r"h24_([a-z0-9-]{1,40})_([A-Za-z0-9_-]{43})", re.ASCII)


class Unauthenticated(Refusal):
    """The token is missing, malformed, unknown or no longer valid."""

    kind = Kind.UNAUTHENTICATED
    code = "unauthenticated"
    title = "This request needs a valid bearer token."
    title_vi = "Yêu cầu này cần mã truy cập (bearer token) hợp lệ."


class TooManyWrongTokens(Refusal):
    """Too many wrong tokens came from this address; the token was not looked at."""

    kind = Kind.LIMITED
    code = "too_many_wrong_tokens"
    title = "Too many requests with an invalid token came from this address. Check the token, and try again later."
    title_vi = "Địa chỉ này đã gửi quá nhiều yêu cầu với mã truy cập không hợp lệ. Vui lòng kiểm tra và thử lại sau."
    usual_retry_after = 1


class OutOfScope(Refusal):
    """The client is known, but the action or the agency is not permitted to it."""

    kind = Kind.FORBIDDEN
    code = "out_of_scope"
    title = "This client may not do that for this agency."
    title_vi = "Hệ thống này không được phép thực hiện thao tác này cho cơ quan này."


@dataclass(frozen=True, slots=True)
class Client:
    """An authenticated client. `agency` is the top of its scope."""

    id: str
    name: str
    agency: str
    actions: frozenset[str]

    def require_action(self, action: str) -> None:
        """Raise OutOfScope unless this client may do this at all."""
        if action not in self.actions:
            raise OutOfScope(f"This client may not {action}; it may: {', '.join(sorted(self.actions))}.")

    def require(self, action: str, agency: str, catalogue: Catalogue) -> None:
        """Raise OutOfScope unless this client may do this for this agency."""
        self.require_action(action)
        if not catalogue.within(agency, self.agency):
            raise OutOfScope(
                f"Agency {agency} is outside the scope of this client, which is {self.agency} and all below it."
            )


class Tokens:
    """Compares tokens with PostgreSQL, at each request anew, and limits the wrong ones per address before it is asked.

    A token that was right a while ago is compared however many wrong ones come beside it, since offices share
    addresses: only its hash is remembered, and it opens nothing by itself.
    """

    def __init__(self, postgres: Postgres, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._postgres = postgres
        self._wrong = _Failures(WRONG_AT_ONCE, WRONG_PER_SECOND, monotonic)
        self._wrong_of_all = _Failures(WRONG_AT_ONCE_OF_ALL, WRONG_PER_SECOND_OF_ALL, monotonic)
        self._right: collections.OrderedDict[bytes, None] = collections.OrderedDict()

    async def authenticate(self, authorization: str | None, address: bytes | None) -> Client:
        """The client of an Authorization header; `address` is the sender's, as rates count it.

        Raises Unauthenticated, TooManyWrongTokens, or Unavailable if the token cannot be checked.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        match = _TOKEN.fullmatch(token)
        if scheme.lower() != "bearer" or match is None:
            raise Unauthenticated("Send the header `Authorization: Bearer <token>`.")
        digest = _hash(token)
        if digest not in self._right and (self._wrong.exceeded(address) or self._wrong_of_all.exceeded(None)):
            raise TooManyWrongTokens
        rows = await self._postgres.fetch(FIND_CLIENT, match[1])
        rows = [row for row in rows if hmac.compare_digest(row["token_hash"], digest)]
        if not rows:
            self._right.pop(digest, None)
            self._wrong.count(address)
            self._wrong_of_all.count(None)
            raise Unauthenticated("This token is unknown or no longer valid.")
        self._right[digest] = None
        self._right.move_to_end(digest)
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        client = rows[0]
        return Client(client["id"], client["name"], client["agency"], frozenset(client["actions"]))


class _Failures:
    """Failures by subject: so many at once, and per second after that. Forgets the subject that failed longest ago."""

    def __init__(self, at_once: int, per_second: float, monotonic: Callable[[], float]) -> None:
        self._interval = 1 / per_second
        self._tolerance = (at_once - 0.5) / per_second  # half a failure for what sums of fractions lose
        self._monotonic = monotonic
        self._free_at: collections.OrderedDict[Hashable, float] = collections.OrderedDict()
        """Subject → the moment from which its failures are paid off."""

    def exceeded(self, subject: Hashable) -> bool:
        """Whether this subject has failed as often as it may."""
        return self._free_at.get(subject, 0.0) - self._monotonic() > self._tolerance

    def count(self, subject: Hashable) -> None:
        """Count a failure of this subject."""
        now = self._monotonic()
        self._free_at[subject] = max(self._free_at.get(subject, 0.0), now) + self._interval
        self._free_at.move_to_end(subject)
        if len(self._free_at) > REMEMBERED:
            self._free_at.popitem(last=False)


async def add_client(
    connection: Any, client_id: str, name: str, agency: str, actions: tuple[str, ...], token: str | None = None
) -> str:
    """Add a client, or give an existing client a new token; returns the token, which is not stored.

    Raises ValueError for a malformed id or token, and what the connection raises.
    """
    token = token or new_token(client_id)
    if not _TOKEN.fullmatch(token):
        raise ValueError("A client's id has 1 to 40 lower-case letters, digits and dashes.")
    await connection.execute(ADD_CLIENT, client_id, name, _hash(token), agency, list(actions))
    return token


def new_token(client_id: str) -> str:
    """A new random token for this client: its id and 256 random bits."""
    return f"h24_{client_id}_{secrets.token_urlsafe(32)}"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
