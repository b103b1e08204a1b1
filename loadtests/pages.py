"""What a right page looks like, and what it says: to anyone, and to the holder of the lookup key.

As in answers.py, a check takes an Answer and returns what the visitor goes on with, or raises.
"""

import re
import zlib
from calendar import month_name
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from loadtests.answers import Answer, Status, Wrong, completion, completions, moved

FORMS = {"vi": "/tra-cuu", "en": "/en/status"}
"""Language → the form's address; a dossier's page is below it."""
FIELDS = {"vi": "ma", "en": "code"}
OWN_LISTS = {"vi": "/ho-so-cua-toi", "en": "/en/my-applications"}
RATINGS = {"vi": "/tra-cuu/danh-gia", "en": "/en/status/rating"}
KEY_COOKIE = "hoso24-key"

_NAME = re.compile(r"</svg><span>([^<]*)</span></span></h1>")
_PRESENT = re.compile(r'aria-current="step">(?:<i></i>)?<b>([^<]*)</b>')
_PERCENT = re.compile(r'id="completion">[^<]*<b>(\d+)%</b>')
_AS_OF = re.compile(r'<time id="as-of" datetime="([^"]+)">([^<]*)</time>')
_STALE = re.compile(r'id="stale">\s*<p>[^<]*<time datetime="([^"]+)">')
_DUE = re.compile(r'<div class="due">(.*?)</div>', re.DOTALL)
_TIME = re.compile(r'<time[^>]* datetime="([^"]+)"')
_ROW = re.compile(r'<dd[^>]*><time datetime="([^"]+)"')
_LOG = re.compile(r'<ol class="path log">(.*?)</ol>', re.DOTALL)
_STEP = re.compile(r"</time> <b>([^<]*)</b>")
_OWN_STEP = re.compile(_STEP.pattern + r'(?! <span class="tag">)')
"""One that set the status, and was not recorded later."""
_LINKED = re.compile(r'<link rel="(?:stylesheet|icon)"[^>]* href="([^"]+)">')
_LISTED = re.compile(r'<a class="code"[^>]*>([^<]*)</a></h2>\s*<p>(?:<b>([^<]*)\.</b>)?')


class Page(NamedTuple):
    """What a dossier's page says."""

    status: str
    completion: float | None
    """None where it ended without a result."""
    as_of: datetime
    """The minute."""
    marked: bool
    """Whether it says that it may be out of date."""
    due: str
    """The due date for machines (`2026-12-09T16:30+07:00`); empty where it shows none."""
    dates: frozenset[str] = frozenset()
    """All other dates on it."""
    etag: str | None = None
    linked: tuple[str, ...] = ()
    """Addresses of the style sheet and of the icon."""


def page(
    answer: Answer,
    code: str,
    language: str,
    known: Mapping[str, Status],
    *,
    holder: bool = False,
    gzip: bool = True,
) -> Page:
    """A dossier's page. Anyone's asks for the lookup key and shows no hour of any date; the holder's does neither.

    `gzip`: whether that was asked for.
    """
    text = html(answer.expect(200), language)
    if (answer.headers.get("content-encoding") == "gzip") is not gzip:
        raise Wrong("compressed without being asked, or not though asked", answer.headers.get("content-encoding", ""))
    if code not in text:
        raise Wrong("a page without the code", code)
    if "<script" in text:
        raise Wrong("a page with a script", code)
    if ('name="key"' in text) is holder:
        raise Wrong("the page of another kind of visitor", code)
    said = _said(text, language, known, holder=holder)
    return said._replace(etag=_tag(answer, code, kept=not holder and not said.marked and 'id="told"' not in text))


def _said(text: str, language: str, known: Mapping[str, Status], *, holder: bool) -> Page:
    slugs = {status.called(language): slug for slug, status in known.items()}
    name, as_of, percent, stale = (each.search(text) for each in (_NAME, _AS_OF, _PERCENT, _STALE))
    if name is None or name[1] not in slugs:
        raise Wrong("a page with a status that is not published", name[1] if name else "")
    if as_of is None:
        raise Wrong("a page that does not say as of when")
    at = datetime.fromisoformat(as_of[1])
    if as_of[2] != spelled(at, language) or (stale and stale[1] != as_of[1]) or _PRESENT.findall(text) != [name[1]]:
        raise Wrong("a page that contradicts itself", f"{name[1]}, {as_of[2]}")
    said = Page(slugs[name[1]], int(percent[1]) / 100 if percent else None, at, stale is not None, "")
    log, left_out = "".join(_LOG.findall(text)), 'id="left-out"' in text
    steps, own = ([slugs.get(step, "") for step in each.findall(log)] for each in (_STEP, _OWN_STEP))
    if steps and (own[-1:] == [said.status]) is left_out:
        raise Wrong("the timeline ends with another status", f"{said.status}, {steps}")
    # An import may have left out a step, or all of them.
    ways = [steps, ["received", *steps]] if steps and not left_out else []
    if said.completion not in ([share(known, way) for way in ways] or shares(known, said.status)):
        raise Wrong("a degree of completion that is not the status's", f"{said.status}: {said.completion}")
    dates = set(_TIME.findall(text)) - {as_of[1]}
    if not holder and any("T" in date for date in dates):
        raise Wrong("a page shows anyone a moment that is the holder's", ", ".join(sorted(dates)))
    due = [date for block in _DUE.findall(text) for date in _TIME.findall(block)]
    if len(due) == 1 and due[0] in _ROW.findall(text):
        due = []  # when it was completed, or handed over
    return said._replace(due=due[0] if due else "", dates=frozenset(dates), linked=tuple(_LINKED.findall(text)))


