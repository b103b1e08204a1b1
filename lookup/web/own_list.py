"""A person's own list of dossiers, kept in a cookie of this browser and nowhere else: `/ho-so-cua-toi`.

A code gets into it only by a form with its tick set. The cookie holds codes and no keys, at most five, for thirty days;
its path is this page, so that no lookup carries it. The page shows anyone's view of each, charged as five lookups are.
Whatever else the cookie holds is ignored.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import hdrs, web

from lookup import code as codes
from lookup.code import DossierCode
from lookup.reading.access import AccessPolicy, DossierNotFound
from lookup.reading.limits import Asker
from lookup.web.answers import Answers
from lookup.web.layout import FORMS, OWN_LIST, language, other_language, page
from lookup.web.phrases import PHRASES
from lookup.web.status_pages import page_context, parts
from ops.errors import Refusal
from ops.http.posted import fields, is_ours

COOKIE = "hoso24-list"
MOST = 5
DAYS = 30
_BETWEEN = "~"
_LONGEST = 300
"""Characters of a cookie's value that is looked at: five of the longest codes (53) and what stands between them."""


def routes(policy: AccessPolicy, answers: Answers, *, secure: bool) -> list[web.RouteDef]:
    """The list, and the forms that change it, in both languages. `secure`: the cookie only over TLS."""
    own = _OwnList(policy, answers, secure=secure)
    return [
        route(address, do)
        for address in OWN_LIST.values()
        for route, do in ((web.get, own.show), (web.post, own.change))
    ]


def forget(response: web.StreamResponse) -> None:
    """Make the browser forget the list, as "hide the details" does."""
    for address in OWN_LIST.values():
        response.headers.add(hdrs.SET_COOKIE, f"{COOKIE}=; Path={address}; Max-Age=0; HttpOnly; SameSite=Lax")


def listed(cookie: str | None) -> list[DossierCode]:
    """The codes in a cookie's value, the newest first; what is no canonical code, too much or twice is left out."""
    if not cookie or len(cookie) > _LONGEST:
        return []
    found = [codes.at(path) for path in dict.fromkeys(cookie.split(_BETWEEN))]
    return [code for code in found if code is not None][:MOST]


class _OwnList:
    def __init__(self, policy: AccessPolicy, answers: Answers, *, secure: bool) -> None:
        self._policy = policy
        self._answers = answers
        self._secure = secure

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The list with the present status of each dossier. Always 200: what cannot be shown says why."""
        lang, kept = language(request), listed(request.cookies.get(COOKIE))
        asker = self._policy.asker(request.remote, request.headers)
        rows = await asyncio.gather(*(self._row(code, lang, asker) for code in kept))
        return page(request, "own_list.html", {"rows": rows, "other_url": OWN_LIST[other_language(lang)]})

    async def _row(self, code: DossierCode, lang: str, asker: Asker) -> dict[str, Any]:
        row = {"code": code.text, "path": code.path, "url": f"{FORMS[lang]}/{code.path}", "name": None, "as_of": None}
        try:
            found = await self._policy.find(code, asker=asker)
        except DossierNotFound:
            return row | {"lead": PHRASES[lang]["list.missing"]}
        except Refusal:
            return row | {"lead": PHRASES[lang]["list.not_shown"]}
        shape, words = parts(self._answers, found, code, lang)
        shown = page_context(shape, words)
        stale = PHRASES[lang]["text.stale"].format(when=words.as_of) if found.stale else None
        return row | {"name": shown["status_name"], "lead": shown["lead"], "as_of": stale}

    async def change(self, request: web.Request) -> web.StreamResponse:
        """Add a code if its tick is set, take one out, or take all out; then the list. Raises MalformedCode."""
        response = web.Response(status=303, headers={hdrs.LOCATION: OWN_LIST[language(request)]})
        if not is_ours(request):
            return response  # another site's form changes nothing
        form, kept = await fields(request), listed(request.cookies.get(COOKIE))
        if "clear" in form:
            kept = []
        elif "remove" in form:
            kept = [code for code in kept if code.path != form["remove"]]
        elif form.get("remember"):
            code = codes.parse(form.get("code", ""))
            kept = [code, *(each for each in kept if each != code)][:MOST]
        else:
            return response
        self._keep(response, kept)
        return response

    def _keep(self, response: web.Response, kept: Sequence[DossierCode]) -> None:
        if not kept:
            forget(response)
            return
        value, secure = _BETWEEN.join(code.path for code in kept), "; Secure" if self._secure else ""
        for address in OWN_LIST.values():
            cookie = f"{COOKIE}={value}; Path={address}; Max-Age={DAYS * 86_400}; HttpOnly; SameSite=Lax{secure}"
            response.headers.add(hdrs.SET_COOKIE, cookie)
