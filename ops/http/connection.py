"""The connection class: timeouts of heads and unread answers, the connection limit, clients that have sent their last
request, problem answers to bad HTTP.
"""

import asyncio
import contextlib
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, MutableSequence
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from ops.errors import AddressTooLong, HeadTooLarge, Internal, Malformed, Refusal
from ops.http.access import OTHER_METHOD, UNMATCHED, new_request_id, record
from ops.http.connection_limit import ConnectionLimit
from ops.http.middleware import dress
from ops.http.problems import problem
from ops.observe import logs, tracing
from ops.observe.metrics import CONNECTIONS_CUT

HEAD_SECONDS = 20.0
"""Timeout of a request's head in seconds: from connecting for the first one, from its first byte later."""

REST_SECONDS = 2.0
"""Seconds to read the rest of a head that is too large, before it is answered: closing a connection with unread bytes
resets it, and the client would not read the answer."""

LONGEST_LINE = 4096
"""Limit of a request's first line, in bytes."""

LONGEST_HEADER = 8190
"""Limit of a header, in bytes."""

MOST_HEADERS = 64
"""Limit of the headers of a request."""

UNREAD_SECONDS = 60.0
"""Seconds after which a connection is closed whose client does not read its answers."""


Page = Callable[[str, Refusal], web.Response | None]
"""A refusal as a page for a path; None where problem+json is due."""

_KEPT = LONGEST_LINE + LONGEST_HEADER
_FIRST_LINE = re.compile(rb"(?:\r\n)*[A-Z]+ (?:https?://[^/ ]*)?(/[^ ?#\r\n]*)")
_LANGUAGE = re.compile(rb"\r\naccept-language:([^\r\n]*)", re.IGNORECASE)


def no_page(_: str, __: Refusal) -> None:
    """No refusal has a page."""


