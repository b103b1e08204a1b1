"""GET /api/v1/changes as partners ask it: what it takes, what it refuses, and how it waits."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from intake import metrics
from intake.partners.cursor import BEGINNING
from lookup.clock import local
from ops.http import server
from tests.books import append, receive
from tests.conftest import Database
from tests.house import intake_running, intake_settings, new_client, new_token, until

A, B = "G99.01.01-261130-0001", "G99.02.01-261130-0001"
HERE, THERE = "G99.01.01", "G99.02.01"


@dataclass
class Partner:
    """A client with its token at an intake."""

    url: str
    http: aiohttp.ClientSession
    token: str

    async def ask(self, query: str) -> tuple[int, Any, Mapping[str, str]]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.get(f"{self.url}/api/v1/changes?{query}", headers=headers) as response:
            return response.status, await response.json(content_type=None), response.headers

    async def page(self, query: str) -> tuple[list[tuple[str, int]], str, bool]:
        status, answer, _ = await self.ask(query)
        assert status == 200, answer
        events = [(event["subject"], event["data"]["version"]) for event in answer["events"]]
        return events, answer["next"], answer["caught_up"]


@asynccontextmanager
async def intake(database: Database) -> AsyncIterator[server.Server]:
    async with intake_running(intake_settings(database.writer_url)) as started:
        yield started


@pytest.fixture
async def partner(database: Database) -> AsyncIterator[Partner]:
    """A client of agency G99.01.01's at a running intake."""
    token = await new_client(database, "portal", HERE, ["follow"])
    async with intake(database) as started, aiohttp.ClientSession() as http:
        yield Partner(f"http://127.0.0.1:{started.port}", http, token)


def waiting() -> int:
    return int(metrics.FEED_WAITERS._value.get())


async def wait_for(count: int) -> None:
    async def there() -> bool:
        return waiting() == count

    await until(there)


ADD_AGENCY = """
INSERT INTO agency (code, parent, name_vi, name_en, sample, valid_from)
VALUES ('G99.01.01.01', 'G99.01.01', 'Ví dụ', 'Example', true, '2020-01-01')
"""
ADD_LOAD = "INSERT INTO catalogue_load (digest, author, sample, summary) VALUES (repeat('0', 64), 'test', true, '{}')"


@pytest.mark.parametrize("query", ["from=earliest", "from=earliest&wait=2"])
async def test_agency_that_was_added_a_moment_ago_is_passed_over_by_nobody(
    partner: Partner, owner: Any, writer: Any, query: str
) -> None:
    """An intake reads the catalogue once a minute."""
    assert await partner.page("from=earliest") == ([], BEGINNING.text, True)
    async with owner.transaction():
        await owner.execute(ADD_AGENCY)
        await owner.execute(ADD_LOAD)
    await receive(writer, "G99.01.01.01-261130-0001", agency="G99.01.01.01", origin="G99.01.01.01")
    assert (await partner.page(query))[0] == [("G99.01.01.01-261130-0001", 1)]


# -- what it takes ---------------------------------------------------------------------------------------------------


async def test_client_follows_from_a_moment_page_by_page(partner: Partner, writer: Any) -> None:
    assert await partner.page("from=earliest") == ([], BEGINNING.text, True)
    assert await partner.page("from=now") == ([], BEGINNING.text, True)
    await receive(writer, A)
    await receive(writer, B, agency=THERE, origin=THERE, submitted_by="portal")
    await append(writer, A, status=4)
    first, place, caught_up = await partner.page("from=earliest&limit=2")
    assert (first, caught_up) == ([(A, 1), (B, 1)], False)
    second, place, caught_up = await partner.page(f"after={place}")
    assert (second, caught_up) == ([(A, 2)], True)
    assert await partner.page(f"after={place}&limit=1000&wait=0") == ([], place, True)
    assert await partner.page("from=now") == ([], place, True)
    for begin in ("2026-11-30T00:00:00Z", "2026-11-30T07:00:00%2B07:00", "2026-11-30T07:00:00+07:00"):
        assert (await partner.page(f"from={begin}"))[0] == [(A, 1), (B, 1), (A, 2)]
    assert await partner.page("from=2999-01-01T00:00:00Z") == ([], place, True)
    assert (await partner.page("from=earliest&mine=true"))[0] == [(B, 1)]
    assert (await partner.page(f"from=earliest&agency={HERE}"))[0] == [(A, 1), (A, 2)]
    assert (await partner.page(f"from=earliest&mine=true&agency={HERE}"))[0] == []
    _, answer, headers = await partner.ask("from=earliest&limit=1")
    assert headers["Cache-Control"] == "no-store"
    assert headers["RateLimit-Policy"].startswith('"read"')
    assert answer["events"][0]["source"] == "urn:hoso24:127.0.0.1:8080"


