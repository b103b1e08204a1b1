"""What every request passes through: its id, then counting, then the translation of exceptions into answers.

The order matters. The innermost one turns everything that was raised into an answer, aiohttp's own
404 and 405 included, so that the outer ones see the status the client sees. `HTTP_STATUS` is the only
place that knows which refusal has which status.
"""

import asyncio
import functools
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict
from opentelemetry.trace import Span
from prometheus_client import Counter, Histogram

from ops.errors import Internal, Kind, Malformed, MethodNotAllowed, NoSuchPath, Refusal, TooLarge, Unavailable
from ops.observe import tracing
from ops.observe.logs import request_id
from ops.observe.metrics import HTTP_IN_FLIGHT, HTTP_REQUESTS, HTTP_SECONDS
from ops.observe.per_second import Allowance
from ops.observe.redaction import asking

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Render = Callable[[web.Request, Refusal], web.StreamResponse | None]
Trust = Callable[[str | None], bool]
"""Whether the peer with this address is a proxy of ours; None for one that has no address."""
Subjects = Mapping[str, Callable[[str], str]]
"""Name of a variable part of paths → from what stands there to the hash that may stand in a log line."""
About = Callable[[], Mapping[str, str]]

NO_SUBJECTS: Subjects = {}

HTTP_STATUS: dict[Kind, int] = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.METHOD: 405,
    Kind.CONFLICT: 409,
    Kind.PRECONDITION: 412,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED: 415,
    Kind.UNPROCESSABLE: 422,
    Kind.LIMITED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.INTERNAL: 500,
}

CLIENT_GONE = 499
UNMATCHED = "unmatched"
OTHER_METHOD = "OTHER"

_IN_OUR_WORDS: dict[int, type[Refusal]] = {404: NoSuchPath, 405: MethodNotAllowed, 413: TooLarge}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_held_back: ContextVar[list[bool] | None] = ContextVar("held_back", default=None)
"""Of the request being answered: not empty once its answer has been made to wait on purpose."""
NOT_TIMED = frozenset({429, CLIENT_GONE, 503})
CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Of an answer that is no page: a browser that shows it all the same loads nothing for it, and in nobody's frame."""
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REQUEST_ID = "X-Request-Id"
SLOW = 1.0
"""From so many seconds on an answer is worth a line whatever the share."""
BAD_LINES = 100
"""Lines a second for bad and slow answers, beyond the share."""
DRAWN_LINES = 50
"""Lines a second for good and quick answers, unless all are wanted: a line costs as much as two hot lookups."""

_IDS_AT_ONCE = 256
_new_ids: list[str] = []
"""Made some at a time, which costs a third of making each by itself."""

_FAILURE = web.RequestKey("failure", BaseException)
"""Under which a request holds the exception that nobody foresaw."""

_access = logging.getLogger("hoso24.access")
BODY_SECONDS = 10.0
"""How long a body may take to arrive."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


def nobody(_: str | None) -> bool:
    """No peer is trusted."""
    return False


def middlewares(
    service: str,
    *,
    render: Render | None = None,
    log_share: float = 1.0,
    trusts: Trust = nobody,
    subjects: Subjects = NO_SUBJECTS,
) -> list[Any]:
    """The chain for `web.Application(middlewares=…)`, outermost first.

    `log_share`: of the good and quick answers, how many get a line in the access log, from 0 to 1. `trusts`: whether
    the peer with this address is a proxy of ours, whose traceparent is believed. `subjects`: of the variable parts of
    paths, by name, those that lines say a hash of (`code` becomes `code_hash`), and how to find it.
    """
    return [identify, observe(service, log_share, trusts, subjects), problems(render)]


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, the caller's if that is sane, and put it on the answer and all log lines."""
    given = request.headers.get(_REQUEST_ID, "")
    identified = identity(given)
    request_id.set(identified)
    tracing.begin(None if identified == given else tracing.of_request(identified))
    asking.set(request)
    try:
        response = await handler(request)
    except web.HTTPException as answer:  # a redirect
        dress(answer)
        raise
    finally:
        asking.set(None)
    if not response.prepared:
        dress(response)
    return response


def identity(given: str) -> str:
    """The request's id: the one its caller gave, if that is sane, or a new one."""
    return given if given and _SANE_ID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """Sixteen hexadecimal digits: to be told apart by, and no secret."""
    try:
        return _new_ids.pop()
    except IndexError:
        digits = random.randbytes(8 * _IDS_AT_ONCE).hex()  # noqa: S311
        _new_ids.extend(digits[start : start + 16] for start in range(16, len(digits), 16))
        return digits[:16]


def dress(response: web.StreamResponse) -> None:
    """Put on the headers that every answer carries. Doing it twice does no harm.

    Nothing may be kept unless whoever made the answer says so. Strict-Transport-Security is not among them: it speaks
    for a whole domain and for its TLS, so it is for the edge to send.
    """
    headers = response.headers
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    headers.setdefault(_REQUEST_ID, request_id.get() or new_request_id())
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers[hdrs.SERVER] = "hoso24"  # aiohttp would tell its version and Python's


