"""A request that two readers could take for two different ones is refused, or taken for exactly one; both ways alike.

Each probe is followed, in the same segment, by a request for the statuses. After a refusal nothing on that connection
is answered; otherwise the probe has one answer of its own and the statuses follow it, so that no byte of the one was
taken for the other.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from ops.http import early_answers
from tests.conftest import Database
from tests.house import lookup_at, lookup_settings

HOST = b"Host: example.test\r\n"
DOSSIER = b"/api/v1/dossiers/G99.12.01-260101-9999"
NEXT = b"GET /api/v1/statuses HTTP/1.1\r\n" + HOST + b"\r\n"
OF_NEXT = b'{"statuses":['
SMUGGLED = b"GET /api/v1/statuses HTTP/1.1\r\nX: "
"""What a body would say if it were read as a request."""


def get(*headers: bytes, line: bytes = b"GET " + DOSSIER + b" HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: example.test", *headers, b"", b""])


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return get(*headers, line=b"POST /api/v1/lookups HTTP/1.1") + body


def chunked(body: bytes, *headers: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *headers, body=body)


LENGTH = b"Content-Length: %d" % len(SMUGGLED)
CHUNK = b"%x\r\n%b\r\n" % (len(SMUGGLED), SMUGGLED)
REFUSED = {
    # two lengths
    "equal lengths": get(b"Content-Length: 0", b"Content-Length: 0"),
    "conflicting lengths": post(b"Content-Length: 0", LENGTH, body=SMUGGLED),
    "list of lengths": post(b"Content-Length: 0, 0"),
    "signed length": post(b"Content-Length: +0"),
    "negative length": post(b"Content-Length: -1"),
    "hexadecimal length": post(b"Content-Length: 0x2", body=b"{}"),
    "length with a space": post(b"Content-Length: 0 2", body=b"{}"),
    "length past all bounds": post(b"Content-Length: 99999999999999999999999"),
    "no length in its header": get(b"Content-Length: "),
    # a length and chunks, or chunks in disguise
    "length then chunks": post(LENGTH, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunks then length": chunked(b"0\r\n\r\n" + SMUGGLED, LENGTH),
    "chunks, then something": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "nearly chunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "identity": post(b"Transfer-Encoding: identity"),
    "two encodings": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "vertical tab before chunked": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "chunks in HTTP/1.0": b"POST " + DOSSIER + b" HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # within the chunks
    "chunk size with a sign": chunked(b"+2\r\n{}\r\n0\r\n\r\n"),
    "chunk size with a prefix": chunked(b"0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk size with an underscore": chunked(b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"),
    "chunk size past all bounds": chunked(b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
    "chunk size with a space": chunked(b"2 \r\n{}\r\n0\r\n\r\n"),
    "chunk size ended by a bare LF": chunked(b"2\n{}\r\n0\r\n\r\n"),
    "chunk extension ended by a bare LF": chunked(b"2;a\n{}\r\n0\r\n\r\n"),
    "chunk longer than its size": chunked(b"2\r\n{}{}0\r\n\r\n"),
    "length in the trailer": chunked(b"0\r\n" + LENGTH + b"\r\n\r\n" + SMUGGLED),
    "space in the trailer's name": chunked(b"0\r\nX A: b\r\n\r\n"),
    # where lines end
    "folded header": get(b"X-A: b\r\n c"),
    "folded header with a tab": get(b"X-A: b\r\n\tc"),
    "folded first header": b"GET " + DOSSIER + b" HTTP/1.1\r\n Host: x\r\n\r\n",
    "folded encoding": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "bare LF everywhere": get().replace(b"\r\n", b"\n"),
    "bare LF behind the first line": get().replace(b"\r\n", b"\n", 1),
    "bare LF behind a header": get(b"X-A: b\nX-B: c"),
    "bare LF at the end": get()[:-2] + b"\n",
    "bare CR in a header": get(b"X-A: b\rX-B: c"),
    "bare CR behind the first line": get().replace(b"\r\n", b"\r", 1),
    "bare CR at the end": get()[:-2] + b"\r\r\n",
    # within a header
    "space before the colon": get(b"X-A : b"),
    "space before the colon of a length": post(LENGTH.replace(b":", b" :"), body=SMUGGLED),
    "tab before the colon": get(b"X-A\t: b"),
    "space in a name": get(b"X A: b"),
    "no colon": get(b"X-A"),
    "no name": get(b": b"),
    "NUL in a value": get(b"X-A: a\0b"),
    "NUL in a name": get(b"X\0A: b"),
    "control character in a value": get(b"X-A: a\x01b"),
    # whose request it is
    "no host": b"GET " + DOSSIER + b" HTTP/1.1\r\nX-A: b\r\n\r\n",
    "two hosts": get(b"Host: other.test"),
    "absolute form with an impossible port": get(line=b"GET http://x:99999" + DOSSIER + b" HTTP/1.1"),
    "authority form": get(line=b"GET example.test:80 HTTP/1.1"),
    # the first line
    "NUL in the path": get(line=b"GET " + DOSSIER + b"\0 HTTP/1.1"),
    "byte above 127 in the path": get(line=b"GET " + DOSSIER + b"\xff HTTP/1.1"),
    "space behind the version": get(line=b"GET " + DOSSIER + b" HTTP/1.1 "),
    "tab for a space": get(line=b"GET\t" + DOSSIER + b" HTTP/1.1"),
    "space before the method": get(line=b" GET " + DOSSIER + b" HTTP/1.1"),
    "small letters": get(line=b"get " + DOSSIER + b" HTTP/1.1"),
    "unheard-of method": get(line=b"FETCH " + DOSSIER + b" HTTP/1.1"),
    "no version": b"GET " + DOSSIER + b"\r\n\r\n",
    "later version": get(line=b"GET " + DOSSIER + b" HTTP/1.2"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
TOO_LARGE = {
    "too many headers": (get(*(b"X-%d: b" % n for n in range(80))), 431),
    "too long a header": (get(b"X-A: " + b"b" * 9000), 431),
    "too long a path": (get(line=b"GET " + DOSSIER + b"?" + b"a" * 5000 + b" HTTP/1.1"), 414),
}
TAKEN_FOR_ONE = {
    "plain": (get(), 404),
    "empty lines before it": (b"\r\n\r\n" + get(), 404),
    "two spaces": (get(line=b"GET  " + DOSSIER + b" HTTP/1.1"), 404),
    "no body, said in its length": (get(b"Content-Length: 0"), 404),
    "body of a GET": (get(LENGTH) + SMUGGLED, 404),
    "chunked body of a GET": (get(b"Transfer-Encoding: chunked") + CHUNK + b"0\r\n\r\n", 404),
    "body that reads like a request": (post(LENGTH, body=SMUGGLED), 400),
    "chunks": (chunked(b"2\r\n{}\r\n0\r\n\r\n"), 400),
    "chunks in capitals": (post(b"Transfer-Encoding: CHUNKED", body=b"2\r\n{}\r\n0\r\n\r\n"), 400),
    "chunk extension": (chunked(b"2;a=b\r\n{}\r\n0;c\r\n\r\n"), 400),
    "length by another name": (get(b"Content_Length: 44"), 404),
    "absolute form": (get(line=b"GET http://example.test" + DOSSIER + b" HTTP/1.1"), 404),
    "absolute form with another host": (get(line=b"GET http://other.test" + DOSSIER + b" HTTP/1.1"), 404),
    "absolute form with a user": (get(line=b"GET http://a:b@example.test" + DOSSIER + b" HTTP/1.1"), 404),
    "asterisk": (get(line=b"OPTIONS * HTTP/1.1"), 404),
    "expectation of nothing": (get(b"Expect: the unexpected"), 417),
}
THE_LAST_ONE = {
    "wish for HTTP/2": (get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA"), 404),
    "wish for a web socket": (get(b"Connection: Upgrade", b"Upgrade: websocket"), 404),
    "wish for a tunnel": (get(line=b"CONNECT example.test:80 HTTP/1.1"), 404),
}
"""Answered, and then hung up on: what comes behind them is not HTTP any more, or only in part."""


class Ways:
    """Two lookups, of which one has no express way, and fresh connections to them."""

    def __init__(self, quick: str, normal: str) -> None:
        self.urls = {"quick": quick, "normal": normal}

    async def say(self, *segments: bytes) -> dict[str, list[tuple[int, bytes]]]:
        """What each answers to this, as (status, body), until it hangs up."""
        return {way: answers(await self._said(url, segments)) for way, url in self.urls.items()}

    @staticmethod
    async def _said(url: str, segments: tuple[bytes, ...]) -> bytes:
        """Everything that comes back; the last request asks for the end, if it is read as a request."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        said = b""
        try:
            for segment in segments:
                writer.write(segment)
                await writer.drain()
            async with asyncio.timeout(5):
                while piece := await reader.read(65536):
                    said += piece
        except ConnectionResetError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return said


