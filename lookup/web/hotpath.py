"""Plain lookups, answered right after parsing (ops/http/early_answers.py): from memory at once, or once loaded.

Nearly every request of a citizen's browser or a portal's poller is plain: GET or HEAD of the canonical address of a
dossier, without key, version or conditions except one entity tag. Every other request goes through aiohttp as usual.
The client sees no difference: both send the same bytes and count in the same metrics.

Every answer's head comes from the Response that a handler would return: of a fresh one once, with the request's own
values filled in later (lookup/web/heads.py), of any other each time.
"""

import asyncio
import functools
import logging
import time
from collections import deque
from time import perf_counter

import msgspec
from aiohttp import HttpVersion11
from aiohttp.http import RawRequestMessage

from lookup import code as codes
from lookup.code import DossierCode, Scheme
from lookup.dossier import unpack
from lookup.reading.access import AccessPolicy, DossierNotFound
from lookup.reading.freshness import SECOND
from lookup.reading.limits import Asker, TooManyRequests
from lookup.reading.memory import Copy, Memory, Rendered
from lookup.reading.read_through import Answer
from lookup.reading.reader import Found
from lookup.reading.shedding import REFUSED_AFTER, Overloaded
from lookup.web.answers import KEY_HEADER, PATH, Answers, etag, freshness_of
from lookup.web.heads import AGE, TAG, Head, date_line, written
from lookup.web.tally import _PREFIX, ROUTE, Tally
from ops.errors import Internal, Refusal, Unavailable
from ops.http.access import (
    CLIENT_GONE,
    new_request_id,
    worth_a_line,
)
from ops.http.client_address import FORWARDED
from ops.http.early_answers import LATER, EarlyAnswers, Later
from ops.http.middleware import identity
from ops.http.probes import State
from ops.http.problems import completed, problem
from ops.observe import logs, tracing

SENT_AWAY_AT_ONCE = 100
"""Limit of refusals sent in one turn of the loop."""
FLUSH_EVERY = 0.1
"""Seconds between two updates of the metrics. Answers are collected in lists until then, which costs less."""

_METHODS = frozenset({"GET", "HEAD"})
_GIVEN = b"x-request-id"
_HELD = b"if-none-match"
_FORWARDED = FORWARDED.lower().encode()
_TRACE = tracing.TRACEPARENT.encode()
_UNUSUAL = frozenset(
    {KEY_HEADER.lower().encode()}
    | {b"expect", b"if-match", b"if-modified-since", b"if-range", b"if-unmodified-since", b"range", b"upgrade"}
)
_LOOKED_AT = _UNUSUAL | {_GIVEN, _HELD, _FORWARDED, _TRACE}

_AGES = [b"%d" % age for age in range(120)]
_log = logging.getLogger(__name__)


class _Asked:
    """A plain request that waits for its answer."""

    __slots__ = ("asker", "began", "code", "connection", "counted", "held", "message", "promised", "request_id")

    def __init__(
        self,
        message: RawRequestMessage,
        connection: EarlyAnswers,
        asker: Asker,
        code: DossierCode,
        held: bytes,
        request_id: bytes,
        began: float,
    ) -> None:
        self.message = message
        self.connection = connection
        self.asker = asker
        self.code = code
        self.held = held
        self.request_id = request_id
        self.began = began
        self.promised = False
        self.counted = False
        """Whether it was already counted as a lookup."""

    @property
    def gone(self) -> bool:
        """Whether the client disconnected before its answer."""
        return self.promised and not self.connection.waits


