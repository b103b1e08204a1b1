"""An aiohttp handler with one asyncpg fetchrow per request."""

import os
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import uvloop
from aiohttp import web

from loadtests.bench.peers.answer import FIND, answer

POOL: web.AppKey[Any] = web.AppKey("POOL")


async def dossier(request: web.Request) -> web.Response:
    row = await request.app[POOL].fetchrow(FIND, request.match_info["code"])
    if row is None:
        return web.Response(status=404)
    return web.Response(body=answer(row), content_type="application/json")


async def connections(app: web.Application) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["PEER_POSTGRES_URL"], min_size=32, max_size=32) as pool:
        app[POOL] = pool
        yield


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(connections)
    app.router.add_get("/api/v1/dossiers/{code}", dossier)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        backlog=1024,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
