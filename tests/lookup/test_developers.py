"""The page for developers: every example on it is run, and every figure and error on it is the code's."""

import asyncio
import html
import json
import re
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request
from yarl import URL

from lookup.catalogue import Catalogue, files, load
from lookup.catalogue.load import plan
from lookup.clock import VIETNAM
from lookup.code import parse
from lookup.dossier import Shows
from lookup.lookup_key import KeyRing
from lookup.reading.limits import Rate
from lookup.status import Status
from lookup.web import developers
from lookup.web.answers import Answers
from lookup.web.layout import DEVELOPERS, FORMS
from lookup.web.phrases import PHRASES
from ops.http.problems import HTTP_STATUS
from ops.local.reaper import Reaper
from tests.browser import chromium, tab
from tests.conftest import KEY_SECRETS, Database
from tests.house import House, open_house, until
from tests.lookup.alone import lookup_alone
from tests.lookup.offline import CATALOGUE
from tests.lookup.views import ANYONE, HOLDER, STALE
from tests.programs import program
from tests.test_refusals import every

PUBLIC = "http://127.0.0.1:8080"
"""What stands on the page where HOSO24_PUBLIC_URL is not set."""
RUN = {"lookup", "held", "at_least", "statuses", "service", "holder", "batch", "text", "missing"}
"""Examples that are commands."""


class Examples(HTMLParser):
    """The texts of a page's examples by name, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._name: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "pre" and "example" in (given.get("class") or ""):
            self._name = str(given["id"])
            self.found[self._name] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._name = None

    def handle_data(self, data: str) -> None:
        if self._name:
            self.found[self._name] += data


class Form(HTMLParser):
    """The one form of a text: where it goes, how, and the names of its fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action, self.method, self.fields, self.labelled = "", "", list[str](), set[str]()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert tag in {"form", "label", "input", "button"}, tag
        assert not any(name.startswith("on") for name in given)
        if tag == "form":
            self.action, self.method = given["action"], given["method"]
        if tag == "input":
            self.fields.append(given["name"])
            self.ids.add(given["id"])
        if tag == "label":
            self.labelled.add(given["for"])


async def read_page(house: House, lang: str) -> dict[str, str]:
    async with house.http.get(house.lookup_url + DEVELOPERS[lang]) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "public, max-age=300"
        return Examples(await response.text()).found


def made_real(example: str, house: House, receipt: dict[str, Any]) -> str:
    """The example with this house's address, a code and a key that there are."""
    code = receipt["code"]
    for made_up, real in (
        (PUBLIC, house.lookup_url),
        (developers.CODE, code),
        (developers.CODE.lower(), code.lower()),
        (developers.CODE.replace("-", "+"), code.replace("-", "+")),
        (developers.KEY, receipt["lookup_key"]),
    ):
        example = example.replace(made_up, real)
    assert "G99.01.02" not in example.replace(developers.UNKNOWN, "").replace(code, "")
    return example


