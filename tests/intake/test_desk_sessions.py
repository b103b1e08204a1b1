"""Sessions of officers: begun by one-time links, ended by time, sign-out and the operator; and what every page has."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import Database
from tests.desk import Browser, add_officer, browser_at, desk_running, desk_settings, new_link, signed_in, use_link

INBOX = "/quay"


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database)
    async with desk_running(desk_settings(database)) as desk:
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str, database: Database) -> AsyncIterator[Browser]:
    async with signed_in(url, database) as browser:
        yield browser


async def test_a_link_signs_an_officer_in_once(url: str, database: Database) -> None:
    link = await new_link(database)
    async with browser_at(url) as first, browser_at(url) as second:
        page = await use_link(first, link)
        assert (page.status, page.url.path) == (200, INBOX)
        assert "Trần Văn Bình (hư cấu) · Bộ phận Một cửa" in page.words
        assert "Tài khoản thử nghiệm" in page.words
        again = await use_link(second, link)
        assert (again.status, "đã được dùng" in again.words) == (403, True)
        assert (await second.get(INBOX)).url.path == "/dang-nhap"


async def test_opening_a_link_does_not_use_it(url: str, database: Database) -> None:
    link = await new_link(database)
    async with browser_at(url) as browser:
        for _ in range(2):
            assert (await browser.get(f"/dang-nhap/lien-ket?k={link}")).status == 200
        assert (await use_link(browser, link)).url.path == INBOX


@pytest.mark.parametrize(
    "ended",
    [
        "UPDATE desk_session SET seen_at = now() - interval '60 minutes'",
        "UPDATE desk_session SET ends_at = now()",
        "UPDATE desk_session SET issuer = issuer, kind = 'link'",
        "UPDATE officer SET disabled_at = now()",
        "DELETE FROM desk_session",
    ],
)
async def test_a_session_ends_by_time_by_its_row_and_with_its_officer(browser: Browser, owner: Any, ended: str) -> None:
    assert (await browser.get(INBOX)).url.path == INBOX
    await owner.execute(ended)
    assert (await browser.get(INBOX)).url.path == "/dang-nhap"


async def test_a_session_lasts_as_long_as_it_is_used_and_not_beyond_ten_hours(browser: Browser, owner: Any) -> None:
    await owner.execute("UPDATE desk_session SET seen_at = now() - interval '59 minutes'")
    assert (await browser.get(INBOX)).url.path == INBOX
    row = await owner.fetchrow(
        "SELECT now() - seen_at < interval '1 minute' AS seen, ends_at - created_at AS lasts FROM desk_session"
    )
    assert (row["seen"], row["lasts"].total_seconds()) == (True, 36_000)


async def test_sign_out_ends_the_row_not_only_the_cookie(browser: Browser, owner: Any) -> None:
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 1
    page = await browser.post("/dang-xuat")
    assert (page.url.path, "Đã đăng xuất." in page.words) == ("/dang-nhap", True)
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 0


async def test_the_database_holds_no_secret_that_signs_in(url: str, database: Database, owner: Any) -> None:
    link = await new_link(database)
    stored = await owner.fetchval("SELECT hash FROM desk_session")
    assert len(stored) == 32
    assert stored != link.encode()[:32]
    async with browser_at(url) as browser:
        await use_link(browser, link)
        (cookie,) = browser.http.cookie_jar
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert cookie.value.encode()[:32] != await owner.fetchval("SELECT hash FROM desk_session")


async def test_every_page_says_that_nothing_foreign_may_run_frame_or_keep_it(browser: Browser) -> None:
    for path in (INBOX, "/dang-nhap", "/quay/nowhere"):
        page = await browser.get(path)
        assert page.headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