def observe(service: str, log_share: float = 1.0, trusts: Trust = nobody, subjects: Subjects = NO_SUBJECTS) -> Any:
    """Count, time, log and trace each request under its route's template."""
    in_flight = HTTP_IN_FLIGHT.labels(service)

    @web.middleware
    async def observe_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        method = request.method if request.method in _METHODS else OTHER_METHOD
        route = _template(request)
        status = 500
        began = time.perf_counter()
        held_back: list[bool] = []
        _held_back.set(held_back)
        in_flight.inc()
        with _traced(request, method, route, trusts) as span:
            try:
                response = await handler(request)
                status = response.status if request.transport is not None else CLIENT_GONE
                return response
            except web.HTTPException as answer:  # a redirect
                status = answer.status
                raise
            except asyncio.CancelledError:
                # We never cancel for a client that left: this request outlived the grace of a shutdown.
                status = 503
                raise
            except ConnectionError:
                status = CLIENT_GONE if request.transport is None else 500
                raise
            finally:
                in_flight.dec()
                tracing.answered(span, status)
                record(
                    service,
                    method,
                    route or UNMATCHED,
                    status,
                    seconds=time.perf_counter() - began,
                    timed=not held_back,
                    log_share=log_share,
                    about=lambda: _hashes(request, subjects),
                    failure=request.get(_FAILURE),
                    sampled_in=tracing.trace_id(span) if span.is_recording() else None,
                )

    return observe_request


def _traced(request: web.Request, method: str, route: str | None, trusts: Trust) -> AbstractContextManager[Span]:
    """The request's span, if it is sampled; whoever is no proxy of ours cannot say that it is."""
    traceparent = request.headers.get(tracing.TRACEPARENT)
    if traceparent is not None and not trusts(request.remote):
        traceparent = None
    if traceparent is not None and (caller := tracing.remote(traceparent)) is not None:
        tracing.begin(f"{caller.trace_id:032x}")
    if getattr(request.protocol, "drawn", None) is not request._message and not tracing.draw(traceparent):
        return tracing.untraced()
    return tracing.server_span(method, route, {} if traceparent is None else request.headers)


def _hashes(request: web.Request, subjects: Subjects) -> Mapping[str, str]:
    found = request.match_info
    return {f"{name}_hash": pseudonym(found[name]) for name, pseudonym in subjects.items() if name in found}


def record(
    service: str,
    method: str,
    route: str,
    status: int,
    *,
    seconds: float,
    timed: bool = True,
    log_share: float = 1.0,
    about: About = dict,
    failure: BaseException | None = None,
    sampled_in: str | None = None,
) -> None:
    """Count one answered request, and write its one line into the access log if it failed, is bad, slow or drawn.

    `about` is asked for more fields when there is a line. `failure` is what nobody foresaw, and stands in the line.
    `sampled_in`: the trace that the request is recorded in. One that is not `timed` took as long as it should.
    """
    http_counter(service, method, route, status).inc()
    if timed and status not in NOT_TIMED:
        http_timer(service, route).observe(seconds, {"trace_id": sampled_in} if sampled_in else None)
    if worth_a_line(status, seconds, drawn=draw(log_share), failure=failure):
        log_access(method, route, status, seconds, failure=failure, **about())


def note_held_back() -> None:
    """The answer to the present request waits on purpose: how long it takes says nothing about this service."""
    held_back = _held_back.get()
    if held_back is not None:
        held_back.append(True)


_bad_lines = Allowance(BAD_LINES)
_failed_lines = Allowance(BAD_LINES)
_drawn_lines = Allowance(DRAWN_LINES)


def draw(log_share: float) -> bool:
    """Whether a request is one of this share that have a line in the access log though they are good and quick.

    All are where the share is 1; otherwise a second has DRAWN_LINES of them at the most.
    """
    return log_share >= 1.0 or (random.random() < log_share and _drawn_lines.take())  # noqa: S311


def worth_a_line(status: int, seconds: float, *, drawn: bool, failure: BaseException | None = None) -> bool:
    """Whether a request is to have a line in the access log: it failed, is bad, slow or drawn.

    Of those that are not drawn a second has BAD_LINES at the most, and those that failed as many of their own: where
    everything is refused, refusing has to be cheap.
    """
    if failure is not None:
        return _failed_lines.take()
    return drawn or ((status >= 500 or seconds >= SLOW) and _bad_lines.take())


