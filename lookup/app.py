"""Builds the lookup process from its parts."""

import functools
import itertools
import logging
import os
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from lookup.cache import Cache
from lookup.catalogue import CatalogueCopy
from lookup.clock import DatabaseClock, day_of, moment
from lookup.codes_in_logs import conceal, pseudonym
from lookup.dossier import Shows
from lookup.lookup_key import KeyRing
from lookup.reading.access import AccessPolicy
from lookup.reading.feed import Feed, Follower
from lookup.reading.freshness import Freshness
from lookup.reading.hosts import Hosts
from lookup.reading.limits import Limits
from lookup.reading.memory import Memory
from lookup.reading.reader import Reader
from lookup.reading.shared_limits import SharedLimits
from lookup.reading.shedding import Shedding
from lookup.reading.store import Store
from lookup.reading.vitals import Vitals
from lookup.settings import LookupSettings
from lookup.upkeep.freshness_sli import FreshnessSli
from lookup.upkeep.pulse import Pulse
from lookup.upkeep.service_status import ServiceStatus
from lookup.upkeep.why import process_report
from lookup.web import (
    about_pages,
    api,
    catalogue_pages,
    developers,
    due_calendar,
    figure_pages,
    layout,
    own_list,
    pages,
    paper_pages,
    plain_text,
    problem_pages,
    rating,
    service_pages,
)
from lookup.web.answers import KEY_HEADER, PATH, Answers
from lookup.web.catalogue_pages import CatalogueBoard
from lookup.web.faces import Face, JsonFace, PageFace
from lookup.web.figure_pages import FigureBoard
from lookup.web.form_pages import FormPages
from lookup.web.hotpath import HotPath
from lookup.web.layout import FORMS
from lookup.web.paper_pages import PaperPages
from lookup.web.service_pages import ServiceBoard
from lookup.web.site import Site
from ops.http import early_answers, server
from ops.http.client_address import Clients
from ops.http.connection import Protocol
from ops.http.cross_origin import below, shared_reads
from ops.http.developer_pages import DeveloperPages
from ops.http.early_answers import EarlyAnswers
from ops.http.endpoints import serve
from ops.http.middleware import middlewares
from ops.http.probes import State
from ops.http.server import Running
from ops.http.writes_together import WritesTogether
from ops.settings import describe, read
from ops.stores.breaker import Breaker
from ops.stores.redis import Redis

log = logging.getLogger(__name__)


