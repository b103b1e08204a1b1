"""Answers chosen requests straight behind aiohttp's parser, before a task, a Request or a Response exists.

aiohttp's strict C parser reads every byte as always. Each message it has accepted is offered to an Express, which
answers it with finished bytes, promises them, or passes; what it passes goes the normal way, and so does everything
that comes while the normal way is busy on that connection. Answers leave in the order of the requests, whichever way
each of them went.

Doing this beside aiohttp means keeping its books: each message taken is consumed from the parser's queue, the
keep-alive clock moves on, a promised answer counts as a request in progress, so that idle connections are told from
busy ones and a shutdown waits for it. Those books are private attributes of the one minor version of aiohttp that is
pinned; `missing` names those that are not there, and a service runs without an Express where they are not.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE as QUEUE

from ops.http.connection import Protocol
from ops.http.writes_together import WritesTogether
from ops.observe.metrics import HTTP_EARLY_ANSWERS


class Later:
    """The answer of an Express that has none yet, and will hand it to the connection's `fulfil`."""


LATER = Later()
Answer = bytes | Later | None
Offer = Callable[[RawRequestMessage, "EarlyAnswers"], Answer]
"""Finished bytes; LATER, whereupon `connection.fulfil` has to be called once; or None for "let it go the normal way".

It is offered messages without a body only.
"""

TURNS = 3
"""Turns of the loop for which aiohttp's task is given time to begin waiting."""

_Message = tuple[RawRequestMessage, StreamReader]
_log = logging.getLogger(__name__)

