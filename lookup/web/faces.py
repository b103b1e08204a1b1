"""The faces of a dossier, for anyone: as JSON, and as a page in each language.

Both ways of an answer (lookup/web/hotpath.py, and aiohttp's handlers) ask the same face, so that they send the same
bytes. A face knows what its answers look like; who may see one, and where the record comes from, is not its affair.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

import msgspec
from aiohttp import hdrs, web
from markupsafe import escape

from lookup import code as codes
from lookup.clock import VIETNAM, Micros, moment
from lookup.code import DossierCode, agency_of
from lookup.dossier import Telling, telling, unpack
from lookup.reading.memory import Memory, Rendered
from lookup.reading.reader import Found
from lookup.web.answers import KEY_HEADER, PATH, Answers, etag, freshness_of
from lookup.web.codings import VARY_BY_COOKIE, coded, packed_now
from lookup.web.dates import machine_time, when
from lookup.web.form_pages import Pointed
from lookup.web.heads import OWN, TAG, Head
from lookup.web.layout import FORMS, page_headers, render
from lookup.web.problem_pages import problem_page
from lookup.web.sheets import Sheet, Shelf, words
from lookup.web.status_pages import MINUTE, Words, dossier_page, page_context, parts
from ops.errors import Refusal
from ops.http.finished import ETAG
from ops.http.problems import problem

_CONTACT_STEPS = 64
"""A contact is filled up with blanks to a multiple of so many bytes, so that most agencies share their sheets."""
_AHEAD, _OF_A_DAY = VIETNAM.utcoffset(None) // timedelta(minutes=1), 24 * 60
"""Minutes: by how much Vietnam's day begins before that of UTC, and its length."""
_MOST_KNOWN = 4096
_MOST_TIMES = 256


class Ready(msgspec.Struct, gc=False):
    """A fresh answer but for its head. Without `body` and `length` where the client holds `tag`."""

    tag: bytes
    length: bytes = b""
    body: bytes = b""


Heads = tuple[tuple[Head, Head], tuple[Head, Head]]
"""By whether it is gzip, then by whether it was read from PostgreSQL just now."""


class Face(Protocol):
    """What the early way asks of a face."""

    @property
    def route(self) -> str:
        """The route's template, which metrics and log lines name."""

    @property
    def looked_at(self) -> frozenset[bytes]:
        """Names of headers, in lower case, that decide something: `accept-encoding` chooses, any other excludes."""

    @property
    def links(self) -> bool:
        """Whether the head names the dossier's own address, and not the answer's age."""

    def fresh(
        self,
        code: str,
        epoch: int,
        version: int,
        packed: bytes,
        as_of: Micros,
        held: bytes,
        gzip: bool,
        kept: bool = False,
    ) -> Ready | Rendered | None:
        """The answer for the record packed in these bytes, known to be current at `as_of`. None: not from here.

        `held`: the tag that the client holds; `kept`: the bytes are those in process memory under this code. Raises
        msgspec.DecodeError for another format.
        """

    @property
    def ok(self) -> Heads:
        """The heads of a fresh answer."""

    @property
    def not_modified(self) -> Heads:
        """The same for a client that holds it."""

    def late(self, found: Found, code: DossierCode, *, held: Callable[[str], bool], gzip: bool) -> web.Response:
        """Any answer with a dossier: also a stale one, or one that was asked for by number."""

    def refused(
        self, refusal: Refusal, path: str, code: str, headers: Mapping[str, str], *, gzip: bool
    ) -> web.Response:
        """The refusal as an answer to `path`, which names `code`; `headers` are the request's."""


