"""The lookup's JSON API: one dossier, a batch of dossiers, the list of statuses."""

import asyncio
import functools
import re
import unicodedata
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlencode

import msgspec
from aiohttp import hdrs, web
from msgspec import UNSET, Meta, UnsetType

from lookup.code import MalformedCode
from lookup.dossier import AnonymousView, HolderView
from lookup.lookup_key import MalformedKey
from lookup.reading.access import AccessPolicy, DossierNotFound, DossierOrKeyNotFound, KeyRequired
from lookup.reading.limits import Asker, TooManyRequests
from lookup.reading.read_through import StatusUnavailable, VersionNotReached
from lookup.reading.shedding import Load, Overloaded
from lookup.situation import completion
from lookup.status import Status, StatusSlug
from lookup.web.answers import KEY_HEADER, PATH, Answers, to_canonical
from lookup.web.codings import Finished
from lookup.web.phrases import status_words
from lookup.web.typed import code_in
from ops.errors import Malformed, Refusal
from ops.http.endpoints import Endpoint, Example, Reply, encode, one_of
from ops.http.finished import matches
from ops.http.parameters import Parameter
from ops.http.problems import HTTP_STATUS, prefers_vietnamese

DOSSIERS_IN_A_REQUEST = 100
EXAMPLE_CODE = "G99.01.02-261008-0975"
"""A made-up code, in all examples for developers."""

SHOWN_REFUSES: tuple[type[Refusal], ...] = (
    *(MalformedCode, MalformedKey, KeyRequired, DossierNotFound, DossierOrKeyNotFound, TooManyRequests),
    *(Overloaded, StatusUnavailable),
)
"""What a dossier is refused with, alone or as an item of a batch."""


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

    dossiers: Annotated[list[Wanted], Meta(min_length=1, max_length=DOSSIERS_IN_A_REQUEST)]


if TYPE_CHECKING:
    AnyView = AnonymousView | HolderView
else:
    AnyView = Annotated[Any, one_of(AnonymousView, HolderView)]


class ShownResult(msgspec.Struct, frozen=True):
    """An item of a batch that is shown: the code as it was sent, and the dossier as it would be shown alone."""

    code: str
    dossier: AnyView


class RefusedResult(msgspec.Struct, frozen=True):
    """An item of a batch that is refused: the code as it was sent, and what its answer alone would have said.

    `retry_after` is in seconds.
    """

    code: str
    error: str
    status: int
    title: str
    detail: str | UnsetType = UNSET
    retry_after: int | UnsetType = UNSET


if TYPE_CHECKING:
    Result = ShownResult | RefusedResult
else:
    Result = Annotated[Any, one_of(ShownResult, RefusedResult)]


class Results(msgspec.Struct, frozen=True):
    """One result for each item of a batch, in the order of the request."""

    results: list[Result]


class StatusWords(msgspec.Struct, frozen=True):
    """One of the ten national statuses: its names, what it means and what follows, and the statuses it may become.

    `completion` is the least of any dossier in the status.
    """

    status: StatusSlug
    status_number: int
    name: str
    name_en: str
    explained: str
    explained_en: str
    next_step: str
    next_step_en: str
    final: bool
    completion: float
    next: list[StatusSlug]


class Statuses(msgspec.Struct, frozen=True):
    """The ten national statuses."""

    statuses: list[StatusWords]


def endpoints(policy: AccessPolicy, answers: Answers) -> list[Endpoint]:
    """One dossier, a batch of dossiers, the list of statuses; `read` makes the batch's body."""
    api = _Api(policy, answers)
    return [
        Endpoint(
            method="GET",
            path=PATH + r"{code:[\s\S]+}",
            handler=api.dossier,
            gives=AnonymousView | HolderView,
            parameters=(
                Parameter(
                    name="code",
                    place="path",
                    says="The dossier's code in any spelling; a redirect (301) leads to the canonical one.",
                    required=True,
                    example=EXAMPLE_CODE,
                ),
                Parameter(
                    name="at_least",
                    place="query",
                    says="Never answer with an older version than this one; 412 while there is none as high.",
                    type=Annotated[int, Meta(ge=1, le=2**31 - 1)],
                ),
                Parameter(
                    name=KEY_HEADER,
                    place="header",
                    says="The lookup key on the receipt: the answer is the holder's view then. Never in the address.",
                ),
                Parameter(
                    name=hdrs.IF_NONE_MATCH,
                    place="header",
                    says="ETag of the answer that the client holds; 304 without a body while it is the newest.",
                ),
            ),
            redirects="The code is spelt in another way than the canonical one, which Location has.",
            refuses=(*SHOWN_REFUSES, VersionNotReached),
        ),
        Endpoint(
            method="POST",
            path="/api/v1/lookups",
            handler=api.lookups,
            takes=Lookups,
            gives=Results,
            refuses=(MalformedLookups, Overloaded),
            tells=SHOWN_REFUSES,
            example=Example(body={"dossiers": [{"code": EXAMPLE_CODE}, {"code": "123"}]}),
        ),
        Endpoint(method="GET", path="/api/v1/statuses", handler=api.statuses, gives=Statuses),
    ]


