"""How every aiohttp peer serves: uvloop, a long backlog, no access log."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import uvloop
from aiohttp import web


def serve(
    dossier: Callable[[web.Request], Awaitable[web.Response]],
    connections: Callable[[web.Application], AsyncIterator[None]] | None = None,
) -> None:
    """Serve that handler until told to stop; `connections` are open meanwhile."""
    app = web.Application()
    if connections is not None:
        app.cleanup_ctx.append(connections)
    app.router.add_get("/api/v1/dossiers/{code}", dossier)
    port, loop = int(os.environ["PEER_PORT"]), uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=port, backlog=1024, access_log=None, print=None, loop=loop)
