"""GET /api/v1/changes: what becomes of the dossiers that concern a client, page by page, or as soon as it happens."""

from datetime import date, datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from intake import metrics
from intake.admission import ADMISSION, CLIENT
from intake.clients import Client, OutOfScope
from intake.partners import changes
from intake.partners.changes import Changes, FeedHalted, FeedRewound, Fetch, Follower, Page, agencies_seen
from intake.partners.cursor import BEGINNING, Cursor, MalformedCursor, parse
from intake.partners.tail import Tail
from lookup.catalogue import Catalogue, CatalogueCopy
from lookup.clock import VIETNAM
from ops.http.endpoints import Endpoint
from ops.http.parameters import InvalidParameter

LONGEST_WAIT: Final = 30
"""Seconds."""

NEWEST_LOAD = "SELECT max(number) AS number FROM catalogue_load"


class ChangesQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to read, and from where: `after` a cursor, or `from` a moment."""

    after: Annotated[str, msgspec.Meta(description="The cursor `next` of the page before.")] | None = None
    from_: (
        Annotated[
            str,
            msgspec.Meta(description="Without a cursor: now, earliest, or a moment of RFC 3339.", examples=["now"]),
        ]
        | None
    ) = msgspec.field(default=None, name="from")
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="Events of a page, at most.")] = 100
    wait: Annotated[
        int, msgspec.Meta(ge=0, le=LONGEST_WAIT, description="Seconds to wait for an event if there is none yet.")
    ] = 0
    agency: Annotated[str, msgspec.Meta(description="Only of this agency of the scope and those below it.")] | None = (
        None
    )
    mine: Annotated[bool, msgspec.Meta(description="Only of dossiers that this client submitted.")] = False
    bulk: Annotated[bool, msgspec.Meta(description="Imported dossiers too.")] = True


class Scopes:
    """Which agencies a client sees, worked out once for each scope, day and catalogue."""

    def __init__(self) -> None:
        self._of: tuple[Catalogue, date] | None = None
        self._seen: dict[tuple[str, bool], frozenset[str]] = {}

    def seen(self, catalogue: Catalogue, scope: str, *, sandbox: bool) -> frozenset[str]:
        """agencies_seen of today in Vietnam."""
        today = datetime.now(VIETNAM).date()
        if self._of is None or self._of[0] is not catalogue or self._of[1] != today:
            self._of = catalogue, today
            self._seen.clear()
        found = self._seen.get((scope, sandbox))
        if found is None:
            found = self._seen[scope, sandbox] = agencies_seen(catalogue, scope, today, sandbox=sandbox)
        return found


class FeedApi:
    """The endpoint of the change feed."""

    def __init__(self, fetch: Fetch, tail: Tail, catalogue: CatalogueCopy, public_url: str) -> None:
        """`fetch` and `tail` read by connections of their own, so that no page takes one from a change."""
        self._fetch = fetch
        self._tail = tail
        self._catalogue = catalogue
        self._source = source_of(public_url)
        self._scopes = Scopes()

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [
            Endpoint(
                method="GET",
                path="/api/v1/changes",
                handler=self.changes,
                asks=ChangesQuery,
                gives=Changes,
                refuses=(*ADMISSION, MalformedCursor, FeedRewound, FeedHalted),
                action="follow",
            )
        ]

    async def changes(self, request: web.Request, asked: ChangesQuery) -> Changes:
        """The next changes that concern this client, in the order in which they were committed.

        Keep `next` together with what you did with the events, and ask again with it as `after`: at once if `caught_up`
        is false. Events may come twice: take one if its (epoch, version) is higher than what you have of that dossier.
        """
        place, wait = self._start(asked), asked.wait
        while True:
            catalogue = await self._catalogue.get()
            follower = self._follower(catalogue, request[CLIENT], asked)
            place = await self._place(asked) if place is None else place
            found = self._tail.page(follower, place, asked.limit)
            if found is None:
                found = await self._read(follower, place, asked.limit)
            else:
                metrics.FEED_PAGES.labels("memory").inc()
            if wait and not found.rows and found.caught_up:
                found, wait = await self._wait(request, follower, found.next, asked), 0
            if await self._is_newest(catalogue):
                return found.told(self._source)
            await self._catalogue.refresh()

    async def _is_newest(self, catalogue: Catalogue) -> bool:
        """Whether no catalogue has been loaded since.

        Asked once the page is read: of an agency that was added meanwhile, no event may be passed over as a stranger's.
        """
        loaded = catalogue.loaded.number if catalogue.loaded is not None else None
        return bool((await self._fetch(NEWEST_LOAD))[0]["number"] == loaded)

    async def _wait(self, request: web.Request, follower: Follower, after: Cursor, asked: ChangesQuery) -> Page:
        def gone() -> bool:
            return request.transport is None or request.transport.is_closing()

        found = await self._tail.wait(follower, after, asked.limit, asked.wait, gone)
        if found is not None:
            metrics.FEED_PAGES.labels("memory").inc()
            return found
        return await self._read(follower, after, asked.limit)

    async def _read(self, follower: Follower, after: Cursor, limit: int) -> Page:
        found = await changes.page(self._fetch, follower, after, limit)
        metrics.FEED_PAGES.labels("postgres").inc()
        metrics.FEED_ROWS.inc(len(found.rows) if found.looked_at is None else found.looked_at)
        return found

    def _start(self, asked: ChangesQuery) -> Cursor | None:
        """The cursor, if one is given. Raises InvalidParameter, MalformedCursor."""
        if (asked.after is None) == (asked.from_ is None):
            raise InvalidParameter("after, from: give one of them, the cursor `next` of a page or where to begin")
        return None if asked.after is None else parse(asked.after)

    async def _place(self, asked: ChangesQuery) -> Cursor:
        """Where `from` is. Raises InvalidParameter, Unavailable."""
        if asked.from_ == "earliest":
            return BEGINNING
        if asked.from_ == "now":
            return await changes.newest(self._fetch)
        try:
            moment = msgspec.convert((asked.from_ or "").replace(" ", "+"), datetime)
        except msgspec.ValidationError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise InvalidParameter(
                "from: give now, earliest, or a moment with its time zone as 2026-12-01T08:00:00%2B07:00"
            )
        return await changes.since(self._fetch, moment)

    def _follower(self, catalogue: Catalogue, client: Client, asked: ChangesQuery) -> Follower:
        """Whose events. Raises OutOfScope."""
        seen = self._scopes.seen(catalogue, client.agency, sandbox=client.sandbox)
        if asked.agency is None:
            return Follower(client.id, seen, bulk=asked.bulk, mine=asked.mine)
        if asked.agency not in seen:
            raise OutOfScope(
                f"Agency {asked.agency} is outside the scope of this client, which is {client.agency} and all below it."
            )
        below = self._scopes.seen(catalogue, asked.agency, sandbox=client.sandbox) & seen
        return Follower(client.id, below, bulk=asked.bulk, mine=asked.mine, narrowed=True)


def source_of(public_url: str) -> str:
    """The installation as events name it: urn:hoso24: and the host of its public address."""
    return f"urn:hoso24:{urlsplit(public_url).netloc}"
