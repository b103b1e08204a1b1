"""Plain requests, answered right after parsing (ops/http/early_answers.py): from memory at once, or once loaded.

Nearly every request of a citizen's browser or a portal's poller is plain: GET or HEAD of the canonical address of a
dossier, as JSON or as a page, without key, version or conditions except one entity tag; or of the form, also with a
code typed into it. Every other request goes through aiohttp as usual. The client sees no difference: both send the same
bytes and count in the same metrics.

What an answer looks like is its face's affair (lookup/web/faces.py). Every answer's head comes from the Response that a
handler would return: of a fresh one once, with the request's own values filled in later (lookup/web/heads.py), of any
other each time.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from time import perf_counter

import msgspec
from aiohttp import HttpVersion11
from aiohttp.http import RawRequestMessage

from lookup import code as codes
from lookup.code import DossierCode, MalformedCode, Scheme
from lookup.dossier import unpack
from lookup.reading.access import AccessPolicy, DossierNotFound
from lookup.reading.freshness import SECOND
from lookup.reading.limits import Asker, TooManyRequests
from lookup.reading.memory import Memory, Rendered
from lookup.reading.read_through import Answer
from lookup.reading.reader import Found
from lookup.reading.shedding import REFUSED_AFTER, Overloaded
from lookup.web.answers import PATH, to_canonical
from lookup.web.codings import Finished
from lookup.web.faces import Face, Ready
from lookup.web.heads import OWN, Head, date_line, written
from lookup.web.layout import KEY_COOKIE
from lookup.web.tally import Tally
from ops.errors import Internal, Refusal, Unavailable
from ops.http.access import (
    CLIENT_GONE,
    new_id_in_bytes,
    worth_a_line,
)
from ops.http.client_address import FORWARDED
from ops.http.cross_origin import share
from ops.http.early_answers import LATER, EarlyAnswers, Later
from ops.http.finished import takes_gzip
from ops.http.middleware import identity
from ops.http.probes import State
from ops.http.problems import completed
from ops.observe import logs, tracing

SENT_AWAY_AT_ONCE = 100
"""Limit of refusals sent in one turn of the loop."""
FLUSH_EVERY = 0.1
"""Seconds between two updates of the metrics, and of the date in heads: cheaper than with each answer."""

_METHODS = frozenset({"GET", "HEAD"})
_GIVEN = b"x-request-id"
_HELD = b"if-none-match"
_FORWARDED = FORWARDED.lower().encode()
_TRACE = tracing.TRACEPARENT.encode()
_ACCEPTS = b"accept-encoding"
_COOKIE = b"cookie"
_KEY = KEY_COOKIE.encode()
_UNUSUAL = frozenset(
    {b"expect", b"if-match", b"if-modified-since", b"if-range", b"if-unmodified-since", b"range", b"upgrade"}
)
_LOOKED_AT = _UNUSUAL | {_GIVEN, _HELD, _FORWARDED, _TRACE}
_LOOKED_AT_OF_FORMS = _LOOKED_AT | {_ACCEPTS}
_TYPED = frozenset({"ma", "code"})
"""The form's field, by the language of the form or by that of a link to it."""

_AGES = [b"%d" % age for age in range(120)]
_log = logging.getLogger(__name__)


