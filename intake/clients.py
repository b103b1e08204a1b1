"""The clients of the intake: authentication, permitted actions and scope.

A client is a desk, a portal or a business system. Its token is shown once, when it is made; the database stores a hash.
Its scope is an agency with all agencies below it.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any

from lookup.catalogue import Catalogue
from ops.errors import Kind, Refusal
from ops.stores.postgres import Postgres

FIND_CLIENT = """
SELECT id, name, token_hash, agency, actions
  FROM client
 WHERE id = $1
   AND now() >= valid_from
   AND (valid_to IS NULL OR now() < valid_to)
"""

ADD_CLIENT = """
INSERT INTO client (id, name, token_hash, agency, actions)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO UPDATE
   SET name = excluded.name, token_hash = excluded.token_hash, agency = excluded.agency,
       actions = excluded.actions, valid_from = now(), valid_to = NULL
"""

ACTIONS = ("receive", "move", "bind", "read")
_TOKEN = re.compile(r"h24_([a-z0-9-]{1,40})_([A-Za-z0-9_-]{43})", re.ASCII)


class Unauthenticated(Refusal):
    """The token is missing, malformed, unknown or no longer valid."""

    kind = Kind.UNAUTHENTICATED
    code = "unauthenticated"
    title = "This request needs a valid bearer token."
    title_vi = "Yêu cầu này cần mã truy cập (bearer token) hợp lệ."


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

    def require(self, action: str, agency: str, catalogue: Catalogue) -> None:
        """Raise OutOfScope unless this client may do this for this agency."""
        if action not in self.actions:
            raise OutOfScope(f"This client may not {action}; it may: {', '.join(sorted(self.actions))}.")
        if not catalogue.within(agency, self.agency):
            raise OutOfScope(
                f"Agency {agency} is outside the scope of this client, which is {self.agency} and all below it."
            )


async def authenticate(authorization: str | None, postgres: Postgres) -> Client:
    """The client of an Authorization header. Raises Unauthenticated, or Unavailable if the token cannot be checked."""
    scheme, _, token = (authorization or "").partition(" ")
    match = _TOKEN.fullmatch(token.strip())
    if scheme.lower() != "bearer" or match is None:
        raise Unauthenticated("Send the header `Authorization: Bearer <token>`.")
    rows = await postgres.fetch(FIND_CLIENT, match[1])
    if not rows or not hmac.compare_digest(rows[0]["token_hash"], _hash(token.strip())):
        raise Unauthenticated("This token is unknown or no longer valid.")
    client = rows[0]
    return Client(client["id"], client["name"], client["agency"], frozenset(client["actions"]))


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
