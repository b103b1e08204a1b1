"""The pages as those meet them who cannot see them well, or at all: axe reads them in a real browser.

The page about the service in every state it can be in, those of the catalogue and about the site, and the others from a
running house; in both languages, by day and by night, on a narrow phone. axe comes from npm, pinned and hashed in
.ci/pages.
"""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from lookup.clock import VIETNAM, moment
from lookup.maintenance import Part
from lookup.reading.freshness import SECOND
from lookup.upkeep.service_status import Condition, PartState, Reason, View
from lookup.web import about_pages, catalogue_pages, figure_pages, layout, paper_pages, service_pages, services
from lookup.web.catalogue_pages import CatalogueBoard
from lookup.web.figure_pages import NEWEST, OF_ALL, FigureBoard
from lookup.web.paper_pages import PaperPages
from lookup.web.site import Site
from ops.local.reaper import Reaper
from tests.browser import Browser, chromium, tab
from tests.house import House
from tests.lookup import catalogues
from tests.lookup.test_paper_pages import PUBLIC, STAMP
from tests.lookup.test_service_status import NOON, notice
from tests.programs import npm_packages

WANTED = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NARROW = 320
"""CSS pixels at which nothing may have to be scrolled sideways (WCAG 2.2, 1.4.10)."""


@pytest.fixture(scope="module")
def axe() -> str:
    return (npm_packages("pages") / "axe-core/axe.min.js").read_text("utf-8")


@pytest.fixture(scope="module")
def devtools(axe: str, reaper: Reaper) -> Iterator[str]:
    with chromium(reaper) as listening:
        yield listening


class Read(NamedTuple):
    """What axe made of a page, rule by rule, and whether it fits."""

    broken: dict[str, list[str]]
    kept: set[str]
    width: int


READING = """
axe.run(document, {runOnly: %s, resultTypes: ["violations"]}).then(found => ({
  broken: found.violations.map(rule => [rule.id, rule.nodes.map(node => node.html)]),
  kept: found.passes.map(rule => rule.id),
  width: document.documentElement.scrollWidth,
}))
"""


async def read(browser: Browser, axe: str, url: object, rules: list[str] = WANTED) -> Read:
    """Open a page and have it read."""
    await browser.open(url)
    said = await browser.run(f"{axe};{READING % rules}")
    return Read(dict(said["broken"]), set(said["kept"]), said["width"])


async def assert_readable(browser: Browser, axe: str, url: object) -> None:
    """By day everything is looked at; by night only what is then otherwise, the colours."""
    await browser.be(width=NARROW, scheme="light")
    found = await read(browser, axe, url)
    assert found.broken == {}, url
    assert found.width <= NARROW, url
    assert found.kept >= {
        "color-contrast", "document-title", "heading-order", "html-has-lang", "landmark-one-main", "link-name",
        "page-has-heading-one", "region", "target-size",
    }, url  # fmt: skip
    await browser.be(width=NARROW, scheme="dark")
    by_night = await browser.run(READING % ["color-contrast"])
    assert (by_night["broken"], by_night["kept"]) == ([], ["color-contrast"]), url


# -- the page about the service ----------------------------------------------------------------------------


def view(lookup: Condition, updates: Condition, intake: Condition, **others: Any) -> View:
    parts = {Part.LOOKUP: lookup, Part.UPDATES: updates, Part.INTAKE: intake}
    usual: dict[str, Any] = {"at": NOON, "parts": parts, "heartbeat_at": NOON, "notices_at": NOON}
    return View(**usual | others)


def since(state: PartState, reason: Reason) -> Condition:
    return Condition(state, reason, NOON - 600 * SECOND)


WORKING = Condition(PartState.WORKING)
VIEWS = {
    "all is well": view(WORKING, WORKING, WORKING),
    "maintenance to come": view(WORKING, WORKING, WORKING, notices=[notice(1, 30, 34, -9)]),
    "overloaded under maintenance": view(
        since(PartState.LIMITED, Reason.OVERLOADED),
        since(PartState.LIMITED, Reason.LATE),
        WORKING,
        notices=[notice(1, -1, 1, -9), notice(2, 50, 51, -9)],
    ),
    "database away": view(
        since(PartState.LIMITED, Reason.DATABASE_AWAY),
        since(PartState.DOWN, Reason.UNCONFIRMED),
        since(PartState.DOWN, Reason.SILENT),
        notices_at=NOON - 600 * SECOND,
    ),
    "everything away since the start": view(
        since(PartState.LIMITED, Reason.EVERYTHING_AWAY),
        WORKING,
        Condition(PartState.UNKNOWN, Reason.NOT_SEEN),
        heartbeat_at=0,
        notices_at=0,
    ),
    "intake not seen": view(WORKING, WORKING, since(PartState.UNKNOWN, Reason.NOT_SEEN)),
}