async def test_imported_dossiers_are_followed_and_may_be_left_out(partner: Partner, writer: Any) -> None:
    async with writer.transaction():
        for n in range(1, 31):
            await receive(writer, f"G99.01.01-261130-{n:04}", bulk=True)
    await receive(writer, "G99.01.01-261130-0099")
    assert len((await partner.page("from=earliest"))[0]) == 31
    assert (await partner.page("from=earliest&bulk=false"))[0] == [("G99.01.01-261130-0099", 1)]


async def test_dossier_that_leaves_and_comes_back_is_seen_to_do_so(partner: Partner, writer: Any) -> None:
    await receive(writer, B, agency=THERE, origin=THERE)
    await append(writer, B, agency=HERE, came_from=THERE)
    await append(writer, B, status=4)
    await append(writer, B, agency=THERE, came_from=HERE)
    await append(writer, B, status=5)  # not ours
    await append(writer, B, status=4, agency=HERE, came_from=THERE)
    assert (await partner.page("from=earliest"))[0] == [(B, 2), (B, 3), (B, 4), (B, 6)]


async def test_agency_that_a_new_catalogue_puts_elsewhere_is_followed_there(
    database: Database, writer: Any, owner: Any
) -> None:
    await receive(writer, A)
    running = intake_settings(database.writer_url)
    for parent, seen in (("G99.01", [(A, 1)]), ("G99.02", [])):
        await owner.execute("UPDATE agency SET parent = $1 WHERE code = $2", parent, HERE)
        token = await new_token(database, "G99.01", ("follow",))
        async with intake_running(running) as started, aiohttp.ClientSession() as http:
            there = Partner(f"http://127.0.0.1:{started.port}", http, token)
            assert (await there.page("from=earliest"))[0] == seen


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid_parameter"),
        (f"after={BEGINNING.text}&from=now", 400, "invalid_parameter"),
        ("from=yesterday", 400, "invalid_parameter"),
        ("from=2026-11-30", 400, "invalid_parameter"),
        ("from=2026-11-30T07:00:00", 400, "invalid_parameter"),  # of which zone?
        ("from=", 400, "invalid_parameter"),
        ("from=now&limit=0", 400, "invalid_parameter"),
        ("from=now&limit=1001", 400, "invalid_parameter"),
        ("from=now&limit=ten", 400, "invalid_parameter"),
        ("from=now&wait=31", 400, "invalid_parameter"),
        ("from=now&wait=-1", 400, "invalid_parameter"),
        ("from=now&bulk=perhaps", 400, "invalid_parameter"),
        ("from=now&from=now", 400, "invalid_parameter"),
        ("from=now&agencies=G99", 400, "invalid_parameter"),
        ("after=", 400, "malformed_cursor"),
        ("after=1-48213-99120", 400, "malformed_cursor"),
        (f"after={BEGINNING.text[:-1]}", 400, "malformed_cursor"),
        ("after=%00%C3", 400, "malformed_cursor"),
        (f"from=now&agency={THERE}", 403, "out_of_scope"),
        ("from=now&agency=G99", 403, "out_of_scope"),
        ("from=now&agency=nowhere", 403, "out_of_scope"),
    ],
)
async def test_what_cannot_be_meant_is_refused(partner: Partner, query: str, status: int, code: str) -> None:
    found = await partner.ask(query)
    assert (found[0], found[1]["code"]) == (status, code)


async def test_moment_before_everything_is_the_beginning(partner: Partner, writer: Any) -> None:
    for moment in ("0001-01-01T00:00:00%2B07:00", "1990-01-01T00:00:00Z"):
        assert (await partner.ask(f"from={moment}"))[0] == 200


async def test_nobody_without_the_action_follows(partner: Partner, database: Database) -> None:
    partner.token = await new_token(database, "G99", ("read",))
    assert (await partner.ask("from=now"))[1]["code"] == "out_of_scope"
    partner.token = "h24_x_" + "a" * 43
    assert (await partner.ask("from=now"))[1]["code"] == "unauthenticated"


