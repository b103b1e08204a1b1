"""All wiring of the lookup on one screen."""

import logging
import os
from collections.abc import Awaitable, Callable

from aiohttp import web

from lookup import api, pages
from lookup.api import Desk
from lookup.cache import Cache
from lookup.catalogue import CatalogueCopy
from lookup.clock import DatabaseClock
from lookup.dossier import Shows
from lookup.freshness import Freshness
from lookup.lookup_key import KeyRing
from lookup.pulse import Pulse
from lookup.reader import Reader, Vitals
from lookup.settings import LookupSettings
from lookup.store import Store
from ops import server
from ops.breaker import Breaker
from ops.connections import Postgres, Redis
from ops.middleware import middlewares
from ops.server import Running
from ops.settings import describe, read

log = logging.getLogger(__name__)


async def build(settings: LookupSettings) -> Running:
    """The lookup, connected to nothing yet. Raises WrongSchema if Postgres answers with another schema."""
    log.info("the settings in effect", extra={"settings": describe(settings)})
    postgres = Postgres("postgres", settings.pg_url.reveal, size=settings.pg_connections, deadline=settings.pg_deadline)
    redis = Redis("redis", settings.redis_url.reveal, size=16, deadline=settings.redis_deadline)
    clock = DatabaseClock()
    vitals = Vitals(clock, postgres=Breaker("postgres", after=2, pause=1.0), redis=Breaker("redis", after=1, pause=1.0))
    store, cache = Store(postgres, clock), Cache(redis)
    reader = Reader(
        cache,
        store,
        vitals,
        Freshness(soft=settings.soft_age, hard=settings.hard_age),
        deadline=settings.lookup_deadline,
    )
    catalogue = CatalogueCopy(postgres)
    pulse = Pulse(store, cache, vitals, catalogue)
    await pulse.start()

    keys = KeyRing.from_text(settings.lookup_key_secrets.reveal())
    shows = frozenset(Shows(word) for word in settings.anonymous_shows)
    desk = Desk(reader, keys, lambda: catalogue.current, shows, settings.public_url)
    app = web.Application(middlewares=middlewares("lookup", render=pages.render_problem))
    app.add_routes(api.routes(desk))
    app.add_routes(pages.routes(desk, secure=settings.public_url.startswith("https:")))
    return Running(
        app=app,
        checks={"postgres": store.present, "redis": cache.ping},
        tasks=[pulse.run],
        close=_closer(postgres.close, redis.close),
    )


def _closer(*closes: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        for each in closes:
            await each()

    return close


def main() -> None:
    """Run a lookup process with the settings of the environment."""
    settings = read(LookupSettings, os.environ)
    server.run(
        service="lookup",
        build=lambda _: build(settings),
        host=settings.host,
        port=settings.port,
        admin_port=settings.admin_port,
        drain_seconds=settings.drain_seconds,
        log_level=settings.log_level,
    )
