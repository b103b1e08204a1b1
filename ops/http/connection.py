"""The connection class: deadlines for heads and for unread answers, a connection limit, problem answers to bad HTTP."""

import asyncio
from typing import Any

from aiohttp import web

from ops.errors import Internal, Malformed
from ops.http.access import OTHER_METHOD, UNMATCHED, new_request_id, record
from ops.http.connection_limit import ConnectionLimit
from ops.http.middleware import dress
from ops.http.problems import problem
from ops.observe import logs, tracing
from ops.observe.metrics import CONNECTIONS_CUT

HEAD_SECONDS = 20.0
"""How long a client may take for its first request's head from the moment it came, for later ones from their start."""

DEAF_SECONDS = 60.0
"""How long answers may wait for a client to take them."""


class Protocol(web.RequestHandler):
    """aiohttp's connection, except that what never reaches a handler is refused in our form too, and that a client
    cannot have it for nothing: heads have to come in time, answers have to be taken, and the crowd has to have room.
    """

    __slots__ = ("_crowd", "_deaf", "_line", "head_due", "service")

    def __init__(self, manager: web.Server, *, service: str, crowd: ConnectionLimit, **options: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self.service = service
        self.head_due: asyncio.TimerHandle | None = None
        """When the head that is awaited has to be there."""
        self._crowd = crowd
        self._deaf: asyncio.TimerHandle | None = None
        self._line: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._line = transport  # type: ignore[assignment]
        if self._crowd.enter(self):
            self.head_due = self._loop.call_later(HEAD_SECONDS, self.cut, "slow_head")
        else:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._crowd.leave(self)
        self.head_came()
        self._hears()
        self._line = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self.head_came()
        elif data:
            self.head_began()

    # -- clients that cost more than they ask for ------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Whether the client has said nothing yet, or half of a request."""
        return self.head_due is not None

    def head_began(self) -> None:
        """Something came that was no whole request. It may be part of a body, and then somebody is reading that."""
        waiter = self._waiter
        if self.head_due is None and waiter is not None and not waiter.done():
            self.head_due = self._loop.call_later(HEAD_SECONDS, self.cut, "slow_head")

    def head_came(self) -> None:
        """A whole request is there, or nobody waits for one any more."""
        if self.head_due is not None:
            self.head_due.cancel()
            self.head_due = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._deaf = self._loop.call_later(DEAF_SECONDS, self.cut, "deaf")
        self._crowd.deafen(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._crowd.hear(self)
        self._hears()

    def _hears(self) -> None:
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None

    def cut(self, reason: str) -> None:
        """Hang up at once, and count it under this reason; what the client has not taken is dropped."""
        CONNECTIONS_CUT.labels(self.service, reason).inc()
        line = self._line
        self.force_close()
        if line is not None:
            line.abort()

    # -- what no handler answers -----------------------------------------------------------------------------

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refused (400) or what escaped every middleware (500), and hang up.

        `message` quotes the client's bytes and goes nowhere.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status < 500 or logs.request_id.get() is None:  # else it is that of the request before
            logs.request_id.set(new_request_id())
            tracing.begin(tracing.of_request(logs.request_id.get() or ""))
        refusal = Malformed("This is not HTTP as we read it.") if status < 500 else Internal()
        failure = exc if status >= 500 else None
        record(self.service, OTHER_METHOD, UNMATCHED, status, seconds=0.0, failure=failure)
        response = problem(request.headers, refusal, status)
        dress(response)
        response.force_close()
        return response
