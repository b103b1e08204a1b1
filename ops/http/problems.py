"""Refusals as application/problem+json (RFC 9457), in Vietnamese or English.

Only `HTTP_STATUS` maps kinds of refusals to statuses.
"""

from collections.abc import Mapping

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict

from ops.errors import Kind, Refusal
from ops.observe.logs import request_id

HTTP_STATUS: dict[Kind, int] = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.METHOD: 405,
    Kind.CONFLICT: 409,
    Kind.GONE: 410,
    Kind.PRECONDITION: 412,
    Kind.TOO_LARGE: 413,
    Kind.ADDRESS_TOO_LONG: 414,
    Kind.UNSUPPORTED: 415,
    Kind.EXPECTATION: 417,
    Kind.UNPROCESSABLE: 422,
    Kind.LIMITED: 429,
    Kind.HEAD_TOO_LARGE: 431,
    Kind.UNAVAILABLE: 503,
    Kind.INTERNAL: 500,
}


class Problem(msgspec.Struct):
    """A refusal (RFC 9457). `code` never changes; `title` is in Vietnamese or English as Accept-Language prefers.

    `detail` says what was wrong with this request. `request_id` finds its line in the operator's log. Some refusals
    have members of their own besides.
    """

    type: str
    title: str
    status: int
    code: str
    request_id: str | None
    detail: str | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder(enc_hook=str).encode
TYPE = "urn:hoso24:problem:"
"""What the type of every problem begins with; its code follows."""
_helps: dict[str, str] = {}
_LONGEST = 512
"""Characters of an Accept-Language that is read. Browsers send some fifty; 8 kB of commas take two milliseconds."""


def explained_at(pages: Mapping[str, str]) -> None:
    """Link every problem with one of these codes to the page that explains it. Called once, before the first answer."""
    _helps.update({code: f'<{page}>; rel="help"' for code, page in pages.items()})


def completed(response: web.StreamResponse, refusal: Refusal) -> web.StreamResponse:
    """Adds a refusal's headers, and those of its kind, to its answer, and returns it."""
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers.update(refusal.headers)
    if refusal.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(refusal.retry_after)
    if refusal.kind is Kind.UNAUTHENTICATED:
        response.headers.setdefault(hdrs.WWW_AUTHENTICATE, "Bearer")  # RFC 9110 requires it with every 401
    return response


def problem(asked: Mapping[str, str], refusal: Refusal, status: int | None = None) -> web.Response:
    """The refusal as application/problem+json, in the language that `asked`, the request's headers, prefers."""
    vietnamese = prefers_vietnamese(asked.get(hdrs.ACCEPT_LANGUAGE, ""))
    status = status or HTTP_STATUS[refusal.kind]
    document: dict[str, object] = {
        "type": TYPE + refusal.code,
        "title": refusal.title_vi if vietnamese else refusal.title,
        "status": status,
        "code": refusal.code,
    }
    if refusal.detail:
        document["detail"] = refusal.detail_vi if vietnamese else refusal.detail
    document["request_id"] = request_id.get()
    headers = CIMultiDict({hdrs.CONTENT_LANGUAGE: "vi" if vietnamese else "en", hdrs.CACHE_CONTROL: "no-store"})
    if (help_ := _helps.get(refusal.code)) is not None:
        headers[hdrs.LINK] = help_
    return web.Response(
        status=status,
        body=_encode({**document, **{k: v for k, v in refusal.members.items() if k not in document}}),
        content_type="application/problem+json",
        headers=headers,
    )


def prefers_vietnamese(accept_language: str) -> bool:
    """Whether an Accept-Language header prefers Vietnamese to English; False without a preference, and for a header of
    more than 512 characters."""
    if len(accept_language) > _LONGEST:
        return False
    best, vietnamese = 0.0, False
    for part in accept_language.split(","):
        tag, _, parameter = part.partition(";")
        language = tag.strip().lower().partition("-")[0]
        weight = _weight(parameter)
        if language in ("vi", "en") and weight > best:
            best, vietnamese = weight, language == "vi"
    return vietnamese


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
