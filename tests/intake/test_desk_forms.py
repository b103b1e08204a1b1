"""Whose forms the desk takes: those of its own pages, and of no other site, port or program."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.conftest import Database
from tests.desk import Browser, add_officer, desk_running, desk_settings, signed_in

PATH = "/quay/nhan/S.004"
FIELDS = {"do": "receive", "name": "Lê Văn An (hư cấu)", "case": "default"}


@pytest.fixture
async def browser(database: Database) -> AsyncIterator[Browser]:
    await add_officer(database)
    async with (
        desk_running(desk_settings(database)) as desk,
        signed_in(f"http://127.0.0.1:{desk.port}", database) as browser,
    ):
        yield browser


async def sent(browser: Browser, headers: dict[str, str], path: str = PATH) -> tuple[int, str]:
    """Send the form with exactly these headers; the status and the text."""
    form = aiohttp.FormData(FIELDS | {"once": str(uuid.uuid4())})
    async with browser.http.post(browser.url + path, data=form, headers=headers) as response:
        return response.status, await response.text()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-site", "Origin": "{url}"},
        {},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Origin": "http://evil.example@{host}@evil.example"},
        {"Referer": "{url}/quay/nhan/S.004"},
    ],
)
async def test_forms_of_other_origins_change_nothing(browser: Browser, owner: Any, headers: dict[str, str]) -> None:
    host = browser.url.removeprefix("http://")
    given = {"url": browser.url, "host": host, "port": host.partition(":")[2]}
    status, text = await sent(browser, {name: value.format(**given) for name, value in headers.items()})
    assert (status, "không được gửi từ trang của hệ thống" in text) == (403, True)
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0
    status, _ = await sent(browser, {}, "/dang-xuat")
    assert status == 403
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 1


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "{url}"}])
async def test_a_form_of_the_desks_own_is_taken(browser: Browser, owner: Any, headers: dict[str, str]) -> None:
    status, text = await sent(browser, {name: value.format(url=browser.url) for name, value in headers.items()})
    assert status == 200, text
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 1


async def test_a_form_whose_session_ended_while_it_was_typed_is_sent_again_in_the_next_one(
    browser: Browser, database: Database, owner: Any
) -> None:
    fields = FIELDS | {"once": str(uuid.uuid4())}
    await owner.execute("DELETE FROM desk_session")
    over = await browser.post(PATH, fields)
    assert (over.status, "Phiên làm việc đã hết" in over.words) == (401, True)
    assert FIELDS["name"] in over.text
    kept = over.fields(PATH)
    async with signed_in(browser.url, database) as again:
        assert (await again.post(PATH, kept | FIELDS)).url.path.startswith("/quay/ho-so/")
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 1


async def test_a_form_of_ten_thousand_fields_is_refused(browser: Browser, owner: Any) -> None:
    page = await browser.post(PATH, [("a", "b")] * 10_000)
    assert page.status in (400, 413)
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0
