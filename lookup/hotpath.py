"""Plain lookups, answered straight behind the parser (ops/express.py): at once from memory, or when they have arrived.

Plain is what nearly every request of a citizen's browser or a portal's poller is: GET or HEAD of the canonical address
of a dossier, without key, version or condition but one entity tag. Everything else goes the normal way through aiohttp,
and a client cannot tell which way it went: the same bytes leave, and the same metrics count them.

The bytes of a fresh answer are put together here by hand, because that is what makes it fast; those of any other
answer are what `written` makes of the Response the normal way would have sent.
"""

import asyncio
import bisect
import functools
import logging
import time
from typing import NamedTuple

import msgspec
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import RawRequestMessage

from lookup import code as codes
from lookup import metrics
from lookup.api import KEY_HEADER, PATH, Desk, encode, etag
from lookup.code import DossierCode, MalformedCode
from lookup.dossier import unpack
from lookup.freshness import SECOND
from lookup.memory import Copy, Memory, Rendered
from lookup.reader import Found
from ops import logs, tracing
from ops.errors import Internal, Refusal
from ops.express import Answer, ExpressProtocol
from ops.metrics import HTTP_IN_FLIGHT, observe_many
from ops.middleware import CLIENT_GONE, completed, dress, http_counter, http_timer, identity, problem, record
from ops.probes import State

SERVICE = "lookup"
ROUTE = PATH + "{code}"
FLUSH_EVERY = 0.1
"""How often what was answered at once is added to the metrics, in seconds."""

_PREFIX = len(PATH)
_DRAWN = b"x-request-id"
_HELD = b"if-none-match"
_TRACE = tracing.TRACEPARENT.encode()
_UNUSUAL = frozenset(
    {KEY_HEADER.lower().encode()}
    | {b"expect", b"if-match", b"if-modified-since", b"if-range", b"if-unmodified-since", b"range", b"upgrade"}
)
_LOOKED_AT = _UNUSUAL | {_DRAWN, _HELD, _TRACE}

_OK = b"HTTP/1.1 200 OK\r\nVary: " + KEY_HEADER.encode() + b"\r\nAge: "
_NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nVary: " + KEY_HEADER.encode() + b"\r\nAge: "
_CACHED = b"\r\nCache-Status: hoso24; hit\r\nCache-Control: public, no-cache\r\nETag: "
_STORED = b"\r\nCache-Status: hoso24; fwd=miss; stored\r\nCache-Control: public, no-cache\r\nETag: "
_JSON = b"\r\nContent-Type: application/json\r\nX-Request-Id: "
_NO_BODY = b"\r\nX-Request-Id: "
_DRESSED = b"\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nServer: hoso24"
_LENGTH = b"\r\nContent-Length: "

_AGES = [b"%d" % age for age in range(120)]
_AGE_BOUNDS = [bound * SECOND for bound in metrics.AGE_BUCKETS]
_log = logging.getLogger(__name__)


class _Asked(NamedTuple):
    """What a plain request says besides the code."""

    code: str
    head: bool
    request_id: bytes
    held: bytes