async def run(command: str) -> str:
    """What a command of the page prints; only curl is run, without a shell."""
    words = shlex.split(command)
    assert words[0] == "curl"
    process = await asyncio.create_subprocess_exec(
        program("curl"), *words[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    return output.decode()


def structure(value: Any) -> Any:
    """Names and kinds; of a list its first item; None fits anything."""
    if isinstance(value, dict):
        return {name: structure(each) for name, each in value.items()}
    if isinstance(value, list):
        return [structure(each) for each in value[:1]]
    return type(value).__name__


def fits(shown: Any, real: Any) -> bool:
    if isinstance(shown, dict) and isinstance(real, dict):
        return shown.keys() == real.keys() and all(fits(shown[name], real[name]) for name in shown)
    if isinstance(shown, list) and isinstance(real, list):
        return len(shown) == len(real) and all(fits(one, other) for one, other in zip(shown, real, strict=True))
    return shown is None or real is None or type(shown) is type(real)


@pytest.mark.parametrize("lang", DEVELOPERS)
async def test_every_example_runs_and_gets_what_stands_beside_it(house: House, lang: str) -> None:
    receipt = await house.receive()
    found = await read_page(house, lang)
    assert found.keys() >= RUN
    answers = {name.removesuffix("_answer") for name in found if name.endswith("_answer")}
    links = {"link", "link_spelt", "link_query"}
    assert found.keys() == RUN | links | {"form", "browser"} | {f"{name}_answer" for name in answers}
    assert answers - RUN == {"stale"}
    for name in RUN:
        printed = await run(made_real(found[name], house, receipt))
        beside = found.get(f"{name}_answer")
        if name == "held":
            assert printed == beside == "304"
        elif name == "missing":
            head, _, body = printed.partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 404")
            assert "\r\nRateLimit: " in head
            assert fits(json.loads(beside or ""), json.loads(body)), body
            assert json.loads(beside or "")["code"] == json.loads(body)["code"]
        elif name == "text":
            assert [line.partition(" ")[0] for line in printed.splitlines()] == [
                line.partition(" ")[0] for line in (beside or "").splitlines()
            ]
        elif beside is not None:
            assert fits(json.loads(beside), json.loads(printed)), (name, printed)
        else:
            assert isinstance(json.loads(printed), dict)
    assert set(json.loads(found["lookup_answer"])) == {*ANYONE}
    assert set(json.loads(found["holder_answer"])) == {*HOLDER}
    assert set(json.loads(found["stale_answer"])) == {*ANYONE, *STALE}


@pytest.mark.parametrize("lang", DEVELOPERS)
async def test_form_and_links_lead_to_the_dossier_however_it_is_spelt(house: House, lang: str) -> None:
    receipt = await house.receive()
    found = await read_page(house, lang)
    form = Form(made_real(found["form"], house, receipt))
    assert (form.method, len(form.fields)) == ("get", 1)
    assert form.ids == form.labelled
    addresses = [URL(form.action) % {form.fields[0]: f" {receipt['code'].lower()} "}]
    addresses += [
        URL(made_real(found[name], house, receipt), encoded=True) for name in ("link", "link_spelt", "link_query")
    ]
    for address in addresses:
        async with house.http.get(address) as response:
            assert response.status == 200, address
            assert response.url.path == f"{FORMS[lang]}/{parse(receipt['code']).path}"


def test_errors_are_all_that_the_api_refuses_with() -> None:
    api = {each for each in every() if not each.__module__.startswith("intake.")}
    # The same code as another; on a page only.
    others = {each for each in api if each.__name__ in {"OurOwnDelay", "TooManyRatings"}}
    assert set(developers.ERRORS) == api - others
    statuses = [HTTP_STATUS[each.kind] for each in developers.ERRORS]
    assert statuses == sorted(statuses)


@pytest.mark.parametrize("lang", DEVELOPERS)
async def test_every_phrase_of_the_page_is_on_it(lang: str) -> None:
    async with lookup_alone() as alone:
        page = html.unescape((await alone.ask(DEVELOPERS[lang])).body.decode())
    told = [text for key, text in PHRASES[lang].items() if key.startswith("developers.") and "{" not in text]
    assert len(told) > 25
    assert [text for text in told if text not in page] == []


async def test_page_is_made_once_and_sent_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lookup_alone() as alone:
        for address in DEVELOPERS.values():
            first = await alone.ask(address)
            with monkeypatch.context() as patch:
                patch.setattr(developers, "examples", None)
                again = await alone.ask(address)
            assert (again.status, again.body) == (200, first.body)
            assert (again.headers["Content-Encoding"], again.headers["Vary"]) == ("gzip", "Accept-Encoding")
            assert again.headers["Cache-Control"] == "public, max-age=300"
            assert again.tag is not None
            assert (await alone.ask(address, held=again.tag)).status == 304


async def test_page_is_made_anew_when_its_entity_tags_are_other_ones() -> None:
    now: list[Catalogue] = []
    answers = Answers(lambda: now[-1], frozenset({Shows.AGENCY}), PUBLIC)
    route = developers.routes(answers, KeyRing.from_text(KEY_SECRETS))[0]
    for catalogue in (Catalogue(), CATALOGUE):
        now.append(catalogue)
        answer = await route.handler(make_mocked_request("GET", route.path))
        assert isinstance(answer, web.Response)
        assert f"json+agency.{catalogue.revision}" in str(answer.text)


@pytest.mark.parametrize("lang", DEVELOPERS)
async def test_codes_and_keys_of_the_sandbox_are_real(
    database: Database, owner: Any, redis_url: str, lang: str
) -> None:
    await load.install_sandbox(owner)
    async with open_house(database, redis_url, intake={"sandbox": "on"}) as house:
        async with house.http.get(house.lookup_url + DEVELOPERS[lang]) as response:
            page = await response.text()
        fixed = re.findall(r'<dd class="code">(X99\.01-260101-\d{4}) (\S+)</dd>', page)
        assert [code[-2:] for code, _ in fixed] == [f"{status.value:02d}" for status in Status]
        for status, (code, key) in zip(Status, fixed, strict=True):

            async def found(code: str = code, key: str = key) -> Any:
                told, answer = await house.lookup(f"/api/v1/dossiers/{code}", **{"Hoso24-Key": key})
                return answer if told == 200 else None

            answer = await until(found)
            assert (answer["status"], "timeline" in answer) == (status.slug, True)
        command = Examples(page).found["sandbox"].replace(PUBLIC, house.lookup_url)
        assert json.loads(await run(command))["status"] == "supplement_required"
        assert PHRASES[lang]["sandbox.own"].format(agency="X99.03") in html.unescape(page)
        assert "/docs" in PHRASES[lang]["sandbox.own"]  # how to send and follow is told there, not on this page
        rest = [text for key, text in PHRASES[lang].items() if key.startswith("sandbox.") and "{" not in text]
        assert [text for text in rest if text not in html.unescape(page)] == []


async def test_page_has_the_dossier_of_this_hour_and_another_one_in_the_next() -> None:
    agencies = plan(files.read(files.SANDBOX), CATALOGUE, {}).after
    clock = [datetime(2026, 12, 1, 23, 59, 59, tzinfo=VIETNAM)]
    keys = KeyRing.from_text(KEY_SECRETS)
    answers = Answers(lambda: agencies, frozenset(), PUBLIC)
    route = developers.routes(answers, keys, lambda: clock[0])[0]
    for now, code in ((clock[0], "X99.02-261201-2300"), (clock[0] + timedelta(seconds=1), "X99.02-261202-0000")):
        clock[0] = now
        answer = await route.handler(make_mocked_request("GET", route.path))
        assert isinstance(answer, web.Response)
        assert f"{code} {keys.key(parse(code), 0)}" in str(answer.text)


async def test_installation_without_a_sandbox_tells_of_none() -> None:
    async with lookup_alone() as alone:
        for lang, address in DEVELOPERS.items():
            page = html.unescape((await alone.ask(address)).body.decode())
            assert PHRASES[lang]["sandbox.title"] not in page
            assert "X99" not in page


async def test_figures_are_the_limiter_s() -> None:
    async with lookup_alone() as alone:
        page = (await alone.ask(DEVELOPERS["en"])).body.decode()
        assert "100 at once, after that 7200 an hour" in page
        assert Rate.MISSING.allowance.policy.replace('"', "&#34;") in page
        told = set(re.findall(r'<dt class="code">([a-z_]+)</dt>', page))
        assert told == {"missing", "wrong_key", "primary", "home", "home_prefix", "network", "network_prefix"}


@pytest.fixture
def devtools(reaper: Reaper) -> Iterator[str]:
    with chromium(reaper) as listening:
        yield listening


async def test_browser_on_another_site_reads_what_anyone_may_and_nothing_else(devtools: str, house: House) -> None:
    receipt = await house.receive()
    found = await read_page(house, "en")
    script = made_real(found["browser"], house, receipt).replace("console.log(dossier.status)", "dossier.status")
    url = f"{house.lookup_url}/api/v1/dossiers/{receipt['code']}"

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Portal</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as portal, tab(devtools) as browser:
        await browser.open(portal.make_url("/"))
        assert await browser.run(script) == "received"
        told = await browser.run(f'fetch("{url}9").then(answer => answer.headers.get("RateLimit"))')
        assert str(told).startswith('"missing";r=')
        held = f'fetch("{url}", {{headers: {{"If-None-Match": "x"}}}}).then(answer => answer.status)'
        assert await browser.run(held) == 200
        for options in (
            f'{{headers: {{"Hoso24-Key": "{receipt["lookup_key"]}"}}}}',
            '{headers: {"Authorization": "Bearer x"}}',
            '{method: "DELETE"}',
        ):
            refused = await browser.run(f'fetch("{url}", {options}).then(() => "read", () => "refused")')
            assert refused == "refused", options
