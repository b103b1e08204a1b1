"""Builds and runs an intake process and a relay process."""

import logging
import os

from aiohttp import hdrs, web

from intake.admission import Admission
from intake.api import ABOUT, IntakeApi
from intake.books.ledger import Ledger
from intake.books.relay import Relay
from intake.books.seal import SealKeys
from intake.budgets import Budgets
from intake.clients import Tokens
from intake.one_stop import OneStopApi
from intake.outgoing.addresses import Addresses
from intake.outgoing.signatures import secret_of
from intake.papers.api import PapersApi
from intake.papers.keys import stamp_key_of
from intake.partners.client import ClientApi
from intake.partners.feed import FeedApi
from intake.partners.letters import Letters
from intake.partners.sandbox import Sandbox
from intake.partners.sync import Sync
from intake.partners.tail import Tail
from intake.partners.webhooks import DELIVERIES, WebhookApi
from intake.rules import requests
from intake.settings import IntakeSettings, RelaySettings
from intake.sign_of_life import SignOfLife
from intake.watch import Watch
from lookup.cache import Cache
from lookup.catalogue import CatalogueCopy
from lookup.code import Scheme
from lookup.codes_in_logs import conceal, pseudonym
from lookup.lookup_key import KeyRing
from ops.http import server
from ops.http.client_address import Clients
from ops.http.cross_origin import anonymous, shared_reads
from ops.http.developer_pages import DeveloperPages
from ops.http.endpoints import serve
from ops.http.middleware import middlewares
from ops.http.server import Running
from ops.settings import describe, read
from ops.stores.breaker import Breaker
from ops.stores.postgres import Postgres
from ops.stores.redis import Redis

log = logging.getLogger(__name__)


async def build(settings: IntakeSettings) -> Running:
    """The intake. An unavailable PostgreSQL does not keep it from starting. Raises WrongSchema for another schema."""
    log.info("The settings in effect", extra={"settings": describe(settings)})
    connections = settings.pg_connections - 2
    postgres = _pool(settings, connections)
    pages, end_of_log = _pool(settings, 1, "feed"), _pool(settings, 1, "tail")
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
    clients = Clients(settings.trusted_proxies)
    budgets = Budgets(write=settings.client_writes, read=settings.client_reads, sync=settings.client_lines)
    admission = Admission(Tokens(postgres), clients, budgets)
    api = IntakeApi(ledger, catalogue, keys, settings.public_url)
    chain = middlewares("intake", trusts=clients.trusts, subjects={"code": pseudonym})
    chain.insert(-1, shared_reads(anonymous, hdrs.AUTHORIZATION))  # around refusals: sites read them too
    app = web.Application(middlewares=chain)
    sync = Sync(
        postgres,
        catalogue,
        budgets,
        keys,
        seals,
        connections=connections,
        deadline=settings.intake_deadline,
    )
    letters = Letters(postgres, sync.apply)
    tail = Tail(end_of_log.fetch)
    feed = FeedApi(pages.fetch, tail, catalogue, settings.public_url)
    webhooks = WebhookApi(
        postgres,
        pages.fetch,
        catalogue,
        Addresses(settings.webhook_networks),
        lambda: secret_of(settings.webhook_secret.reveal()),
    )
    papers = PapersApi(ledger, catalogue, keys, settings.public_url)
    apis = (
        *(api, OneStopApi(ledger, catalogue), papers, ClientApi(postgres, catalogue, budgets)),
        *(feed, letters, sync, webhooks),
    )
    for_developers = DeveloperPages(ABOUT, [endpoint for each in apis for endpoint in each.endpoints()], DELIVERIES)
    serve(app, for_developers.endpoints, read=requests.read, admit=admission.admit)
    app.add_routes(for_developers.routes())
    app.on_response_prepare.append(admission.tell)
    app.on_shutdown.append(tail.close)

    async def close() -> None:
        await ledger.close()
        await sync.close()
        papers.printer.close()
        for pool in (postgres, pages, end_of_log):
            await pool.close()

    sign = SignOfLife(postgres, deadline=settings.intake_deadline)
    return Running(
        app=app,
        checks={"postgres": watch.schema_version, "commits": sign.check},
        reports={"budgets": budgets.report, "clients": clients.report},
        tasks=[
            *(watch.run, sign.run, letters.run, tail.run),
            *([Sandbox(postgres, catalogue, seals).run] if settings.sandbox == "on" else []),
        ],
        close=close,
    )


def _pool(settings: IntakeSettings, size: int, guards: str = "postgres") -> Postgres:
    """Connections to the primary. `guards`: the name of their breaker."""
    return Postgres(
        "postgres",
        settings.pg_url.reveal,
        size=size,
        deadline=settings.pg_deadline,
        pooled=settings.pg_pooled,
        breaker=Breaker(guards, after=3, pause=1.0),
    )


async def build_relay(settings: RelaySettings) -> Running:
    """A relay: one task that leads when it can, and no public port."""
    log.info("The settings in effect", extra={"settings": describe(settings)})
    redis = Redis("redis", settings.redis_url.reveal, size=2, deadline=max(1.0, settings.redis_deadline))
    cache = Cache(redis)
    relay = Relay(settings.pg_url.reveal, cache, record_ttl=int(settings.hard_age))
    checks = {"postgres": relay.check_postgres, "redis": relay.check_redis, "delivery": relay.check_delivery}
    return Running(app=None, checks=checks, tasks=[relay.run, relay.watch], close=redis.close)


def main() -> None:
    """Run an intake process with the settings of the environment."""
    settings = read(IntakeSettings, os.environ)
    server.run(
        service="intake",
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


def main_relay() -> None:
    """Run a relay process with the settings of the environment."""
    settings = read(RelaySettings, os.environ)
    server.run(
        service="relay",
        build=lambda _: build_relay(settings),
        host=settings.host,
        port=None,
        admin_port=settings.admin_port,
        drain_seconds=0,
        log_level=settings.log_level,
        log_hash_key=settings.log_hash_key,
        conceal=conceal,
    )
