"""An aiohttp handler that returns one constant: as fast as a handler written with aiohttp can be."""

import os

import uvloop
from aiohttp import web

ANSWER = os.environ["PEER_ANSWER"].encode()


async def dossier(request: web.Request) -> web.Response:
    return web.Response(body=ANSWER, content_type="application/json")


def main() -> None:
    app = web.Application()
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