def answers(said: bytes) -> list[tuple[int, bytes]]:
    """The answers in what came back: each one's head says how long its body is, and nothing may be between them."""
    found = []
    while said:
        head, end, said = said.partition(b"\r\n\r\n")
        assert end, head
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        assert status, head
        assert length, head
        body, said = said[: int(length[1])], said[int(length[1]) :]
        found.append((int(status[1]), body))
    return found


LAST = NEXT.replace(HOST, HOST + b"Connection: close\r\n")


@pytest.fixture
async def ways(database: Database, redis_url: str) -> AsyncIterator[Ways]:
    settings = lookup_settings(database.reader_url, redis_url, partners=("127.0.0.0/8",))
    with pytest.MonkeyPatch.context() as patch:
        async with lookup_at(settings) as quick:
            patch.setattr(early_answers, "is_possible", lambda _: False)
            async with lookup_at(settings) as normal:
                yield Ways(quick, normal)


def without_ids(found: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    return [(status, re.sub(rb"\b[0-9a-f]{16}\b", b"", body)) for status, body in found]


async def test_what_could_be_read_in_two_ways_is_refused_and_ends_the_connection(ways: Ways) -> None:
    for name, probe in REFUSED.items():
        for segments in ((probe + NEXT + LAST,), (NEXT, probe + NEXT + LAST)):
            said = await ways.say(*segments)
            for way, found in said.items():
                *before, (status, body) = found
                assert (status, b'"code":"malformed"' in body) == (400, True), (name, way, found)
                assert [status for status, _ in before] == [200] * len(before), (name, way, found)
                assert len(before) < len(segments), (name, way, found)
            assert without_ids(said["quick"]) == without_ids(said["normal"]), name


async def test_what_is_too_large_is_refused_as_that_and_ends_the_connection(ways: Ways) -> None:
    for name, (probe, status) in TOO_LARGE.items():
        for segments in ((probe + NEXT + LAST,), (NEXT, probe + NEXT + LAST)):
            said = await ways.say(*segments)
            for way, found in said.items():
                assert found[-1][0] == status, (name, way, found)
                assert [status for status, _ in found[:-1]] == [200] * (len(found) - 1), (name, way, found)
                assert len(found) <= len(segments), (name, way, found)
            assert without_ids(said["quick"]) == without_ids(said["normal"]), name


async def test_what_is_taken_is_taken_for_one_request(ways: Ways) -> None:
    for name, (probe, status) in TAKEN_FOR_ONE.items():
        said = await ways.say(probe + NEXT + LAST)
        for way, found in said.items():
            assert [status for status, _ in found] == [status, 200, 200], (name, way, found)
            assert all(body.startswith(OF_NEXT) for _, body in found[1:]), (name, way)
        assert without_ids(said["quick"]) == without_ids(said["normal"]), name


async def test_wish_for_another_protocol_is_answered_and_is_the_last(ways: Ways) -> None:
    for name, (probe, status) in THE_LAST_ONE.items():
        head_of_another, body_of_it = post(LENGTH), SMUGGLED + HOST + b"\r\n\r\n"
        for segments in ((probe + NEXT,), (probe + head_of_another, body_of_it), (NEXT, probe + NEXT)):
            said = await ways.say(*segments)
            for way, found in said.items():
                expected = [200, status] if segments[0] == NEXT else [status]
                assert [status for status, _ in found] == expected, (name, way, found)


async def test_mix_of_good_and_bad_ends_at_the_bad_one_wherever_it_is_cut(ways: Ways) -> None:
    bad = REFUSED["conflicting lengths"]
    whole = NEXT + TAKEN_FOR_ONE["chunks"][0] + NEXT + bad + NEXT + LAST
    for cut in range(10, len(whole), 37):
        said = await ways.say(whole[:cut], whole[cut:])
        for way, found in said.items():
            statuses = [status for status, _ in found]
            assert statuses.count(400) >= 1, (cut, way, found)
            refused = next(n for n, (_, body) in enumerate(found) if b"This is not a valid HTTP" in body)
            assert refused == len(found) - 1, (cut, way, found)
            assert statuses[:refused] == [200, 400, 200][:refused], (cut, way, found)
