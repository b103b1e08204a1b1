"""An aiohttp handler with one redis-py GET per request, which returns the bytes it finds. A miss is a 404."""

import os
from collections.abc import AsyncIterator

import redis.asyncio
from aiohttp import web

from loadtests.bench.peers.answer import key
from loadtests.bench.peers.serving import serve

CLIENT = web.AppKey("CLIENT", redis.asyncio.Redis)


async def dossier(request: web.Request) -> web.Response:
    body = await request.app[CLIENT].get(key(request.match_info["code"]))
    if body is None:
        return web.Response(status=404)
    return web.Response(body=body, content_type="application/json")


async def connections(app: web.Application) -> AsyncIterator[None]:
    # Blocking, because the other pool raises as soon as more requests than connections are under way.
    pool = redis.asyncio.BlockingConnectionPool.from_url(os.environ["PEER_REDIS_URL"], max_connections=32, timeout=5)
    app[CLIENT] = redis.asyncio.Redis.from_pool(pool)
    yield
    await app[CLIENT].aclose()


if __name__ == "__main__":
    serve(dossier, connections)
