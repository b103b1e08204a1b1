"""Answers chosen requests right after aiohttp's parser, before a task, a Request or a Response exists.

aiohttp's strict C parser reads every byte as usual. Each accepted message is passed to a function, the Offer, which
returns finished bytes, promises them, or declines. aiohttp handles declined messages, and all messages that arrive
while it is busy on that connection. Answers are sent in the order of the requests.

This has to keep aiohttp's state consistent: each answered message is consumed from the parser's queue, the keep-alive
timer is reset, and a promised answer counts as a request in progress, so that a shutdown waits for it. That state is in
private attributes of the pinned minor version of aiohttp; `missing` names absent ones. With any of them absent, a
service leaves all requests to aiohttp.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE as QUEUE

from ops.http.connection import Protocol
from ops.http.writes_together import WritesTogether
from ops.observe.metrics import HTTP_EARLY_ANSWERS


class Later:
    """Returned by an Offer that will pass its answer to the connection's `fulfil` later."""


LATER = Later()
Answer = bytes | Later | None
Offer = Callable[[RawRequestMessage, "EarlyAnswers"], Answer]
"""Returns finished bytes; LATER, after which it must call `connection.fulfil` once; or None to leave it to aiohttp.

It is called only for messages without a body, and has to decline those with `should_close`.
"""

TURNS = 3
"""Turns of the loop to wait for aiohttp's task to become idle."""
BYTES_AT_ONCE = 128 * 1024
"""Answers to requests that came together are written up to so many bytes; the next are aiohttp's, which waits for a
client that does not read."""

_Message = tuple[RawRequestMessage, StreamReader]
_log = logging.getLogger(__name__)

_PRIVATE = (
    "_buffer_paused",
    "_close",
    "_force_close",
    "_handler_waiter",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_manager",
    "_msg_queue_resume_size",
    "_messages",
    "_next_keepalive_close_time",
    "_parser",
    "_pause_reading_for_buffer",
    "_paused",
    "_process_keepalive",
    "_request_count",
    "_request_in_progress",
    "_resume_reading_if_drained",
    "_upgraded",
    "_waiter",
)


def missing() -> list[str]:
    """The attributes this module needs and this aiohttp lacks; empty where early answers are possible."""
    names = {name for cls in web.RequestHandler.__mro__ for name in getattr(cls, "__slots__", ())}
    found = sorted(name for name in _PRIVATE if name not in names and not hasattr(web.RequestHandler, name))
    if "self._parser.feed_data(data)" not in inspect.getsource(web.RequestHandler.data_received):
        found.append("data_received calling self._parser.feed_data(data)")
    return found


def is_possible(service: str) -> bool:
    """Whether this aiohttp allows early answers; sets the service's gauge, and logs what is missing if not."""
    absent = missing()
    HTTP_EARLY_ANSWERS.labels(service).set(not absent)
    if absent:
        _log.warning(
            "Early answers are off: aiohttp %s has no %s; aiohttp handles every request",
            aiohttp.__version__,
            ", ".join(absent),
        )
    return not absent