_BOOKS = (
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
    """What this module leans on and this aiohttp does not have, by name; empty where early answers are possible."""
    names = {name for cls in web.RequestHandler.__mro__ for name in getattr(cls, "__slots__", ())}
    found = sorted(name for name in _BOOKS if name not in names and not hasattr(web.RequestHandler, name))
    if "self._parser.feed_data(data)" not in inspect.getsource(web.RequestHandler.data_received):
        found.append("data_received calling self._parser.feed_data(data)")
    return found


def is_possible(service: str) -> bool:
    """Whether this service can answer early with this aiohttp; sets its gauge, and logs what is missing if not."""
    absent = missing()
    HTTP_EARLY_ANSWERS.labels(service).set(not absent)
    if absent:
        _log.warning(
            "Early answers are off: aiohttp %s has no %s; every request goes the normal way",
            aiohttp.__version__,
            ", ".join(absent),
        )
    return not absent


class EarlyAnswers(Protocol):
    """A connection whose messages are offered to an Express first."""

    __slots__ = ("_departures", "_held", "_offer", "_parked", "_promised", "drawn", "peer")

    def __init__(
        self, manager: web.Server, *, service: str, offer: Offer, departures: WritesTogether, **options: Any
    ) -> None:
        super().__init__(manager, service=service, **options)
        self._offer = offer
        self._departures = departures
        self._promised = False
        self._parked: asyncio.Future[None] | None = None
        self._held: list[Any] = []
        self._parser: Any = _Tap(self._parser, self)
        self.drawn: RawRequestMessage | None = None
        """The last message that was passed on because its trace is to be sampled."""
        self.peer: str | None = None
        """The address at the other end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else None

    data_received = web.RequestHandler.data_received  # what came, the tap tells

    @property
    def waits(self) -> bool:
        """Whether an answer is promised and not there yet."""
        return self._promised

    @property
    def holds(self) -> bool:
        """Whether messages are kept back for a turn of the loop."""
        return bool(self._held)

    # -- messages --------------------------------------------------------------------------------------------

    def take(self, messages: Sequence[Any]) -> Sequence[Any]:
        """Answer as many of these, the first first, as the Express takes; what is returned goes on the normal way."""
        if self._held:
            self._held.extend(messages)
            return ()
        waiter = self._waiter
        if waiter is None and not (self._promised or self._messages or self._request_in_progress or self._force_close):
            # aiohttp's task is about to wait, at the beginning of a connection or after an answer, or to hang up.
            self._held.extend(messages)
            self._loop.call_soon(self._look_again, TURNS)
            return ()
        if waiter is None or waiter.done() or self._messages or self._paused or self._close or self._force_close:
            return messages
        ready: list[bytes] = []
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
        if ready:
            self._send(ready[0] if len(ready) == 1 else b"".join(ready))
        return rest

    def _look_again(self, turns: int) -> None:
        if self._waiter is None and turns and not self._force_close:
            self._loop.call_soon(self._look_again, turns - 1)
            return
        held, self._held = self._held, []
        self._messages.extend(held)
        self._go_on()

    def hold(self) -> None:
        """Read no further until what has gathered is worked off."""
        if not self._buffer_paused:
            self._pause_reading_for_buffer()

    def see_off(self) -> None:
        """Let the answers that are ready leave now."""
        self._departures.leave()

    def _send(self, answers: bytes) -> None:
        transport = self.transport
        if transport is not None:
            self._departures.add(transport, answers)
        close_time = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = close_time
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    # -- an answer that is promised --------------------------------------------------------------------------

    def _wait(self) -> None:
        # aiohttp's own task waits for `_waiter`. While it is parked nothing wakes that task, what arrives gathers in
        # `_messages` under aiohttp's own limit, and the connection counts as busy.
        self._promised, self._parked, self._waiter = True, self._waiter, None
        self._request_in_progress = True

    def fulfil(self, answer: bytes) -> bool:
        """Send the answer that was promised, and go on. False when nobody is there any more to send it to."""
        if not self._promised:
            return False
        self._promised = False
        self._request_in_progress = False
        self._send(answer)
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self._close or self._force_close:
            # Somebody asked for the end while the answer was on its way: it was the last one.
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
        """Take what has gathered meanwhile, and leave the rest to aiohttp."""
        if self.transport is None or self.transport.is_closing():
            return  # its loss is about to be told, and aiohttp's task must not wake before that
        if self._messages and self._waiter is not None and not self._paused:
            gathered = list(self._messages)
            self._messages.clear()
            self._messages.extend(self.take(gathered))
        if self._messages and not self._promised and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Answer what was promised, and nothing after that."""
        if not self._promised:
            super().close()
        self._close = True

    def force_close(self) -> None:
        """Hang up now."""
        self._departures.leave()
        if self._promised:
            self._promised = False
            self._request_in_progress = False
        self._held.clear()
        self._unpark()
        super().force_close()


class _Tap:
    """The parser, with every message it has accepted offered to the Express on its way to aiohttp."""

    __slots__ = ("_parser", "_protocol", "feed_eof", "message_consumed", "pause_reading", "set_upgraded")

    def __init__(self, parser: Any, protocol: EarlyAnswers) -> None:
        self._parser = parser
        self._protocol = protocol
        self.feed_eof = parser.feed_eof
        self.message_consumed = parser.message_consumed
        self.pause_reading = parser.pause_reading
        self.set_upgraded = parser.set_upgraded

    def feed_data(self, data: bytes) -> tuple[Sequence[_Message], bool, bytes]:
        """What aiohttp is to do itself; raises what the parser raises."""
        protocol = self._protocol
        while True:
            messages, upgraded, tail = self._parser.feed_data(data)
            if not messages:
                if data:
                    protocol.head_began()
                return messages, upgraded, tail
            if protocol.head_due is not None:
                protocol.head_came()
            if upgraded:
                return messages, upgraded, tail
            rest = protocol.take(messages)
            if len(messages) < QUEUE:
                return rest, upgraded, tail
            # A full queue makes the parser stop in the middle of what it was given, until it is asked to go on: by us
            # now, or by aiohttp once it has worked off what is left, which it does for a connection it has paused.
            if rest or protocol.waits or protocol.holds:
                protocol.hold()
                return rest, upgraded, tail
            protocol.see_off()  # what leaves may fill the transport, which then pauses us
            data = b""