async def build(settings: LookupSettings, state: State | None = None) -> Running:
    """The lookup, not yet serving. Raises WrongSchema if PostgreSQL answers with a schema it cannot use."""
    log.info("The settings in effect", extra={"settings": describe(settings)})
    state = state or State()
    site = Site(settings.site_owner, settings.site_owner_contact, settings.hotline, settings.public_url.rstrip("/"))
    layout.belongs_to(site)
    clock, freshness = DatabaseClock(), Freshness(soft=settings.soft_age, hard=settings.hard_age)
    hosts = Hosts(
        settings.pg_url.reveal,
        clock,
        size=settings.pg_queries,
        deadline=settings.pg_deadline,
        lateness=state.late_since,
        pooled=settings.pg_pooled,
    )
    redis = Redis(
        "redis", settings.redis_url.reveal, size=16, deadline=settings.redis_deadline, lateness=state.late_since
    )
    following = Redis("redis-feed", settings.redis_url.reveal, size=1, deadline=max(1.0, settings.redis_deadline))

    memory = Memory(settings.memory_bytes)
    feed = Feed(clock, memory, freshness)
    cache = Cache(redis)
    shedding = Shedding(lambda: state.standing_lag)
    vitals = Vitals(clock, feed, hosts, Breaker("redis", after=1), shedding, state.late_since)
    reader = Reader(
        cache,
        Store(hosts),
        vitals,
        freshness,
        memory=memory,
        queries=settings.pg_queries - 1,  # one is reserved for the pulse
        deadline=settings.lookup_deadline,
    )
    catalogue = CatalogueCopy(hosts)
    service = ServiceStatus(vitals, hosts)
    board = ServiceBoard(service)
    slices = FreshnessSli(feed, lambda: state.ready)
    shows = frozenset(Shows(word) for word in settings.anonymous_shows)
    answers = Answers(
        lambda: catalogue.current,
        shows,
        settings.public_url,
        hotline=settings.hotline or None,
        acceptance_hours=settings.acceptance_hours,
    )
    forms = FormPages(board.pointed_out)
    page_faces = {lang: PageFace(lang, answers, board.pointed_out) for lang in FORMS}

    def refresh() -> None:
        board.refresh()
        forms.refresh()
        for face in page_faces.values():
            face.refresh()

    pulse = Pulse(hosts, cache, vitals, catalogue, memory, slices, service, refresh)
    await pulse.start()

    clients = Clients(settings.trusted_proxies, settings.partners)
    keys, limits = KeyRing.from_text(settings.lookup_key_secrets.reveal()), Limits()
    shared = SharedLimits(limits, cache, vitals.redis, key=keys.secrets[keys.current])
    policy = AccessPolicy(
        reader,
        keys,
        limits=limits,
        clients=clients,
        key_required=settings.key_for_any_status,
    )
    faces: dict[str, Face] = {PATH.rstrip("/"): JsonFace(answers, memory)}
    faces |= {FORMS[lang]: face for lang, face in page_faces.items()}
    hot = HotPath(policy, faces, forms.pages, memory, state, log_share=settings.access_log_share)
    early = functools.partial(EarlyAnswers, offer=hot.offer, writes=WritesTogether())
    chain = middlewares(
        "lookup",
        render=plain_text.render_problem,
        log_share=settings.access_log_share,
        trusts=policy.trusts,
        subjects={"code": pseudonym},
    )
    # Around refusals: sites read them too.
    chain.insert(-1, shared_reads(below("/api/v1/"), KEY_HEADER, hdrs.AUTHORIZATION))
    app = web.Application(middlewares=chain)
    catalogue_board = CatalogueBoard(catalogue, site, today=lambda: day_of(clock.now()))
    figure_board = FigureBoard(catalogue, hosts.fetch, now=lambda: moment(clock.now()), clock=time.monotonic)
    every = [
        *(api.endpoints(policy, answers), service_pages.endpoints(board)),
        *(catalogue_pages.endpoints(catalogue_board), figure_pages.endpoints(figure_board)),
    ]
    for_developers = DeveloperPages(developers.about(settings.public_url), itertools.chain(*every))
    serve(app, for_developers.endpoints, read=api.read)
    app.add_routes(for_developers.routes())
    app.add_routes(service_pages.routes(board))
    app.add_routes(about_pages.routes(shows))
    app.add_routes(catalogue_pages.routes(catalogue_board))
    app.add_routes(figure_pages.routes(figure_board))
    paper_keys = paper_pages.read_keys(settings.paper_public_keys)
    app.add_routes(paper_pages.routes(PaperPages(paper_keys), paper_keys))
    secure = settings.public_url.startswith("https:")
    for routes in (
        plain_text.routes(policy, answers),
        due_calendar.routes(policy, answers),
        rating.routes(policy),
        own_list.routes(policy, answers, secure=secure),
        developers.routes(answers, keys),
    ):
        app.add_routes(routes)
    app.add_routes(pages.routes(policy, answers, forms, page_faces, secure=secure))
    return Running(
        app=app,
        state=state,
        checks={"postgres": hosts.present, "redis": cache.ping},
        reports={"why": process_report(memory, vitals, hosts), "clients": clients.report},
        tasks=[pulse.run, Follower(Cache(following), feed).run, hot.run, shared.run],
        protocol=functools.partial(
            early if early_answers.is_possible("lookup") else Protocol, page=problem_pages.problem_page
        ),
        close=_closer(hosts.close, redis.close, following.close),
    )


def _closer(*closes: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        for each in closes:
            await each()

    return close


def main() -> None:
    """Run a lookup process with settings from the environment."""
    settings = read(LookupSettings, os.environ)
    server.run(
        service="lookup",
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