def log_access(
    method: str, route: str, status: int, seconds: float, *, failure: BaseException | None = None, **fields: str
) -> None:
    """Write a request's line into the access log. No path: that names somebody's dossier."""
    level = logging.INFO if failure is None else logging.WARNING if status < 500 or status == 503 else logging.ERROR
    if not _access.isEnabledFor(level):
        return
    fields.setdefault("trace_id", tracing.trace_id() or tracing.of_request(new_request_id()))
    measured = {"method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
    _access.log(level, "%s %s %d", method, route, status, extra={**measured, **fields}, exc_info=failure)


# `labels` takes a lock and three microseconds each time. The labels are finite, and so are these.
@functools.cache
def http_counter(service: str, method: str, route: str, status: int) -> Counter:
    return HTTP_REQUESTS.labels(service, method, route, status)


@functools.cache
def http_timer(service: str, route: str) -> Histogram:
    return HTTP_SECONDS.labels(service, route)


def _template(request: web.Request) -> str | None:
    """`/api/v1/dossiers/{code}`: one label for all dossiers. None when no route matched."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else None


def problems(render: Render | None = None) -> Any:
    """Turn what a handler raises into an answer: RFC 9457, or what `render` makes of the refusal.

    Redirects pass. What nobody foresaw is logged in full and answered with the request id alone.
    """

    @web.middleware
    async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            if isinstance(error, web.HTTPException) and error.status < 400:
                raise
            # No variable here holds it: that would be a cycle of traceback and frame each time somebody is refused.
            if request.writer.output_size > 0:
                _understood(request, error)
                # A second head in the middle of a body would pass for content. Cutting the connection is
                # the one way left to tell the client that this answer is not whole.
                raise ConnectionAbortedError("failed after the answer had begun") from error
            return _answer(request, error, render)

    return answer_problems


def _understood(request: web.Request, error: Exception) -> Refusal:
    """The refusal that an exception amounts to; Internal for what is none of ours, which the request's line tells."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, web.HTTPException) and error.status < 500:
        return _IN_OUR_WORDS.get(error.status, Malformed)()
    if isinstance(error, web.RequestPayloadError):
        return Malformed("The body cannot be read.")
    if isinstance(error, ConnectionError) and request.transport is None:
        return Malformed("The client has left.")  # nobody will read it, and it is counted as 499
    if isinstance(error, TimeoutError | web.HTTPServiceUnavailable):
        request[_FAILURE] = error
        return Unavailable()
    request[_FAILURE] = error
    return Internal()


def _answer(request: web.Request, error: Exception, render: Render | None) -> web.StreamResponse:
    refusal = _understood(request, error)
    response = _rendered(request, refusal, render)
    if isinstance(error, web.HTTPException):
        # aiohttp knows finer statuses than our table, and headers such as Allow.
        response = response or problem(request.headers, refusal, error.status)
        kept = {k: v for k, v in error.headers.items() if k not in (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH)}
        response.headers.update(kept)
    response = response or problem(request.headers, refusal)
    return completed(response, refusal)


def completed(response: web.StreamResponse, refusal: Refusal) -> web.StreamResponse:
    """A refusal's answer with the headers that go with its kind."""
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    if refusal.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(refusal.retry_after)
    if refusal.kind is Kind.UNAUTHENTICATED:
        response.headers.setdefault(hdrs.WWW_AUTHENTICATE, "Bearer")  # RFC 9110 wants one with every 401
    return response


def _rendered(request: web.Request, refusal: Refusal, render: Render | None) -> web.StreamResponse | None:
    if render is None:
        return None
    try:
        return render(request, refusal)
    except Exception as error:
        request.setdefault(_FAILURE, error)
        return None


def problem(asked: Mapping[str, str], refusal: Refusal, status: int | None = None) -> web.Response:
    """The refusal as application/problem+json, in the language the client prefers. `asked`: the request's headers."""
    vietnamese = prefers_vietnamese(asked.get(hdrs.ACCEPT_LANGUAGE, ""))
    status = status or HTTP_STATUS[refusal.kind]
    document: dict[str, object] = {
        "type": f"urn:hoso24:problem:{refusal.code}",
        "title": refusal.title_vi if vietnamese else refusal.title,
        "status": status,
        "code": refusal.code,
    }
    if refusal.detail:
        document["detail"] = refusal.detail
    document["request_id"] = request_id.get()
    headers = CIMultiDict({hdrs.CONTENT_LANGUAGE: "vi" if vietnamese else "en", hdrs.CACHE_CONTROL: "no-store"})
    return web.Response(
        status=status,
        body=_encode({**document, **{k: v for k, v in refusal.members.items() if k not in document}}),
        content_type="application/problem+json",
        headers=headers,
    )


class BodyTooSlow(Malformed):
    """The client began a body and did not finish it."""

    code = "body_too_slow"
    title = "The body did not arrive in time."
    title_vi = "Nội dung yêu cầu không đến đủ trong thời hạn."


class UnsupportedCoding(Refusal):
    """The body is compressed. A server does not unpack what a stranger has packed."""

    kind = Kind.UNSUPPORTED
    code = "unsupported_content_coding"
    title = "The body is compressed, which is not taken here."
    title_vi = "Không nhận nội dung yêu cầu đã nén."


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises UnsupportedCoding for a compressed one, and BodyTooSlow after BODY_SECONDS, also for a
    chunked body that breaks off in the middle, which aiohttp would wait for until the client leaves."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise UnsupportedCoding
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise BodyTooSlow from None


def prefers_vietnamese(accept_language: str) -> bool:
    """Whether Vietnamese stands before English in an Accept-Language header; no preference is English."""
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
