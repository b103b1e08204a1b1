"""The webhooks of a client: made, looked at, changed, proven again and removed over HTTP (action follow).

The intake writes rows only: the process that delivers (intake/partners/deliver.py) sends the ping that proves a new
one, and all that follows.
"""

import re
import secrets
from base64 import b32encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from intake.admission import ADMISSION, CLIENT
from intake.clients import Client
from intake.outgoing.addresses import LONGEST_URL, Addresses, UrlRefused
from intake.outgoing.signatures import BOTH_SIGN_FOR, Keys
from intake.partners import changes
from intake.partners.changes import Changes, FeedHalted, FeedRewound, Fetch, Follower, agencies_seen
from intake.partners.cursor import BEGINNING, SEAL_BYTES, Cursor
from intake.partners.deliver import Ping
from intake.refusals import UnknownAgency
from intake.rules.requests import InvalidContent, MalformedJson, Word
from lookup.catalogue import CatalogueCopy
from lookup.clock import VIETNAM, Zoned, local
from ops.errors import Kind, Refusal
from ops.http.endpoints import Endpoint, Example, Reply
from ops.http.openapi import Webhook
from ops.http.parameters import Parameter
from ops.stores.postgres import TRANSACTION, Postgres

WEBHOOKS: Final = "/api/v1/webhooks"
MOST: Final = 10
"""Webhooks of a client."""
COUNTED: Final = 1000
"""Events behind that are counted at most."""
_ID: Final = re.compile(r"[a-z0-9]{8,40}", re.ASCII)

# One client makes one webhook at a time, so that their number is certain.
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 25))"

HOW_MANY = """
SELECT count(*)
  FROM webhook
 WHERE client = $1
"""

_DAY = f"interval '{BOTH_SIGN_FOR.total_seconds():.0f} s'"

_COLUMNS = """
id, url, agency, mine, bulk, format, state, created_at, generation, rotated_at, attempt, next_at, succeeded_at,
failed_at, last_error, epoch, xid, seq
"""

ADD = f"""
INSERT INTO webhook (id, client, url, agency, mine, bulk, format, epoch, xid, seq)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::xid8, $10)
RETURNING {_COLUMNS}
"""

# With the seal of the event that each stands at, as a cursor needs it.
FIND = f"""
SELECT {_COLUMNS},
       now() AS now,
       coalesce((SELECT e.seal FROM event AS e WHERE NOT e.bulk AND (e.epoch, e.xid, e.seq) = (w.epoch, w.xid, w.seq)),
                (SELECT e.seal FROM event AS e WHERE e.bulk     AND (e.epoch, e.xid, e.seq) = (w.epoch, w.xid, w.seq))) AS seal
  FROM webhook AS w
 WHERE client = $1
   AND ($2::text IS NULL OR id = $2)
 ORDER BY created_at, id
"""  # noqa: E501

# A new address is proven first, and gets the page under way. Where what it tells changes, the next page is another one.
# Null for what stays; $6: whether `agency` is to be changed.
CHANGE = """
UPDATE webhook
   SET state    = CASE WHEN $3 <> url THEN 'unproven' ELSE state END,
       attempt  = CASE WHEN $3 <> url THEN 0 ELSE attempt END,
       next_at  = CASE WHEN $3 <> url THEN now() ELSE next_at END,
       url      = coalesce($3, url),
       mine     = coalesce($4, mine),
       bulk     = coalesce($5, bulk),
       agency   = CASE WHEN $6 THEN $7 ELSE agency END,
       page_end = CASE WHEN coalesce($4, mine) = mine
                        AND coalesce($5, bulk) = bulk
                        AND (NOT $6 OR agency IS NOT DISTINCT FROM $7) THEN page_end END
 WHERE client = $1 AND id = $2
RETURNING id
"""

# Deliveries go on after a ping: at the cursor, or, with a place, from there.
PROVE = """
UPDATE webhook
   SET state    = 'unproven',
       attempt  = 0,
       next_at  = now(),
       epoch    = coalesce($3, epoch),
       xid      = coalesce($4::xid8, xid),
       seq      = coalesce($5, seq),
       page_end = CASE WHEN $3 IS NULL THEN page_end END
 WHERE client = $1 AND id = $2
RETURNING id
"""

# Again within the day in which two generations sign, it changes nothing: a third would silence the first, which
# receivers may still verify by, and an answer that was lost is asked for again by this.
ROTATE = f"""
UPDATE webhook
   SET generation = CASE WHEN rotated_at > now() - {_DAY} THEN generation ELSE generation + 1 END,
       rotated_at = CASE WHEN rotated_at > now() - {_DAY} THEN rotated_at ELSE now() END
 WHERE client = $1 AND id = $2
RETURNING id
"""

REMOVE = """
DELETE FROM webhook
 WHERE client = $1 AND id = $2
"""