async def test_after_a_restore_the_feed_halts_and_then_says_where_to_go_on(
    partner: Partner, writer: Any, owner: Any
) -> None:
    await receive(writer, A)
    _, kept, _ = await partner.page("from=earliest")
    await append(writer, A, status=4)
    _, lost, _ = await partner.page(f"after={kept}")
    at = await owner.fetchval("SELECT recorded_at FROM event WHERE version = 1")
    await owner.execute("DELETE FROM event WHERE version = 2")
    await owner.execute("UPDATE dossier SET version = 1, status = 2, timeline = timeline - -1")
    await append(writer, A, status=4)  # written anew before the operator has said anything
    for query in (f"after={lost}", f"after={lost}&wait=30"):
        status, answer, headers = await partner.ask(query)
        assert (status, answer["code"], headers["Retry-After"]) == (503, "feed_halted", "30")
    resume = "INSERT INTO epoch SELECT 2, now(), 'restored', xid, seq, recorded_at FROM event WHERE version = 1"
    await owner.execute(resume)
    status, answer, _ = await partner.ask(f"after={lost}&wait=30")
    assert (status, answer["code"], answer["resume"]) == (410, "feed_rewound", kept)
    assert answer["lost_since"] == local(at).isoformat()
    assert (await partner.page(f"after={answer['resume']}"))[0] == [(A, 2)]


# -- how it waits ----------------------------------------------------------------------------------------------------


async def test_request_waits_for_the_first_event_that_concerns_it(partner: Partner, writer: Any) -> None:
    asked = asyncio.create_task(partner.page("from=now&wait=30"))
    await wait_for(1)
    await receive(writer, B, agency=THERE, origin=THERE)
    await receive(writer, A)
    events, place, caught_up = await asked
    assert (events, caught_up) == ([(A, 1)], True)
    asked = asyncio.create_task(partner.page(f"after={place}&wait=30&limit=1"))
    await wait_for(1)
    await append(writer, A, status=4)
    assert (await asked)[0] == [(A, 2)]
    assert (await partner.page(f"after={place}"))[0] == [(A, 2)]


async def test_waiting_has_an_end(partner: Partner, writer: Any) -> None:
    await receive(writer, A)
    _, place, _ = await partner.page("from=earliest")
    assert await partner.page(f"after={place}&wait=1") == ([], place, True)


async def test_open_transaction_holds_all_behind_it_and_loses_nothing(
    partner: Partner, writer: Any, owner: Any
) -> None:
    transaction = owner.transaction()
    await transaction.start()
    await receive(owner, B, agency=HERE, origin=HERE)
    asked = asyncio.create_task(partner.page("from=now&wait=30"))
    await wait_for(1)
    await receive(writer, A)
    for _ in range(3):
        assert (await partner.page("from=earliest"))[0] == []
        assert (await partner.page("from=2026-01-01T00:00:00Z"))[0] == []
    assert not asked.done()
    await transaction.commit()
    events, place, _ = await asked
    events += (await partner.page(f"after={place}"))[0]
    assert sorted(events) == [(A, 1), (B, 1)]


async def test_a_thousand_that_wait_leave_at_once(partner: Partner, writer: Any) -> None:
    await receive(writer, B, agency=THERE, origin=THERE)
    _, place, _ = await partner.page("from=now")
    where = urlsplit(partner.url)
    request = (
        f"GET /api/v1/changes?after={place}&wait=30 HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Authorization: Bearer {partner.token}\r\n\r\n"
    ).encode()
    lines: list[socket.socket] = []
    read = 0.0
    for _ in range(1_000):
        line = socket.create_connection((where.hostname, where.port or 80))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it leaves without a word
        line.sendall(request)
        lines.append(line)
        if len(lines) == 1:
            await wait_for(1)
            read = metrics.FEED_PAGES.labels("postgres")._value.get()
    await wait_for(1_000)
    assert metrics.FEED_PAGES.labels("postgres")._value.get() == read, "one of them asked PostgreSQL for a page"
    for line in lines[:999]:
        line.close()
    await wait_for(1)
    await receive(writer, A)
    await wait_for(0)
    assert (await partner.page(f"after={place}"))[0] == [(A, 1)]
    lines[999].close()


async def test_stopping_intake_answers_those_who_wait(database: Database) -> None:
    token = await new_client(database, "portal", HERE, ["follow"])
    async with aiohttp.ClientSession() as http:
        async with intake(database) as started:
            partner = Partner(f"http://127.0.0.1:{started.port}", http, token)
            asked = [asyncio.create_task(partner.page("from=now&wait=30")) for _ in range(5)]
            await wait_for(5)
        assert [await each for each in asked] == [([], BEGINNING.text, True)] * 5