class _Asked:
    """A plain request that waits for its answer."""

    __slots__ = (
        *("asker", "began", "code", "connection", "counted", "face", "gzip", "held", "message", "promised"),
        "request_id",
    )

    def __init__(
        self,
        face: Face,
        message: RawRequestMessage,
        connection: EarlyAnswers,
        asker: Asker,
        code: DossierCode,
        held: bytes,
        gzip: bool,
        request_id: bytes,
        began: float,
    ) -> None:
        self.face = face
        self.message = message
        self.connection = connection
        self.asker = asker
        self.code = code
        self.held = held
        self.gzip = gzip
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
    """Receives every request from the connections; `run` adds the counts to the metrics.

    `faces`: by what stands before a dossier's code in a path. `forms`: finished pages by their whole path, which with
    a typed code lead to that dossier's page.
    """

    def __init__(
        self,
        policy: AccessPolicy,
        faces: Mapping[str, Face],
        forms: Mapping[str, Finished],
        memory: Memory,
        state: State,
        *,
        log_share: float,
    ) -> None:
        self._policy = policy
        plain = {} if policy.key_required else faces  # then every plain lookup is refused
        self._faces = {prefix: (face, _LOOKED_AT | face.looked_at) for prefix, face in plain.items()}
        self._forms = forms
        self._redirects = {path: _redirect(path) for path in forms if path in faces}
        self._memory = memory
        self._feed = policy.reader.vitals.feed
        self._clock = policy.reader.vitals.clock
        self._state = state
        self._date = date_line()
        self._tally = Tally(log_share, policy.trusts)
        self._knows = policy.knows
        self._under_way: set[asyncio.Task[None]] = set()
        self._turned_away: deque[tuple[float, _Asked, Overloaded]] = deque()

    def offer(self, message: RawRequestMessage, connection: EarlyAnswers) -> bytes | Later | None:
        """Answer a plain request, or promise to; None for anything else."""
        began = perf_counter()
        try:
            prefix, _, name = message.path.rpartition("/")
            faced = self._faces.get(prefix)
            if faced is None:
                return self._form(message, connection, began)
            face, looked_at = faced
            plain = self._plain(looked_at, message, connection)
            if plain is None:
                return None
            held, request_id, forwarded, gzip = plain
            asker, refusal = (connection.peer, forwarded), None
            copy, feed = self._memory.get(name), self._feed
            if copy is not None and copy.body:
                now = self._clock.now()
                if feed.vouches_for(copy, now):
                    as_of = copy.as_of if copy.as_of > feed.at else feed.at
                    try:
                        ready = face.fresh(name, feed.epoch, copy.version, copy.body, as_of, held, gzip, True)
                    except msgspec.DecodeError:
                        ready = None
                    if ready is not None:
                        pair = hash((asker, name))
                        if not self._knows(pair):
                            refusal = self._policy.disclose_first(pair, asker, name)
                        if refusal is None:
                            age = now - as_of
                            status, answer = self._fresh(face, message, name, held, gzip, request_id, ready, age)
                            self._tally.count(
                                face.route, name, message, connection, request_id, began, status, "memory", "found", age
                            )
                            return answer
            code = codes.at(name)
            if code is None:
                return None  # no canonical path: aiohttp answers it
            asked = _Asked(face, message, connection, asker, code, held, gzip, request_id, began)
            return self._later(asked, refusal)
        except Exception as error:
            if worth_a_line(500, 0.0, drawn=False, failure=error):
                _log.exception("An early answer failed; aiohttp handles the request", extra={"route": "early"})
            return None

    async def run(self) -> None:
        """Every FLUSH_EVERY seconds add the counts to the metrics and look at the date, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            self._tally.flush()
            self._date = date_line()

    # -- the request -----------------------------------------------------------------------------------------

    def _plain(
        self, looked_at: frozenset[bytes], message: RawRequestMessage, connection: EarlyAnswers
    ) -> tuple[bytes, bytes, str, bool] | None:
        """The tag the client holds, the request's id, the forwarded header, whether gzip is accepted; None when it is
        no plain request.
        """
        if message.method not in _METHODS:
            return None
        if message.should_close or message.version != HttpVersion11 or message.upgrade or self._state.draining:
            return None
        given, held, trace, forwarded, accepts = "", b"", None, "", ""
        for name, value in message.raw_headers:
            lowered = name.lower()
            if lowered not in looked_at:
                continue
            if lowered == _GIVEN:
                given = value.decode("utf-8", "replace")
            elif lowered == _HELD and not held and _is_one_tag(value):
                held = value
            elif lowered == _FORWARDED:
                claimed = value.decode("utf-8", "surrogateescape")
                forwarded = f"{forwarded},{claimed}" if forwarded else claimed
            elif lowered == _ACCEPTS:
                accepts += f",{value.decode('utf-8', 'replace')}"
            elif lowered == _TRACE:
                if self._policy.trusts(connection.peer):
                    trace = value.decode("ascii", "replace")
            elif lowered != _COOKIE or _KEY in value:
                return None
        if tracing.draw(trace):
            connection.drawn = message  # aiohttp answers it, in spans
            return None
        request_id = identity(given).encode() if given else new_id_in_bytes()
        return held, request_id, forwarded, accepts != "" and takes_gzip(accepts)

    # -- answered at once ------------------------------------------------------------------------------------

    def _fresh(
        self,
        face: Face,
        message: RawRequestMessage,
        path: str,
        held: bytes,
        gzip: bool,
        request_id: bytes,
        ready: Ready | Rendered,
        age: int,
        stored: bool = False,
    ) -> tuple[int, bytes]:
        """The status and the bytes of a fresh answer."""
        if face.links:
            own = path.encode()
        else:
            seconds = age // SECOND
            own = _AGES[seconds] if 0 <= seconds < len(_AGES) else b"%d" % max(0, seconds)
        tag = ready.tag
        if held == tag:
            return 304, face.not_modified[gzip][stored].before(own, tag, request_id, b"", self._date, b"")
        body = b"" if message.method == "HEAD" else ready.body
        return 200, face.ok[gzip][stored].before(own, tag, request_id, ready.length, self._date, body)

    def _form(self, message: RawRequestMessage, connection: EarlyAnswers, began: float) -> bytes | None:
        """The form, or the redirect to what was typed into it. None for another spelling of either, or another path."""
        path, asks, query = message.path.partition("?")
        form = self._forms.get(path)
        if form is None:
            return None
        typed = _typed(query) if asks and path in self._redirects else None
        if asks and typed is None:
            return None
        plain = self._plain(_LOOKED_AT_OF_FORMS, message, connection)
        if plain is None:
            return None
        held, request_id, _, gzip = plain
        whole = message.method != "HEAD"
        if typed is None:
            status, answer = form.early(held, request_id, self._date, gzip=gzip, whole=whole)
        else:
            head, length, body = self._redirects[path]
            values = (typed.path.encode(), b"", request_id, length, self._date, body if whole else b"")
            status, answer = 301, head.before(*values)
        self._tally.count(path, "", message, connection, request_id, began, status, "", "")
        return answer

    # -- answered later --------------------------------------------------------------------------------------

    def _later(self, asked: _Asked, refusal: TooManyRequests | None) -> bytes | Later:
        """Start the lookup, or refuse it."""
        code = asked.code
        refusal = refusal or self._policy.is_over(asked.asker, code.text)
        if refusal is not None:
            return self._limited(asked, refusal)
        recalled = self._policy.reader.dossiers.recall(code.text)
        if recalled is not None and recalled.entry.body:
            refusal = self._policy.disclose(asked.asker, code.text)
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
                missing = self._policy.not_found(asked.asker, DossierNotFound)
                ready = self._refused(asked, missing, answer.source, "missing")
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
            _log.error("An early answer failed; its client had left", extra={"route": asked.face.route}, exc_info=error)
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
        epoch, held, gzip = self._feed.epoch, asked.held, asked.gzip
        try:
            if answer.stale:
                return self._otherwise(
                    asked, Found(unpack(entry.body), entry.as_of, answer.age, True, answer.source, epoch)
                )
            ready = asked.face.fresh(asked.code.text, epoch, entry.version, entry.body, entry.as_of, held, gzip)
        except msgspec.DecodeError:
            return None
        if ready is None:
            return None
        stored = answer.source == "postgres"
        status, bytes_ = self._fresh(
            asked.face, asked.message, asked.code.path, held, gzip, asked.request_id, ready, answer.age, stored
        )
        self._count(asked, status, answer.source, "found", answer.age)
        return bytes_

    def _otherwise(self, asked: _Asked, found: Found) -> bytes:
        """The bytes of an answer that is stale, or was requested by official number."""
        held = asked.held.decode("ascii", "replace")
        response = asked.face.late(found, asked.code, held=held.__eq__, gzip=asked.gzip)
        ready = written(response, dressed_as=asked.request_id.decode(), head=asked.message.method == "HEAD")
        self._count(asked, response.status, found.source, "stale" if found.stale else "found", found.age)
        return ready

    def _limited(self, asked: _Asked, refusal: TooManyRequests) -> bytes:
        return self._refused(asked, refusal, *self._policy.refused(refusal))

    def _refused(
        self, asked: _Asked, refusal: Refusal, source: str, outcome: str, *, failure: Exception | None = None
    ) -> bytes:
        logs.request_id.set(asked.request_id.decode())  # the problem document names it
        message = asked.message
        response = asked.face.refused(refusal, message.path, asked.code.path, message.headers, gzip=asked.gzip)
        completed(response, refusal)
        if asked.message.path.startswith(PATH):
            share(response.headers)
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
        self._tally.count(asked.face.route, asked.code.path, *said, status, source, outcome, age, failure)
        asked.counted = True

    def _fulfil(self, asked: _Asked, answer: bytes) -> None:
        self._tally.promised -= 1
        asked.connection.fulfil(answer)


def _typed(query: str) -> DossierCode | None:
    """The code typed into the form, if that is all the query says, in plain characters; else None."""
    name, _, value = query.partition("=")
    if name not in _TYPED or not value.isascii() or any(sign in value for sign in "%&+#;="):
        return None
    try:
        return codes.parse(value)
    except MalformedCode:
        return None


def _redirect(form: str) -> tuple[Head, bytes, bytes]:
    """The head of the redirect from the form to a dossier's page, and the length and the bytes of its body."""
    redirect = to_canonical("GET", f"{form}/")
    redirect.headers["Location"] = f"{form}/{OWN}"
    body = redirect.body
    assert isinstance(body, bytes)  # noqa: S101 - aiohttp's own text
    return Head(redirect), b"%d" % len(body), body


def _is_one_tag(value: bytes) -> bool:
    """Whether this is a single strong entity tag."""
    return len(value) >= 2 and value[:1] == value[-1:] == b'"' and value.count(b'"') == 2
