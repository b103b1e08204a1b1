"""The lookup's JSON: one dossier, many dossiers, the statuses there are."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from multidict import CIMultiDictProxy

from lookup import code as codes
from lookup import metrics
from lookup.catalogue import Catalogue
from lookup.clock import moment
from lookup.code import DossierCode
from lookup.dossier import Anonymous, Shows, anonymous_view, holder_view, local, unpack, unpack_essence
from lookup.lookup_key import KeyRing, MalformedKey
from lookup.reading.freshness import SECOND
from lookup.reading.limits import Limits, Rate, TooManyRequests
from lookup.reading.reader import Found, Missing, Reader
from lookup.reading.shedding import REFUSED_AFTER, Load, Overloaded
from lookup.status import Status
from ops.errors import Kind, Malformed, Refusal
from ops.http.access import note_held_back
from ops.http.bodies import read_body
from ops.http.client_address import FORWARDED, Clients
from ops.observe import tracing

RENDERING = 1
"""Part of every ETag: raise it when the same record is rendered differently."""

LARGEST_BATCH = 100
KEY_HEADER = "Hoso24-Key"
SPELT_OTHERWISE = {"Cache-Control": "public, max-age=86400"}
"""Of a redirect to the canonical spelling, which depends on nothing but the address."""
PATH = "/api/v1/dossiers/"

encode = msgspec.json.Encoder().encode


class DossierNotFound(Refusal):
    """No dossier has this code or number."""

    kind = Kind.NOT_FOUND
    code = "dossier_not_found"
    title = "There is no dossier with this code."
    title_vi = "Không có hồ sơ nào mang mã này."


class DossierOrKeyNotFound(Refusal):
    """No dossier has this code with this key; says on purpose no more than that."""

    kind = Kind.NOT_FOUND
    code = "dossier_or_key_not_found"
    title = "There is no dossier with this code and this lookup key."
    title_vi = "Không có hồ sơ nào khớp với mã hồ sơ và mã tra cứu này."


class MalformedLookups(Malformed):
    """The body of a batch lookup is not what it should be."""

    code = "malformed_lookups"
    title = "The list of dossiers to look up is malformed."
    title_vi = "Danh sách hồ sơ cần tra cứu không đúng định dạng."


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """One item of a batch: a code, and the lookup key for the holder's view."""

    code: str
    key: str | None = None