def test_every_state_of_the_service_is_among_those_that_are_read() -> None:
    conditions = [each for shown in VIEWS.values() for each in shown.parts.values()]
    assert {each.state for each in conditions} == set(PartState)
    assert {each.reason for each in conditions} == {*Reason, None}
    assert {service_pages._worst(shown) for shown in VIEWS.values()} == set(PartState)
    assert [shown for shown in VIEWS.values() if any(each.running(moment(NOON)) for each in shown.notices)]


def serving(documents: dict[str, str], headers: Mapping[str, str]) -> TestServer:
    """Documents at their paths, with the style sheet they ask for."""
    app = web.Application()
    for path, text in documents.items():

        async def answer(_: web.Request, text: str = text) -> web.Response:
            return web.Response(text=text, content_type="text/html", headers=headers)

        app.router.add_get(path, answer)
    app.router.add_get("/static/{name}", layout.static)
    return TestServer(app)


async def test_page_about_the_service_can_be_read_by_everybody_in_every_state(axe: str, devtools: str) -> None:
    shown = [(lang, each) for lang in layout.SERVICE_STATUS for each in VIEWS.values()]
    documents = {f"/{n}": service_pages._page(each, lang) for n, (lang, each) in enumerate(shown)}
    async with serving(documents, layout.page_headers("no-store")) as server, tab(devtools) as browser:
        for path in documents:
            await assert_readable(browser, axe, server.make_url(path))


SPOILT = (
    ('<html lang="vi">', "<html>", "html-has-lang"),
    ("<h2", "<h5", "heading-order"),
    ('<main id="main"', '<div id="main"', "landmark-one-main"),
    ("<h1>", '<h1><span style="color: #aaa; background: #fff">Nhạt</span>', "color-contrast"),
    (
        '<p class="no-print"><a',
        '<p><a href="/" style="display: inline-block; height: 9px; width: 9px"></a><a',
        "link-name",
    ),
    ("<title>", "<notitle>", "document-title"),
)
"""What was sound, what it becomes, and the rule that this breaks."""


async def test_page_that_cannot_be_read_is_found(axe: str, devtools: str) -> None:
    good = service_pages._page(VIEWS["maintenance to come"], "vi")
    for sound, spoilt, _ in SPOILT:
        assert sound in good
        good = good.replace(sound, spoilt)
    async with serving({"/": good}, {}) as server, tab(devtools) as browser:  # our policy would allow it no style
        await browser.be(width=NARROW, scheme="light")
        found = await read(browser, axe, server.make_url("/"))
    assert found.broken.keys() >= {rule for *_, rule in SPOILT}


# -- pages of the catalogue and about the site -------------------------------------------------------------

WIDE = 1280
WATCHING = """
window.refused = [];
document.addEventListener("securitypolicyviolation", event => window.refused.push(event.violatedDirective));
"""
FIRST_OF_DECEMBER = datetime(2026, 12, 1, 9, tzinfo=VIETNAM)


async def figures(sql: str, *_: object) -> list[Any]:
    """Of two agencies in November, one of which has too few to be shown, and one rating."""
    if sql == NEWEST:
        return [{"at": FIRST_OF_DECEMBER, "stocks_on": FIRST_OF_DECEMBER.date()}]
    november = FIRST_OF_DECEMBER.date().replace(month=11)
    counts = [("received", 12_345), ("early", 12_000), ("late", 40), ("in_process", 305), ("overdue", 3)]
    rows = [(each.code, november, "online", *count) for each in catalogues.AGENCIES[:1] for count in counts]
    return rows if sql == OF_ALL else [{"measure": "rated_3", "n": 12}]


INLINE = "<!doctype html><html lang=vi><title>x</title><script>window.ran = true</script>"


class Copy:
    """A catalogue as it was read."""

    current = catalogues.CATALOGUE
    known = True


