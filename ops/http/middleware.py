"""The middlewares of every request: its id, then counting, then turning exceptions into answers.

The order matters. The innermost one turns every exception into an answer, aiohttp's own 404 and 405 included, so that
the outer ones see the status the client sees.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from aiohttp import hdrs, web
from opentelemetry.trace import Span

from ops.errors import Internal, Malformed, MethodNotAllowed, NoSuchPath, Refusal, TooLarge, Unavailable
from ops.http.access import CLIENT_GONE, OTHER_METHOD, UNMATCHED, new_request_id, record
from ops.http.problems import completed, problem
from ops.observe import tracing
from ops.observe.logs import request_id
from ops.observe.metrics import HTTP_IN_FLIGHT
from ops.observe.redaction import asking

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Render = Callable[[web.Request, Refusal], web.StreamResponse | None]
Trust = Callable[[str | None], bool]
"""Whether the peer with this address is one of our proxies; the address is None for a Unix socket."""
Subjects = Mapping[str, Callable[[str], str]]
"""Name of a variable part of paths → function from its text to the hash for log lines."""

NO_SUBJECTS: Subjects = {}


_REFUSALS: dict[int, type[Refusal]] = {404: NoSuchPath, 405: MethodNotAllowed, 413: TooLarge}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""For answers that are no pages: a browser that shows one loads nothing for it, and no site can frame it."""
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REQUEST_ID = "X-Request-Id"


_FAILURE = web.RequestKey("failure", BaseException)
"""Holds a request's unexpected exception."""


def no_trust(_: str | None) -> bool:
    """Trusts no peer."""
    return False


def middlewares(
    service: str,
    *,
    render: Render | None = None,
    log_share: float = 1.0,
    trusts: Trust = no_trust,
    subjects: Subjects = NO_SUBJECTS,
) -> list[Any]:
    """The chain for `web.Application(middlewares=…)`, outermost first.

    `log_share`: the share of good and quick answers that get a line in the access log, from 0 to 1. `trusts`: whether
    the peer with this address is one of our proxies, whose traceparent is trusted. `subjects`: variable parts of paths
    that log lines contain as a hash (`code` becomes `code_hash`), each with its hash function.
    """
    return [identify, observe(service, log_share, trusts, subjects), problems(render)]


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, the caller's if it is well-formed, and add it to the answer and all log lines."""
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
    """The request's id: the caller's, if it is well-formed, or a new one."""
    return given if given and _SANE_ID.fullmatch(given) else new_request_id()


def dress(response: web.StreamResponse) -> None:
    """Add the headers that every answer has. Safe to call twice.

    Caching is forbidden unless the handler allows it. Strict-Transport-Security is left to the edge, because it is
    about the whole domain and its TLS.
    """
    headers = response.headers
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    headers.setdefault(_REQUEST_ID, request_id.get() or new_request_id())
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers[hdrs.SERVER] = "hoso24"  # aiohttp would disclose its version and Python's


def observe(service: str, log_share: float = 1.0, trusts: Trust = no_trust, subjects: Subjects = NO_SUBJECTS) -> Any:
    """A middleware that counts, times, logs and traces each request under its route's template."""
    in_flight = HTTP_IN_FLIGHT.labels(service)

    @web.middleware
    async def observe_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        method = request.method if request.method in _METHODS else OTHER_METHOD
        route = _template(request)
        status = 500
        began = time.perf_counter()
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
                # A client that disconnects cancels nothing here: this request outlived the grace period of a shutdown.
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
                    log_share=log_share,
                    about=lambda: _hashes(request, subjects),
                    failure=request.get(_FAILURE),
                    sampled_in=tracing.trace_id(span) if span.is_recording() else None,
                )

    return observe_request


def _traced(request: web.Request, method: str, route: str | None, trusts: Trust) -> AbstractContextManager[Span]:
    """The request's span, if it is sampled; only our proxies can ask for that."""
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


def _template(request: web.Request) -> str | None:
    """`/api/v1/dossiers/{code}`: one label for all dossiers. None when no route matched."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else None


def problems(render: Render | None = None) -> Any:
    """A middleware that turns exceptions into answers: problem+json (RFC 9457), or what `render` returns.

    Redirects pass. An unexpected exception is logged in full and answered with the request id only.
    """

    @web.middleware
    async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            if isinstance(error, web.HTTPException) and error.status < 400:
                raise
            # No variable here holds the error: each refusal would create a cycle of traceback and frame.
            if request.writer.output_size > 0:
                _understood(request, error)
                # A second head in the middle of a body would be taken for content. Closing the connection is the
                # only way left to show the client that this answer is incomplete.
                raise ConnectionAbortedError("the handler failed after it had started its answer") from error
            return _answer(request, error, render)

    return answer_problems


def _understood(request: web.Request, error: Exception) -> Refusal:
    """The refusal for an exception; Internal for an unexpected one, which the request's log line contains."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, web.HTTPException) and error.status < 500:
        return _REFUSALS.get(error.status, Malformed)()
    if isinstance(error, web.RequestPayloadError):
        return Malformed("The body cannot be read.")
    if isinstance(error, ConnectionError) and request.transport is None:
        return Malformed("The client has left.")  # never sent; counted as 499
    if isinstance(error, TimeoutError | web.HTTPServiceUnavailable):
        request[_FAILURE] = error
        return Unavailable()
    request[_FAILURE] = error
    return Internal()


def _answer(request: web.Request, error: Exception, render: Render | None) -> web.StreamResponse:
    refusal = _understood(request, error)
    response = _rendered(request, refusal, render)
    if isinstance(error, web.HTTPException):
        # aiohttp has finer statuses than HTTP_STATUS, and headers such as Allow.
        response = response or problem(request.headers, refusal, error.status)
        kept = {k: v for k, v in error.headers.items() if k not in (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH)}
        response.headers.update(kept)
    response = response or problem(request.headers, refusal)
    return completed(response, refusal)


def _rendered(request: web.Request, refusal: Refusal, render: Render | None) -> web.StreamResponse | None:
    if render is None:
        return None
    try:
        return render(request, refusal)
    except Exception as error:
        request.setdefault(_FAILURE, error)
        return None
