"""Signing in at the officers' provider: what proves who it is, what does not, and when the provider is away."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from yarl import URL

from ops.settings import Secret
from tests.conftest import Database
from tests.desk import Browser, Page, add_officer, browser_at, desk_running, desk_settings
from tests.provider import CLIENT_SECRET, Claims, Provider, provider_running

NAME = "Trần Văn Bình (hư cấu)"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with provider_running() as provider:
        yield provider


@pytest.fixture
async def url(database: Database, provider: Provider) -> AsyncIterator[str]:
    await add_officer(database, issuer=provider.issuer)
    settings = desk_settings(database, oidc_issuer=provider.issuer, oidc_client_secret=Secret(CLIENT_SECRET))
    async with desk_running(settings) as desk:
        # The address to come back to is of a host of the desk's own; here it is on a free port.
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str) -> AsyncIterator[Browser]:
    async with browser_at(url) as browser:
        yield browser


async def redirected(browser: Browser, path: str) -> tuple[int, URL]:
    """Status, and where the browser is sent."""
    async with browser.http.get(URL(browser.url + path, encoded=True), allow_redirects=False) as response:
        return response.status, URL(response.headers.get("Location", ""), encoded=True)


async def come_back(browser: Browser, to: str = "", **changes: str) -> Page:
    """Sign in at the provider, and follow the way back; `changes` are made to the query on the way."""
    _, there = await redirected(browser, f"/dang-nhap/di?ve={to}")
    async with browser.http.get(there, allow_redirects=False) as response:
        back = URL(response.headers["Location"], encoded=True)
    query = {**back.query, **changes}
    return await browser.get(str(back.with_query(query).relative()))


async def test_an_officer_signs_in_and_is_led_to_where_he_wanted_to_go(browser: Browser) -> None:
    asked = await browser.get("/quay/nhan")
    assert asked.url.path == "/dang-nhap"
    page = await come_back(browser, "/quay/nhan")
    assert (page.status, page.url.path, NAME in page.words) == (200, "/quay/nhan", True)
    assert "Tài khoản thử nghiệm" not in page.words


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "Ed25519"])
async def test_keys_of_three_kinds_and_new_ones_are_believed(
    browser: Browser, provider: Provider, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.rotate(algorithm)
    assert (await come_back(browser)).status == 200
    monkeypatch.setattr("intake.desk.oidc.KEYS_AGAIN", 0.0)
    provider.rotate(algorithm)
    assert (await come_back(browser)).status == 200
    assert provider.keys_read == 2


def claim(**changes: Any) -> Callable[[Claims], Claims]:
    return lambda claims: {name: value for name, value in (claims | changes).items() if value is not None}


def shifted(**seconds: int) -> Callable[[Claims], Claims]:
    return lambda claims: claims | {name: int(time.time()) + by for name, by in seconds.items()}


@pytest.mark.parametrize(
    "twist",
    [
        claim(nonce="another"),
        claim(nonce=None),
        claim(aud="another"),
        claim(aud=["another"]),
        claim(azp="another"),
        claim(iss="https://another.example"),
        claim(sub=None),
        claim(exp=None),
        claim(exp="soon"),
        shifted(iat=-400, exp=-100),
        shifted(iat=100, exp=200),
    ],
)
async def test_an_answer_that_proves_nothing_signs_nobody_in(
    browser: Browser, provider: Provider, owner: Any, twist: Callable[[Claims], Claims]
) -> None:
    provider.twist = twist
    page = await come_back(browser)
    assert (page.status, NAME in page.text) == (403, False)
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 0


@pytest.mark.parametrize("seconds", [{"iat": -140, "exp": -80}, {"iat": 80, "exp": 140}])
async def test_clocks_may_differ_by_a_minute_and_a_half(
    browser: Browser, provider: Provider, seconds: dict[str, int]
) -> None:
    provider.twist = shifted(**seconds)
    assert (await come_back(browser)).status == 200


@pytest.mark.parametrize("how", ["none", "HS256 with the public key", "another key", "altered", "unknown kid"])
async def test_the_token_does_not_say_how_it_is_checked(
    browser: Browser, provider: Provider, owner: Any, how: str
) -> None:
    other = Provider()
    if how == "none":
        provider.header = {"alg": "none"}
    elif how.startswith("HS256"):
        provider.header = {"alg": "HS256"}
    elif how == "another key":
        provider.signs_with = other.key
    elif how == "unknown kid":
        provider.header = {"kid": "x"}
        provider.signs_with = other.key
    else:
        sign = provider.token

        def altered(claims: Claims) -> str:
            head, _, signature = sign(claims).split(".")
            return f"{head}.{sign(claims | {'sub': 'lan'}).split('.')[1]}.{signature}"

        provider.token = altered  # type: ignore[method-assign]
    page = await come_back(browser)
    assert (page.status, NAME in page.text) == (403, False)
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 0


@pytest.mark.parametrize(
    "changes",
    [{"state": "another"}, {"state": ""}, {"code": "another"}, {"code": ""}, {"iss": "https://another.example"}],
)
async def test_another_sign_in_s_answer_is_not_this_ones(browser: Browser, owner: Any, changes: dict[str, str]) -> None:
    assert (await come_back(browser, **changes)).status == 403
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 0


async def test_a_code_is_used_once_and_by_the_browser_that_began(
    browser: Browser, url: str, provider: Provider, owner: Any
) -> None:
    _, there = await redirected(browser, "/dang-nhap/di")
    async with browser.http.get(there, allow_redirects=False) as response:
        back = str(URL(response.headers["Location"], encoded=True).relative())
    async with browser_at(url) as thief:
        assert (await thief.get(back)).status == 403
    assert (await browser.get(back)).status == 200
    assert (await browser.get(back)).status == 403
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 1
    assert provider.refused == []


@pytest.mark.parametrize("how", ["unknown", "disabled"])
async def test_who_is_no_officer_is_told_so(browser: Browser, provider: Provider, owner: Any, how: str) -> None:
    if how == "unknown":
        provider.subject = "stranger"
    else:
        await owner.execute("UPDATE officer SET disabled_at = now()")
    page = await come_back(browser)
    assert (page.status, "chưa được đăng ký làm cán bộ" in page.words) == (403, True)
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 0


async def test_a_provider_that_is_away_keeps_nobody_from_working(
    browser: Browser, url: str, provider: Provider
) -> None:
    await come_back(browser)
    provider.away = True
    assert (await browser.get("/quay")).status == 200
    async with browser_at(url) as other:
        _, there = await redirected(other, "/dang-nhap/di")
        async with other.http.get(there, allow_redirects=False) as response:
            back = str(URL(response.headers["Location"], encoded=True).relative())
        page = await other.get(back)
        assert (page.status, "tạm thời chưa trả lời được" in page.words) == (503, True)


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example/quay",
        "/quay%5C..%5Cevil",
        "/%5Cevil.example",
        "/quay%0d%0aLocation:%20https://evil.example",
        "/dang-xuat",
        "javascript:alert(1)",
    ],
)
async def test_nobody_is_led_to_another_site(browser: Browser, to: str) -> None:
    page = await come_back(browser, to)
    assert (page.status, str(page.url.relative())) == (200, "/quay")


async def test_there_are_no_links_where_there_is_an_issuer(browser: Browser, database: Database, owner: Any) -> None:
    await add_officer(database, issuer="local")
    assert (await browser.post("/dang-nhap/lien-ket", {"k": "x"})).status == 403
    assert (await browser.get("/dang-nhap/lien-ket?k=x")).url.path == "/dang-nhap"