class HotPath:
    """Offered every request by the connections; `run` adds what was counted to the metrics."""

    def __init__(self, desk: Desk, memory: Memory, state: State, *, log_share: float = 1.0) -> None:
        self._desk = desk
        self._memory = memory
        self._feed = desk.reader.vitals.feed
        self._clock = desk.reader.vitals.clock
        self._state = state
        self._log_share = log_share
        self._second = 0
        self._date = b""
        self._in_flight = HTTP_IN_FLIGHT.labels(SERVICE)
        self._counts: dict[tuple[bool, bool], int] = {}
        self._seconds = 0.0
        self._ages = [0] * (len(_AGE_BOUNDS) + 1)
        self._age_sum = 0

    def offer(self, message: RawRequestMessage, connection: ExpressProtocol) -> Answer:
        """Answer a plain lookup; None for anything else."""
        began = time.perf_counter()
        asked = self._plain(message, connection)
        if asked is None:
            return None
        copy = self._memory.get(asked.code)
        if copy is not None:
            now = self._clock.now()
            trusted = copy.trusted == self._feed.generation and now < self._feed.trusted_until
            if trusted and copy.body:
                rendered = copy.rendered
                if rendered is None or rendered.view != self._desk.anonymous:
                    rendered = self._render(asked.code, copy)
                if rendered is not None:
                    return self._at_once(asked, rendered, now - max(copy.as_of, self._feed.at), began)
        return self._later(asked, message, connection, began)

    async def run(self) -> None:
        """Add what was counted to the metrics, for ever."""
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            self.flush()

    def flush(self) -> None:
        """Add what was counted since the last time to the metrics."""
        total = sum(self._counts.values())
        if not total:
            return
        for (head, modified), count in self._counts.items():
            http_counter(SERVICE, "HEAD" if head else "GET", ROUTE, 200 if modified else 304).inc(count)
        self._counts.clear()
        observe_many(http_timer(SERVICE, ROUTE), [(0, total)], self._seconds)
        observe_many(metrics.ANSWER_AGE, list(enumerate(self._ages)), self._age_sum / SECOND)
        metrics.answers("memory", "found").inc(total)
        self._seconds, self._age_sum, self._ages = 0.0, 0, [0] * len(self._ages)

    # -- the request -----------------------------------------------------------------------------------------

    def _plain(self, message: RawRequestMessage, connection: ExpressProtocol) -> _Asked | None:
        path, method = message.path, message.method
        if not path.startswith(PATH) or method not in ("GET", "HEAD"):
            return None
        if message.should_close or message.version != HttpVersion11 or message.upgrade or self._state.draining:
            return None
        given, held, trace = "", b"", None
        for name, value in message.raw_headers:
            lowered = name.lower()
            if lowered not in _LOOKED_AT:
                continue
            if lowered == _DRAWN:
                given = value.decode("utf-8", "replace")
            elif lowered == _HELD and not held and _is_one_tag(value):
                held = value
            elif lowered == _TRACE:
                trace = value.decode("ascii", "replace")
            else:
                return None
        if tracing.draw(trace):
            connection.drawn = message
            return None
        return _Asked(path[_PREFIX:], method == "HEAD", identity(given).encode(), held)

    # -- answered at once ------------------------------------------------------------------------------------

    def _at_once(self, asked: _Asked, rendered: Rendered, age: int, began: float) -> bytes:
        modified = asked.held != rendered.tag
        answer = self._fresh(asked, rendered, age, _CACHED)
        kind = (asked.head, modified)
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._ages[bisect.bisect_left(_AGE_BOUNDS, age)] += 1
        self._age_sum += age
        self._seconds += time.perf_counter() - began
        return answer

    def _fresh(self, asked: _Asked, rendered: Rendered, age: int, cache_status: bytes) -> bytes:
        seconds = age // SECOND
        text = _AGES[seconds] if 0 <= seconds < len(_AGES) else b"%d" % max(0, seconds)
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._date = f"\r\nDate: {rfc822_formatted_time()}\r\n\r\n".encode()
        if asked.held == rendered.tag:
            parts = (_NOT_MODIFIED, text, cache_status, rendered.tag, _NO_BODY, asked.request_id, _DRESSED, self._date)
            return b"".join(parts)
        return b"".join(
            (
                _OK,
                text,
                cache_status,
                rendered.tag,
                _JSON,
                asked.request_id,
                _DRESSED,
                _LENGTH,
                rendered.length,
                self._date,
                b"" if asked.head else rendered.body,
            )
        )

    def _render(self, code: str, copy: Copy) -> Rendered | None:
        """Make the copy's answer, and keep it with the copy; None if the copy is not in our form."""
        try:
            record = unpack(copy.body)
        except msgspec.DecodeError:
            return None
        found = Found(record, copy.as_of, 0, False, "memory", self._feed.epoch)
        copy.rendered = self._rendered(found)
        self._memory.keep(code, copy)  # it has grown
        return copy.rendered

    def _rendered(self, found: Found) -> Rendered:
        view = self._desk.anonymous
        body = encode(self._desk.view(found, holder=False))
        return Rendered(view, etag(found.epoch, found.record.version, view).encode(), b"%d" % len(body), body)

    # -- answered later --------------------------------------------------------------------------------------

    def _later(self, asked: _Asked, message: RawRequestMessage, connection: ExpressProtocol, began: float) -> Answer:
        try:
            code = codes.parse(asked.code)
        except MalformedCode:
            return None
        if code.path != asked.code:
            return None  # a spelling to be redirected
        return asyncio.ensure_future(self._look_up(asked, code, message, connection, began))

    async def _look_up(
        self,
        asked: _Asked,
        code: DossierCode,
        message: RawRequestMessage,
        connection: ExpressProtocol,
        began: float,
    ) -> bytes:
        self._in_flight.inc()
        logs.request_id.set(asked.request_id.decode())
        status = 500
        try:
            status, answer = await self._answer(asked, code, message, connection)
            return answer
        finally:
            self._in_flight.dec()
            if connection.transport is None:
                status = CLIENT_GONE
            record(
                SERVICE,
                message.method,
                ROUTE,
                status,
                seconds=time.perf_counter() - began,
                path=message.path,
                log_share=self._log_share,
            )

    async def _answer(
        self, asked: _Asked, code: DossierCode, message: RawRequestMessage, connection: ExpressProtocol
    ) -> tuple[int, bytes]:
        try:
            client = self._desk.client(connection.peer, message.headers)
            found = await self._desk.find(code, client=client)
        except Refusal as refusal:
            return self._refused(asked, message, refusal)
        except Exception as error:
            _log.error("Failed while answering %s.", ROUTE, exc_info=error)
            return self._refused(asked, message, Internal())
        if found.stale or found.record.code != code.text:
            held = asked.held.decode("ascii", "replace")
            response = self._desk.answer(found, code, holder=False, stored=True, held=functools.partial(_same, held))
            return response.status, written(response, head=asked.head)
        rendered = self._rendered(found)
        cache_status = _STORED if found.source == "postgres" else _CACHED
        status = 304 if asked.held == rendered.tag else 200
        return status, self._fresh(asked, rendered, found.age, cache_status)

    def _refused(self, asked: _Asked, message: RawRequestMessage, refusal: Refusal) -> tuple[int, bytes]:
        response = problem(message.headers, refusal)
        completed(response, refusal)
        return response.status, written(response, head=asked.head)


def written(response: web.Response, *, head: bool) -> bytes:
    """The bytes aiohttp would write for this response on HTTP/1.1, the connection staying open."""
    dress(response)
    body = response.body
    assert body is None or isinstance(body, bytes)  # noqa: S101 - ours never stream
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.status != 304:
        lines.append(f"{hdrs.CONTENT_LENGTH}: {len(body or b'')}")
    lines.append(f"{hdrs.DATE}: {rfc822_formatted_time()}")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head or body is None else body)


def _is_one_tag(value: bytes) -> bool:
    """Whether this is a single strong entity tag."""
    return len(value) >= 2 and value[:1] == value[-1:] == b'"' and value.count(b'"') == 2


def _same(one: str, other: str) -> bool:
    return one == other
