"""An aiohttp handler with one asyncpg fetchrow per request."""

import os
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from aiohttp import web

from loadtests.bench.peers.answer import FIND, answer
from loadtests.bench.peers.serving import serve

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


if __name__ == "__main__":
    serve(dossier, connections)
