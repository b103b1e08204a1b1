"""Builds and runs the notary process: it enters and signs, and serves the files of the books.

What is served is hashes and signatures, never an entry: entries would enumerate the dossiers. No address takes
parameters, so no cache in between can mix answers up.
"""

import logging
import os
from collections.abc import Callable

from aiohttp import web

from intake.books import notary
from intake.books.notary import EventLog, Notary, Published
from intake.books.seal import SealKeys
from intake.books.tree_files import Files, Unusable
from intake.settings import BooksSettings, NotarySettings
from lookup.codes_in_logs import conceal
from ops.errors import NoSuchPath, Unavailable
from ops.http import server
from ops.http.client_address import Clients
from ops.http.middleware import middlewares
from ops.http.probes import State
from ops.http.server import Running
from ops.settings import describe, read

log = logging.getLogger(__name__)

_FOR_EVER = "public, max-age=31536000, immutable"


class BooksApi:
    """The files of the books, as C2SP tlog-tiles has them; each method is one endpoint."""

    def __init__(self, notary: Notary) -> None:
        self._notary = notary

    def routes(self) -> list[web.RouteDef]:
        """The route table of /books."""
        return [
            web.get("/books/checkpoint", self.checkpoint),
            web.get("/books/tile/{tile:.+}", self.tile),
            web.get("/books/keys", self.keys),
            web.get("/books/turns", self.turns),
        ]

    async def checkpoint(self, request: web.Request) -> web.StreamResponse:
        """The newest signed checkpoint; no cache may keep it."""
        return _text(self._published(request).note.encode())

    async def tile(self, request: web.Request) -> web.StreamResponse:
        """The hashes of a tile, 32 bytes each; a tile never changes."""
        try:
            hashes = self._published(request).levels.tile(f"tile/{request.match_info['tile']}")
        except (Unusable, OSError) as error:
            raise Unavailable(reason=str(error)) from error
        if hashes is None:
            raise NoSuchPath
        return _bytes(hashes, _FOR_EVER)

    async def keys(self, request: web.Request) -> web.StreamResponse:
        """For each full tile of level 0 the place of its last entry in the log: epoch, xid and seq of 8 bytes each."""
        try:
            return _bytes(self._published(request).levels.keys())
        except (Unusable, OSError) as error:
            raise Unavailable(reason=str(error)) from error

    async def turns(self, request: web.Request) -> web.StreamResponse:
        """The turns, one JSON array a line."""
        return _text(self._published(request).turns)

    def _published(self, request: web.Request) -> Published:
        if request.rel_url.raw_query_string:
            raise NoSuchPath("No address below /books takes parameters.")
        if self._notary.published is None:
            raise Unavailable("The books cannot be read now.")
        return self._notary.published


def _text(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="text/plain", charset="utf-8")


def _bytes(body: bytes, cached: str = "no-store") -> web.Response:
    return web.Response(body=body, content_type="application/octet-stream", headers={"Cache-Control": cached})


def _rereading(text: Callable[[], str]) -> Callable[[], SealKeys]:
    """The keys as they are now; the last ones while the text is invalid."""
    last = SealKeys.from_text(text())

    def keys() -> SealKeys:
        nonlocal last
        try:
            last = SealKeys.from_text(text())
        except ValueError as wrong:
            log.warning("The seal keys are invalid, the last ones stay in use: %s", wrong)
        return last

    return keys


async def build(settings: NotarySettings, state: State) -> Running:
    """A notary. Unavailable servers and unusable files do not keep it from starting."""
    log.info("The settings in effect", extra={"settings": describe(settings)})

    def not_ready(halted: bool) -> None:
        state.halted = halted

    work = Notary(
        EventLog(settings.pg_url.reveal),
        lambda: Files(settings.books),
        settings.signer(),
        _rereading(settings.seal_keys.reveal),
        not_ready=not_ready,
    )
    app = web.Application(middlewares=middlewares("notary", trusts=Clients(settings.trusted_proxies).trusts))
    app.add_routes(BooksApi(work).routes())
    checks = {"books": work.check_books, "postgres": work.check_postgres}
    return Running(app=app, state=state, checks=checks, tasks=[work.run])


def main() -> None:
    """Run a notary with the settings of the environment."""
    settings = read(NotarySettings, os.environ)
    server.run(
        service="notary",
        build=lambda state: build(settings, state),
        host=settings.host,
        port=settings.port,
        admin_port=settings.admin_port,
        drain_seconds=settings.drain_seconds,
        log_level=settings.log_level,
        connections=settings.connections,
        log_hash_key=settings.log_hash_key,
        conceal=conceal,
    )


def begin(settings: BooksSettings) -> None:
    """Sign an empty tree in the directory of the books. Raises Unusable with a sentence when it cannot, and OSError."""
    notary.begin(Files(settings.books), settings.signer())
