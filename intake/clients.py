"""The clients of the intake: authentication, its limits, permitted actions and scope.

A client is a desk, a portal or a business system. Its token is shown once, when it is made; the database stores a hash.
Its scope is an agency with all agencies below it. Clients are the owner's (`hoso24 client`): the intake's role can
neither make one nor change one, and writes the day of a token's last use only.
"""

import asyncio
import collections
import hashlib
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from typing import TYPE_CHECKING, Any

import asyncpg

from intake.rules.scope import covers
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM
from ops.errors import Kind, Refusal
from ops.stores.postgres import Postgres

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger(__name__)

FIND_CLIENT = """
SELECT c.id, c.name, c.agency, c.actions, c.sandbox, a.sandbox AS agency_sandbox, t.n, t.token_hash,
       extract(epoch FROM t.expires_at - now())::float8                                AS seconds_left,
       (t.expires_at AT TIME ZONE interval '7 hours')::date                            AS last_day,
       t.last_used_on IS DISTINCT FROM (now() AT TIME ZONE interval '7 hours')::date   AS unused_today
  FROM client AS c
  JOIN agency AS a ON a.code = c.agency
  JOIN client_token AS t ON t.client = c.id
 WHERE c.id = $1
   AND c.disabled_at IS NULL
   AND t.revoked_at IS NULL
   AND (t.expires_at IS NULL OR now() < t.expires_at)
"""

# Another process may be writing the same day: then nothing is left to do.
NOTE_USE = """
UPDATE client_token
   SET last_used_on = (now() AT TIME ZONE interval '7 hours')::date
 WHERE (client, n) IN (SELECT client, n
                         FROM client_token
                        WHERE client = $1 AND n = $2
                          AND last_used_on IS DISTINCT FROM (now() AT TIME ZONE interval '7 hours')::date
                          FOR UPDATE SKIP LOCKED)
"""

ADD_CLIENT = """
INSERT INTO client (id, name, agency, actions, sandbox)
VALUES ($1, $2, $3, $4, $5)
"""

APPEND_HASH = """
INSERT INTO client_token (client, n, token_hash, expires_at)
SELECT $1, coalesce(max(n), 0) + 1, $2, $3
  FROM client_token
 WHERE client = $1
RETURNING n
"""

LOCK_CLIENT = """
SELECT id, sandbox, disabled_at
  FROM client
 WHERE id = $1
   FOR UPDATE
"""

IN_FORCE = """
SELECT n
  FROM client_token
 WHERE client = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR now() < expires_at)
 ORDER BY n
"""

REVOKE = """
UPDATE client_token
   SET revoked_at = now()
 WHERE client = $1 AND n = $2 AND revoked_at IS NULL
RETURNING n
"""

SET_DISABLED = """
UPDATE client
   SET disabled_at = CASE WHEN $2 THEN coalesce(disabled_at, now()) END
 WHERE id = $1
"""

SET_SCOPE = """
UPDATE client
   SET agency = coalesce($2, agency), actions = coalesce($3, actions), name = coalesce($4, name)
 WHERE id = $1
RETURNING agency, actions
"""

AGENCY_SANDBOX = """
SELECT sandbox
  FROM agency
 WHERE code = $1
"""

IS_STORED = """
SELECT EXISTS (SELECT FROM client_token WHERE token_hash = $1)
"""

BY_ID = """
SELECT id, name, agency, actions, sandbox, disabled_at
  FROM client
 WHERE id = $1
"""

CLIENTS = """
SELECT c.id, c.name, c.agency, c.actions, c.sandbox, c.disabled_at,
       t.n, t.created_at, t.expires_at, t.revoked_at, t.last_used_on, now() AS now
  FROM client AS c
  LEFT JOIN client_token AS t ON t.client = c.id AND ($1::text IS NOT NULL OR t.revoked_at IS NULL)
 WHERE $1 IS NULL OR c.id = $1
 ORDER BY c.id, t.n
"""

