"""It must not matter to a client which way answered: the same requests both ways, byte for byte."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY

from lookup.reading import access
from lookup.reading.freshness import Freshness
from lookup.reading.limits import Limits, TooManyRequests
from lookup.reading.shedding import Load, Shedding
from lookup.web import faces, hotpath
from ops.http import early_answers
from ops.local.ports import free_port
from ops.observe import tracing
from tests.conftest import KEY_SECRETS, Database
from tests.house import PATIENT_ENVIRON, House, lookup_at, lookup_settings, open_house, remove, until
from tests.lookup.views import ANYONE, STALE
from tests.ops.test_tracing import TRACE, Collector, attributes, collector

__all__ = ["collector"]

UNKNOWN = "G99.12.01-260101-9999"


@dataclass
class Raw:
    """One connection to a lookup, kept open while it can be."""

    url: str
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    asked: int = 0

    async def ask(self, *requests: bytes) -> list[bytes]:
        """The answers to these requests, sent in one segment; head and body as they came."""
        if self.writer is None or self.reader is None or self.reader.at_eof():
            await self.close()
            parts = urlsplit(self.url)
            self.reader, self.writer = await asyncio.open_connection(parts.hostname, parts.port)
        self.writer.write(b"".join(requests))
        self.asked += len(requests)
        async with asyncio.timeout(10):
            return [await self._answer(self.reader, request) for request in requests]

    @staticmethod
    async def _answer(reader: asyncio.StreamReader, request: bytes) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        if length is None or request.startswith(b"HEAD") or head.startswith(b"HTTP/1.1 304"):
            return head
        return head + await reader.readexactly(int(length[1]))

    async def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            with contextlib.suppress(ConnectionError):
                await self.writer.wait_closed()
            self.writer = None


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: example.test", "X-Request-Id: both-ways", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def comparable(answer: bytes) -> bytes:
    """What may differ between two askings of one way is left out: the seconds, and what is left of a rate by then."""
    return re.sub(rb"\r\n(Date|Age|RateLimit): [^\r]*", rb"\r\n\1: -", answer)


@dataclass
class BothWays:
    """Two lookups on the same servers, one of which has no express way."""

    house: House
    quick: Raw
    normal: Raw
    code: str = ""
    key: str = ""
    known: dict[str, str] = field(default_factory=dict)
    counted_before: float = 0.0

    async def all_counted(self) -> None:
        """Wait until every request so far is in the metrics; what is answered at once gets there a little later."""

        async def counted() -> bool:
            return requests_counted() - self.counted_before == self.quick.asked + self.normal.asked

        await until(counted)

    async def ask(self, request: bytes) -> bytes:
        """The answer, which is the same whichever way it came, the first time and once it is in memory."""
        for _ in range(3):
            (quick,), (normal,) = await self.quick.ask(request), await self.normal.ask(request)
            if b"fwd=miss" not in quick + normal:  # only the first of the two to ask can have loaded it
                assert comparable(quick) == comparable(normal)
        return quick


@pytest.fixture
async def both(database: Database, redis_url: str) -> AsyncIterator[BothWays]:
    async with contextlib.AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(database, redis_url))
        settings = lookup_settings(database.reader_url, redis_url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(early_answers, "is_possible", lambda _: False)
            normal_url = await stack.enter_async_context(lookup_at(settings))
        quick, normal = Raw(house.lookup_url), Raw(normal_url)
        stack.push_async_callback(quick.close)
        stack.push_async_callback(normal.close)
        receipt = await house.receive()
        both = BothWays(house, quick, normal, receipt["code"], receipt["lookup_key"])
        both.counted_before = requests_counted()
        both.known = {"code": both.code, "unknown": UNKNOWN, "key": both.key}
        yield both


TAG = '"1.1-json-3"'
CALLER = "b7ad6b7169203331"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/v1/dossiers/{code}", (), 200),
        ("/api/v1/dossiers/{code}", ("Accept: */*", "User-Agent: x", "Cookie: a=b", "Accept-Encoding: gzip"), 200),
        ("/api/v1/dossiers/{code}", (f"If-None-Match: {TAG}",), 304),
        ("/api/v1/dossiers/{code}", (f"if-none-match: {TAG}",), 304),
        ("/api/v1/dossiers/{code}", ('If-None-Match: "1.2-json-3"',), 200),
        ("/api/v1/dossiers/{code}", (f"If-None-Match: W/{TAG}",), 304),
        ("/api/v1/dossiers/{code}", (f'If-None-Match: "other", {TAG}',), 304),
        ("/api/v1/dossiers/{code}", (f'If-None-Match: "other", "a{TAG}',), 200),
        ("/api/v1/dossiers/{code}", ("If-None-Match: *",), 304),
        ("/api/v1/dossiers/{code}", ("If-Modified-Since: Sun, 22 Nov 2026 00:00:00 GMT",), 200),
        ("/api/v1/dossiers/{code}", ("If-Match: *", "Range: bytes=0-3"), 200),
        ("/api/v1/dossiers/{code}", ("Hoso24-Key: {key}",), 200),
        ("/api/v1/dossiers/{code}", ("hoso24-key: 00000-00000-00000",), 404),
        ("/api/v1/dossiers/{code}", ("Content-Length: 0",), 200),
        ("/api/v1/dossiers/{code}", ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",), 200),
        ("/api/v1/dossiers/{code}?at_least=1", (), 200),
        ("/api/v1/dossiers/{code}?at_least=7", (), 412),
        ("/api/v1/dossiers/{code}?", (), 200),
        ("/api/v1/dossiers/{code}#there", (), 200),
        ("http://example.test/api/v1/dossiers/{code}", (), 200),
        ("/api/v1/dossiers/{unknown}", (), 404),
        ("/api/v1/dossiers/{unknown}", ("Accept-Language: vi",), 404),
        ("/api/v1/dossiers/{unknown}", (f"If-None-Match: {TAG}",), 404),
        ("/api/v1/dossiers/nonsense", (), 400),
        ("/api/v1/dossiers/", (), 404),
        ("/api/v1/dossiers/%20", (), 400),
        ("/api/v1/dossiers/g99.12.01-260101-9999", (), 301),
        ("/api/v1/dossiers/01234-2026-99901", (), 404),
        ("/api/v1/dossiers/01234%2F2026%2F99901", (), 301),
        ("/api/v1/statuses", (), 200),
        # What a page tells of a dossier has a minute in it: test_faces.py holds the clock.
        ("/tra-cuu/{unknown}", (), 404),
        ("/en/status/{unknown}", ("Accept-Encoding: gzip",), 404),
        ("/tra-cuu", ("Accept-Encoding: gzip",), 200),
        ("/", ("Cookie: hoso24-key=x",), 200),
        ("/tra-cuu?ma={unknown}", (), 301),
        ("/en/status?code=nonsense", (), 400),
    ],
)
async def test_same_bytes_whichever_way(
    both: BothWays, method: str, path: str, headers: tuple[str, ...], status: int
) -> None:
    filled = tuple(header.replace("{key}", both.key) for header in headers)
    answer = await both.ask(get(path.format(**both.known), *filled, method=method))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if method == "HEAD":
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("given", ["abc-DEF_1.2", "x" * 64, "x" * 65, "with space", "ünsane", ""])
async def test_request_id_is_given_back_if_it_is_sane(both: BothWays, given: str) -> None:
    request = f"GET /api/v1/dossiers/{both.code} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {given}\r\n\r\n".encode()
    sane = re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given) is not None
    for _ in range(3):
        for way in (both.quick, both.normal):
            (answer,) = await way.ask(request)
            found = re.search(rb"\r\nX-Request-Id: ([^\r]*)", answer)
            assert found
            assert (found[1].decode() == given) is sane
            assert re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", found[1])


async def test_connection_that_is_not_to_stay_open_is_closed_both_ways(both: BothWays) -> None:
    path = f"/api/v1/dossiers/{both.code}"
    for request in (get(path, "Connection: close"), get(path, version="1.0")):
        for way in (both.quick, both.normal):
            await way.ask(request)
            assert way.reader is not None
            async with asyncio.timeout(5):
                assert await way.reader.read() == b""
    assert comparable((await both.quick.ask(get(path, version="1.0")))[0]) == comparable(
        (await both.normal.ask(get(path, version="1.0")))[0]
    )


async def test_official_number_and_removed_dossier_both_ways(both: BothWays, owner: Any) -> None:
    number = "01234/2026/99901"
    status, _ = await both.house.hand_in("PUT", f"/api/v1/dossiers/{both.code}/official-number", {"number": number})
    assert status == 200
    path = "/api/v1/dossiers/01234-2026-99901"

    async def bound() -> bool:
        return (await both.normal.ask(get(path)))[0].startswith(b"HTTP/1.1 200")

    await until(bound)
    answer = await both.ask(get(path))
    assert f'Link: </api/v1/dossiers/{both.code}>; rel="canonical"'.encode() in answer

    gone = (await both.house.receive())["code"]
    await remove(owner, gone)
    request = get(f"/api/v1/dossiers/{gone}")

    async def heard_of() -> bool:
        answers = *await both.quick.ask(request), *await both.normal.ask(request)
        return all(answer.startswith(b"HTTP/1.1 404") for answer in answers)

    await until(heard_of)
    assert (await both.ask(request)).startswith(b"HTTP/1.1 404")


async def test_answer_from_memory_is_the_one_after_the_change(both: BothWays) -> None:
    path = f"/api/v1/dossiers/{both.code}"
    for _ in range(3):
        before = await both.ask(get(path))
    assert b'"version":1' in before
    await both.house.move(both.code, "processing")

    async def seen() -> bool:
        (quick,), (normal,) = await both.quick.ask(get(path)), await both.normal.ask(get(path))
        return b'"status":"processing"' in quick and b'"status":"processing"' in normal

    await until(seen)
    for _ in range(3):
        assert b'"version":2' in await both.ask(get(path))


async def test_stale_answer_both_ways(both: BothWays, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/api/v1/dossiers/{both.code}"
    await both.ask(get(path))
    monkeypatch.setattr(Freshness, "is_stale", lambda *_: True)
    monkeypatch.setattr("lookup.reading.feed.Feed.trusts", lambda *_: False)
    # Memory is distrusted, Redis says it is stale: the marked form, from both.
    await both.house.move(both.code, "processing")

    async def marked() -> bool:
        answers = [(await way.ask(get(path)))[0] for way in (both.quick, both.normal)]
        return all(b'"stale":true' in answer and b'"version":2' in answer for answer in answers)

    await until(marked)
    quick, normal = (await both.quick.ask(get(path)))[0], (await both.normal.ask(get(path)))[0]
    as_of = re.compile(rb'"as_of":"[^"]*"')
    assert as_of.sub(b"", comparable(quick)) == as_of.sub(b"", comparable(normal))
    assert set(json.loads(quick.partition(b"\r\n\r\n")[2])) == {*ANYONE, *STALE}
    assert b"Cache-Control: no-store" in quick
    assert b"\r\nETag: " not in quick


async def test_both_ways_are_counted_alike(both: BothWays) -> None:
    path = f"/api/v1/dossiers/{both.code}"
    await both.ask(get(path))
    await both.ask(get(f"/api/v1/dossiers/{UNKNOWN}"))
    asked = [
        get(path),
        get(path, f"If-None-Match: {TAG}"),
        get(path, method="HEAD"),
        get(path, method="HEAD"),
        get(f"/api/v1/dossiers/{UNKNOWN}"),
        get(f"/api/v1/dossiers/{UNKNOWN}"),
    ]
    gained = []
    for way in (both.quick, both.normal):
        await both.all_counted()
        before = counts()
        for request in asked:
            await way.ask(request)
        await both.all_counted()
        gained.append([gain(before, name) for name in COUNTED])
    assert gained[0] == gained[1]
    assert sum(gained[0][0].values()) == sum(gained[0][1].values()) == sum(gained[0][2].values()) == len(asked)


def requests_counted() -> float:
    return sum(
        value
        for key, value in counts().items()
        if key.startswith("hoso24_http_requests_total ") and "('service', 'lookup')" in key
    )


COUNTED = ("hoso24_http_requests_total", "hoso24_http_request_seconds_count", "lookup_answers_total")


def counts() -> dict[str, float]:
    return {
        f"{sample.name} {sorted(sample.labels.items())}": sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name in COUNTED
    }


def gain(before: dict[str, float], name: str) -> dict[str, float]:
    now = counts()
    return {
        key: now[key] - before.get(key, 0.0)
        for key in now
        if key.startswith(name + " ") and now[key] != before.get(key, 0.0)
    }


async def test_answer_from_memory_is_counted_with_its_age(both: BothWays) -> None:
    path = f"/api/v1/dossiers/{both.code}"
    await both.quick.ask(get(path), get(path))
    await both.all_counted()
    before = REGISTRY.get_sample_value("lookup_answer_age_seconds_count") or 0.0
    await both.quick.ask(*[get(path)] * 50)
    await both.all_counted()
    assert REGISTRY.get_sample_value("lookup_answer_age_seconds_count") == before + 50
    total = REGISTRY.get_sample_value("lookup_answer_age_seconds_bucket", {"le": "+Inf"})
    assert total == before + 50


def timed() -> float:
    labels = {"service": "lookup", "route": "/api/v1/dossiers/{code}"}
    return REGISTRY.get_sample_value("hoso24_http_request_seconds_count", labels) or 0.0


async def test_refused_answer_is_counted_and_not_timed(both: BothWays, monkeypatch: pytest.MonkeyPatch) -> None:
    await both.all_counted()
    before = timed()
    with monkeypatch.context() as refusing:
        refusing.setattr(Limits, "probed", lambda *_: TooManyRequests())
        for way in (both.quick, both.normal):
            (answer,) = await way.ask(get(f"/api/v1/dossiers/{UNKNOWN}"))
            assert answer.startswith(b"HTTP/1.1 429")
    await both.all_counted()
    assert timed() == before
    for way in (both.quick, both.normal):
        await way.ask(get(f"/api/v1/dossiers/{UNKNOWN}"))
    await both.all_counted()
    assert timed() == before + 2


@pytest.mark.parametrize("tag", ["", TAG], ids=["200", "304"])
async def test_request_drawn_for_a_trace_goes_the_normal_way_and_gets_a_span(
    both: BothWays, collector: Collector, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    """Drawn once: the normal way does not draw again. The client sees no difference."""
    path = f"/api/v1/dossiers/{both.code}"
    header = f"If-None-Match: {tag}" if tag else "Accept: */*"
    untraced = await both.ask(get(path, header))
    traces = tracing.configure("lookup")
    draws = iter([True])
    monkeypatch.setattr(tracing, "draw", lambda _: next(draws))
    await both.all_counted()
    before = counts()
    (answer,) = await both.quick.ask(get(path, header, f"traceparent: 00-{TRACE}-{CALLER}-01"))
    assert comparable(answer) == comparable(untraced)
    await both.all_counted()
    assert [sum(gain(before, name).values()) for name in COUNTED] == [1, 1, 1]
    await asyncio.to_thread(traces.shutdown)
    (server,) = [span for span in collector.spans if span.name == "GET /api/v1/dossiers/{code}"]
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, CALLER)
    assert attributes(server)["http.response.status_code"] == (304 if tag else 200)


async def test_sigterm_under_hot_load_loses_no_request(database: Database, redis_url: str) -> None:
    """A real process, asked without a pause on connections that stay open, is told to stop."""
    async with open_house(database, redis_url) as house:
        code = (await house.receive())["code"]
    port, admin = free_port(21_000), free_port(22_000)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")},
        "HOSO24_PG_READER_URL": database.reader_url,
        "HOSO24_REDIS_URL": redis_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "HOSO24_HOST": "127.0.0.1",
        "HOSO24_LOOKUP_PORT": str(port),
        "HOSO24_LOOKUP_ADMIN_PORT": str(admin),
        "HOSO24_DRAIN_SECONDS": "10",
        **PATIENT_ENVIRON,
    }
    command = [sys.executable, "-m", "hoso24", "lookup"]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.DEVNULL)
    try:

        async def listening() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await until(listening, within=30)
        told = asyncio.Event()
        answered = [0] * 20
        citizens = [asyncio.create_task(_keep_asking(port, code, told, answered, n)) for n in range(len(answered))]

        async def in_full_swing() -> bool:
            return min(answered) > 10 or any(citizen.done() for citizen in citizens)

        await until(in_full_swing, within=60)
        told.set()
        process.send_signal(signal.SIGTERM)
        before = list(answered)
        await asyncio.gather(*citizens)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
        assert sum(answered) > sum(before)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _keep_asking(port: int, code: str, told: asyncio.Event, answered: list[int], number: int) -> None:
    """Ask, and count the answers, until the server closes the connection in good order.

    Which it may only once it was told to stop.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = Raw(f"http://127.0.0.1:{port}", reader, writer)
    while True:
        (answer,) = await raw.ask(get(f"/api/v1/dossiers/{code}"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        answered[number] += 1
        if b"\r\nConnection: close\r\n" in answer:
            assert told.is_set()
            assert await reader.read() == b""
            await raw.close()
            return


# -- unforeseen errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["from Postgres", "from memory"])
async def test_bug_behind_the_parser_costs_one_500_and_no_other_answer(
    both: BothWays, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    in_flight = REGISTRY.get_sample_value("hoso24_http_in_flight", {"service": "lookup"})
    if where == "from memory":
        await both.ask(get(f"/api/v1/dossiers/{both.code}"))
    with monkeypatch.context() as patch:
        patch.setattr(faces.JsonFace, "fresh", broken)
        (answer,) = await both.quick.ask(get(f"/api/v1/dossiers/{both.code}", "Connection: keep-alive"))
    # A copy in memory goes the normal way instead, where nothing is broken here.
    assert answer.startswith(b"HTTP/1.1 500" if where == "from Postgres" else b"HTTP/1.1 200")
    (answer,) = await both.quick.ask(get(f"/api/v1/dossiers/{both.code}"))
    assert answer.startswith(b"HTTP/1.1 200")
    await both.all_counted()
    assert REGISTRY.get_sample_value("hoso24_http_in_flight", {"service": "lookup"}) == in_flight


# -- too many at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("express_way", [True, False], ids=["quick", "normal"])
async def test_refused_are_told_in_a_while_together_and_what_is_in_memory_goes_out_meanwhile(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch, express_way: bool
) -> None:
    """Those who are refused ask again: told at once, they would keep the loop from doing anything else."""
    monkeypatch.setattr(early_answers, "is_possible", lambda _: express_way)
    for module in (access, hotpath):
        monkeypatch.setattr(module, "REFUSED_AFTER", 0.3)
    async with contextlib.AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(database, redis_url))
        known = get(f"/api/v1/dossiers/{(await house.receive())['code']}")
        clients = [Raw(house.lookup_url) for _ in range(hotpath.SENT_AWAY_AT_ONCE + 20)]
        for client in clients:
            stack.push_async_callback(client.close)
        (answer,) = await clients[0].ask(known)
        assert answer.startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(Shedding, "level", property(lambda _: Load.COLD))
        refused = [
            asyncio.create_task(client.ask(get(f"/api/v1/dossiers/G99.12.01-260101-{number:04d}")))
            for number, client in enumerate(clients[2:])
        ]
        leaving = asyncio.create_task(clients[1].ask(get(f"/api/v1/dossiers/{UNKNOWN}")))
        (answer,) = await clients[0].ask(known)
        assert answer.startswith(b"HTTP/1.1 200")
        assert not any(task.done() for task in refused)
        leaving.cancel()
        await clients[1].close()
        for (answer,) in await asyncio.gather(*refused):
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"\r\nRetry-After: " in answer
            assert b'"code":"overloaded"' in answer