Content = TypeVar("Content", bound=msgspec.Struct)
_COUNT = re.compile(r"Expected `array` of length .* - at `\$\.dossiers`")


class _Api:
    def __init__(self, policy: AccessPolicy, answers: Answers) -> None:
        self._policy = policy
        self._answers = answers

    async def dossier(self, request: web.Request) -> Reply[AnonymousView | HolderView | msgspec.Raw]:
        """One dossier, 304 to a client that holds it, or 301 to the canonical spelling."""
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

    async def lookups(self, request: web.Request, wanted: Lookups) -> Reply[Results]:
        """Up to a hundred dossiers; one result each, in the requested order, found or not."""
        await self._policy.reader.vitals.shedding.admit(Load.BATCH)
        asker = self._policy.asker(request.remote, request.headers)
        vietnamese = prefers_vietnamese(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
        results = await asyncio.gather(*(self._one(item, asker, vietnamese) for item in wanted.dossiers))
        headers = {"Cache-Control": "no-store", "Content-Language": "vi" if vietnamese else "en"}
        return Reply(Results(results), {**headers, **self._policy.rate_headers(asker)})

    async def _one(self, wanted: Wanted, asker: Asker, vietnamese: bool) -> ShownResult | RefusedResult:
        try:
            found = await self._policy.find(code_in(wanted.code), wanted.key, asker=asker)
        except Refusal as refusal:
            return _refused(wanted.code, refusal, vietnamese)
        return ShownResult(wanted.code, self._answers.view(found, holder=wanted.key is not None))

    async def statuses(self, request: web.Request) -> web.Response:
        """The ten statuses with their names, what each means and what follows, and the moves between them."""
        return _STATUSES.answer(request)


def _status_words(status: Status) -> StatusWords:
    vietnamese, english = status_words(status.slug, "vi"), status_words(status.slug, "en")
    return StatusWords(
        status=status.slug,
        status_number=status.value,
        name=vietnamese.name,
        name_en=english.name,
        explained=vietnamese.explained,
        explained_en=english.explained,
        next_step=vietnamese.next_step,
        next_step_en=english.next_step,
        final=status.final,
        completion=completion(status, False, ()),
        next=[after.slug for after in Status if status.may_become(after)],
    )


_STATUSES = Finished(
    encode(Statuses([_status_words(status) for status in Status])),
    "application/json",
    {"Cache-Control": "public, max-age=3600"},
)


def _refused(code: str, refusal: Refusal, vietnamese: bool) -> RefusedResult:
    return RefusedResult(
        code,
        error=refusal.code,
        status=HTTP_STATUS[refusal.kind],
        title=refusal.title_vi if vietnamese else refusal.title,
        detail=(refusal.detail_vi if vietnamese else refusal.detail) if refusal.detail else UNSET,
        retry_after=UNSET if refusal.retry_after is None else refusal.retry_after,
    )


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


def read(body: bytes, shape: type[Content]) -> Content:
    """The body as this shape. Raises MalformedLookups."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if _COUNT.fullmatch(str(error)):
            raise MalformedLookups(
                f"Between 1 and {DOSSIERS_IN_A_REQUEST} dossiers can be looked up at once.",
                detail_vi=f"Mỗi lần tra cứu được từ 1 đến {DOSSIERS_IN_A_REQUEST} hồ sơ.",
            ) from None
        raise MalformedLookups(str(error)) from None