AT_A_TIME = 2
"""Tokens of a client that are in force at a time, so that it can change over without a pause."""
VERIFIED_FOR = 5.0
"""Seconds for which a token that PostgreSQL confirmed is taken without a query: as long as a revoked one may go on."""
ENDS_SOON = 30
"""Days before a token's end from which its client is told of it with every answer."""
WRONG_AT_ONCE, WRONG_PER_SECOND = 20, 1.0
"""Wrong tokens of one address that are compared with PostgreSQL, at once and after that."""
WRONG_AT_ONCE_OF_ALL, WRONG_PER_SECOND_OF_ALL = 200, 20.0
"""The same of all addresses of a process together: a botnet has thousands."""
REMEMBERED = 10_000
"""Addresses with wrong tokens, and right tokens, that a process remembers."""

ACTIONS = ("receive", "move", "bind", "read", "correct", "sync", "follow")
_ID = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)
OUR_OWN = frozenset({"desk", "import", "operator"})
"""Sources of events that are no clients: whoever had such an id would write in their name."""
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
    repeating_helps = True


class OutOfScope(Refusal):
    """The client is known, but the action or the agency is not permitted to it."""

    kind = Kind.FORBIDDEN
    code = "out_of_scope"
    title = "This client may not do that for this agency."
    title_vi = "Hệ thống này không được phép thực hiện thao tác này cho cơ quan này."


@dataclass(frozen=True, slots=True)
class Client:
    """An authenticated client. `agency` is the top of its scope; one of the `sandbox` has made-up dossiers only.

    `token_ends`: the last day of the token it used, in Vietnam, if PostgreSQL's clock is ENDS_SOON days before its end.
    """

    id: str
    name: str
    agency: str
    actions: frozenset[str]
    sandbox: bool = False
    token_ends: date | None = None
    misplaced: bool = False
    """One of the sandbox whose agency is not, or the reverse: a catalogue made it so, and it may do nothing."""
    officer: str | None = None
    """Who acts at the desk, as `issuer|subject`; None for a system, which may name an officer with each request."""

    @property
    def reader(self) -> str:
        """Who reads, for the log of reads."""
        return self.officer or self.id

    @property
    def submitter(self) -> str | None:
        """Who may read what it submitted, wherever it is: a system. An officer reads by its agency alone."""
        return None if self.officer else self.id

    def require_action(self, action: str) -> None:
        """Raise OutOfScope unless this client may do this at all."""
        if self.misplaced:
            at_odds = _at_odds("This client", self.sandbox, self.agency)
            raise OutOfScope(f"{at_odds}; the operator has to give it another scope.")
        if action not in self.actions:
            raise OutOfScope(f"This client may not {action}; it may: {', '.join(sorted(self.actions))}.")

    def require(self, action: str, agency: str, catalogue: Catalogue) -> None:
        """Raise OutOfScope unless this client may do this for this agency."""
        self.require_action(action)
        if not covers(catalogue, self.agency, agency):
            raise OutOfScope(
                f"Agency {agency} is outside the scope of this client, which is {self.agency} and all below it."
            )