class Lookups(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/lookups: at most a hundred dossiers."""

    dossiers: list[Wanted]


class Desk:
    """Answers for one dossier at a time: checks the key, reads, slows those who probe, and decides which view goes out.

    JSON and pages both ask here, so the rules of who sees what are in one place, and so is the counting.
    """

    def __init__(
        self,
        reader: Reader,
        keys: KeyRing,
        catalogue: Callable[[], Catalogue],
        shows: frozenset[Shows],
        public_url: str,
        *,
        limits: Limits,
        clients: Clients,
    ) -> None:
        self.reader = reader
        self._keys = keys
        self._catalogue = catalogue
        self._shows = shows
        self._public_url = public_url.rstrip("/")
        self._limits = limits
        self._clients = clients
        self._added = "+".join(["json", *sorted(word.value for word in shows)])
        self._shows_names = bool(shows & {Shows.AGENCY, Shows.SERVICE})
        self._view = self._added
        self._view_of: Catalogue | None = None

    def client(self, peer: str | None, asked: CIMultiDictProxy[str]) -> bytes | None:
        """Who is asking, as rates tell people apart; None for a partner, whom no rate applies to.

        `peer`: the address of the connection; `asked`: the request's headers.
        """
        return self._clients.client(peer, ",".join(asked.getall(FORWARDED, ())))

    def trusts(self, peer: str | None) -> bool:
        """Whether the peer with this address is a proxy of ours."""
        return self._clients.trusts(peer)

    @property
    def anonymous(self) -> str:
        """The name of the anonymous view: what this installation adds to it, and the names it adds them by."""
        if self._shows_names and self._view_of is not self.catalogue:
            self._view_of = self.catalogue
            self._view = f"{self._added}.{self.catalogue.revision}"
        return self._view

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue as last read."""
        return self._catalogue()

    async def find(
        self, code: DossierCode, key: str | None = None, at_least: int = 0, client: bytes | None = None
    ) -> Found:
        """The dossier, for anyone (`key` None) or for its holder. Counted under exactly one pair of labels.

        Raises DossierNotFound, DossierOrKeyNotFound, MalformedKey, StatusUnavailable, Overloaded or TooManyRequests. A
        wrong key for a code is refused before anything is read, so that a known and an unknown code look and time the
        same. An answer to somebody who is over a rate is held back.
        """
        source, outcome = "nowhere", "unavailable"
        try:
            found = await self._read(code, key, at_least, client)
            source = found.source
            if isinstance(found, Missing):
                outcome = "missing"
                raise DossierNotFound if key is None else DossierOrKeyNotFound
            outcome = "stale" if found.stale else "found"
            metrics.ANSWER_AGE.observe(found.age / SECOND)
            return found
        except Refusal as refusal:
            if source == "nowhere":
                _, outcome = self.refused(refusal)
            raise
        finally:
            metrics.answers(source, outcome).inc()

    async def _read(self, code: DossierCode, key: str | None, at_least: int, client: bytes | None) -> Found | Missing:
        if key is None:
            found = await self._reader_find(code, at_least, client)
            missing = isinstance(found, Missing)
            seconds = self.toll_of_missing(client) if missing else self.toll_of_found(client, code, found.source)
            await self.hold_back(client, seconds)
            return found
        serial = self._keys.serial(code, key)
        if serial is None and code.scheme is not codes.Scheme.D:
            await self._wrong_key(client, "forged")
        # Only the intake can have made this key, when it took the dossier in: it may be younger than a copy that says
        # there is none, because somebody counted codes up.
        found = await self._reader_find(code, at_least, client, issued=serial is not None)
        if isinstance(found, Missing):
            rate = Rate.WRONG_KEY if serial is None else Rate.MISSING  # a right key of what was lost is no guess
            await self.hold_back(client, self._limits.probed(client, rate))
            return found
        if found.record.code != code.text:  # asked by official number: the key is the code's
            serial = self._keys.serial(codes.parse(found.record.code), key)
        if serial != found.record.key_serial:
            await self._wrong_key(client, "forged" if serial is None else "superseded")
        return found

    async def _reader_find(
        self, code: DossierCode, at_least: int, client: bytes | None, *, issued: bool = False
    ) -> Found | Missing:
        async def before_primary() -> None:
            await self.hold_back(client, self._limits.probed(client, Rate.PRIMARY))

        try:
            return await self.reader.find(
                code, at_least, issued=issued, before_primary=before_primary if at_least else None
            )
        except Overloaded:
            with tracing.span("turn away"):
                await asyncio.sleep(REFUSED_AFTER)
            raise

    async def _wrong_key(self, client: bytes | None, reason: str) -> NoReturn:
        metrics.WRONG_KEYS.labels(reason).inc()
        await self.hold_back(client, self._limits.probed(client, Rate.WRONG_KEY))
        raise DossierOrKeyNotFound

    def toll_of_found(self, client: bytes | None, code: DossierCode, source: str) -> float:
        """Charge a dossier that was found; the seconds its answer has to wait. From memory it is free."""
        return 0.0 if source == "memory" else self._limits.found(client, code)

    def toll_of_missing(self, client: bytes | None) -> float:
        """Charge a code nobody has; the seconds its answer has to wait."""
        return self._limits.probed(client, Rate.MISSING)

    async def hold_back(self, client: bytes | None, seconds: float) -> None:
        """Let an answer wait. Raises TooManyRequests when too many of this client wait already."""
        if seconds:
            note_held_back()
            with tracing.span("hold back"):
                await self._limits.hold_back(client, seconds)

    @staticmethod
    def refused(refusal: Refusal) -> tuple[str, str]:
        """How a lookup is counted that was refused before it had an answer: source and outcome."""
        return "nowhere", _REFUSED.get(type(refusal), "unavailable")

    def anonymous_json(self, packed: bytes) -> bytes:
        """The JSON of a packed record for anyone, when it is fresh. Raises msgspec.DecodeError for another form."""
        if self._shows:
            return encode(anonymous_view(unpack(packed), self._shows, self.catalogue))
        return encode(Anonymous.of(unpack_essence(packed)))

    def answer(
        self, found: Found, code: DossierCode, *, holder: bool, stored: bool, held: Callable[[str], bool]
    ) -> web.Response:
        """The dossier's JSON with its headers, or 304 when the client holds it (`held` says so of an entity tag).

        `stored`: whether anybody may keep it and ask for it again by its tag.
        """
        headers = {"Vary": KEY_HEADER} | freshness_headers(found)
        if found.record.code != code.text:
            canonical = codes.parse(found.record.code).path
            headers["Link"] = f'<{PATH}{canonical}>; rel="canonical"'
        if holder:
            headers["Cache-Control"] = "private, no-store"
        elif found.stale or not stored:
            headers["Cache-Control"] = "no-store"
        else:
            headers["Cache-Control"] = "public, no-cache"
            headers["ETag"] = etag(found.epoch, found.record.version, self.anonymous)
            if held(headers["ETag"]):
                return web.Response(status=304, headers=headers)
        return _json(self.view(found, holder=holder), headers)

    def view(self, found: Found, *, holder: bool) -> dict[str, Any]:
        """The JSON of a dossier for its holder, or for anyone."""
        record = found.record
        if holder:
            link = f"{self._public_url}/tra-cuu/{codes.parse(record.code).path}"
            view = holder_view(record, self.catalogue, {"number": record.code, "link": link})
        else:
            view = anonymous_view(record, self._shows, self.catalogue)
        if found.stale:
            view |= {"stale": True, "as_of": local(moment(found.as_of))}
        return view


_REFUSED: dict[type[Refusal], str] = {
    DossierOrKeyNotFound: "wrong_key",
    MalformedKey: "wrong_key",
    Overloaded: "shed",
    TooManyRequests: "limited",
}
"""How a lookup is counted that was refused before it had an answer; anything else is "unavailable"."""


def routes(desk: Desk) -> list[web.RouteDef]:
    """GET /api/v1/dossiers/{code}, POST /api/v1/lookups, GET /api/v1/statuses."""
    api = _Api(desk)
    return [
        web.get(PATH + "{code:.+}", api.dossier),
        web.post("/api/v1/lookups", api.lookups),
        web.get("/api/v1/statuses", api.statuses),
    ]


class _Api:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def dossier(self, request: web.Request) -> web.StreamResponse:
        """One dossier. 200, 304, 308 to the canonical spelling, 400, 404 or 503."""
        typed = request.match_info["code"]
        code = codes.parse(typed)
        at_least = _at_least(request)
        if typed != code.path:
            raise web.HTTPPermanentRedirect(f"{PATH}{code.path}{_query(request)}", headers=SPELT_OTHERWISE)
        key = request.headers.get(KEY_HEADER)
        found = await self._desk.find(code, key, at_least, self._desk.client(request.remote, request.headers))
        return self._desk.answer(
            found,
            code,
            holder=key is not None,
            stored=at_least == 0,
            held=functools.partial(matches, request),
        )

    async def lookups(self, request: web.Request) -> web.StreamResponse:
        """Up to a hundred dossiers; one result each, in the order asked, found or not."""
        wanted = await _body(request)
        await self._desk.reader.vitals.shedding.admit(Load.BATCH)
        client = self._desk.client(request.remote, request.headers)
        results = await asyncio.gather(*(self._one(item, client) for item in wanted.dossiers))
        return _json({"results": results}, {"Cache-Control": "no-store"})

    async def _one(self, wanted: Wanted, client: bytes | None) -> dict[str, Any]:
        try:
            found = await self._desk.find(codes.parse(wanted.code), wanted.key, client=client)
        except Refusal as refusal:
            return {"code": wanted.code, "error": refusal.code}
        return {"code": wanted.code, "dossier": self._desk.view(found, holder=wanted.key is not None)}

    async def statuses(self, request: web.Request) -> web.StreamResponse:
        """The ten statuses and which may follow which."""
        return _json(
            {
                "statuses": [
                    {
                        "status": status.slug,
                        "status_number": status.value,
                        "final": status.final,
                        "completion": status.completion,
                        "next": [after.slug for after in Status if status.may_become(after)],
                    }
                    for status in Status
                ]
            },
            {"Cache-Control": "public, max-age=3600"},
        )


def etag(epoch: int, version: int, view: str) -> str:
    """Epoch, version, view and rendering: what the bytes depend on. What is stale has no tag."""
    return f'"{epoch}.{version}-{view}-{RENDERING}"'


def matches(request: web.Request, etag: str) -> bool:
    """Whether the client already holds this (RFC 9110, 13.1.2: weak comparison)."""
    held = request.if_none_match
    return held is not None and any(tag.value in ("*", etag.strip('"')) for tag in held)


def freshness_headers(found: Found) -> dict[str, str]:
    """Age (RFC 9111) and Cache-Status (RFC 9211): how old the answer is, and where it came from."""
    hit = "fwd=miss; stored" if found.source == "postgres" else "hit"
    return {"Age": str(found.age // SECOND), "Cache-Status": f"hoso24; {hit}"}


def _at_least(request: web.Request) -> int:
    text = request.query.get("at_least")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) < 2**31):
        raise Malformed("at_least is a dossier's version: a whole number from 1 to 2147483647.")
    return int(text)


def _query(request: web.Request) -> str:
    at_least = request.query.get("at_least")
    return f"?{urlencode({'at_least': at_least})}" if at_least else ""


async def _body(request: web.Request) -> Lookups:
    try:
        lookups = msgspec.json.decode(await read_body(request), type=Lookups)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedLookups(str(error)) from None
    if not 1 <= len(lookups.dossiers) <= LARGEST_BATCH:
        raise MalformedLookups(f"Between 1 and {LARGEST_BATCH} dossiers can be looked up at once.")
    return lookups


def _json(content: object, headers: dict[str, str]) -> web.Response:
    return web.Response(body=encode(content), content_type="application/json", headers=headers)