class UnknownWebhook(Refusal):
    """This client has no such webhook."""

    kind = Kind.NOT_FOUND
    code = "webhook_not_found"
    title = "This client has no webhook with this id."
    title_vi = "Hệ thống này không có webhook với mã đó."


class TooManyWebhooks(Refusal):
    """The client has as many webhooks as it may have."""

    kind = Kind.CONFLICT
    code = "too_many_webhooks"
    title = f"A client has at most {MOST} webhooks. Remove one that is no longer used."
    title_vi = f"Mỗi hệ thống có tối đa {MOST} webhook. Hãy xóa webhook không còn dùng."


class UrlNotAllowed(Refusal):
    """No webhook may lead to this URL; the detail says why."""

    kind = Kind.UNPROCESSABLE
    code = "webhook_url_not_allowed"
    title = "Webhooks are not delivered to this URL."
    title_vi = "Không thể gửi webhook đến địa chỉ này."


Url = Annotated[str, Meta(min_length=1, max_length=LONGEST_URL)]


class WebhookRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A new webhook, which begins now. `agency` narrows the client's scope; with `mine` it tells of the client's own
    submissions only, without `bulk` of nothing that came by import."""

    url: Url
    agency: Word | None = None
    mine: bool = False
    bulk: bool = True
    format: Literal["standard", "national"] = "standard"


class WebhookChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is to be changed. A new `url` is pinged first; `agency` null is the whole scope again."""

    url: Url | UnsetType = UNSET
    agency: Word | UnsetType | None = UNSET
    mine: bool | UnsetType = UNSET
    bulk: bool | UnsetType = UNSET


