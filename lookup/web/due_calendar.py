"""The due date as a file for a calendar (RFC 5545), a download on the holder's page: `{page}/lich-hen.ics`.

By the cookie of the key, never by a key in the address, which a calendar service would keep for ever. Of personal data
it holds the code. Only a date that stands is given: not one that is paused, past, or perhaps changed since; the page is
shown instead, which says why.
"""

from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from lookup import code as codes
from lookup.clock import moment
from lookup.code import DossierCode
from lookup.lookup_key import MalformedKey
from lookup.reading.access import AccessPolicy, DossierOrKeyNotFound
from lookup.reading.reader import Found
from lookup.situation import STANDING
from lookup.web.answers import Answers
from lookup.web.layout import FORMS, KEY_COOKIE, language
from lookup.web.phrases import PHRASES
from lookup.web.status_pages import parts

NAME = "lich-hen.ics"
_LINE = 75
"""Bytes of a line of a calendar, its end not counted; longer ones are folded."""


def routes(policy: AccessPolicy, answers: Answers) -> list[web.RouteDef]:
    """The download below each dossier's page. They stand before the pages, whose addresses take anything."""
    calendar = _Calendar(policy, answers)
    return [web.get(f"{form}/{{code:.+}}/{NAME}", calendar.download) for form in FORMS.values()]


class _Calendar:
    def __init__(self, policy: AccessPolicy, answers: Answers) -> None:
        self._policy = policy
        self._answers = answers

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The file; without a right key or a date that stands, a redirect to the page. Raises as the page does."""
        lang, code = language(request), codes.parse(request.match_info["code"])
        page = f"{FORMS[lang]}/{code.path}"
        key = request.cookies.get(KEY_COOKIE)
        if key is None:
            raise web.HTTPSeeOther(page)
        try:
            found = await self._policy.find(code, key, asker=self._policy.asker(request.remote, request.headers))
        except (MalformedKey, DossierOrKeyNotFound):
            raise web.HTTPSeeOther(page) from None  # the page refuses the key and forgets it
        due_at = found.record.due_at
        if due_at is None or not _stands(self._answers, found, code, lang):
            raise web.HTTPSeeOther(page)
        text = event(found, due_at, f"{self._answers.public_url}{page}", lang)
        headers = {hdrs.CACHE_CONTROL: "private, no-store", hdrs.CONTENT_DISPOSITION: f'attachment; filename="{NAME}"'}
        return web.Response(text=text, content_type="text/calendar", charset="utf-8", headers=headers)


def _stands(answers: Answers, found: Found, code: DossierCode, lang: str) -> bool:
    shape, _ = parts(answers, found, code, lang, holder=True)
    return not found.stale and shape.situation.due in STANDING


def event(found: Found, due_at: datetime, url: str, lang: str) -> str:
    """The calendar with its one event. The dossier's version is its SEQUENCE, so a later file replaces an earlier one.

    `url`: the dossier's page; its host makes the UID unique and the same for ever.
    """
    code, t = found.record.code, PHRASES[lang]
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//hoso24//lookup//VI",
        "BEGIN:VEVENT",
        f"UID:{code}@{urlsplit(url).hostname}",
        f"DTSTAMP:{_utc(moment(found.as_of))}",
        f"SEQUENCE:{found.record.version}",
        f"DTSTART:{_utc(due_at)}",
        f"SUMMARY:{_escaped(t['calendar.summary'].format(code=code))}",
        f"DESCRIPTION:{_escaped(t['calendar.description'])}",
        f"URL:{url}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,").replace("\n", "\\n")


def _folded(line: str) -> str:
    """The line in pieces of at most 75 bytes, no letter cut in two; each after the first begins with a blank."""
    pieces, piece, size = [], "", 0
    for letter in line:
        length = len(letter.encode())
        if size + length > _LINE:
            pieces.append(piece)
            piece, size = " ", 1
        piece, size = piece + letter, size + length
    return "\r\n".join([*pieces, piece])