class EarlyAnswers(Protocol):
    """A connection whose messages are passed to an Offer first."""

    __slots__ = ("_held", "_offer", "_parked", "_promised", "_writes", "drawn", "peer")

    def __init__(
        self, manager: web.Server, *, service: str, offer: Offer, writes: WritesTogether, **options: Any
    ) -> None:
        super().__init__(manager, service=service, **options)
        self._offer = offer
        self._writes = writes
        self._promised = False
        self._parked: asyncio.Future[None] | None = None
        self._held: list[Any] = []
        self._parser: Any = _Tap(self._parser, self)
        self.drawn: RawRequestMessage | None = None
        """The last message left to aiohttp because it is sampled for a trace."""
        self.peer: str | None = None
        """The address of the connection's other end; None for a Unix socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else None

    data_received = web.RequestHandler.data_received  # the _Tap keeps the timeout of heads

    @property
    def waits(self) -> bool:
        """Whether a promised answer is pending."""
        return self._promised

    @property
    def holds(self) -> bool:
        """Whether messages are held for a turn of the loop."""
        return bool(self._held)

    # -- messages --------------------------------------------------------------------------------------------

    def take(self, messages: Sequence[Any]) -> Sequence[Any]:
        """Answer these in order as far as the Offer accepts them; returns the rest, which aiohttp handles."""
        if self._held:
            self._held.extend(messages)
            return ()
        waiter = self._waiter
        if waiter is None and not (self._promised or self._messages or self._request_in_progress or self._force_close):
            # aiohttp's task is about to become idle, on a new connection or after an answer, or to close.
            self._held.extend(messages)
            self._loop.call_soon(self._look_again, TURNS)
            return ()
        if waiter is None or waiter.done() or self._messages or self._paused or self._close or self._force_close:
            return messages
        ready: list[bytes] = []
        size = 0
        rest: Sequence[_Message] = ()
        for n, (message, payload) in enumerate(messages):
            whole = payload is EMPTY_PAYLOAD and isinstance(message, RawRequestMessage)
            answer = self._offer(message, self) if whole else None
            if answer is None:
                rest = messages[n:]
                break
            self._parser.message_consumed()
            self._request_count += 1
            self._manager.requests_count += 1  # type: ignore[union-attr]
            if not isinstance(answer, bytes):
                self._wait()
                rest = messages[n + 1 :]
                break
            ready.append(answer)
            size += len(answer)
            if size > BYTES_AT_ONCE:
                rest = messages[n + 1 :]
                break
        if ready:
            self._send(ready[0] if len(ready) == 1 else b"".join(ready))
        return rest

    def _look_again(self, turns: int) -> None:
        if self._waiter is None and turns and not self._force_close:
            self._loop.call_soon(self._look_again, turns - 1)
            return
        held, self._held = self._held, []
        self.body = held[-1][1] if held else self.body
        self._messages.extend(held)
        self._go_on()

    def hold(self) -> None:
        """Pause reading until the queued messages are handled."""
        if not self._buffer_paused:
            self._pause_reading_for_buffer()

    def see_off(self) -> None:
        """Send the queued answers now."""
        self._writes.leave()

    def _send(self, answers: bytes) -> None:
        transport = self.transport
        if transport is not None:
            self._writes.add(transport, answers)
        close_time = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = close_time
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    # -- promised answers ------------------------------------------------------------------------------------

    def _wait(self) -> None:
        # aiohttp's own task waits for `_waiter`. While that is parked the task stays asleep, new messages queue in
        # `_messages` under aiohttp's own limit, and the connection counts as busy.
        self._promised, self._parked, self._waiter = True, self._waiter, None
        self._request_in_progress = True

    def fulfil(self, answer: bytes) -> bool:
        """Send the promised answer, and continue. False when the connection no longer waits for it."""
        if not self._promised:
            return False
        self._promised = False
        self._request_in_progress = False
        self._send(answer)
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self._close or self._force_close:
            # Closing was requested while the answer was pending: it was the last one.
            self.force_close()
        else:
            self._unpark()
            if self._messages or self._buffer_paused:
                self._go_on()
        return True

    def _unpark(self) -> None:
        if self._parked is not None:
            self._waiter, self._parked = self._parked, None

    def _go_on(self) -> None:
        """Answer the messages queued meanwhile, and leave the rest to aiohttp."""
        if self.transport is None or self.transport.is_closing():
            return  # connection_lost is about to be called, and aiohttp's task must not wake before that
        if self._messages and self._waiter is not None and not self._paused:
            gathered = list(self._messages)
            self._messages.clear()
            self._messages.extend(self.take(gathered))
        if self._messages and not self._promised and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    # -- the end ---------------------------------------------------------------------------------------------

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """As the Protocol's; answers of this turn are sent first."""
        self._writes.leave()
        return super().eof_received()

    @property
    def queued(self) -> MutableSequence[Any]:
        """The requests that wait for earlier ones, or for aiohttp's task to become idle."""
        return self._held or self._messages

    def close(self) -> None:
        """Close after the promised answer, or at once without one."""
        if not self._promised:
            super().close()
        self._close = True

    def force_close(self) -> None:
        """Close now; queued answers are sent first."""
        self._writes.leave()
        if self._promised:
            self._promised = False
            self._request_in_progress = False
        self._held.clear()
        self._unpark()
        super().force_close()


class _Tap:
    """The parser, with every accepted message offered to EarlyAnswers before aiohttp gets it."""

    __slots__ = ("_parser", "_protocol", "feed_eof", "message_consumed", "pause_reading", "set_upgraded")

    def __init__(self, parser: Any, protocol: EarlyAnswers) -> None:
        self._parser = parser
        self._protocol = protocol
        self.feed_eof = parser.feed_eof
        self.message_consumed = parser.message_consumed
        self.pause_reading = parser.pause_reading
        self.set_upgraded = parser.set_upgraded

    def feed_data(self, data: bytes) -> tuple[Sequence[_Message], bool, bytes]:
        """The messages left to aiohttp, as from the parser; raises what the parser raises."""
        protocol = self._protocol
        while True:
            try:
                messages, upgraded, tail = self._parser.feed_data(data)
            except HttpProcessingError:
                protocol.head_refused(data)
                raise
            if not messages:
                if data:
                    protocol.head_began(data)
                return messages, upgraded, tail
            if protocol.head_due is not None:
                protocol.head_came()
            if upgraded:
                return messages, upgraded, tail
            rest = protocol.take(messages)
            if rest:
                protocol.body = rest[-1][1]
            if len(messages) < QUEUE:
                return rest, upgraded, tail
            # A full queue stops the parser in the middle of its input until it is called again: by us now, or by
            # aiohttp once it has handled the rest, which it does for a paused connection.
            if rest or protocol.waits or protocol.holds:
                protocol.hold()
                return rest, upgraded, tail
            protocol.see_off()  # writing may fill the transport, which then pauses us
            data = b""
