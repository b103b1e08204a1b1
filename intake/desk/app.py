"""Builds and runs a desk process: officers' pages over a ledger of its own, on a host of their own."""

import logging
import os

import aiohttp
from aiohttp import web

from intake.books.ledger import Ledger
from intake.books.seal import SealKeys
from intake.desk.dossier import DossierPages
from intake.desk.frame import Desk, render_problem
from intake.desk.handover import HandOverPages
from intake.desk.inbox import InboxPages
from intake.desk.key_slip import KeySlipPages
from intake.desk.layout import static
from intake.desk.oidc import Provider
from intake.desk.reception import ReceptionPages
from intake.desk.register import RegisterPages
from intake.desk.search import SearchPages
from intake.desk.sessions import Sessions
from intake.desk.sign_in import BACK, SignIn, root
from intake.desk.unit import UnitPages
from intake.papers.keys import stamp_key_of
from intake.settings import DeskSettings
from intake.watch import Watch
from lookup.catalogue import CatalogueCopy
from lookup.code import Scheme
from lookup.codes_in_logs import conceal, pseudonym
from lookup.lookup_key import KeyRing
from ops.http import server
from ops.http.client_address import Clients
from ops.http.middleware import middlewares
from ops.http.server import Running
from ops.settings import describe, read
from ops.stores.breaker import Breaker
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)


async def build(settings: DeskSettings) -> Running:
    """A desk. Neither an unavailable PostgreSQL nor an unavailable provider keeps it from starting.

    Raises WrongSchema for another schema.
    """
    log.info("The settings in effect", extra={"settings": describe(settings)})
    postgres = Postgres(
        "postgres",
        settings.pg_url.reveal,
        size=settings.pg_connections,
        deadline=settings.pg_deadline,
        pooled=settings.pg_pooled,
        breaker=Breaker("postgres", after=3, pause=1.0),
    )
    catalogue = CatalogueCopy(postgres)
    watch = Watch(postgres, catalogue)
    await watch.look()
    seals = SealKeys.from_text(settings.seal_keys.reveal())
    ledger = Ledger(
        postgres,
        scheme=Scheme(settings.code_scheme),
        seals=seals,
        deadline=settings.intake_deadline,
        stamp_key=stamp_key_of(settings),
    )
    keys = KeyRing.from_text(settings.lookup_key_secrets.reveal())
    desk = Desk(postgres, ledger, catalogue, keys, settings.public_url.rstrip("/"))
    http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
    sessions = Sessions(postgres, settings.oidc_issuer)
    sign_in = SignIn(sessions, _provider(settings, http), secure=settings.desk_url.startswith("https:"))
    clients = Clients(settings.trusted_proxies)
    chain = middlewares("desk", render=render_problem, trusts=clients.trusts, subjects={"code": pseudonym})
    app = web.Application(middlewares=[*chain, sign_in.gate()])
    app.add_routes([web.get("/", root), web.get("/static/{name}", static), *sign_in.routes()])
    dossiers = DossierPages(desk)
    press = dossiers.printer.press
    books = (RegisterPages(desk, press), HandOverPages(desk), UnitPages(desk), KeySlipPages(desk, press))
    for pages in (InboxPages(desk), ReceptionPages(desk), SearchPages(desk), dossiers, *books):
        app.add_routes(pages.routes())

    async def close() -> None:
        await ledger.close()
        dossiers.printer.close()
        await http.close()
        await postgres.close()

    return Running(
        app=app,
        checks={"postgres": watch.schema_version},
        tasks=[watch.run],
        close=close,
    )


def _provider(settings: DeskSettings, http: aiohttp.ClientSession) -> Provider | None:
    """The officers' provider; None without one, for a trial."""
    if settings.oidc_issuer is None:
        return None
    secret = None if settings.oidc_client_secret is None else settings.oidc_client_secret.reveal
    back = settings.desk_url.rstrip("/") + BACK
    return Provider(http, settings.oidc_issuer, settings.oidc_client_id, secret, back)


def main() -> None:
    """Run a desk process with the settings of the environment."""
    settings = read(DeskSettings, os.environ)
    server.run(
        service="desk",
        build=lambda _: build(settings),
        host=settings.host,
        port=settings.port,
        admin_port=settings.admin_port,
        drain_seconds=settings.drain_seconds,
        log_level=settings.log_level,
        connections=settings.connections,
        log_hash_key=settings.log_hash_key,
        conceal=conceal,
    )
