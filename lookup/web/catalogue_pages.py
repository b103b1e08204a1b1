"""The service catalogue for citizens, portals and search engines: pages, JSON, sitemap, robots.txt.

Each answer is made at its first request and kept as finished bytes until the catalogue or the day in Vietnam changes.
It is made in a thread: a list of two thousand services takes a tenth of a second, and lookups must not wait for that.
"""

import asyncio
from collections.abc import Callable
from datetime import date
from itertools import groupby
from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

import msgspec
from aiohttp import web
from markupsafe import Markup

from lookup.catalogue import Agency, Catalogue, Service
from lookup.web import layout, services
from lookup.web.about_pages import ADDRESSES
from lookup.web.codings import Finished
from lookup.web.layout import FORMS, SERVICE_STATUS, SERVICES, STATISTICS, VERIFY, page_headers
from lookup.web.phrases import PHRASES
from lookup.web.phrases.catalogue import day_phrase
from lookup.web.ready import html_page
from lookup.web.site import Site
from ops.errors import Kind, Refusal, Unavailable
from ops.http.endpoints import Endpoint, encode
from ops.http.parameters import Parameter

API_SERVICES = "/api/v1/services"
API_AGENCIES = "/api/v1/agencies"
SITEMAP = "/sitemap.xml"
ROBOTS = "/robots.txt"

_KEPT = "public, max-age=300"
_HEADERS = {"Cache-Control": _KEPT}


class NoSuchService(Refusal):
    """The catalogue has no service with this code."""

    kind = Kind.NOT_FOUND
    code = "service_not_found"
    title = "There is no service with this code."
    title_vi = "Không có thủ tục nào mang mã này."
    advice = "Take the code from the list of services, /api/v1/services."
    advice_vi = "Lấy mã thủ tục từ danh mục /api/v1/services."


class CatalogueUnread(Unavailable):
    """This process has not read the catalogue yet: PostgreSQL has not answered since it started."""

    code = "catalogue_unavailable"
    title = "The list of services cannot be shown now. Please try again shortly."
    title_vi = "Hiện chưa xem được danh mục thủ tục. Vui lòng thử lại sau ít phút."


class Copy(Protocol):
    """The process's copy of the catalogue, and whether it was read since the process started."""

    @property
    def current(self) -> Catalogue: ...

    @property
    def known(self) -> bool: ...