@pytest.fixture
async def catalogue_server() -> AsyncIterator[TestServer]:
    """The pages of the catalogue and about the site, as a lookup serves them."""
    site = Site("Cơ quan Mẫu (hư cấu)", "hotro@mau.example", "1900 0000", "https://tra-cuu.example")
    layout.belongs_to(site)
    app = web.Application()
    app.add_routes(catalogue_pages.routes(CatalogueBoard(Copy(), site, lambda: catalogues.TODAY)))
    app.add_routes(about_pages.routes(frozenset()))
    app.add_routes(paper_pages.routes(PaperPages(PUBLIC), PUBLIC))
    app.add_routes(figure_pages.routes(FigureBoard(Copy(), figures, lambda: FIRST_OF_DECEMBER, time.monotonic)))
    app.router.add_get("/static/{name}", layout.static)

    async def inline(_: web.Request) -> web.Response:
        return web.Response(text=INLINE, content_type="text/html", headers=layout.page_headers("no-store"))

    app.router.add_get("/inline", inline)
    server = TestServer(app)
    async with server:
        yield server
    layout.belongs_to(Site())


def pages_of_the_catalogue() -> list[str]:
    pages = [address for pair in about_pages.ADDRESSES.values() for address in pair.values()]
    for lang, address in layout.SERVICES.items():
        pages += [address, *(services.address(each, lang) for each in catalogues.SERVICES)]
    pages += [f"{address}{asked}" for address in layout.VERIFY.values() for asked in ("", "?s=x", f"?s={STAMP}")]
    pages += [f"{address}?month=2026-11" for address in layout.STATISTICS.values()]
    return pages


async def test_catalogue_can_be_read_by_everybody(axe: str, devtools: str, catalogue_server: TestServer) -> None:
    async with tab(devtools) as browser:
        for path in pages_of_the_catalogue():
            url = URL(str(catalogue_server.make_url("/")).rstrip("/") + path, encoded=True)
            await assert_readable(browser, axe, url)
            for scheme in ("light", "dark"):
                await browser.be(width=WIDE, scheme=scheme)
                found = await browser.run(READING % WANTED)
                assert found["broken"] == [], (path, scheme)
                assert found["width"] <= WIDE, path


async def test_data_for_search_engines_breaks_no_policy_and_texts_of_the_catalogue_do_nothing(
    axe: str, devtools: str, catalogue_server: TestServer
) -> None:
    async with tab(devtools) as browser:
        await browser.tell("Page.addScriptToEvaluateOnNewDocument", source=WATCHING)
        await browser.open(catalogue_server.make_url("/inline"))
        assert await browser.run("[window.refused.length, window.ran]") == [1, None]  # so it would be noticed
        for path in pages_of_the_catalogue():
            await browser.open(str(catalogue_server.make_url("/")).rstrip("/") + path)
            assert await browser.run("window.refused") == [], path
            assert await browser.run("document.querySelectorAll('main img, main script').length") == 0, path
            links = await browser.run("[...document.querySelectorAll('a')].map(each => each.protocol)")
            assert set(links) <= {"http:", "https:", "mailto:", "tel:"}, path
        await browser.open(
            str(catalogue_server.make_url("/")).rstrip("/") + services.address(catalogues.ATTACKING, "vi")
        )
        shown = await browser.run("document.querySelector('h1').textContent")
        assert shown == catalogues.ATTACKING.name_vi
        data = await browser.run("JSON.parse(document.querySelector('script').textContent).name")
        assert data == catalogues.ATTACKING.name_vi


# -- the others --------------------------------------------------------------------------------------------


async def test_form_dossier_and_problem_pages_can_be_read_by_everybody(axe: str, devtools: str, house: House) -> None:
    receipt = await house.receive()
    await house.move(receipt["code"], "supplement_required", note="Thiếu bản sao (ví dụ).")
    code, key = receipt["code"], receipt["lookup_key"]
    async with tab(devtools) as browser:
        for form in layout.FORMS.values():
            for path in ("", f"/{code}", "/nonsense", f"/{code}?key={key}"):  # a dossier's page asks for a rating too
                await assert_readable(browser, axe, house.lookup_url + form + path)
            await browser.tell("Network.clearBrowserCookies")


async def test_list_thanks_and_developers_page_can_be_read_by_everybody(axe: str, devtools: str, house: House) -> None:
    codes = [(await house.receive())["code"] for _ in range(2)]
    async with tab(devtools) as browser:
        for lang, address in layout.OWN_LIST.items():
            await assert_readable(browser, axe, house.lookup_url + address)  # empty
            for code in codes:
                await browser.open(f"{house.lookup_url}{layout.FORMS[lang]}/{code}")
                await browser.run('document.getElementById("remember").click()')
                await browser.press(f'form[action="{address}"] button')
            await assert_readable(browser, axe, house.lookup_url + address)
            shown = await browser.run('document.querySelectorAll("h2 a.code").length')
            assert shown == 2
            for page in (layout.RATING[lang], layout.DEVELOPERS[lang]):
                await assert_readable(browser, axe, house.lookup_url + page)
            await browser.tell("Network.clearBrowserCookies")
