"""An aiohttp handler that returns one constant: as fast as a handler written with aiohttp can be."""

import os

from aiohttp import web

from loadtests.bench.peers.serving import serve

ANSWER = os.environ["PEER_ANSWER"].encode()


async def dossier(request: web.Request) -> web.Response:
    return web.Response(body=ANSWER, content_type="application/json")


if __name__ == "__main__":
    serve(dossier)