class JsonFace:
    """A dossier as JSON. The answer to anyone is finished once and kept beside its record."""

    route = PATH + "{code}"
    links = False
    looked_at = frozenset({KEY_HEADER.lower().encode()})

    def __init__(self, answers: Answers, memory: Memory) -> None:
        self._answers = answers
        self._memory = memory
        self._finished = memory.finished
        freshness = (freshness_of(OWN, stored=False), freshness_of(OWN, stored=True))
        hit, stored = (Head(answers.fresh(msgspec.Raw(b""), TAG, each).response()) for each in freshness)
        self.ok: Heads = ((hit, stored), (hit, stored))
        hit, stored = (Head(answers.fresh(None, TAG, each).response()) for each in freshness)
        self.not_modified: Heads = ((hit, stored), (hit, stored))

    def fresh(
        self,
        code: str,
        epoch: int,
        version: int,
        packed: bytes,
        as_of: Micros,
        held: bytes,
        gzip: bool,
        kept: bool = False,
    ) -> Rendered:
        view = self._answers.anonymous
        if kept:
            rendered = self._finished(code)
            if rendered is not None and rendered.view == view:
                return rendered
        body = self._answers.anonymous_json(packed)
        rendered = Rendered(view, _tag(epoch, version, view), _length(len(body)), body)
        if kept:
            self._memory.finish(code, rendered)
        return rendered

    def late(self, found: Found, code: DossierCode, *, held: Callable[[str], bool], gzip: bool) -> web.Response:
        return self._answers.answer(found, code, holder=False, stored=True, held=held).response()

    def refused(
        self, refusal: Refusal, path: str, code: str, headers: Mapping[str, str], *, gzip: bool
    ) -> web.Response:
        return problem(headers, refusal)


class _Known(msgspec.Struct, gc=False):
    """What the pages of many dossiers share for a day, while announcement and catalogue stay the same."""

    sheet: Sheet
    contact: bytes
    others: tuple[bytes, ...]
    """Words that are empty where nobody sees a due date."""
    digest: bytes


