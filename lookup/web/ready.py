"""Answers that are the same for every client, and handlers that give them."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from lookup.web.codings import Finished


def html_page(text: str, headers: Mapping[str, str]) -> Finished:
    """A finished page."""
    return Finished(text.encode(), "text/html; charset=utf-8", headers)


def handler(finished: Finished) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A route's handler that always gives this answer."""

    async def answer(request: web.Request) -> web.Response:
        return finished.answer(request)

    return answer
