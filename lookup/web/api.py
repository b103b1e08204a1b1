"""The lookup's JSON API: one dossier, a batch of dossiers, the list of statuses."""

import asyncio
import functools
import unicodedata
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import hdrs, web

from lookup.code import MalformedCode
from lookup.reading.access import AccessPolicy
from lookup.reading.limits import Asker
from lookup.reading.shedding import Load
from lookup.situation import completion
from lookup.status import Status
from lookup.web.answers import KEY_HEADER, PATH, Answers, encode, json_response, to_canonical
from lookup.web.codings import Finished, matches
from lookup.web.phrases import status_words
from lookup.web.typed import code_in
from ops.errors import Malformed, Refusal
from ops.http.bodies import read_body
from ops.http.problems import HTTP_STATUS, prefers_vietnamese

DOSSIERS_IN_A_REQUEST = 100


class MalformedLookups(Malformed):
    """The body of a batch lookup is not valid."""

    code = "malformed_lookups"
    title = "The list of applications to check is malformed."
    title_vi = "Danh sách hồ sơ cần tra cứu không đúng định dạng."


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """One item of a batch: a code, and the lookup key for the holder's view."""

    code: str
    key: str | None = None


class Lookups(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/lookups: at most a hundred dossiers."""

    dossiers: list[Wanted]


def routes(policy: AccessPolicy, answers: Answers) -> list[web.RouteDef]:
    """GET /api/v1/dossiers/{code}, POST /api/v1/lookups, GET /api/v1/statuses."""
    api = _Api(policy, answers)
    return [
        web.get(PATH + r"{code:[\s\S]+}", api.dossier),
        web.post("/api/v1/lookups", api.lookups),
        web.get("/api/v1/statuses", api.statuses),
    ]


class _Api:
    def __init__(self, policy: AccessPolicy, answers: Answers) -> None:
        self._policy = policy
        self._answers = answers

    async def dossier(self, request: web.Request) -> web.StreamResponse:
        """One dossier. 200, 304, 301 to the canonical spelling, 400, 403, 404, 412, 429 or 503."""
        typed = request.match_info["code"]
        if any(unicodedata.category(each) == "Cc" for each in typed):
            raise MalformedCode  # a control in an address is no spelling, but a program's mistake
        code = code_in(typed)
        at_least = _at_least(request)
        if typed != code.path:
            raise to_canonical(request.method, f"{PATH}{code.path}{_query(request)}")
        key = request.headers.get(KEY_HEADER)
        found = await self._policy.find(code, key, at_least, self._policy.asker(request.remote, request.headers))
        return self._answers.answer(
            found,
            code,
            holder=key is not None,
            stored=at_least == 0,
            held=functools.partial(matches, request),
        )

    async def lookups(self, request: web.Request) -> web.StreamResponse:
        """Up to a hundred dossiers; one result each, in the requested order, found or not."""
        wanted = await _body(request)
        await self._policy.reader.vitals.shedding.admit(Load.BATCH)
        asker = self._policy.asker(request.remote, request.headers)
        vietnamese = prefers_vietnamese(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
        results = await asyncio.gather(*(self._one(item, asker, vietnamese) for item in wanted.dossiers))
        headers = {"Cache-Control": "no-store", "Content-Language": "vi" if vietnamese else "en"}
        return json_response({"results": results}, {**headers, **self._policy.rate_headers(asker)})

    async def _one(self, wanted: Wanted, asker: Asker, vietnamese: bool) -> dict[str, Any]:
        try:
            found = await self._policy.find(code_in(wanted.code), wanted.key, asker=asker)
        except Refusal as refusal:
            return {"code": wanted.code} | _refused(refusal, vietnamese)
        return {"code": wanted.code, "dossier": self._answers.view(found, holder=wanted.key is not None)}

    async def statuses(self, request: web.Request) -> web.Response:
        """The ten statuses with their names, what each means and what follows, and the moves between them.

        `completion` is the least of any dossier in the status.
        """
        return _STATUSES.answer(request)


def _status_json(status: Status) -> dict[str, Any]:
    vietnamese, english = status_words(status.slug, "vi"), status_words(status.slug, "en")
    return {
        "status": status.slug,
        "status_number": status.value,
        "name": vietnamese.name,
        "name_en": english.name,
        "explained": vietnamese.explained,
        "explained_en": english.explained,
        "next_step": vietnamese.next_step,
        "next_step_en": english.next_step,
        "final": status.final,
        "completion": completion(status, False, ()),
        "next": [after.slug for after in Status if status.may_become(after)],
    }


_STATUSES = Finished(
    encode({"statuses": [_status_json(status) for status in Status]}),
    "application/json",
    {"Cache-Control": "public, max-age=3600"},
)


def _refused(refusal: Refusal, vietnamese: bool) -> dict[str, Any]:
    """An item that is refused: what its answer would have said if it had been asked for alone."""
    told: dict[str, Any] = {
        "error": refusal.code,
        "status": HTTP_STATUS[refusal.kind],
        "title": refusal.title_vi if vietnamese else refusal.title,
    }
    if refusal.detail:
        told["detail"] = refusal.detail_vi if vietnamese else refusal.detail
    if refusal.retry_after is not None:
        told["retry_after"] = refusal.retry_after
    return told


def _at_least(request: web.Request) -> int:
    text = request.query.get("at_least")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) < 2**31):
        raise Malformed(
            "at_least is a dossier's version: a whole number from 1 to 2147483647.",
            detail_vi="at_least là phiên bản của hồ sơ: một số nguyên từ 1 đến 2147483647.",
        )
    return int(text)


def _query(request: web.Request) -> str:
    at_least = request.query.get("at_least")
    return f"?{urlencode({'at_least': at_least})}" if at_least else ""


async def _body(request: web.Request) -> Lookups:
    try:
        lookups = msgspec.json.decode(await read_body(request), type=Lookups)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedLookups(str(error)) from None
    if not 1 <= len(lookups.dossiers) <= DOSSIERS_IN_A_REQUEST:
        raise MalformedLookups(
            f"Between 1 and {DOSSIERS_IN_A_REQUEST} dossiers can be looked up at once.",
            detail_vi=f"Mỗi lần tra cứu được từ 1 đến {DOSSIERS_IN_A_REQUEST} hồ sơ.",
        )
    return lookups