class Resume(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Go on after a ping: at the cursor, or with `from` `now` behind all that happened meanwhile."""

    from_: Literal["now"] | UnsetType = msgspec.field(name="from", default=UNSET)


class Lag(msgspec.Struct, frozen=True):
    """What the receiver has not taken yet: `events`, of which 1,000 are counted at most, and the age of the oldest."""

    events: int
    seconds: float


class WebhookView(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook. `failures`: in a row. `next_attempt_at`: null unless one is to be made. `lag`: null while the log does
    not have its place. `public_key` verifies v1a; after a rotation the one before does so too for a day."""

    id: str
    url: str
    agency: str | None
    mine: bool
    bulk: bool
    format: Literal["standard", "national"]
    state: Literal["unproven", "active", "paused", "unreachable", "gone"]
    created_at: Zoned
    cursor: str
    lag: Lag | None
    failures: int
    next_attempt_at: Zoned | None
    succeeded_at: Zoned | None
    failed_at: Zoned | None
    last_error: str | None
    generation: int
    rotated_at: Zoned | None
    public_key: str
    secret: str | UnsetType = UNSET
    """The key of v1; only in the answers that make one."""


class WebhookList(msgspec.Struct, frozen=True):
    """All webhooks of the client, the oldest first."""

    webhooks: list[WebhookView]


_IN_THE_PATH = Parameter(name="id", place="path", says="The webhook's id.", required=True, example="k5x2m7q3t6v4wz2a")

_SIGNED = (
    Parameter(
        name="webhook-id",
        place="header",
        says="The same whenever this page is sent again.",
        required=True,
        example="wh_k5x2m7q3t6v4wz2a_c1_aaaaaaiaaaaaaaaaaabsyaaaaaaaaaaaambqgawdbmdqga2",
    ),
    Parameter(
        name="webhook-timestamp",
        place="header",
        says="When this attempt was made, in seconds since 1970; refuse what is older than five minutes.",
        type=int,
        required=True,
        example=1796090400,
    ),
    Parameter(
        name="webhook-signature",
        place="header",
        says="Signatures over id, timestamp and body, joined by full stops: `v1a,` Ed25519 and `v1,` HMAC-SHA256, "
        "separated by blanks; of two generations for a day after a rotation.",
        required=True,
        example="v1a,hnO3… v1,K5oZ…",
    ),
)
DELIVERIES: Final = (
    Webhook(
        name="page",
        sends=Changes,
        says="A page of the feed, one at a time and in order, signed as Standard Webhooks. Answer 2xx within 15 "
        "seconds; otherwise the same page comes again. `caught_up` is always false.",
        parameters=_SIGNED,
    ),
    Webhook(
        name="ping",
        sends=Ping,
        says="Asks a new webhook's receiver, and one that is to go on, whether it wants deliveries: answer 2xx.",
        parameters=_SIGNED,
    ),
)
"""What receivers are sent, for the document."""

_OF_ONE: tuple[type[Refusal], ...] = (*ADMISSION, UnknownWebhook)
_CONTENT: tuple[type[Refusal], ...] = (MalformedJson, InvalidContent)


class WebhookApi:
    """The endpoints below /api/v1/webhooks; each method is one endpoint.

    `pages` fetches pages of the feed, which tell how far a webhook is behind.
    """

    def __init__(
        self,
        postgres: Postgres,
        pages: Fetch,
        catalogue: CatalogueCopy,
        addresses: Addresses,
        secret: Callable[[], bytes],
    ) -> None:
        self._postgres = postgres
        self._pages = pages
        self._fetch = postgres.fetch
        self._catalogue = catalogue
        self._addresses = addresses
        self._secret = secret

    def endpoints(self) -> list[Endpoint]:
        """Everything below /api/v1/webhooks."""
        one, follow = f"{WEBHOOKS}/{{id}}", "follow"
        of_content = (*_CONTENT, UrlNotAllowed, UnknownAgency)
        return [
            Endpoint(
                method="POST",
                path=WEBHOOKS,
                handler=self.add,
                name="add_webhook",
                takes=WebhookRequest,
                example=Example(body={"url": "https://partner.example/webhooks", "agency": "G99.01"}),
                gives=WebhookView,
                status=201,
                refuses=(*ADMISSION, *of_content, TooManyWebhooks),
                action=follow,
            ),
            Endpoint(
                method="GET",
                path=WEBHOOKS,
                handler=self.all,
                name="webhooks",
                gives=WebhookList,
                refuses=ADMISSION,
                action=follow,
            ),
            Endpoint(
                method="GET",
                path=one,
                handler=self.one,
                name="webhook",
                gives=WebhookView,
                parameters=(_IN_THE_PATH,),
                refuses=_OF_ONE,
                action=follow,
            ),
            Endpoint(
                method="PATCH",
                path=one,
                handler=self.change,
                name="change_webhook",
                takes=WebhookChange,
                example=Example(body={"bulk": False}),
                gives=WebhookView,
                parameters=(_IN_THE_PATH,),
                refuses=(*_OF_ONE, *of_content),
                action=follow,
            ),
            Endpoint(
                method="DELETE",
                path=one,
                handler=self.remove,
                name="remove_webhook",
                gives=WebhookView,
                parameters=(_IN_THE_PATH,),
                refuses=_OF_ONE,
                action=follow,
            ),
            Endpoint(
                method="POST",
                path=f"{one}/resume",
                handler=self.resume,
                name="resume_webhook",
                takes=Resume,
                example=Example(body={"from": "now"}),
                gives=WebhookView,
                parameters=(_IN_THE_PATH,),
                refuses=(*_OF_ONE, *_CONTENT),
                action=follow,
            ),
            Endpoint(
                method="POST",
                path=f"{one}/rotate",
                handler=self.rotate,
                name="rotate_webhook",
                gives=WebhookView,
                parameters=(_IN_THE_PATH,),
                refuses=_OF_ONE,
                action=follow,
            ),
            Endpoint(
                method="POST",
                path=f"{one}/ping",
                handler=self.ping,
                name="ping_webhook",
                gives=WebhookView,
                parameters=(_IN_THE_PATH,),
                refuses=_OF_ONE,
                action=follow,
            ),
        ]

    async def add(self, request: web.Request, wanted: WebhookRequest) -> Reply[WebhookView]:
        """Make a webhook. Its receiver is pinged within seconds; `secret` is told here only."""
        client = request[CLIENT]
        self._check(wanted.url)
        await self._check_agency(client, wanted.agency)
        webhook = b32encode(secrets.token_bytes(10)).decode().lower()
        async with self._postgres.connection(operation=TRANSACTION) as connection, connection.transaction():
            if not await connection.fetchval(TRY_LOCK, client.id):
                raise TooManyWebhooks("Another webhook of this client is being made now; send this one again.")
            if await connection.fetchval(HOW_MANY, client.id) >= MOST:
                raise TooManyWebhooks
            place = await changes.newest(connection.fetch)
            filters = (wanted.agency, wanted.mine, wanted.bulk, wanted.format)
            await connection.fetch(ADD, webhook, client.id, wanted.url, *filters, *place[:3])
        view = await self._view(client, webhook, with_secret=True)
        return Reply(view, {"Location": f"{WEBHOOKS}/{webhook}"})

    async def all(self, request: web.Request) -> WebhookList:
        """All webhooks of this client, with how far behind each is."""
        client = request[CLIENT]
        return WebhookList([await self._told(client, row) for row in await self._fetch(FIND, client.id, None)])

    async def one(self, request: web.Request) -> WebhookView:
        """A webhook, with how far behind it is and why."""
        return await self._view(*_asked(request))

    async def change(self, request: web.Request, wanted: WebhookChange) -> WebhookView:
        """Change where a webhook leads or what it tells. A new address is pinged first."""
        client, webhook = _asked(request)
        if wanted.url is not UNSET:
            self._check(wanted.url)
        agency = None if wanted.agency is UNSET else wanted.agency
        await self._check_agency(client, agency)
        url, mine, bulk = (None if each is UNSET else each for each in (wanted.url, wanted.mine, wanted.bulk))
        await self._changed(CHANGE, client, webhook, url, mine, bulk, wanted.agency is not UNSET, agency)
        return await self._view(client, webhook)

    async def remove(self, request: web.Request) -> WebhookView:
        """Remove a webhook; the answer is how it stood."""
        client, webhook = _asked(request)
        view = await self._view(client, webhook)
        await self._fetch(REMOVE, client.id, webhook)
        return view

    async def resume(self, request: web.Request, wanted: Resume) -> WebhookView:
        """Go on with a webhook that is paused, unreachable or gone: after a ping, at its cursor or from now on."""
        client, webhook = _asked(request)
        place: Sequence[Any] = (None, None, None)
        if wanted.from_ is not UNSET:
            place = (await changes.newest(self._fetch))[:3]
        await self._changed(PROVE, client, webhook, *place)
        return await self._view(client, webhook)

    async def rotate(self, request: web.Request) -> WebhookView:
        """Make new keys, which the answer has. The ones before sign too for 24 hours.

        Until these are over a further call answers the same keys again. Should they be known to others already, make a
        new webhook.
        """
        client, webhook = _asked(request)
        await self._changed(ROTATE, client, webhook)
        return await self._view(client, webhook, with_secret=True)

    async def ping(self, request: web.Request) -> WebhookView:
        """Have the receiver pinged within seconds. Deliveries go on when it answers."""
        client, webhook = _asked(request)
        await self._changed(PROVE, client, webhook, None, None, None)
        return await self._view(client, webhook)

    def _check(self, url: str) -> None:
        try:
            self._addresses.check_url(url)
        except UrlRefused as refused:
            raise UrlNotAllowed(str(refused)) from None

    async def _check_agency(self, client: Client, agency: str | None) -> None:
        """Raises UnknownAgency, OutOfScope."""
        if agency is None:
            return
        catalogue = await self._catalogue.get()
        if agency not in catalogue.agencies:
            raise UnknownAgency(f"There is no agency {agency!r}.")
        client.require("follow", agency, catalogue)

    async def _changed(self, sql: str, client: Client, webhook: str, *arguments: Any) -> None:
        if not await self._fetch(sql, client.id, webhook, *arguments):
            raise UnknownWebhook

    async def _view(self, client: Client, webhook: str, *, with_secret: bool = False) -> WebhookView:
        rows = await self._fetch(FIND, client.id, webhook)
        if not rows:
            raise UnknownWebhook
        return await self._told(client, rows[0], with_secret=with_secret)

    async def _told(self, client: Client, row: Any, *, with_secret: bool = False) -> WebhookView:
        keys = Keys.of(self._secret(), row["id"], row["generation"])
        cursor = Cursor(row["epoch"], row["xid"], row["seq"], bytes((row["seal"] or b"")[:SEAL_BYTES]))
        if cursor[:3] == BEGINNING[:3]:
            cursor = BEGINNING
        same = ("id", "url", "agency", "mine", "bulk", "format", "state", "last_error", "generation")
        times = ("created_at", "succeeded_at", "failed_at", "rotated_at")
        return WebhookView(
            **{name: row[name] for name in same},
            **{name: local(row[name]) for name in times},
            cursor=cursor.text if cursor.seal else "",
            lag=await self._lag(client, row, cursor),
            failures=row["attempt"],
            next_attempt_at=local(row["next_at"]) if row["state"] in {"unproven", "active"} else None,
            public_key=keys.whpk,
            secret=keys.whsec if with_secret else UNSET,
        )

    async def _lag(self, client: Client, row: Any, cursor: Cursor) -> Lag | None:
        catalogue, today = await self._catalogue.get(), row["now"].astimezone(VIETNAM).date()
        seen = agencies_seen(catalogue, client.agency, today, sandbox=client.sandbox)
        if row["agency"] is not None:
            seen &= agencies_seen(catalogue, row["agency"], today, sandbox=client.sandbox)
        follower = Follower(client.id, seen, bulk=row["bulk"], mine=row["mine"], narrowed=row["agency"] is not None)
        try:
            page = await changes.page(self._pages, follower, cursor, COUNTED)
        except (FeedHalted, FeedRewound):
            return None
        if not page.rows:
            return Lag(0, 0.0)
        return Lag(len(page.rows), round((row["now"] - page.rows[0]["recorded_at"]).total_seconds(), 3))


def _asked(request: web.Request) -> tuple[Client, str]:
    """The client, and the id of a webhook that it may have. Raises UnknownWebhook."""
    webhook = request.match_info["id"]
    if _ID.fullmatch(webhook) is None:
        raise UnknownWebhook
    return request[CLIENT], webhook
