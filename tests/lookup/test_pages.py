"""The citizen's pages: redirects, the key's one appearance in a URL, hostile text, and problems in two languages."""

import asyncio
import html
import itertools
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from multidict import CIMultiDictProxy
from yarl import URL

from lookup.clock import microseconds
from lookup.dossier import Record
from lookup.maintenance import Notice, Part
from lookup.web.phrases import PHRASES, status_words
from ops.errors import HeadTooLarge
from ops.http import connection, early_answers
from tests.conftest import Database
from tests.house import House, intake_at, intake_settings, lookup_at, lookup_settings, new_token, until
from tests.lookup.offline import Offline

UNKNOWN = "G99.01.01-200101-0001"
NOWHERE = "postgresql://reader:x@127.0.0.1:1/nowhere"
FORMS = {"vi": "/tra-cuu", "en": "/en/status"}
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{7*7}}"


@dataclass(frozen=True)
class Page:
    """What came back, read to the end."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str

    @property
    def cookies(self) -> list[dict[str, str]]:
        """Each Set-Cookie header as its attributes, lower case, with the value under `value`."""
        found = []
        for header in self.headers.getall("Set-Cookie", []):
            for morsel in SimpleCookie(header).values():
                found.append({"name": morsel.key, "value": morsel.value} | {k: v for k, v in morsel.items() if v})
        return found


@pytest.fixture
async def house(database: Database, redis_url: str) -> AsyncIterator[House]:
    """Lookup and intake; the client keeps no cookies, so each request says which it sends."""
    async with (
        lookup_at(lookup_settings(database.reader_url, redis_url)) as lookup_url,
        intake_at(intake_settings(database.writer_url)) as intake_url,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        yield House(lookup_url, intake_url, http, await new_token(database))


async def see(
    house: House, path: str, *, at: str = "", method: str = "GET", data: Any = None, key: str = "", **headers: str
) -> Page:
    """One request for a page, its path sent as it is spelt, with the key's cookie if there is one."""
    if key:
        headers["Cookie"] = f"hoso24-key={key}"
    url = URL((at or house.lookup_url) + path, encoded=True)
    async with house.http.request(method, url, data=data, headers=headers, allow_redirects=False) as response:
        return Page(response.status, response.headers, await response.text())


