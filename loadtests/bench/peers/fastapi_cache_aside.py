"""FastAPI with cache-aside, as most teams would begin: Redis first, on a miss Postgres and a SET for a minute."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import redis.asyncio
import uvicorn
from fastapi import FastAPI, Request, Response

from loadtests.bench.peers.answer import FIND, SECONDS_KEPT, answer, key


async def dossier(code: str, request: Request) -> Response:
    client = request.app.state.client
    body = await client.get(key(code))
    if body is None:
        row = await request.app.state.pool.fetchrow(FIND, code)
        if row is None:
            return Response(status_code=404)
        body = answer(row)
        await client.set(key(code), body, ex=SECONDS_KEPT)
    return Response(body, media_type="application/json")


@asynccontextmanager
async def connections(app: FastAPI) -> AsyncIterator[None]:
    pool = redis.asyncio.BlockingConnectionPool.from_url(os.environ["PEER_REDIS_URL"], max_connections=32, timeout=5)
    app.state.client = redis.asyncio.Redis.from_pool(pool)
    async with asyncpg.create_pool(os.environ["PEER_POSTGRES_URL"], min_size=32, max_size=32) as app.state.pool:
        yield
    await app.state.client.aclose()


def main() -> None:
    app = FastAPI(lifespan=connections, openapi_url=None)
    app.add_api_route("/api/v1/dossiers/{code}", dossier, methods=["GET"])
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
