"""What programs on other sites' pages may read of a service whose other endpoints are for clients."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import hdrs, web

from ops.errors import Kind, Refusal
from ops.http.cross_origin import ANY_SITE, PREFLIGHT, anonymous, shared_reads
from ops.http.endpoints import ANY_CLIENT, Endpoint, serve
from ops.http.middleware import middlewares


class Said(msgspec.Struct):
    """A word."""

    word: str


class _Refused(Refusal):
    kind = Kind.INVALID
    code, title, title_vi = "no", "No.", "Không."


async def say(_: web.Request) -> Said:
    """A word for anyone."""
    return Said("good day")


async def refuse(_: web.Request) -> Said:
    """A refusal for anyone."""
    raise _Refused


async def admit(_: web.Request, __: str) -> None:
    """Lets everyone in: what is shared is decided before anyone is asked who it is."""


async def document(_: web.Request) -> web.Response:
    return web.Response(text="{}", content_type="application/json")


def endpoint(method: str, path: str, action: str | None, handler: Any = say) -> Endpoint:
    return Endpoint(method=method, path=path, handler=handler, gives=Said, refuses=(_Refused,), action=action)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    chain = middlewares("intake")
    chain.insert(-1, shared_reads(anonymous, hdrs.AUTHORIZATION))
    app = web.Application(middlewares=chain)
    endpoints = [
        endpoint("GET", "/for-anyone", None),
        endpoint("GET", "/refused", None, refuse),
        endpoint("POST", "/posted", None),
        endpoint("GET", "/for-clients", "read"),
        endpoint("GET", "/for-any-client", ANY_CLIENT),
        endpoint("GET", "/both", None),
        endpoint("POST", "/both", "move"),
    ]
    serve(app, endpoints, admit=admit)
    app.add_routes([web.get("/document", document)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str]]:
    """Status, and the cross-origin headers of the answer to a program on another site."""
    origin = {"Origin": "https://portal.example"}
    async with aiohttp.ClientSession() as http, http.request(method, url, headers=origin | headers) as response:
        told = {name: value for name, value in response.headers.items() if name.startswith("Access-Control-")}
        return response.status, told


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/for-anyone", "/document", "/both", "/refused"])
async def test_reads_that_need_no_client_are_shared(url: str, path: str, method: str) -> None:
    status, told = await asked(url + path, method)
    assert (status == 200, told) == (path != "/refused", dict(ANY_SITE))
    assert (await asked(url + path, "OPTIONS")) == (204, dict(PREFLIGHT))


@pytest.mark.parametrize("path", ["/for-clients", "/for-any-client", "/posted", "/nowhere"])
async def test_what_needs_a_client_or_is_not_there_is_not(url: str, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE"):
        status, told = await asked(url + path, method)
        assert told == {}, method
        assert method != "OPTIONS" or status in {404, 405}


async def test_changes_are_not_shared_and_no_preflight_allows_one(url: str) -> None:
    assert await asked(f"{url}/both", "POST") == (200, {})
    _, told = await asked(f"{url}/both", "OPTIONS", **{"Access-Control-Request-Method": "POST"})
    assert told["Access-Control-Allow-Methods"] == "GET, HEAD"


async def test_answer_to_a_request_with_a_token_is_not_shared_and_no_preflight_allows_one(url: str) -> None:
    assert await asked(f"{url}/for-anyone", Authorization="Bearer x") == (200, {})
    _, told = await asked(f"{url}/for-anyone", "OPTIONS", **{"Access-Control-Request-Headers": "authorization"})
    assert "authorization" not in told["Access-Control-Allow-Headers"].lower()
