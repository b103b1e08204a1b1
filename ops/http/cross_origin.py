"""Cross-origin reads (CORS): which answers a program on another site's page may read in a browser.

Any site may read what anyone may: GET and HEAD of what the service names (`below`, `anonymous`). A preflight allows
these two methods and no header that carries a secret, so a browser never sends another site's request with one; an
answer to a request that carries one nevertheless is not shared. Nothing here depends on the Origin of the request, so
caches keep one answer for all.
"""

from collections.abc import Callable, Mapping

from aiohttp import hdrs, web
from aiohttp.abc import AbstractMatchInfo
from multidict import CIMultiDict

from ops.http.endpoints import endpoint_at
from ops.http.middleware import Handler

ANY_SITE: Mapping[str, str] = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "ETag, Age, Retry-After, RateLimit, RateLimit-Policy",
}
"""Headers of an answer that every site may read, and the headers of it that its program may read."""

PREFLIGHT: Mapping[str, str] = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, HEAD",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "If-None-Match, X-Request-Id",
    hdrs.ACCESS_CONTROL_MAX_AGE: "86400",
}
"""Headers of the answer to a preflight. Chromium keeps it for two hours, Firefox for the whole day."""

_READING = frozenset({"GET", "HEAD"})


def share(headers: CIMultiDict[str]) -> None:
    """Let every site read the answer with these headers. Safe to call twice."""
    for name, value in ANY_SITE.items():
        headers.setdefault(name, value)


Readable = Callable[[str, AbstractMatchInfo], bool]
"""Whether anyone may read at this path; with the route that a GET of it takes."""


def below(prefix: str) -> Readable:
    """Anyone may read whatever is below this path."""
    return lambda path, _: path.startswith(prefix)


def anonymous(_: str, found: AbstractMatchInfo) -> bool:
    """Anyone may read what is there and needs no client: an endpoint without an action, and what is no endpoint."""
    endpoint = endpoint_at(found)
    return found.http_exception is None and (endpoint is None or endpoint.action is None)


def shared_reads(readable: Readable, *secrets: str) -> object:
    """A middleware that shares GET and HEAD of what is readable, redirects and refusals included, and answers
    preflights.

    `secrets`: the headers whose answers are not shared. It stands around `problems`, so that it sees refusals too. A
    preflight for an address that cannot be read is refused as before: 404 or 405.
    """

    @web.middleware
    async def share_reads(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS:
            found = await request.app.router.resolve(request.clone(method=hdrs.METH_GET))
            if found.http_exception is None and readable(request.path, found):
                return web.Response(status=204, headers=PREFLIGHT)
        shared = (
            request.method in _READING
            and readable(request.path, request.match_info)
            and not any(name in request.headers for name in secrets)
        )
        try:
            response = await handler(request)
        except web.HTTPException as redirect:
            if shared:
                share(redirect.headers)
            raise
        if shared:
            share(response.headers)
        return response

    return share_reads