class CatalogueBoard:
    """The finished answers about the catalogue. `today`: the day in Vietnam."""

    def __init__(self, copy: Copy, site: Site, today: Callable[[], date]) -> None:
        self._copy = copy
        self._site = site
        self._today = today
        self._of: tuple[str, date] | None = None
        self._ready: dict[str, asyncio.Future[Finished]] = {}

    async def page_of_all(self, request: web.Request) -> web.Response:
        """The list of services that are in force or to come, in the address's language. 200, 304 or 503."""
        lang = layout.language(request)
        kept = await self._kept(request.path, lambda: html_page(self._list_page(lang), page_headers(_KEPT)))
        return kept.answer(request)

    async def page(self, request: web.Request) -> web.Response:
        """One service; of one that has ended the page says so. 200, 304, 404 or 503."""
        lang, service = layout.language(request), self._service(request)
        key = services.address(service, lang)
        kept = await self._kept(key, lambda: html_page(self._service_page(service, lang), page_headers(_KEPT)))
        return kept.answer(request)

    async def all_services(self, request: web.Request) -> web.Response:
        """Every service, ended ones too: portals hold dossiers of these. 304 to a client that holds it."""
        return (await self._kept(request.path, lambda: _json(self._all()))).answer(request)

    async def service(self, request: web.Request) -> web.Response:
        """One service in full. 304 to a client that holds it."""
        service = self._service(request)

        def make() -> Finished:
            return _json(services.in_full(service, self._catalogue, self._today(), self._site))

        return (await self._kept(f"{API_SERVICES}/{service.code}", make)).answer(request)

    async def agencies(self, request: web.Request) -> web.Response:
        """Every agency with its contacts, ended ones too. 304 to a client that holds it."""

        def make() -> Finished:
            catalogue, day = self._catalogue, self._today()
            every = [services.shown_agency(each, day) for each in self._all_agencies()]
            return _json(services.ShownAgencies(catalogue.revision, catalogue.sample, every))

        return (await self._kept(request.path, make)).answer(request)

    async def sitemap(self, request: web.Request) -> web.Response:
        """The pages that search engines are meant to find, each with its other language. 200 or 304, at any time."""
        return (await self._kept(request.path, lambda: _xml(self._sitemap()), at_any_time=True)).answer(request)

    async def robots(self, request: web.Request) -> web.Response:
        """Allows everything: what must not be found says so itself (noindex), and for that it has to be read."""

        def make() -> Finished:
            text = f"User-agent: *\nAllow: /\n\nSitemap: {self._site.public_url}{SITEMAP}\n"
            return Finished(text.encode(), "text/plain; charset=utf-8", _HEADERS)

        return (await self._kept(request.path, make, at_any_time=True)).answer(request)

    # -- what is kept --------------------------------------------------------------------------------------

    @property
    def _catalogue(self) -> Catalogue:
        return self._copy.current

    async def _kept(self, key: str, make: Callable[[], Finished], *, at_any_time: bool = False) -> Finished:
        """The answer kept under this key, made if there is none of this catalogue and day. Raises CatalogueUnread.

        All who ask for it meanwhile wait for the same. One that could not be made is made anew for the next.
        """
        if not (self._copy.known or at_any_time):
            raise CatalogueUnread
        of = self._catalogue.revision, self._today()
        if of != self._of:
            self._of, self._ready = of, {}  # another dictionary: what is still being made belongs to the old one
        ready = self._ready
        if key not in ready:
            ready[key] = asyncio.ensure_future(asyncio.to_thread(make))
        try:
            return await asyncio.shield(ready[key])
        except Exception:
            ready.pop(key, None)
            raise

    def _service(self, request: web.Request) -> Service:
        if not self._copy.known:
            raise CatalogueUnread
        known = self._catalogue.services.get(request.match_info["service"])
        if known is None:
            raise NoSuchService
        return known

    def _listed(self) -> list[Service]:
        """The services that are in force or to come, by field and code."""
        day = self._today()
        current = [each for each in self._catalogue.services.values() if not services.has_ended(each, day)]
        return sorted(current, key=lambda each: (each.field_code, each.code))

    def _all_agencies(self) -> list[Agency]:
        return sorted(self._catalogue.agencies.values(), key=lambda each: each.code)

    # -- pages ---------------------------------------------------------------------------------------------

    def _list_page(self, lang: str) -> str:
        listed, day = self._listed(), self._today()
        words = PHRASES[lang]
        context = {
            "other_url": SERVICES[layout.other_language(lang)],
            "found_at": SERVICES,
            "description": words["services.lead"],
            "count": words["services.count"].format(n=len(listed)),
            "sample": any(each.sample for each in listed),
            "fields": [
                {"name": services.field_name(code, lang), "services": [services.brief(each, day, lang) for each in of]}
                for code, of in groupby(listed, key=lambda each: each.field_code)
            ],
        }
        return layout.render("services.html", lang, context)

    def _service_page(self, service: Service, lang: str) -> str:
        ended = services.has_ended(service, self._today())
        found_at = {each: services.address(service, each) for each in SERVICES}
        words = services.words(service, self._catalogue, self._today(), lang)
        context = {
            "other_url": found_at[layout.other_language(lang)],
            "found_at": None if ended else found_at,
            "description": PHRASES[lang]["service_page.lead"].format(name=words["name"]),
            "service": words,
            "ended": day_phrase(service.valid_to, lang) if ended and service.valid_to else None,
            "linked_data": Markup(services.linked_data(service, self._catalogue, self._site, lang)),  # noqa: S704
        }
        return layout.render("service_of_catalogue.html", lang, context)

    def _sitemap(self) -> str:
        pairs = [FORMS, SERVICES, STATISTICS, VERIFY, SERVICE_STATUS, *ADDRESSES.values()]
        pairs += [{lang: services.address(each, lang) for lang in SERVICES} for each in self._listed()]
        entries = "".join(self._entry(pair, lang) for pair in pairs for lang in pair)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:xhtml="http://www.w3.org/1999/xhtml">\n'
            f"{entries}</urlset>\n"
        )

    def _entry(self, pair: dict[str, str], lang: str) -> str:
        others = "".join(
            f'<xhtml:link rel="alternate" hreflang="{each}" href={quoteattr(self._site.public_url + path)}/>'
            for each, path in pair.items()
        )
        return f"<url><loc>{escape(self._site.public_url + pair[lang])}</loc>{others}</url>\n"

    # -- JSON ----------------------------------------------------------------------------------------------

    def _all(self) -> services.ShownServices:
        catalogue, day = self._catalogue, self._today()
        every = sorted(catalogue.services.values(), key=lambda each: each.code)
        shown = [services.shown(each, day, self._site) for each in every]
        return services.ShownServices(catalogue.revision, catalogue.sample, shown)


def endpoints(board: CatalogueBoard) -> list[Endpoint]:
    """The list of services, one service, the list of agencies."""
    return [
        Endpoint(
            method="GET",
            path=API_SERVICES,
            handler=board.all_services,
            gives=services.ShownServices,
            refuses=(CatalogueUnread,),
        ),
        Endpoint(
            method="GET",
            path=API_SERVICES + "/{service:.+}",
            handler=board.service,
            gives=services.FullService,
            parameters=(
                Parameter(
                    name="service",
                    place="path",
                    says="The service's code, as the list of services has it.",
                    required=True,
                    example="S.004",
                ),
            ),
            refuses=(CatalogueUnread, NoSuchService),
        ),
        Endpoint(
            method="GET",
            path=API_AGENCIES,
            handler=board.agencies,
            gives=services.ShownAgencies,
            refuses=(CatalogueUnread,),
        ),
    ]


def routes(board: CatalogueBoard) -> list[web.RouteDef]:
    """GET of the list and of each service as pages in both languages, sitemap, robots.txt."""
    return [
        *(web.get(address, board.page_of_all) for address in SERVICES.values()),
        *(web.get(address + "/{service:.+}", board.page) for address in SERVICES.values()),
        web.get(SITEMAP, board.sitemap),
        web.get(ROBOTS, board.robots),
    ]


def _json(content: msgspec.Struct) -> Finished:
    return Finished(encode(content), "application/json", _HEADERS)


def _xml(text: str) -> Finished:
    return Finished(text.encode(), "application/xml; charset=utf-8", _HEADERS)
