"""A plain lookup has the same answer behind the parser as on the normal way; here without servers.

tests/lookup/test_hotpath.py compares the bytes of many more requests, on real servers.
"""

import asyncio
import logging
from collections.abc import Callable

import pytest
from yarl import URL

from lookup.code import parse
from lookup.reading.freshness import SECOND
from lookup.web import answers, hotpath
from ops.observe.metrics import HTTP_IN_FLIGHT
from tests.lookup.alone import OTHER_CITIZEN, Alone, Answer, lookup_alone

KNOWN, UNKNOWN, NUMBER = parse("G99.01.01-261120-0001"), parse("G99.01.01-261120-0002"), parse("00077/2026/99901")
API = "/api/v1/dossiers/"
NORMAL = {"If-Modified-Since": "Sun, 22 Nov 2026 00:00:00 GMT"}
"""A header that takes a request the normal way and changes nothing there."""


def comparable(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    headers = dict(answer.headers)
    assert headers.pop("Date")
    headers.pop("RateLimit", None)  # one more miss is counted each time
    return answer.status, headers, answer.body


async def the_same(alone: Alone, path: str, method: str = "GET", *, held: str | None = None, **more: str) -> Answer:
    """Ask both ways for what is in memory or nowhere; the early answer."""
    more |= {"X-Request-Id": "as-it-was-given"}
    early = await alone.ask(path, method, held=held, more=more)
    normal = await alone.ask(path, method, held=held, more=more | NORMAL)
    assert (early.early, normal.early) == (True, False)
    assert comparable(early) == comparable(normal)
    assert early.headers["X-Request-Id"] == "as-it-was-given"
    assert early.headers["X-Content-Type-Options"] == "nosniff"
    return early


async def test_early_answers_have_the_date_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.ask(API + KNOWN.path)
        tomorrow = "Tue, 01 Dec 2026 00:00:00 GMT"
        line = f"\r\nDate: {tomorrow}\r\n\r\n".encode()
        monkeypatch.setattr(hotpath, "date_line", lambda: line)
        async with asyncio.timeout(10):
            while (answer := await alone.ask(API + KNOWN.path)).headers["Date"] != tomorrow:
                assert answer.early


def grown_old(alone: Alone) -> None:
    alone.store.away = True
    alone.clock.at += 2 * SECOND


SITUATIONS: dict[str, tuple[str, Callable[[Alone], None], int]] = {
    "fresh": (KNOWN.path, lambda _: None, 200),
    "stale": (KNOWN.path, grown_old, 200),
    "by official number": (NUMBER.path, lambda _: None, 200),
    "by official number, stale": (NUMBER.path, grown_old, 200),
    "there is none": (UNKNOWN.path, lambda _: None, 404),
    "nothing can be read": ("G99.01.01-261120-0003", grown_old, 503),
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("language", ["vi", "en"])
@pytest.mark.parametrize(("path", "happens", "status"), SITUATIONS.values(), ids=SITUATIONS)
async def test_answer_is_the_same_both_ways(
    method: str, language: str, path: str, happens: Callable[[Alone], None], status: int
) -> None:
    async with lookup_alone(soft_age=1.0) as alone:
        alone.put(KNOWN.text)
        alone.store.numbers_of[NUMBER.text] = KNOWN.text
        for known in (KNOWN, NUMBER, UNKNOWN):
            await alone.ask(API + known.path)
        happens(alone)
        answer = await the_same(alone, API + path, method, **{"Accept-Language": language})
        assert answer.status == status
        assert (b'"stale":true' in answer.body) is (happens is grown_old and status == 200 and method == "GET")
        assert bool(answer.body) is (method == "GET")
        if answer.tag is not None:
            again = await the_same(alone, API + path, method, held=answer.tag)
            assert (again.status, again.body, again.tag) == (304, b"", answer.tag)


@pytest.mark.parametrize(
    "header",
    [
        "Hoso24-Key: 00000-00000-00000",
        "Expect: 100-continue",
        'If-Match: "1.1-json-3"',
        "If-Modified-Since: Sun, 22 Nov 2026 00:00:00 GMT",
        'If-Range: "1.1-json-3"',
        "If-Unmodified-Since: Sun, 22 Nov 2026 00:00:00 GMT",
        "Range: bytes=0-3",
        "Connection: close",
    ],
)
async def test_what_is_more_than_a_plain_lookup_goes_the_normal_way(header: str) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        for usual in (
            "Accept: */*",
            'If-None-Match: "another"',
            "Cookie: hoso24-key=x",
            "X-Forwarded-For: 203.0.113.7",
        ):
            assert (await written_out(alone, usual))[0]
        early, answer = await written_out(alone, header)
        assert not early
        assert answer.startswith(b"HTTP/1.1 ")


async def test_request_id_in_no_known_writing_is_not_given_back_and_disturbs_nothing() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        early, answer = await written_out(alone, "X-Request-Id: \udcff\udcfe")
        assert early
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\xff" not in answer


async def written_out(alone: Alone, *headers: str) -> tuple[bool, bytes]:
    """Ask on a connection of its own; whether it went the early way, and what came first of the answer."""
    before, port = alone.early, URL(alone.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = "\r\n".join([f"GET {API}{KNOWN.path} HTTP/1.1", "Host: x", *headers, "", ""])
    writer.write(request.encode("utf-8", "surrogateescape"))
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return alone.early > before, answer


async def test_requests_under_way_are_none_when_all_are_answered() -> None:
    async with lookup_alone() as alone:
        under_way = HTTP_IN_FLIGHT.labels("lookup")._value
        before = under_way.get()
        code = alone.put(KNOWN.text)
        alone.store.numbers_of[NUMBER.text] = KNOWN.text
        for path in (code.path, code.path, NUMBER.path, UNKNOWN.path):
            await alone.ask(API + path)
            alone.lookups()
            assert under_way.get() == before


async def test_line_in_the_log_is_the_same_both_ways(caplog: pytest.LogCaptureFixture) -> None:
    """The trace it names is the request's own, or the caller's where that is a proxy of ours."""
    caplog.set_level(logging.INFO, logger="hoso24.access")
    caller = "4bf92f3577b34da6a3ce929d0e0e4736"
    asked = [{}, {"X-Request-Id": "as-it-was-given"}, {"traceparent": f"00-{caller}-00f067aa0ba902b7-00"}]
    async with lookup_alone(access_log_share=1.0) as alone:
        alone.put(KNOWN.text)
        await alone.ask(API + KNOWN.path)
        for more in asked:
            said = []
            for way in (more, more | NORMAL):
                caplog.clear()
                answer = await alone.ask(API + KNOWN.path, more=way)
                assert answer.early is (way is more)
                (line,) = [record for record in caplog.records if hasattr(record, "code_hash")]
                fields, request_id = vars(line), answer.headers["X-Request-Id"]
                assert fields.get("request_id", request_id) == request_id  # the normal way says it at each line
                own = fields["trace_id"] == request_id.rjust(32, "0")
                assert len(fields["trace_id"]) == 32
                said.append([fields[name] for name in ("method", "route", "status", "code_hash")] + [own])
                assert (fields["trace_id"] == caller) is ("traceparent" in more)
                assert own is (not more)
            assert said[0] == said[1]


@pytest.mark.parametrize("seconds", [0, 1, 99, 119, 120, 150, 400])
async def test_age_is_told_in_whole_seconds(seconds: int) -> None:
    async with lookup_alone(soft_age=1000.0) as alone:
        alone.put(KNOWN.text)
        await alone.ask(API + KNOWN.path)
        alone.clock.at += (seconds + 1) * SECOND - 10
        answer = await the_same(alone, API + KNOWN.path)
        assert answer.headers["Age"] == str(seconds)


async def test_age_is_never_below_nothing() -> None:
    """The clock of a process may be set back when it hears the database's."""
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.ask(API + KNOWN.path)
        alone.clock.at -= 5 * SECOND
        assert (await the_same(alone, API + KNOWN.path)).headers["Age"] == "0"


@pytest.mark.parametrize("held", ['"', '""', '"a', 'a"', 'W/"1.1-json-3"', '"1.1-json-3", "other"', '"a"b"c"', "*"])
async def test_what_is_not_one_strong_tag_is_no_tag_to_the_early_way(held: str) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.ask(API + KNOWN.path)
        answer = await alone.ask(API + KNOWN.path, held=held)
        assert answer.early is (held == '""')
        assert answer.status == (304 if "1.1-json-3" in held or held == "*" else 200)


@pytest.mark.parametrize("source", ["postgres", "redis", "memory"])
async def test_code_over_the_allowance_is_refused_and_nothing_is_read_for_it(source: str) -> None:
    async with lookup_alone() as alone:
        codes = [alone.put(f"G99.01.01-261120-{n:04d}") for n in range(160)]
        if source != "postgres":
            await asyncio.gather(*(alone.ask(API + code.path, client=OTHER_CITIZEN) for code in codes[:80]))
            await asyncio.gather(*(alone.ask(API + code.path, client="192.0.2.9") for code in codes[80:]))
        if source == "redis":
            alone.memory.clear()
        answers = [await alone.ask(API + code.path) for code in codes[:150]]
        assert {answer.status for answer in answers} == {200}
        alone.store.asked.clear()
        for code in codes[150:]:
            answer = await alone.ask(API + code.path)
            assert (answer.early, answer.status) == (True, 429)
            assert 10 <= int(answer.headers["Retry-After"]) <= 3600
            assert b"too_many_requests" in answer.body
        assert alone.store.asked == []
        assert (await alone.ask(API + codes[0].path)).status == 200
        assert (await alone.ask(API + codes[155].path, client="198.18.0.1")).status == 200
        assert alone.lookups()["nowhere", "limited"] >= 10


async def test_miss_over_its_rate_is_refused_at_once() -> None:
    async with lookup_alone() as alone:
        paths = [f"G99.01.01-261120-{n:04d}" for n in range(101)]
        answers = await asyncio.gather(*(alone.ask(API + path) for path in paths))
        assert sorted(answer.status for answer in answers) == [404] * 100 + [429]


async def test_header_is_written_in_one_place_and_sent_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of the early way is that of the Response: no header of it stands in the early way's own code."""
    of_before = answers._headers
    monkeypatch.setattr(answers, "_headers", lambda *of: of_before(*of) | {"X-New": "100% of them"})
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.ask(API + KNOWN.path)
        answer = await the_same(alone, API + KNOWN.path)
        assert answer.headers["X-New"] == "100% of them"
        assert (await the_same(alone, API + KNOWN.path, held=answer.tag)).headers["X-New"] == "100% of them"