class Protocol(web.RequestHandler):
    """aiohttp's connection with timeouts for heads and unread answers, a connection limit, and problem+json for
    requests that never reach a handler.
    """

    __slots__ = ("_head", "_limit", "_line", "_page", "_rest", "_tail", "_unread", "body", "head_due", "service")

    def __init__(
        self, manager: web.Server, *, service: str, limit: ConnectionLimit, page: Page = no_page, **options: Any
    ) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self.service = service
        self.head_due: asyncio.TimerHandle | None = None
        """The timeout of the awaited head."""
        self.body: StreamReader = EMPTY_PAYLOAD
        """The body of the newest request that aiohttp was given."""
        self._head = b""
        """What has come of the awaited head, as far as it is kept."""
        self._limit = limit
        self._page = page
        self._rest: asyncio.Event | None = None
        """Of a refused head: set when it has come whole."""
        self._tail = b""
        self._unread: asyncio.TimerHandle | None = None
        self._line: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._line = transport  # type: ignore[assignment]
        if self._limit.enter(self):
            self.head_due = self._loop.call_later(HEAD_SECONDS, self.cut, "slow_head")
        else:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._limit.leave(self)
        self.head_came()
        self._reads_again()
        self._line = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            if self._messages:
                message, self.body = self._messages[-1]
                if not isinstance(message, RawRequestMessage):
                    self.head_refused(data)
                    return
            self.head_came()
        elif data:
            self.head_began(data)

    # -- slow and idle clients -------------------------------------------------------------------------------

    @property
    def idle_since(self) -> float | None:
        """When the last answer was sent, or the client connected; None while a request is being answered."""
        waiter = self._waiter
        if self.head_due is None and (waiter is None or waiter.done()):
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def head_began(self, data: bytes) -> None:
        """Start the timeout after a partial request. A part of a body does not count: its handler reads it."""
        waiter = self._waiter
        if self.head_due is None and waiter is not None and not waiter.done():
            self.head_due = self._loop.call_later(HEAD_SECONDS, self.cut, "slow_head")
        if self.head_due is not None:
            self._head = (self._head + data)[:_KEPT]

    def head_refused(self, data: bytes) -> None:
        """The parser refuses what came: its beginning is all that is known of the request."""
        self._head = (self._head + data)[:_KEPT]
        self._rest = self._rest or asyncio.Event()
        self._tail += data
        if b"\r\n\r\n" in self._tail:
            self._rest.set()
        self._tail = self._tail[-3:]

    def head_came(self) -> None:
        """Stop the timeout: a whole request has arrived, or the connection is lost."""
        if self.head_due is not None:
            self.head_due.cancel()
            self.head_due = None
            self._head = b""

    # -- the last request ------------------------------------------------------------------------------------

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends nothing more, but may still read: close after the answers to its whole requests.

        A request whose body has not come whole is not answered. Returns whether the transport stays open for that.
        """
        if self._rest is not None:
            self._rest.set()
        answering = self._waiter is None and self._started
        waiting = self.queued
        if not self.body.is_eof():
            if len(waiting) + answering <= 1:
                return None
            if waiting:
                waiting.pop()
        if waiting:
            message, body = waiting[-1]
            if isinstance(message, RawRequestMessage):  # else it is an error, which ends the connection by itself
                waiting[-1] = message._replace(should_close=True), body
            return True
        self._close = answering
        return answering

    @property
    def queued(self) -> MutableSequence[Any]:
        """The requests that wait for earlier ones."""
        return self._messages

    @property
    def _started(self) -> bool:
        """Whether aiohttp's task has begun, which is created with the connection."""
        task = self._task_handler
        return task is not None and inspect.getcoroutinestate(task.get_coro()) != inspect.CORO_CREATED  # type: ignore[arg-type]

    # -- unread answers --------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._loop.call_later(UNREAD_SECONDS, self.cut, "deaf")
        self._limit.stopped_reading(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._limit.reads_again(self)
        self._reads_again()

    def _reads_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def cut(self, reason: str) -> None:
        """Close at once, and count it under this reason; unread answers are dropped."""
        CONNECTIONS_CUT.labels(self.service, reason).inc()
        line = self._line
        self.force_close()
        if line is not None:
            line.abort()

    # -- requests that reach no handler ----------------------------------------------------------------------

    def _make_error_handler(self, err_info: Any) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        """aiohttp's, after the rest of a head that is too large."""
        handle = super()._make_error_handler(err_info)

        async def handle_after_the_rest(request: web.BaseRequest) -> web.StreamResponse:
            if self._rest is not None and not isinstance(_refused(err_info.exc), Malformed):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REST_SECONDS):
                        await self._rest.wait()
            return await handle(request)

        return handle_after_the_rest

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request the parser refused (400, 414, 431) or an error outside the middlewares (500), and close.

        `message` quotes the client's bytes, so it is not used. A browser whose cookies are too large gets a page.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status < 500 or logs.request_id.get() is None:  # else it is the previous request's
            logs.request_id.set(new_request_id())
            tracing.begin(tracing.of_request(logs.request_id.get() or ""))
        refusal = _refused(exc) if status < 500 else Internal()
        failure = exc if status >= 500 else None
        headers: Mapping[str, str] = request.headers
        response = None
        if status < 500:
            path, headers = _known_of(self._head)
            response = self._page(path, refusal) if isinstance(refusal, AddressTooLong | HeadTooLarge) else None
        response = response or problem(headers, refusal)
        record(self.service, OTHER_METHOD, UNMATCHED, response.status, seconds=0.0, failure=failure)
        dress(response)
        response.force_close()
        return response


def _refused(error: BaseException | None) -> Refusal:
    """Why the parser refused a request."""
    if isinstance(error, LineTooLong):
        return AddressTooLong() if error.args[1] == LONGEST_LINE else HeadTooLarge()
    if error is not None and "Too many headers" in str(error):
        return HeadTooLarge()
    return Malformed("This is not a valid HTTP/1.1 request.")


def _known_of(head: bytes) -> tuple[str, Mapping[str, str]]:
    """The path that this beginning of a head names, "/api/" if none, and the language it prefers, as a header."""
    line, language = _FIRST_LINE.match(head), _LANGUAGE.search(head)
    path = line[1].decode("ascii", "replace") if line else "/api/"
    return path, {hdrs.ACCEPT_LANGUAGE: language[1].decode("ascii", "replace")} if language else {}