class Tokens:
    """Tells whose a token is, and limits the wrong ones per address before PostgreSQL is asked.

    A token is compared with PostgreSQL at most every VERIFIED_FOR seconds: a revoked one is refused no later than that,
    an expired one at once. One that was right a while ago is compared however many wrong ones come beside it, since
    offices share addresses: its hash is remembered, and opens nothing once it has to be compared again.
    """

    def __init__(self, postgres: Postgres, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._postgres = postgres
        self._monotonic = monotonic
        self._wrong = _Failures(WRONG_AT_ONCE, WRONG_PER_SECOND, monotonic)
        self._wrong_of_all = _Failures(WRONG_AT_ONCE_OF_ALL, WRONG_PER_SECOND_OF_ALL, monotonic)
        self._right: collections.OrderedDict[bytes, tuple[Client, float]] = collections.OrderedDict()
        """Hash of a right token → its client, and the moment from which PostgreSQL is asked again."""
        self._used: dict[tuple[str, int], None] = {}
        self._noting: asyncio.Task[None] | None = None

    async def authenticate(self, authorization: str | None, address: bytes | None) -> Client:
        """The client of an Authorization header; `address` is the sender's, as rates count it.

        Raises Unauthenticated, TooManyWrongTokens, or Unavailable if the token cannot be checked.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        match = _TOKEN.fullmatch(token)
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send the header `Authorization: Bearer <token>`.")
        if match is None:
            raise Unauthenticated(
                "This is no token, or not all of one: it begins with h24_ and ends with 43 characters."
            )
        digest = _hash(token)
        asked_at = self._monotonic()
        if (known := self._right.get(digest)) is not None and asked_at < known[1]:
            self._right.move_to_end(digest)
            return known[0]
        if known is None and (self._wrong.exceeded(address) or self._wrong_of_all.exceeded(None)):
            raise TooManyWrongTokens
        rows = await self._postgres.fetch(FIND_CLIENT, match[1])
        row = next((row for row in rows if hmac.compare_digest(row["token_hash"], digest)), None)
        if row is None:
            self._right.pop(digest, None)
            self._wrong.count(address)
            self._wrong_of_all.count(None)
            raise Unauthenticated("This token is unknown or no longer valid. Ask the operator for another one.")
        seconds = math.inf if row["seconds_left"] is None else row["seconds_left"]
        ends = row["last_day"] if seconds <= ENDS_SOON * 86_400 else None
        client = Client(
            id=row["id"],
            name=row["name"],
            agency=row["agency"],
            actions=frozenset(row["actions"]),
            sandbox=row["sandbox"],
            token_ends=ends,
            misplaced=row["sandbox"] is not row["agency_sandbox"],
        )
        # Counted from before the question, so that a revocation during it is seen in time too.
        left = min(VERIFIED_FOR, seconds)
        self._right[digest] = client, asked_at + left
        self._right.move_to_end(digest)
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        if row["unused_today"]:
            self._note_use(client.id, row["n"])
        return client

    def _note_use(self, client_id: str, n: int) -> None:
        """Have the day of this token's use written, behind the request's back: no request waits for it or fails by it.

        One at a time, so that a morning's first requests leave the connections to dossiers.
        """
        self._used[client_id, n] = None
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note_all())

    async def _note_all(self) -> None:
        try:
            while self._used:
                client_id, n = next(iter(self._used))
                await self._postgres.fetch(NOTE_USE, client_id, n)
                self._used.pop((client_id, n), None)
        except (Refusal, asyncpg.PostgresError) as error:
            log.warning("Cannot write when tokens were last used; it is tried again at their next use: %s", error)
        finally:
            self._used.clear()


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


# -- what the owner does with clients ------------------------------------------------------------------------


class ClientRefused(Exception):
    """A client cannot be made or changed so; the message is one sentence: what is wrong, and what to do instead."""


async def find(connection: Any, client_id: str) -> Client:
    """The client as it is registered, for a command that acts in its name. Raises ClientRefused if it may not sync."""
    row = await connection.fetchrow(BY_ID, client_id)
    if row is None:
        raise _no_client(client_id)
    if row["disabled_at"] is not None:
        raise ClientRefused(f"Client {client_id} is disabled; `hoso24 client enable {client_id}` enables it.")
    if "sync" not in row["actions"]:
        raise ClientRefused(
            f"Client {client_id} may not sync; `hoso24 client scope {client_id} --actions …` permits it."
        )
    return Client(row["id"], row["name"], row["agency"], frozenset(row["actions"]), row["sandbox"])


def read_actions(text: str) -> tuple[str, ...]:
    """The actions in a list separated by commas or blanks. Raises ClientRefused for an unknown one, and for none."""
    given = re.findall(r"[^\s,]+", text)
    known = ", ".join(ACTIONS)
    if unknown := [action for action in given if action not in ACTIONS]:
        raise ClientRefused(f"There is no action {unknown[0]!r}; there are: {known}.")
    if not given:
        raise ClientRefused(f"A client without an action could do nothing; name some of: {known}.")
    return tuple(action for action in ACTIONS if action in given)


def end_of(last_day: date | None, now: datetime) -> datetime | None:
    """The end of a token's last day, in Vietnam; None for a token that does not expire. Raises ClientRefused."""
    if last_day is None:
        return None
    end = datetime.combine(last_day, time_of_day.max, VIETNAM)
    if end <= now:
        raise ClientRefused(f"The token's last day, {last_day}, is over; name a later one.")
    return end


async def add_client(
    connection: Any,
    client_id: str,
    name: str,
    agency: str,
    actions: tuple[str, ...],
    token: str | None = None,
    *,
    sandbox: bool = False,
    expires_at: datetime | None = None,
) -> str:
    """Add a client with its first token, as the owner; returns the token, which is not stored.

    Raises ClientRefused for an existing id, a malformed one, unknown or no actions, an unknown agency, and one that is
    of the sandbox when the client is not, or the reverse.
    """
    if _ID.fullmatch(client_id) is None:
        raise ClientRefused(f"{client_id!r} is no client's id: it has 1 to 40 lower-case letters, digits and dashes.")
    if client_id in OUR_OWN:
        raise ClientRefused(f"{client_id} writes events of its own, and is no client's id; choose another one.")
    name, actions = _read_name(name), read_actions(" ".join(actions))
    await _require_agency(connection, agency, sandbox, client_id)
    token = token or new_token(client_id)
    try:
        async with connection.transaction():
            await connection.execute(ADD_CLIENT, client_id, name, agency, list(actions), sandbox)
            await connection.fetchval(APPEND_HASH, client_id, _hash(token), expires_at)
    except asyncpg.UniqueViolationError:
        raise ClientRefused(
            f"There is a client {client_id} already; `hoso24 client token {client_id}` makes it a new token, "
            f"`hoso24 client scope {client_id}` changes what it may do."
        ) from None
    return token


async def add_token(
    connection: Any, client_id: str, token: str | None = None, *, expires_at: datetime | None = None
) -> str:
    """Give a client another token, as the owner; the ones it has stay in force. Returns the token, which is not stored.

    Raises ClientRefused if there is no such client, or if it has AT_A_TIME tokens in force.
    """
    if client_id in OUR_OWN:
        raise ClientRefused(f"{client_id} has no token: nothing signs in as it.")
    token = token or new_token(client_id)
    async with connection.transaction():
        await _lock(connection, client_id)
        numbers = [row["n"] for row in await connection.fetch(IN_FORCE, client_id)]
        if len(numbers) >= AT_A_TIME:
            raise ClientRefused(
                f"Client {client_id} has {AT_A_TIME} tokens in force already, {_and(numbers)}; revoke the one it no "
                f"longer uses: `hoso24 client revoke {client_id} {numbers[0]}`."
            )
        await connection.fetchval(APPEND_HASH, client_id, _hash(token), expires_at)
    return token


async def revoke(connection: Any, client_id: str, n: int) -> None:
    """Revoke a token for good, as the owner; every process refuses it within VERIFIED_FOR seconds.

    Raises ClientRefused if there is no such client or token, or if the token is revoked already.
    """
    async with connection.transaction():
        await _lock(connection, client_id)
        numbers = [row["n"] for row in await connection.fetch(CLIENTS, client_id) if row["n"] is not None]
        if n not in numbers:
            raise ClientRefused(f"Client {client_id} has no token {n}; it has {_and(numbers) or 'none'}.")
        if await connection.fetchval(REVOKE, client_id, n) is None:
            raise ClientRefused(f"Token {n} of client {client_id} is revoked already.")


async def set_disabled(connection: Any, client_id: str, disabled: bool) -> None:
    """Disable a client with all its tokens, or enable it again, as the owner. Raises ClientRefused."""
    async with connection.transaction():
        found = await _lock(connection, client_id)
        if (found["disabled_at"] is not None) is disabled:
            raise ClientRefused(f"Client {client_id} is {'disabled' if disabled else 'enabled'} already.")
        await connection.execute(SET_DISABLED, client_id, disabled)


async def set_scope(
    connection: Any,
    client_id: str,
    *,
    agency: str | None = None,
    actions: tuple[str, ...] | None = None,
    name: str | None = None,
) -> tuple[str, tuple[str, ...]]:
    """Change what a client may do and where, or its name, as the owner; returns agency and actions as they are now.

    None leaves a value as it is. Raises ClientRefused if there is no such client or agency, for unknown actions, and
    for an agency that is of the sandbox when the client is not, or the reverse.
    """
    actions = None if actions is None else read_actions(" ".join(actions))
    name = None if name is None else _read_name(name)
    async with connection.transaction():
        found = await _lock(connection, client_id)
        if agency is not None:
            await _require_agency(connection, agency, found["sandbox"], client_id)
        row = await connection.fetchrow(SET_SCOPE, client_id, agency, actions and list(actions), name)
    return row["agency"], tuple(row["actions"])


async def knows(connection: Any, token: str) -> bool:
    """Whether this token is stored, be it in force or not."""
    return bool(await connection.fetchval(IS_STORED, _hash(token)))


async def listed(connection: Any, client_id: str | None = None) -> list[Any]:
    """All clients with their tokens, a row each, or this one with its revoked tokens too.

    Raises ClientRefused if there is no such client.
    """
    rows: list[Any] = []
    if client_id is None or _ID.fullmatch(client_id):
        rows = await connection.fetch(CLIENTS, client_id)
    if client_id is not None and not rows:
        raise _no_client(client_id)
    return rows


def table(rows: Iterable[Any]) -> "Table":
    """Clients and their tokens as a table for a terminal, times in UTC+7."""
    from rich.table import Table

    table = Table(title="Clients (UTC+7)", title_justify="left")
    for column in ("client", "name", "agency", "actions", "token", "state", "created", "expires", "last used"):
        table.add_column(column, overflow="fold")
    shown = None
    for row in rows:
        if shown not in (None, row["id"]):
            table.add_section()
        table.add_row(*(("", "", "", "") if row["id"] == shown else _who(row)), *_token(row))
        shown = row["id"]
    return table


def _who(row: Any) -> tuple[str, str, str, str]:
    marks = [mark for mark, set_ in (("disabled", row["disabled_at"]), ("sandbox", row["sandbox"])) if set_]
    name = f"{row['name']} ({', '.join(marks)})" if marks else row["name"]
    return row["id"], name, row["agency"], ", ".join(row["actions"])


def _token(row: Any) -> tuple[str, str, str, str, str]:
    if row["n"] is None:
        return "–", "none", "", "", ""
    if row["revoked_at"] is not None:
        state = f"revoked {_clock(row['revoked_at'])}"
    elif row["expires_at"] is not None and row["expires_at"] <= row["now"]:
        state = "expired"
    else:
        state = "client disabled" if row["disabled_at"] else "in force"
    expires = _clock(row["expires_at"]) if row["expires_at"] else "never"
    used = str(row["last_used_on"]) if row["last_used_on"] else "never"
    return str(row["n"]), state, _clock(row["created_at"]), expires, used


async def _lock(connection: Any, client_id: str) -> Any:
    """The client's row, locked so that no other command changes this client meanwhile. Raises ClientRefused."""
    row = await connection.fetchrow(LOCK_CLIENT, client_id) if _ID.fullmatch(client_id) else None
    if row is None:
        raise _no_client(client_id)
    return row


def _no_client(client_id: str) -> ClientRefused:
    return ClientRefused(f"There is no client {client_id!r}; `hoso24 client list` shows all.")


async def _require_agency(connection: Any, agency: str, sandbox: bool, client_id: str) -> None:
    """Raises ClientRefused for an agency that is not in the catalogue, or of the sandbox when the client is not, or the
    reverse."""
    found = await connection.fetchval(AGENCY_SANDBOX, agency) if agency.isascii() else None
    if found is None:
        raise ClientRefused(f"There is no agency {agency!r} in the catalogue.")
    if found is not sandbox:
        step = "name an agency of the sandbox" if sandbox else "name another one, or add a client with --sandbox"
        raise ClientRefused(f"{_at_odds(f'Client {client_id}', sandbox, agency)}; {step}.")


def _at_odds(client: str, sandbox: bool, agency: str) -> str:
    """That a client is of the sandbox and its agency is not, or the reverse."""
    is_, and_not = ("is of the sandbox", "is not") if sandbox else ("is not of the sandbox", "is")
    return f"{client} {is_}, and agency {agency} {and_not}"


def _read_name(name: str) -> str:
    name = name.strip()
    if not name or not name.isprintable():
        raise ClientRefused("A client needs a name in one line, by which people recognise it.")
    return name


def _and(numbers: list[int]) -> str:
    """As in "1, 2 and 3"; empty for none."""
    *first, last = [str(number) for number in numbers] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(VIETNAM):%Y-%m-%d %H:%M}"


def new_token(client_id: str) -> str:
    """A new random token for this client: its id and 256 random bits."""
    return f"h24_{client_id}_{secrets.token_urlsafe(32)}"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
