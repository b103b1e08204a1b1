"""The connection class: timeouts of heads and unread answers, the connection limit, clients that have sent their last
request, problem answers to bad HTTP.
"""

import asyncio
import inspect
from collections.abc import MutableSequence
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from ops.errors import Internal, Malformed
from ops.http.access import OTHER_METHOD, UNMATCHED, new_request_id, record
from ops.http.connection_limit import ConnectionLimit
from ops.http.middleware import dress
from ops.http.problems import problem
from ops.observe import logs, tracing
from ops.observe.metrics import CONNECTIONS_CUT

HEAD_SECONDS = 20.0
"""Timeout of a request's head in seconds: from connecting for the first one, from its first byte later."""

UNREAD_SECONDS = 60.0
"""Seconds after which a connection is closed whose client does not read its answers."""


class Protocol(web.RequestHandler):
    """aiohttp's connection with timeouts for heads and unread answers, a connection limit, and problem+json for
    requests that never reach a handler.
    """

    __slots__ = ("_limit", "_line", "_unread", "body", "head_due", "service")

    def __init__(self, manager: web.Server, *, service: str, limit: ConnectionLimit, **options: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self.service = service
        self.head_due: asyncio.TimerHandle | None = None
        """The timeout of the awaited head."""
        self.body: StreamReader = EMPTY_PAYLOAD
        """The body of the newest request that aiohttp was given."""
        self._limit = limit
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
            self.head_came()
            if self._messages:
                self.body = self._messages[-1][1]
        elif data:
            self.head_began()

    # -- slow and idle clients -------------------------------------------------------------------------------

    @property
    def idle_since(self) -> float | None:
        """When the last answer was sent, or the client connected; None while a request is being answered."""
        waiter = self._waiter
        if self.head_due is None and (waiter is None or waiter.done()):
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def head_began(self) -> None:
        """Start the timeout after a partial request. A part of a body does not count: its handler reads it."""
        waiter = self._waiter
        if self.head_due is None and waiter is not None and not waiter.done():
            self.head_due = self._loop.call_later(HEAD_SECONDS, self.cut, "slow_head")

    def head_came(self) -> None:
        """Stop the timeout: a whole request has arrived, or the connection is lost."""
        if self.head_due is not None:
            self.head_due.cancel()
            self.head_due = None

    # -- the last request ------------------------------------------------------------------------------------

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends nothing more, but may still read: close after the answers to its whole requests.

        A request whose body has not come whole is not answered. Returns whether the transport stays open for that.
        """
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

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request the parser refused (400) or an error outside the middlewares (500), and close.

        `message` quotes the client's bytes, so it is not used.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status < 500 or logs.request_id.get() is None:  # else it is the previous request's
            logs.request_id.set(new_request_id())
            tracing.begin(tracing.of_request(logs.request_id.get() or ""))
        refusal = Malformed("This is not a valid HTTP/1.1 request.") if status < 500 else Internal()
        failure = exc if status >= 500 else None
        record(self.service, OTHER_METHOD, UNMATCHED, status, seconds=0.0, failure=failure)
        response = problem(request.headers, refusal, status)
        dress(response)
        response.force_close()
        return response