class HotPath:
    """Receives every request from the connections; `run` adds the counts to the metrics."""

    def __init__(
        self, policy: AccessPolicy, answers: Answers, memory: Memory, state: State, *, log_share: float
    ) -> None:
        self._policy = policy
        self._answers = answers
        self._memory = memory
        self._feed = policy.reader.vitals.feed
        self._clock = policy.reader.vitals.clock
        self._state = state
        self._second = 0
        self._date = b""
        hit_or_stored = (freshness_of(AGE, stored=False), freshness_of(AGE, stored=True))
        self._ok = tuple(Head(answers.fresh(b"", TAG, freshness)) for freshness in hit_or_stored)
        self._not_modified = tuple(Head(answers.fresh(None, TAG, freshness)) for freshness in hit_or_stored)
        self._tally = Tally(log_share, policy.trusts)
        self._knows = policy.knows
        self._under_way: set[asyncio.Task[None]] = set()
        self._turned_away: deque[tuple[float, _Asked, Overloaded]] = deque()

    def offer(self, message: RawRequestMessage, connection: EarlyAnswers) -> bytes | Later | None:
        """Answer a plain lookup, or promise to; None for anything else."""
        began = perf_counter()
        if self._policy.key_required:
            return None  # every plain lookup is refused
        try:
            plain = self._plain(message, connection)
            if plain is None:
                return None
            held, request_id, forwarded = plain
            name = message.path[_PREFIX:]
            asker, refusal = (connection.peer, forwarded), None
            copy = self._memory.get(name)
            if copy is not None and copy.body:
                now = self._clock.now()
                if self._feed.vouches_for(copy, now):
                    rendered: Rendered | None = self._memory.finished(name)
                    if rendered is None or rendered.view != self._answers.anonymous:
                        rendered = self._render(name, copy)
                    if rendered is not None:
                        pair = hash((asker, name))
                        if not self._knows(pair):
                            refusal = self._policy.disclose_first(pair, asker, name)
                        if refusal is None:
                            age = now - max(copy.as_of, self._feed.at)
                            status, answer = self._fresh(message, held, request_id, rendered, age, stored=False)
                            self._tally.count(message, connection, request_id, began, status, "memory", "found", age)
                            return answer
            return self._later(name, message, connection, asker, held, request_id, began, refusal)
        except Exception as error:
            if worth_a_line(500, 0.0, drawn=False, failure=error):
                _log.exception("An early answer failed; aiohttp handles the request", extra={"route": ROUTE})
            return None

    async def run(self) -> None:
        """Add the counts to the metrics every FLUSH_EVERY seconds, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            self._tally.flush()

    # -- the request -----------------------------------------------------------------------------------------

    def _plain(self, message: RawRequestMessage, connection: EarlyAnswers) -> tuple[bytes, bytes, str] | None:
        """The tag the client holds, the request's id, the forwarded header; None when it is no plain lookup."""
        if not message.path.startswith(PATH) or message.method not in _METHODS:
            return None
        if message.should_close or message.version != HttpVersion11 or message.upgrade or self._state.draining:
            return None
        given, held, trace, forwarded = "", b"", None, ""
        for name, value in message.raw_headers:
            lowered = name.lower()
            if lowered not in _LOOKED_AT:
                continue
            if lowered == _GIVEN:
                given = value.decode("utf-8", "replace")
            elif lowered == _HELD and not held and _is_one_tag(value):
                held = value
            elif lowered == _FORWARDED:
                claimed = value.decode("utf-8", "surrogateescape")
                forwarded = f"{forwarded},{claimed}" if forwarded else claimed
            elif lowered == _TRACE:
                if self._policy.trusts(connection.peer):
                    trace = value.decode("ascii", "replace")
            else:
                return None
        if tracing.draw(trace):
            connection.drawn = message  # aiohttp answers it, in spans
            return None
        return held, (identity(given) if given else new_request_id()).encode(), forwarded

    # -- a fresh answer --------------------------------------------------------------------------------------

    def _fresh(
        self,
        message: RawRequestMessage,
        held: bytes,
        request_id: bytes,
        rendered: Rendered,
        age: int,
        *,
        stored: bool,
    ) -> tuple[int, bytes]:
        """The status and the bytes of a fresh answer."""
        seconds = age // SECOND
        text = _AGES[seconds] if 0 <= seconds < len(_AGES) else b"%d" % max(0, seconds)
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._date = date_line()
        tag = rendered.tag
        if held == tag:
            return 304, self._not_modified[stored].before(text, b"", tag, request_id, b"", self._date, b"")
        body = b"" if message.method == "HEAD" else rendered.body
        return 200, self._ok[stored].before(text, b"", tag, request_id, rendered.length, self._date, body)

    def _render(self, code: str, copy: Copy) -> Rendered | None:
        """Finish the copy's answer and keep it with the copy; None if the copy cannot be decoded."""
        try:
            rendered = self._rendered(copy.version, copy.body)
        except msgspec.DecodeError:
            return None
        self._memory.finish(code, rendered)
        return rendered

    def _rendered(self, version: int, packed: bytes) -> Rendered:
        view = self._answers.anonymous
        body = self._answers.anonymous_json(packed)
        return Rendered(view, _tag(self._feed.epoch, version, view), _length(len(body)), body)

    # -- answered later --------------------------------------------------------------------------------------

    def _later(
        self,
        name: str,
        message: RawRequestMessage,
        connection: EarlyAnswers,
        asker: Asker,
        held: bytes,
        request_id: bytes,
        began: float,
        refusal: TooManyRequests | None,
    ) -> bytes | Later | None:
        """Start the lookup, or refuse it; None when the path is not a canonical one: aiohttp answers it."""
        code = codes.at(name)
        if code is None:
            return None
        asked = _Asked(message, connection, asker, code, held, request_id, began)
        refusal = refusal or self._policy.is_over(asker, code.text)
        if refusal is not None:
            return self._limited(asked, refusal)
        recalled = self._policy.reader.dossiers.recall(code.text)
        if recalled is not None and recalled.entry.body:
            refusal = self._policy.disclose(asker, code.text)
            answer = self._found(asked, recalled) if refusal is None else self._limited(asked, refusal)
            if answer is not None:
                return answer
        self._policy.reader.dossiers.want(code.text, lambda answer: self._arrived(asked, answer))
        asked.promised = True
        self._tally.promised += 1
        return LATER

    def _arrived(self, asked: _Asked, answer: Answer | Unavailable) -> None:
        """Callback of a lookup, with its answer or failure."""
        try:
            self._go_on(asked, answer)
        except Exception as error:
            self._give_up(asked, error)

    def _go_on(self, asked: _Asked, answer: Answer | Unavailable) -> None:
        if isinstance(answer, Overloaded):
            self._turn_away(asked, answer)
            return
        if isinstance(answer, Unavailable):
            self._fulfil(asked, self._refused(asked, answer, *self._policy.refused(answer)))
            return
        if answer.entry.body:
            refusal = self._policy.disclose(asked.asker, asked.code.text)
            ready = self._found(asked, answer) if refusal is None else self._limited(asked, refusal)
        elif asked.code.scheme is not Scheme.D:  # and cannot be an official number
            refusal = self._policy.missed(asked.asker)
            if refusal is None:
                ready = self._refused(asked, DossierNotFound(), answer.source, "missing")
            else:
                ready = self._limited(asked, refusal)
        else:
            ready = None
        if ready is not None:
            self._fulfil(asked, ready)
            return
        # Rare: an answer by official number, or one that cannot be decoded.
        task = asyncio.create_task(self._take_time(asked))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _turn_away(self, asked: _Asked, overloaded: Overloaded) -> None:
        """Refuse it after REFUSED_AFTER seconds: one timer for all, because there may be thousands."""
        loop = asyncio.get_running_loop()
        if not self._turned_away:
            loop.call_later(REFUSED_AFTER, self._send_away)
        self._turned_away.append((loop.time() + REFUSED_AFTER, asked, overloaded))

    def _send_away(self) -> None:
        loop = asyncio.get_running_loop()
        due: list[tuple[_Asked, Overloaded]] = []
        while self._turned_away and self._turned_away[0][0] <= loop.time() and len(due) < SENT_AWAY_AT_ONCE:
            due.append(self._turned_away.popleft()[1:])
        if self._turned_away:
            loop.call_at(self._turned_away[0][0], self._send_away)
        for asked, overloaded in due:
            self._fulfil(asked, self._refused(asked, overloaded, *self._policy.refused(overloaded)))

    async def _take_time(self, asked: _Asked) -> None:
        logs.request_id.set(asked.request_id.decode())
        try:
            self._fulfil(asked, await self._answer_slowly(asked))
        except Exception as error:
            self._give_up(asked, error)

    def _give_up(self, asked: _Asked, error: Exception) -> None:
        """Answer 500 after an unexpected error: the connection was promised an answer."""
        if asked.gone:  # the access log has no line with the error then
            _log.error("An early answer failed; its client had left", extra={"route": ROUTE}, exc_info=error)
        self._fulfil(asked, self._refused(asked, Internal(), "nowhere", "unavailable", failure=error))

    async def _answer_slowly(self, asked: _Asked) -> bytes:
        try:
            asked.counted = True  # `find` counts it
            found = await self._policy.find(asked.code, asker=asked.asker)
        except Refusal as refusal:
            return self._refused(asked, refusal, *self._policy.refused(refusal))
        return self._otherwise(asked, found)

    def _found(self, asked: _Asked, answer: Answer) -> bytes | None:
        """The bytes of an answer that has a body; None if that cannot be decoded."""
        entry = answer.entry
        try:
            if answer.stale:
                record = unpack(entry.body)
                found = Found(record, entry.as_of, answer.age, True, answer.source, self._feed.epoch)
                return self._otherwise(asked, found)
            rendered = self._rendered(entry.version, entry.body)
        except msgspec.DecodeError:
            return None
        stored = answer.source == "postgres"
        status, ready = self._fresh(asked.message, asked.held, asked.request_id, rendered, answer.age, stored=stored)
        self._count(asked, status, answer.source, "found", answer.age)
        return ready

    def _otherwise(self, asked: _Asked, found: Found) -> bytes:
        """The bytes of an answer that is stale, or was requested by official number."""
        held = asked.held.decode("ascii", "replace")
        response = self._answers.answer(found, asked.code, holder=False, stored=True, held=held.__eq__)
        ready = written(response, dressed_as=asked.request_id.decode(), head=asked.message.method == "HEAD")
        self._count(asked, response.status, found.source, "stale" if found.stale else "found", found.age)
        return ready

    def _limited(self, asked: _Asked, refusal: TooManyRequests) -> bytes:
        return self._refused(asked, refusal, *self._policy.refused(refusal))

    def _refused(
        self, asked: _Asked, refusal: Refusal, source: str, outcome: str, *, failure: Exception | None = None
    ) -> bytes:
        logs.request_id.set(asked.request_id.decode())  # the problem document names it
        response = problem(asked.message.headers, refusal)
        completed(response, refusal)
        ready = written(response, dressed_as=asked.request_id.decode(), head=asked.message.method == "HEAD")
        self._count(asked, response.status, source, outcome, failure=failure)
        return ready

    def _count(
        self,
        asked: _Asked,
        status: int,
        source: str,
        outcome: str,
        age: int | None = None,
        failure: Exception | None = None,
    ) -> None:
        """Count the request, and the lookup unless it was counted."""
        status = CLIENT_GONE if asked.gone else status
        outcome = "" if asked.counted else outcome
        said = (asked.message, asked.connection, asked.request_id, asked.began)
        self._tally.count(*said, status, source, outcome, age, failure)
        asked.counted = True

    def _fulfil(self, asked: _Asked, answer: bytes) -> None:
        self._tally.promised -= 1
        asked.connection.fulfil(answer)


# Most dossiers share a few versions and lengths, so their copies share these bytes.
@functools.lru_cache(maxsize=4096)
def _tag(epoch: int, version: int, view: str) -> bytes:
    return etag(epoch, version, view).encode()


@functools.lru_cache(maxsize=4096)
def _length(count: int) -> bytes:
    return b"%d" % count


def _is_one_tag(value: bytes) -> bool:
    """Whether this is a single strong entity tag."""
    return len(value) >= 2 and value[:1] == value[-1:] == b'"' and value.count(b'"') == 2