def _tag(answer: Answer, code: str, *, kept: bool) -> str | None:
    caching, etag = answer.headers.get("cache-control", ""), answer.headers.get("etag")
    if (caching, etag is not None) != (("private, no-cache", True) if kept else ("private, no-store", False)):
        raise Wrong("a page that is kept longer than it may be, or cannot be asked for again", f"{code}: {caching}")
    return etag


def share(known: Mapping[str, Status], passed: Sequence[str]) -> float | None:
    """What a page shows of a dossier that has gone through these statuses, the present one last."""
    if not known[passed[-1]].final:
        return completion(known, passed)
    return None if passed[-1] != "returned" or "suspended" in passed[-2:-1] else 1.0


def shares(known: Mapping[str, Status], status: str) -> frozenset[float | None]:
    """What it may show of a status when no more is known: handed back after a stop, it ended without a result."""
    if known[status].final:
        return frozenset({share(known, [before, status]) for before in ("", "suspended")})
    return frozenset(completions(known, status))


def spelled(at: datetime, language: str) -> str:
    """A minute as pages print it."""
    return f"{at:%H:%M} ngày {at:%d/%m/%Y}" if language == "vi" else f"{at.day} {month_name[at.month]} {at:%Y, %H:%M}"


def again(
    answer: Answer, before: Page, code: str, language: str, known: Mapping[str, Status], *, holder: bool = False
) -> Page:
    """The answer to If-None-Match: 304 with the same ETag and no body, or the page as of another minute or version."""
    if answer.expect(200, 304).status == 304:
        if answer.body or answer.headers.get("etag") != before.etag:
            raise Wrong("a 304 with a body or with another ETag", code)
        return before
    found = page(answer, code, language, known, holder=holder)
    if found.etag is not None and found.etag == before.etag:
        raise Wrong("sent in full though nothing had changed", code)
    return found


def one_page(answer: Answer, code: str, language: str, known: Mapping[str, Status], location: str) -> bool:
    """The page itself, or a redirect to it: what a link spelled freely leads to. True where it is a redirect."""
    if answer.expect(200, 301).status == 301:
        return bool(moved(answer, 301, location))
    page(answer, code, language, known)
    return False


def form(answer: Answer, language: str) -> tuple[str, ...]:
    """The form: the addresses of what it is drawn with."""
    text = html(answer.expect(200), language, private=False)
    if f'name="{FIELDS[language]}"' not in text:
        raise Wrong("a form without its field", language)
    return tuple(_LINKED.findall(text))


def other(answer: Answer, status: int, language: str) -> bool:
    """Any other page, of this HTTP status: a refusal, thanks."""
    html(answer.expect(status), language)
    return True


def own_list(answer: Answer, code: str, language: str, known: Mapping[str, Status]) -> bool:
    """A person's own list with this dossier in front, and a published status of each that can be shown."""
    rows = _LISTED.findall(html(answer.expect(200), language))
    if not rows or rows[0][0] != code:
        raise Wrong("an own list without what was put into it", f"{code}: {rows}")
    if unknown := {name for _, name in rows if name} - {status.called(language) for status in known.values()}:
        raise Wrong("an own list with a status that is not published", ", ".join(unknown))
    return True


def drawn_with(answer: Answer) -> bool:
    """A style sheet or an icon under the address that a page names: kept for a year."""
    if "immutable" not in answer.expect(200).headers.get("cache-control", ""):
        raise Wrong("a style sheet or an icon that is not kept", answer.headers.get("cache-control", ""))
    return True


def html(answer: Answer, language: str, *, private: bool = True) -> str:
    """The text of any page in this language; `private`: of one that no edge may store."""
    if not answer.headers.get("content-type", "").startswith("text/html"):
        raise Wrong("not a page", answer.headers.get("content-type", ""))
    if private and not answer.headers.get("cache-control", "").startswith("private"):
        raise Wrong("a page that an edge may store", answer.headers.get("cache-control", ""))
    # Headings keep the syllables of a word on one line.
    text = unpacked(answer.body).decode().replace("\N{NO-BREAK SPACE}", " ")
    if f'<html lang="{language}">' not in text:
        raise Wrong("a page in the other language")
    return text


def unpacked(body: bytes) -> bytes:
    """A page as it was before gzip; Locust's client has unpacked it already."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return zlib.decompress(body, 16 + zlib.MAX_WBITS)
    except zlib.error as error:
        raise Wrong("gzip that cannot be unpacked", str(error)) from error
