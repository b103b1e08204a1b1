"""Whatever a header holds, the answer is not a server error: every value is the client's."""

import asyncio
import re
import socket
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ops.http import early_answers
from tests.conftest import Database
from tests.house import intake_running, intake_settings, lookup_running, lookup_settings

UNKNOWN = b"/api/v1/dossiers/G99.12.01-260101-9999"
LOOKUP = (
    (b"GET", UNKNOWN),
    (b"GET", b"/tra-cuu/G99.12.01-260101-9999"),
    (b"POST", b"/tra-cuu/G99.12.01-260101-9999"),
    (b"POST", b"/api/v1/lookups"),
    (b"GET", b"/static/site.css"),
    (b"GET", b"/nowhere"),
    (b"PUT", UNKNOWN),
)
INTAKE = ((b"GET", UNKNOWN), (b"POST", b"/api/v1/dossiers"), (b"PUT", UNKNOWN + b"/official-number"), (b"GET", b"/"))
ADMIN = ((b"GET", b"/livez"), (b"GET", b"/metrics"), (b"GET", b"/health"), (b"GET", b"/reports/why?code=x"))

NAMES = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Baggage", "Connection", "Content-Encoding"),
    *("Content-Length", "Content-Type", "Cookie", "Date", "Expect", "Forwarded", "From", "Host", "Hoso24-Key"),
    *("Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since"),
    *("Origin", "Range", "Referer", "Sec-WebSocket-Key", "TE", "Traceparent", "Tracestate", "Trailer"),
    *("Transfer-Encoding", "Upgrade", "User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id"),
)
WORDS = (
    *(b"100-continue", b"Bearer ", b"h24_a_", b"hoso24-key=", b"gzip", b"chunked", b"q=1e999", b"q=nan", b";q=", b"vi"),
    *(b'"1.1-json-1"', b"W/", b"*", b"bytes=", b"00-", b"text/html; charset=", b"127.0.0.1", b"::1", b"[", b"%", b","),
    *(b"application/openmetrics-text; version=1.0.0", b"Sun, 06 Nov 1994 08:49:37 GMT", b"websocket", b"9" * 30),
    *(b"\xe9", "ổ".encode(), b"\xff\xfe", b"\x80", b"\xed\xa0\x80", b"\t", b" "),
)
BYTES = st.binary(max_size=40).map(lambda value: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", value))
VALUES = st.lists(st.sampled_from(WORDS) | BYTES, max_size=4).map(b"".join)
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES).map(str.encode), VALUES), max_size=4)


def asked(port: int, method: bytes, path: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The first line of the answer; the connection's own end when the request promises a body that does not come."""
    lines = [method + b" " + path + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
    if not any(name == b"Host" for name, _ in headers):
        lines.append(b"Host: example.test")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", b""]))
        connection.shutdown(socket.SHUT_WR)  # so that no promised body is waited for
        return connection.makefile("rb").readline()


def never_our_fault(port: int, requests: tuple[tuple[bytes, bytes], ...], examples: int) -> Callable[[], None]:
    """Sends requests of any headers to this port, and fails at the first 5xx."""

    @settings(max_examples=examples)
    @given(request=st.sampled_from(requests), headers=HEADERS)
    @example(request=requests[0], headers=[(b"Expect", b"\xe9")])
    @example(request=requests[0], headers=[(b"Expect", b"the unexpected")])
    @example(request=requests[0], headers=[(b"X-Forwarded-For", b"\xe9")])
    @example(request=requests[0], headers=[(b"Content-Type", b"text/html; charset=\xe9")])
    @example(request=requests[0], headers=[(b"Traceparent", b"00-\xe9")])
    def sends(request: tuple[bytes, bytes], headers: list[tuple[bytes, bytes]]) -> None:
        line = asked(port, *request, headers)
        assert not line.startswith(b"HTTP/1.1 5"), (line, request, headers)

    return sends


@pytest.mark.parametrize("early", [True, False], ids=["early", "aiohttp"])
async def test_no_header_makes_the_lookup_fail(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    monkeypatch.setattr(early_answers, "is_possible", lambda _: early)
    trusting = lookup_settings(
        database.reader_url, redis_url, trusted_proxies=("127.0.0.0/8",), partners=("127.0.0.0/8",)
    )
    async with lookup_running(trusting) as served:
        await asyncio.to_thread(never_our_fault(served.port, LOOKUP, 300))
        await asyncio.to_thread(never_our_fault(served.admin_port, ADMIN, 150))


async def test_no_header_makes_the_intake_fail(database: Database) -> None:
    async with intake_running(intake_settings(database.writer_url, trusted_proxies=("127.0.0.0/8",))) as served:
        await asyncio.to_thread(never_our_fault(served.port, INTAKE, 200))
        await asyncio.to_thread(never_our_fault(served.admin_port, ADMIN, 50))