class PageFace:
    """A dossier as a page in one language, filled into a sheet. No page is kept: nothing has to be invalidated, and
    what was never asked for costs as much as what everyone asks for.

    `maintenance`: what the page announces, as of the last `refresh`.
    """

    looked_at = frozenset({b"accept-encoding", b"cookie"})
    links = True

    def __init__(self, lang: str, answers: Answers, maintenance: Pointed = lambda: None) -> None:
        self.lang = lang
        self.route = f"{FORMS[lang]}/{{code}}"
        self._answers = answers
        self._shows_due = answers.shows_due
        self._maintenance = maintenance
        self._shelf = Shelf()
        self._known: dict[tuple[Telling, int, str, int], _Known] = {}
        self._times: dict[int, tuple[bytes, bytes]] = {}
        self._told: tuple[object, object] = ()  # type: ignore[assignment]
        self._announced = maintenance()
        plain, packed = (Head(self._response(b"", TAG, OWN, gzip)) for gzip in (False, True))
        self.ok: Heads = ((plain, plain), (packed, packed))
        plain = Head(self._response(None, TAG, OWN, False))
        self.not_modified: Heads = ((plain, plain), (plain, plain))

    def refresh(self) -> None:
        """Take note of another announcement and of another catalogue. Called with each beat, and on the normal way."""
        told = (self._maintenance(), self._answers.catalogue)
        if told != self._told:
            self._told = told
            self._announced = told[0]
            self._known.clear()

    # -- out of packed bytes: the early way ------------------------------------------------------------------

    def fresh(
        self,
        code: str,
        epoch: int,
        version: int,
        packed: bytes,
        as_of: Micros,
        held: bytes,
        gzip: bool,
        kept: bool = False,
    ) -> Ready | None:
        if self._shows_due:
            found = Found(unpack(packed), as_of, 0, False, "memory", epoch)
            return self._slowly(found, codes.parse(code), gzip)
        minute = as_of // MINUTE
        times = self._times.get(minute) or self._tell(minute)
        agency, dash, _ = code.partition("-")
        # An announcement appears from a certain minute on; whom to call, and how wide a date is, holds for a day.
        told = minute if self._announced else (minute + _AHEAD) // _OF_A_DAY
        key = (telling(packed), len(code), agency if dash else agency_of(code), told)
        known = self._known.get(key)
        if known is None:
            known = self._learn(key, Found(unpack(packed), as_of, 0, False, "memory", epoch))
            if known is None:
                return None
        tag = b'"%d.%d.%d-%b%b' % (epoch, version, minute, known.digest, b'.gz"' if gzip else b'"')
        if held == tag:
            return Ready(tag)
        text = code.encode()
        values = (text, text if dash else text.replace(b"/", b"-"), *times, known.contact, text, *known.others)
        body = known.sheet.gzipped(values) if gzip else known.sheet.plain(values)
        return Ready(tag, _length(len(body)), body)

    def _tell(self, minute: int) -> tuple[bytes, bytes]:
        """The minute as the page says it, and as a machine reads it."""
        if len(self._times) >= _MOST_TIMES:
            self._times.clear()
        as_of = moment(minute * MINUTE)
        self._times[minute] = times = when(as_of, self.lang).encode(), machine_time(as_of).encode()
        return times

    def _learn(self, key: tuple[Telling, int, str, int], found: Found) -> _Known | None:
        sheet, values, digest = self._filled(found, codes.parse(found.record.code))
        if sheet is None:
            return None
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = known = _Known(sheet, values[_CONTACT], values[_NUMBER + 1 :], digest)
        return known

    def _slowly(self, found: Found, code: DossierCode, gzip: bool) -> Ready | None:
        sheet, values, digest = self._filled(found, code)
        if sheet is None:
            return None
        body = sheet.gzipped(values) if gzip else sheet.plain(values)
        return Ready(self._tag(found, digest, gzip).encode(), _length(len(body)), body)

    # -- out of a record: both ways --------------------------------------------------------------------------

    def late(self, found: Found, code: DossierCode, *, held: Callable[[str], bool], gzip: bool) -> web.Response:
        self.refresh()
        sheet, values, digest = (None, (), b"") if found.stale else self._filled(found, code)
        if sheet is None:
            page = dossier_page(self._answers, self.lang, found, code, holder=False, maintenance=self._announced)
            return packed_now(page, gzip)
        tag = self._tag(found, digest, gzip)
        body = None if held(tag) else sheet.gzipped(values) if gzip else sheet.plain(values)
        return self._response(body, tag, codes.parse(found.record.code).path, gzip)

    def _filled(self, found: Found, code: DossierCode) -> tuple[Sheet | None, tuple[bytes, ...], bytes]:
        """The page's sheet and words, and what of them no tag would name besides: its digest."""
        shape, given = parts(self._answers, found, code, self.lang, maintenance=self._announced)
        given = replace(given, contact=given.contact + " " * (-len(given.contact.encode()) % _CONTACT_STEPS))
        values = tuple(str(escape(getattr(given, name))).encode() for name in _WORDS)
        address = 0 if given.address == given.code else _ADDRESS  # the same word: its bytes are found once more
        marks = words(*_WORDS)
        marked = Words(**dict(zip(_WORDS, [*marks[:1], marks[address], *marks[2:]], strict=True)))  # type: ignore[arg-type]

        def text() -> str:
            return render("status.html", self.lang, page_context(shape, marked))

        sheet = self._shelf.sheet((shape, address), tuple(map(len, values)), text)
        named = (sheet.digest if sheet else b"", values[_CONTACT], values[0] if shape.by_number else b"")
        return sheet, values, hashlib.sha256(b"\n".join(named)).hexdigest()[:8].encode()

    def _tag(self, found: Found, digest: bytes, gzip: bool) -> str:
        """Epoch, version and minute determine the words; the digest names the rest."""
        minute = found.as_of // MINUTE
        return f'"{found.epoch}.{found.record.version}.{minute}-{digest.decode()}{".gz" if gzip else ""}"'

    def _response(self, body: bytes | None, tag: str, path: str, gzip: bool) -> web.Response:
        headers = page_headers("private, no-cache")
        headers |= {hdrs.LINK: f'<{FORMS[self.lang]}/{path}>; rel="canonical"', ETAG: tag}
        if body is None:
            return web.Response(status=304, headers=headers | {hdrs.VARY: VARY_BY_COOKIE})
        response = web.Response(headers=headers, content_type="text/html", charset="utf-8")
        return coded(response, body, gzip)

    def refused(
        self, refusal: Refusal, path: str, code: str, headers: Mapping[str, str], *, gzip: bool
    ) -> web.Response:
        response = problem_page(path, refusal, code, gzip=gzip)
        assert response is not None  # noqa: S101 - this path is no API's
        return response


_WORDS = ("code", "address", "as_of", "as_of_time", "contact", "number", "due", "due_time", "days")
"""The fields of Words in the order in which a sheet is filled in; those that the hot path never has come last."""
_ADDRESS, _CONTACT, _NUMBER = (_WORDS.index(word) for word in ("address", "contact", "number"))


# Most dossiers share a few versions and lengths, so their copies share these bytes.
@functools.lru_cache(maxsize=4096)
def _tag(epoch: int, version: int, view: str) -> bytes:
    return etag(epoch, version, view).encode()


@functools.lru_cache(maxsize=4096)
def _length(count: int) -> bytes:
    return b"%d" % count