def words(page: Page) -> str:
    """The page's text without its tags, as it reads."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.text)))


# -- the form and the way from it --------------------------------------------------------------------------


async def test_form_stands_at_the_root_and_in_english_too(house: House) -> None:
    for path, lang, name in (
        ("/", "vi", "ma"),
        ("/tra-cuu", "vi", "ma"),
        ("/en", "en", "code"),
        ("/en/status", "en", "code"),
    ):
        page = await see(house, path)
        assert page.status == 200
        assert f'<html lang="{lang}">' in page.text
        assert f'name="{name}"' in page.text
        assert f'action="{FORMS[lang]}" method="get"' in page.text


async def test_typed_code_leads_to_the_dossiers_own_address(house: House) -> None:
    for path, location in {
        "/tra-cuu?ma=g99.01.01-200101-0001": f"/tra-cuu/{UNKNOWN}",
        "/?ma=G99.01.01+200101+0001": f"/tra-cuu/{UNKNOWN}",
        "/tra-cuu?code=1%2F2026%2F99901": "/tra-cuu/00001-2026-99901",
        "/en/status?code=g99.01.01-200101-0001": f"/en/status/{UNKNOWN}",
        "/en?ma=g99.01.01-200101-0001": f"/en/status/{UNKNOWN}",
        "/tra-cuu/g99.01.01-200101-0001": f"/tra-cuu/{UNKNOWN}",
        "/en/status/01234%2F2026%2F99901": "/en/status/01234-2026-99901",
        "/tra-cuu/01234/2026/99901": "/tra-cuu/01234-2026-99901",
    }.items():
        page = await see(house, path)
        assert page.status == 301, path
        assert page.headers["Location"] == location, path


async def test_what_is_no_code_comes_back_to_be_corrected(house: House) -> None:
    for form in FORMS.values():
        for typed in ("nonsense", "G99.01.01-260230-0001", "%FF", "%00", "%22%3E%3Cscript%3E"):
            page = await see(house, f"{form}?ma={typed}")
            assert page.status == 400, typed
            assert 'aria-invalid="true"' in page.text
            assert "<script" not in page.text
    assert 'value="nonsense"' in (await see(house, "/tra-cuu?ma=nonsense")).text


async def test_empty_form_is_told_so(house: House) -> None:
    empty, wrong = await see(house, "/tra-cuu?ma=+"), await see(house, "/tra-cuu?ma=x")
    assert empty.status == wrong.status == 400
    assert words(empty) != words(wrong)


async def test_redirect_never_leaves_the_house(house: House) -> None:
    for path in ("//evil.example/tra-cuu", "/tra-cuu//evil.example", "/tra-cuu?ma=//evil.example", "/%0d%0aX:y"):
        page = await see(house, path)
        assert page.status in {400, 404}, path
        assert "Location" not in page.headers


# -- a dossier ---------------------------------------------------------------------------------------------


async def test_dossier_is_shown_in_both_languages(house: House) -> None:
    code = (await house.receive())["code"]
    for lang, form in FORMS.items():
        page = await see(house, f"{form}/{code}")
        assert page.status == 200
        assert status_words("received", lang).name in words(page)
        assert code in page.text
        assert page.headers["Link"] == f'<{form}/{code}>; rel="canonical"'
        assert page.headers["Cache-Control"] == "private, no-cache"


def offline(**given: Any) -> Offline:
    """The pages over one dossier, without servers."""
    at = datetime(2026, 11, 20, 2, tzinfo=UTC)
    record = Record(code=UNKNOWN, version=1, status=2, service="S.004", agency="G99.01.01", submitted_at=at)
    return Offline(record, microseconds(at), **given)


@pytest.mark.parametrize("form", FORMS.values())
async def test_page_is_kept_only_while_it_is_fresh_and_anyones(form: str) -> None:
    path = f"{form}/{UNKNOWN}"
    for stale, kept in ((False, "private, no-cache"), (True, "private, no-store")):
        lookup = offline(stale=stale)
        assert (await lookup.ask(path)).headers["Cache-Control"] == kept
        holder = await lookup.ask(path, headers={"Cookie": f"hoso24-key={lookup.key}"})
        assert holder.headers["Cache-Control"] == "private, no-store"
        mistyped = await lookup.ask(path, method="POST", body=b"key=mistyped")
        assert (mistyped.status, mistyped.headers["Cache-Control"]) == (400, "private, no-store")


@pytest.mark.parametrize(
    ("running", "told"),
    [
        (False, {"vi": "Sắp bảo trì: Tra cứu hồ sơ, 22:00", "en": "Planned maintenance: Checking status, 22:00"}),
        (True, {"vi": "Đang bảo trì: Tra cứu hồ sơ.", "en": "Under maintenance: Checking status."}),
    ],
)
async def test_form_points_out_the_maintenance_there_is(running: bool, told: dict[str, str]) -> None:
    begins = datetime(2026, 12, 5, 15, tzinfo=UTC)
    notice = Notice(
        number=1,
        starts_at=begins,
        ends_at=begins + timedelta(hours=2),
        shown_from=begins,
        affects=(Part.LOOKUP,),
        text_vi="Nâng cấp máy chủ.",
        text_en="New servers.",
        announced_at=begins,
    )
    lookup = offline(maintenance=lambda: (notice, running))
    for lang, text in (("vi", "Nâng cấp máy chủ."), ("en", "New servers.")):
        for path in (FORMS[lang], "/" if lang == "vi" else "/en"):
            shown = (await lookup.ask(path)).text or ""
            assert f"<b>{told[lang]}" in shown
            assert text in shown
            assert PHRASES[lang]["maintenance.effect.lookup"] in shown
            assert PHRASES[lang]["form.maintenance.others_work"] in shown
            assert 'id="maintenance"' not in ((await offline().ask(path)).text or "")


async def test_pages_obey_a_policy_that_allows_no_script(house: House) -> None:
    code = (await house.receive())["code"]
    for path in ("/", f"/tra-cuu/{code}", f"/tra-cuu/{UNKNOWN}", "/nothing", "/tra-cuu?ma=x"):
        page = await see(house, path)
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "<script" not in page.text
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert page.headers["X-Content-Type-Options"] == "nosniff"


async def test_official_number_shows_the_dossier_and_names_its_own_address(house: House) -> None:
    code = (await house.receive())["code"]
    path = f"/api/v1/dossiers/{code}/official-number"
    await house.hand_in("PUT", path, {"number": "4321/2026/99901"})
    page = await see(house, "/tra-cuu/04321-2026-99901")
    assert page.status == 200
    assert page.headers["Link"] == f'</tra-cuu/{code}>; rel="canonical"'


async def test_hostile_text_is_shown_as_text(house: House) -> None:
    receipt = await house.receive(department=HOSTILE)
    await house.move(receipt["code"], "supplement_required", note=HOSTILE, department=HOSTILE)
    for form in FORMS.values():
        page = await see(house, f"{form}/{receipt['code']}", key=receipt["lookup_key"])
        assert page.status == 200
        assert "<script" not in page.text
        assert "<img src=x" not in page.text
        assert words(page).count("{{7*7}}") == 3
    assert "&lt;script&gt;" in page.text


async def test_hostile_address_is_shown_as_text(house: House) -> None:
    for typed in ("%3Cscript%3Ealert(1)%3C%2Fscript%3E", "%22onmouseover=%22alert(1)", "{{1234567*7654321}}"):
        page = await see(house, f"/tra-cuu/{typed}")
        assert page.status == 400
        assert "<script" not in page.text
        assert '"onmouseover="' not in page.text
        assert str(1234567 * 7654321) not in page.text


async def test_applicant_is_on_no_page(house: House) -> None:
    applicant = {"name": "Trần Thị Hư Cấu", "id": "999000000077", "phone": "0000000077", "email": "mau@vi-du.example"}
    receipt = await house.receive(applicant=applicant, subject="Chuyện riêng", officer="Cán bộ Mẫu")
    for key in ("", receipt["lookup_key"]):
        page = await see(house, f"/tra-cuu/{receipt['code']}", key=key)
        assert page.status == 200
        assert not [value for value in (*applicant.values(), "Chuyện riêng", "Cán bộ Mẫu") if value in words(page)]


# -- the lookup key ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values())
async def test_key_in_the_address_becomes_two_cookies_for_this_dossier_only(house: House, form: str) -> None:
    receipt = await house.receive()
    code, key = receipt["code"], receipt["lookup_key"]
    page = await see(house, f"{form}/{code}?key={key}")
    assert (page.status, page.headers["Location"]) == (303, f"{form}/{code}?details=shown")
    assert page.headers["Cache-Control"] == "no-store"
    assert key not in page.text
    assert {cookie["path"] for cookie in page.cookies} == {f"/tra-cuu/{code}", f"/en/status/{code}"}
    for cookie in page.cookies:
        assert cookie["value"] == key
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert int(cookie["max-age"]) > 0
        assert "domain" not in cookie
        assert "secure" not in cookie  # this house is not behind TLS


async def test_cookies_travel_over_tls_only_where_there_is_tls() -> None:
    lookup = offline()  # it is behind TLS
    answer = await lookup.ask(f"/tra-cuu/{UNKNOWN}?key={lookup.key}")
    cookies = answer.headers.getall("Set-Cookie")
    assert len(cookies) == 2
    assert all("; Secure" in cookie for cookie in cookies)


async def test_key_never_stands_in_a_redirect(house: House) -> None:
    receipt = await house.receive()
    code, key = receipt["code"], receipt["lookup_key"]
    for path in (f"/tra-cuu/{code.lower()}?key={key}", f"/tra-cuu?ma={code}&key={key}", f"/en/status/{code}?key={key}"):
        page = await see(house, path)
        assert page.status in {301, 303}, path
        assert key not in page.headers["Location"], path


async def test_holder_sees_the_steps_and_the_key_stands_nowhere(house: House) -> None:
    receipt = await house.receive(department="Bộ phận Một cửa (hư cấu)")
    code, key = receipt["code"], receipt["lookup_key"]
    anonymous, holder = await see(house, f"/tra-cuu/{code}"), await see(house, f"/tra-cuu/{code}", key=key)
    assert holder.status == 200
    assert "Bộ phận Một cửa (hư cấu)" in holder.text
    assert "Bộ phận Một cửa (hư cấu)" not in anonymous.text
    assert holder.headers["Cache-Control"] == "private, no-store"
    assert key not in holder.text
    assert key.replace("-", "") not in holder.text


async def test_typed_key_opens_the_holders_page(house: House) -> None:
    receipt = await house.receive()
    code, key = receipt["code"], receipt["lookup_key"]
    page = await see(house, f"/tra-cuu/{code}", method="POST", data={"key": key})
    assert (page.status, page.headers["Location"]) == (303, f"/tra-cuu/{code}?details=shown")
    assert {cookie["value"] for cookie in page.cookies} == {key}


@pytest.mark.parametrize("spell", [str.lower, lambda key: key.replace("-", " "), lambda key: f" {key}\t"])
async def test_key_typed_in_any_spelling_opens_the_page_it_leads_to(house: House, spell: Any) -> None:
    receipt = await house.receive()
    path = f"/tra-cuu/{receipt['code']}"
    page = await see(house, path, method="POST", data={"key": spell(receipt["lookup_key"])})
    assert page.status == 303
    assert (await see(house, path, key=page.cookies[0]["value"])).status == 200


async def test_mistyped_key_comes_back_to_be_corrected(house: House) -> None:
    code = (await house.receive())["code"]
    for form in FORMS.values():
        for data in ({"key": "mistyped-key-<b>"}, {"key": ""}, {}, {"other": "x"}):
            page = await see(house, f"{form}/{code}", method="POST", data=data)
            assert page.status == 400
            assert 'aria-invalid="true"' in page.text
            assert ('value="mistyped-key-&lt;b&gt;"' in page.text) is ("mistyped-key" in data.get("key", ""))
            assert "mistyped-key-<b>" not in page.text
            assert page.cookies == []


ODD_FORMS = [
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=key\r\n\r\nabc\r\n--x--\r\n"),
    ("multipart/form-data; boundary=x", b"--y"),
    ("multipart/form-data", b"abc"),
    ("application/x-www-form-urlencoded; charset=nonsense", b"key=abc"),
    ("application/x-www-form-urlencoded; charset=utf-16", b"key=abc"),
    ("application/x-www-form-urlencoded", b"key=%ff%00"),
    ("application/x-www-form-urlencoded", b"key=abc" + b"&a=b" * 1000),
    ("application/json", b'{"key": "abc"}'),
]


async def test_form_that_no_browser_sends_is_a_bad_request_and_no_accident(house: House) -> None:
    code = (await house.receive())["code"]
    for kind, body in ODD_FORMS:
        page = await see(house, f"/tra-cuu/{code}", method="POST", data=body, **{"Content-Type": kind})
        assert page.status == 400, (kind, body)
        assert page.cookies == []


async def test_wrong_key_is_404_and_its_cookie_is_dropped(house: House) -> None:
    code, other = (await house.receive())["code"], (await house.receive())["lookup_key"]
    typed = await see(house, f"/tra-cuu/{code}", method="POST", data={"key": other})
    assert typed.status == 404
    assert not [cookie for cookie in typed.cookies if cookie["value"]]
    for key, status in ((other, 404), ("damaged", 400)):
        for form in FORMS.values():
            page = await see(house, f"{form}/{code}", key=key)
            assert page.status == status
            assert {cookie["path"] for cookie in page.cookies} == {f"/tra-cuu/{code}", f"/en/status/{code}"}
            assert all(cookie["max-age"] == "0" and not cookie["value"] for cookie in page.cookies)
            assert other not in page.text


async def test_no_address_on_a_page_carries_a_query_but_the_style_sheets(house: House) -> None:
    receipt = await house.receive()
    page = await see(house, f"/tra-cuu/{receipt['code']}", key=receipt["lookup_key"])
    queries = [target for target in re.findall(r'(?:href|action|src)="([^"]*)"', page.text) if "?" in target]
    assert all(target.startswith("/static/") for target in queries)


# -- problems ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lang", "form"), FORMS.items())
async def test_problem_pages_speak_the_language_of_their_address(house: House, lang: str, form: str) -> None:
    for path, status in ((f"{form}/{UNKNOWN}", 404), (f"{form}/nonsense", 400)):
        page = await see(house, path, **{"Accept-Language": "de"})
        assert page.status == status
        assert page.headers["Content-Type"].startswith("text/html")
        assert f'<html lang="{lang}">' in page.text
        assert page.headers["Cache-Control"] == "private, no-store"
        assert page.headers["X-Request-Id"] not in page.text  # it is for who reads the log, of a fault of ours


@pytest.mark.parametrize(("lang", "form"), FORMS.items())
async def test_page_when_nothing_can_be_read_offers_another_try(
    house: House, redis_url: str, lang: str, form: str
) -> None:
    async with lookup_at(lookup_settings(NOWHERE, redis_url)) as cut_off:
        page = await see(house, f"{form}/{UNKNOWN}", at=cut_off)
    assert page.status == 503
    assert int(page.headers["Retry-After"]) >= 1
    assert f'<html lang="{lang}">' in page.text
    assert f'href="{form}/{UNKNOWN}"' in page.text
    assert page.headers["X-Request-Id"] in page.text


async def test_old_copy_is_marked_on_every_page(house: House, redis_url: str) -> None:
    receipt = await house.receive()
    pages = [(f"{form}/{receipt['code']}", key) for form in FORMS.values() for key in ("", receipt["lookup_key"])]
    for path, key in pages:
        assert 'id="stale"' not in (await see(house, path, key=key)).text
    async with lookup_at(lookup_settings(NOWHERE, redis_url, soft_age=0.01)) as cut_off:

        async def marked() -> bool:
            return 'id="stale"' in (await see(house, pages[0][0], at=cut_off)).text

        await until(marked)
        for path, key in pages:
            page = await see(house, path, at=cut_off, key=key)
            assert page.status == 200
            assert 'id="stale"' in page.text, path
            assert page.headers["Cache-Control"] == "private, no-store"


async def test_unknown_address_and_wrong_method_are_pages_too(house: House) -> None:
    assert (await see(house, "/nothing")).status == 404
    page = await see(house, "/tra-cuu", method="POST")
    assert page.status == 405
    assert page.headers["Allow"]
    assert page.headers["Content-Type"].startswith("text/html")


async def test_head_of_a_page_has_no_body(house: House) -> None:
    code = (await house.receive())["code"]
    page = await see(house, f"/tra-cuu/{code}", method="HEAD")
    assert (page.status, page.text) == (200, "")


# -- cookies of other applications --------------------------------------------------------------------------


async def sent_in_pieces(url: str, head: bytes, size: int) -> bytes:
    """What is answered to a head that arrives in pieces of this size."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        for place in range(0, len(head), size):
            writer.write(head[place : place + size])
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("early", [True, False], ids=["early", "aiohttp"])
async def test_too_many_cookies_are_a_page_in_its_language_and_a_problem_of_the_api(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    monkeypatch.setattr(early_answers, "is_possible", lambda _: early)
    shown = {
        "/tra-cuu": "Trình duyệt gửi kèm quá nhiều cookie",
        f"/tra-cuu/{UNKNOWN}?x=1": "Trình duyệt gửi kèm quá nhiều cookie",
        "/": "Trình duyệt gửi kèm quá nhiều cookie",
        "/en": "Your browser sends too many cookies",
        f"/en/status/{UNKNOWN}": "Your browser sends too many cookies",
        f"/api/v1/dossiers/{UNKNOWN}": '"code":"head_too_large"',
    }
    async with lookup_at(lookup_settings(database.reader_url, redis_url)) as url:
        for (path, expected), size in itertools.product(shown.items(), (20_000, 1_400, 500)):
            lines = f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Language: vi\r\nCookie: a={'b' * 12_000}\r\n\r\n"
            said = await sent_in_pieces(url, lines.encode(), size)
            head, _, body = said.partition(b"\r\n\r\n")
            assert head.split()[1] == b"431", (path, size)
            assert expected in body.decode(), (path, size)
            kind = b"application/problem+json" if "/api/" in path else b"text/html; charset=utf-8"
            assert b"Content-Type: " + kind in head
            if "/api/" in path:
                assert json.loads(body)["title"] == HeadTooLarge.title_vi
        monkeypatch.setattr(connection, "REST_SECONDS", 0.05)
        unfinished = f"GET /en HTTP/1.1\r\nCookie: a={'b' * 9_000}".encode()
        assert b" 431 " in await sent_in_pieces(url, unfinished, len(unfinished))


# -- static files ------------------------------------------------------------------------------------------


async def test_static_files_may_be_kept_for_ever_because_their_address_changes(house: House) -> None:
    addresses = set(re.findall(r'"(/static/[^"]+)"', (await see(house, "/")).text))
    assert len(addresses) >= 2
    for address in addresses:
        page = await see(house, address)
        assert page.status == 200
        assert re.search(r"\?[0-9a-f]{8}$", address)
        assert page.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert page.headers["Content-Type"].split(";")[0] in {"text/css", "image/svg+xml"}


@pytest.mark.parametrize(
    "name", ["nothing", "..%2fapp.py", "%2e%2e/pages.py", "site.css%00", "", "../templates/base.html"]
)
async def test_no_other_file_is_served(house: House, name: str) -> None:
    assert (await see(house, f"/static/{name}")).status == 404
