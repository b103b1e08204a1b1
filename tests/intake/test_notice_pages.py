"""The notices' public port: withdrawing by a mail's link, and ratings of the citizens' pages."""

import dataclasses
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from intake.notices import app
from intake.notices.pages import MOST_CLIENTS, NoticePages
from intake.settings import NoticesSettings
from lookup.ratings import ADDRESSES, ALLOWANCE
from ops.http import server
from ops.settings import Secret
from tests.conftest import Database
from tests.intake.told import SECRET, SENDER, SITE, TOKENS, receive

STANDS = "SELECT channel FROM consent WHERE code = $1 AND withdrawn_at IS NULL ORDER BY channel"
RATINGS = "SELECT language, status, score, n FROM rating ORDER BY language, status, score"


def settings(database: Database, **changes: Any) -> NoticesSettings:
    """Of a process that tells nobody unless `changes` say so."""
    usual = NoticesSettings(
        pg_url=Secret(database.url("hoso24_notices")),
        notice_secret=Secret(SECRET.hex()),
        notice_sender=SENDER,
        public_url=SITE,
        host="127.0.0.1",
        trusted_proxies=("127.0.0.0/8",),
        drain_seconds=0.0,
    )
    return dataclasses.replace(usual, **changes)


@pytest.fixture
async def notices(database: Database) -> AsyncIterator[aiohttp.ClientSession]:
    """A running process; its session follows nothing."""
    started = await server.start(await app.build(settings(database)), service="notices", port=0, admin_port=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{started.port}") as http:
        yield http
    await started.stop()


def path(code: str, channel: str = "mail") -> str:
    return f"/thong-bao/thoi/{TOKENS.token(code, channel)}"


async def stand(owner: Any, code: str) -> list[str]:
    return [row["channel"] for row in await owner.fetch(STANDS, code)]


async def test_the_page_asks_and_only_its_button_withdraws(notices: aiohttp.ClientSession, owner: Any) -> None:
    code, other = await receive(owner, 1), await receive(owner, 2)
    async with notices.get(path(code)) as answer:
        page = await answer.text()
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert page.count("<button>") == 1
    assert code not in page
    assert await stand(owner, code) == ["mail"], "whatever opens links withdraws nothing"
    for _ in range(2):  # a repeat changes nothing
        async with notices.post(path(code)) as answer:
            assert answer.status == 200
            assert "Đã ngừng gửi thông báo về hồ sơ này." in await answer.text()
        assert await stand(owner, code) == []
    assert await stand(owner, other) == ["mail"]


async def test_a_mail_program_withdraws_with_one_post(notices: aiohttp.ClientSession, owner: Any) -> None:
    code = await receive(owner, 1)
    await owner.execute(
        "INSERT INTO consent (code, channel, address, given_by) VALUES ($1, 'gateway', '0901', 'test')", code
    )
    async with notices.post(path(code), data={"List-Unsubscribe": "One-Click"}) as answer:
        assert answer.status == 200
    assert await stand(owner, code) == ["gateway"], "of that channel alone"


async def test_a_token_that_is_none_of_ours_opens_nothing(notices: aiohttp.ClientSession, owner: Any) -> None:
    code = await receive(owner, 1)
    good = TOKENS.token(code, "mail")
    for token in (good[:-1], good + "A", good[:-4] + "AAAA", good.swapcase(), "x", code, "%0d%0a", "a" * 3000):
        for method in ("GET", "POST"):
            async with notices.request(method, f"/thong-bao/thoi/{token}") as answer:
                assert answer.status == 404
                assert answer.content_type == "text/html"
    assert await stand(owner, code) == ["mail"]


async def test_no_line_of_the_log_tells_whose_link_it_was(
    notices: aiohttp.ClientSession, owner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    code = await receive(owner, 1)
    caplog.set_level(logging.DEBUG)
    for method in ("GET", "POST"):
        async with notices.request(method, path(code)) as answer:
            assert answer.status == 200
    told = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    ours = [line for line in told if "thong-bao" in line and "aiohttp.client" not in line]
    assert ours, "the access log has a line"
    assert not [line for line in ours if code in line or TOKENS.token(code, "mail") in line]


# -- ratings -------------------------------------------------------------------------------------------------


async def rate(http: aiohttp.ClientSession, address: str = ADDRESSES["vi"], **more: Any) -> aiohttp.ClientResponse:
    form = {"status": "4", "score": "satisfied"} | more.pop("form", {})
    async with http.post(address, data=form, allow_redirects=False, **more) as answer:
        await answer.read()
        return answer


async def test_ratings_are_added_up_by_day_language_status_and_degree(
    notices: aiohttp.ClientSession, owner: Any
) -> None:
    for _ in range(3):
        answer = await rate(notices)
        assert (answer.status, answer.headers["Location"]) == (303, ADDRESSES["vi"]), "the lookup's page thanks"
    await rate(notices, ADDRESSES["en"], form={"score": "very_satisfied", "status": "10"})
    await rate(notices, "/danh-gia", form={"score": "not_satisfied"})
    assert [tuple(row) for row in await owner.fetch(RATINGS)] == [
        ("en", 10, 3, 1),
        ("vi", 4, 1, 1),
        ("vi", 4, 2, 3),
    ]
    today = await owner.fetchval("SELECT (now() AT TIME ZONE interval '7 hours')::date")
    assert await owner.fetchval("SELECT DISTINCT day FROM rating") == today
    columns = await owner.fetchval(
        "SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = 'rating'::regclass AND attnum > 0"
    )
    assert set(columns) == {"day", "language", "status", "score", "n"}, "no row says who or about what"


async def test_what_no_form_of_ours_sends_counts_nothing(notices: aiohttp.ClientSession, owner: Any) -> None:
    for form in ({"status": "11"}, {"status": ""}, {"score": "best"}, {"score": ""}, {"status": "0"}):
        assert (await rate(notices, form=form)).status == 400
    cross = await rate(notices, headers={"Sec-Fetch-Site": "cross-site"})
    assert (cross.status, cross.headers["Location"]) == (303, "/tra-cuu")
    assert await owner.fetchval("SELECT count(*) FROM rating") == 0


async def test_a_network_that_sends_many_is_refused_and_others_are_not(
    notices: aiohttp.ClientSession, owner: Any
) -> None:
    one, other = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "198.51.100.9"}
    for _ in range(ALLOWANCE.burst):
        assert (await rate(notices, headers=one)).status == 303
    refused = await rate(notices, headers=one)
    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 180
    assert (await rate(notices, headers=other)).status == 303
    assert await owner.fetchval("SELECT sum(n) FROM rating") == ALLOWANCE.burst + 1


def test_networks_that_rated_long_ago_are_forgotten_first() -> None:
    pages = NoticePages(None, TOKENS, None, monotonic=lambda: 0.0)  # type: ignore[arg-type]
    for number in range(MOST_CLIENTS + 5):
        pages._spend(number.to_bytes(4, "big"))
    assert len(pages._due) == MOST_CLIENTS
    assert (0).to_bytes(4, "big") not in pages._due


async def test_lookup_answers_the_page_that_thanks_and_every_address_of_the_form() -> None:
    assert set(ADDRESSES.values()) == {"/tra-cuu/danh-gia", "/en/status/rating"}
