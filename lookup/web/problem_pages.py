"""A refusal as a page: its title, a sentence, what a citizen can do, and the form or the field that helps."""

import functools
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from lookup import code as codes
from lookup.code import DossierCode, Flaw, MalformedCode
from lookup.lookup_key import MalformedKey
from lookup.reading.access import DossierNotFound, DossierOrKeyNotFound, KeyRequired
from lookup.reading.limits import TooManyRequests
from lookup.web.codings import coded, packed_now
from lookup.web.layout import FORMS, language, language_of, other_language, page_headers, page_of, render
from lookup.web.phrases import PHRASES, problem_words, wait_phrase
from lookup.web.sheets import Shelf, words
from ops.errors import Kind, Refusal
from ops.http.finished import gzip_of
from ops.http.problems import HTTP_STATUS
from ops.observe import logs

LONGEST_KEPT = 500
"""Characters of what was typed that come back in the field."""


def render_problem(request: web.Request, refusal: Refusal) -> web.Response | None:
    """A refusal as a page; None for an API path, which gets problem+json."""
    return problem_page(request.path, refusal, request.match_info.get("code"), gzip=gzip_of(request))


def problem_page(path: str, refusal: Refusal, typed: str | None = None, *, gzip: bool = False) -> web.Response | None:
    """A refusal as a page of this path, of whose request no more may be known; None for an API path.

    `typed`: the code in the path. `gzip`: the client accepts it.
    """
    if path.startswith("/api/"):
        return None
    return _from_a_sheet(path, refusal, typed, gzip) or refusal_page(path, refusal, typed)


def title_and_sentence(lang: str, refusal: Refusal, typed: str | None) -> tuple[str, str]:
    """What the page of a refusal says first. `typed`: the code in the path."""
    code = _code(typed)
    words = problem_words(_word_for(refusal), lang, refusal, code.text if code else "")
    return words.title, _said(refusal, lang) if isinstance(refusal, MalformedCode) else words.sentence


@dataclass(frozen=True, slots=True)
class KeyFault:
    """What is wrong with a key, and what was typed for it."""

    text: str
    typed: str = ""


def key_fault(problem: Refusal, code: DossierCode, typed: str, lang: str) -> KeyFault:
    """What a page says of a key that is malformed, or is not this dossier's."""
    if problem.detail:
        return KeyFault(problem.detail_vi if lang == "vi" else problem.detail, typed[:LONGEST_KEPT])
    return KeyFault(PHRASES[lang]["key.of_another"].format(code=code.text), typed[:LONGEST_KEPT])


def refusal_page(
    path: str, refusal: Refusal, typed: str | None, *, key: KeyFault | None = None, status: int | None = None
) -> web.Response:
    """A refusal as a page of this path. `typed`: the code in the path; `key`: what is wrong with the key beside it."""
    lang = language_of(path)
    code = _code(typed)
    address, printed = (path, typed or "") if code is None else (f"{FORMS[lang]}/{code.path}", code.text)
    context = problem_context(lang, refusal, printed, address, of_a_dossier=code is not None)
    if refusal.code == "dossier_not_found" and code and (other := codes.lookalike(code)):
        context["meant"] = {"code": other.text, "url": f"{FORMS[lang]}/{other.path}"}
    if key is not None and "dossier" in context:
        context["dossier"] |= {"key_problem": key.text, "key_typed": key.typed}
        context["errors"] = [{"text": key.text, "href": "#key"}]
    return page_of(lang, typed, "problem.html", context, status or HTTP_STATUS[refusal.kind])


_shelf = Shelf(256)
_USUAL_IDS = frozenset({0, 16, 32, 36})
"""Characters of an id that a page shows: none, one of ours, nginx's, a UUID."""
_OFTEN = (DossierNotFound, TooManyRequests)


def _from_a_sheet(path: str, refusal: Refusal, typed: str | None, gzip: bool) -> web.Response | None:
    """The page of a refusal that comes often, for a canonical code, out of a sheet; None for any other."""
    if typed is None or not (isinstance(refusal, _OFTEN) or refusal.kind is Kind.UNAVAILABLE):
        return None
    lang = language_of(path)
    code = codes.at(typed)
    if code is None or path != f"{FORMS[lang]}/{typed}":
        return None
    if isinstance(refusal, DossierNotFound) and codes.lookalike(code):
        return None
    shown = logs.request_id.get() or "" if refusal.kind is Kind.UNAVAILABLE else ""
    if len(shown) not in _USUAL_IDS:  # a client chooses its own: a sheet for each length would cost more than a page
        return packed_now(refusal_page(path, refusal, typed), gzip)
    values = (code.text.encode(), typed.encode(), shown.encode())
    wait = refusal.retry_after and wait_phrase(refusal.retry_after, lang)
    alike = code.text == typed  # one word then: its bytes are found once more
    shape = (lang, type(refusal), refusal.title, refusal.title_vi, wait, alike)
    sheet = _shelf.sheet(shape, tuple(map(len, values)), functools.partial(_text, lang, refusal, alike=alike))
    if sheet is None:
        return None
    response = web.Response(
        status=HTTP_STATUS[refusal.kind],
        headers=page_headers("private, no-store"),
        content_type="text/html",
        charset="utf-8",
    )
    return coded(response, sheet.gzipped(values) if gzip else sheet.plain(values), gzip)


def _text(lang: str, refusal: Refusal, *, alike: bool) -> str:
    """The page of a refusal with marks of its words."""
    printed, address, request_id = words("printed", "address", "request_id")
    if alike:
        address = printed
    url = f"{FORMS[lang]}/{address}"
    context = problem_context(lang, refusal, printed, url, of_a_dossier=True)  # type: ignore[arg-type]
    other = {"other_url": f"{FORMS[other_language(lang)]}/{address}", "request_id": request_id}
    return render("problem.html", lang, context | other)


def problem_context(lang: str, refusal: Refusal, printed: str, address: str, *, of_a_dossier: bool) -> dict[str, Any]:
    """The variables of problem.html. `printed`, the code, and `address`, its page's, are only printed.

    Of the refusal it shows class, titles, details, and how long to wait.
    """
    words = problem_words(_word_for(refusal), lang, refusal, printed if of_a_dossier else "")
    found: dict[str, Any] = {"title": words.title, "sentence": words.sentence, "advice": words.advice}
    if refusal.code == "dossier_not_found":
        found["typed"] = printed
    if isinstance(refusal, MalformedCode):
        problem = _said(refusal, lang)
        found |= {"typed": printed, "problem": problem, "errors": [{"text": problem, "href": "#code"}]}
    if refusal.kind in (Kind.UNAVAILABLE, Kind.LIMITED):
        found["retry_url"] = address
    if refusal.kind in (Kind.UNAVAILABLE, Kind.INTERNAL):
        found["for_support"] = True
    about_key = isinstance(refusal, DossierOrKeyNotFound | MalformedKey)
    if of_a_dossier and (about_key or isinstance(refusal, KeyRequired | TooManyRequests)):
        found["dossier"] = {"key_form_url": address, "key_problem": None, "key_typed": ""}
    if of_a_dossier and about_key:
        found["general"] = {"url": address, "text": PHRASES[lang]["key.general"].format(code=printed)}
    return found


def malformed(
    request: web.Request, problem: MalformedCode, typed: str, maintenance: dict[str, Any] | None
) -> web.Response:
    """The form with what was typed in its field, and what is wrong with it."""
    said = _said(problem, language(request))
    errors = [{"text": said, "href": "#code"}]
    context = {"typed": typed[:LONGEST_KEPT], "problem": said, "maintenance": maintenance, "errors": errors}
    return page_of(language(request), None, "form.html", context, HTTP_STATUS[problem.kind])


def _said(problem: MalformedCode, lang: str) -> str:
    """What is wrong with a code; where that is not known, that it is none."""
    if problem.flaw is Flaw.OTHER:
        return problem.title_vi if lang == "vi" else problem.title
    return problem.detail_vi if lang == "vi" else problem.detail


def _code(typed: str | None) -> DossierCode | None:
    try:
        return codes.parse(typed) if typed else None
    except MalformedCode:
        return None


def _word_for(refusal: Refusal) -> str:
    """The code under which phrases holds a refusal's title and advice for a page: its own, or its kind's."""
    if f"problem.{refusal.code}.title" in PHRASES["vi"]:
        return refusal.code
    by_kind = {
        Kind.NOT_FOUND: "not_found",
        Kind.METHOD: "not_found",
        Kind.ADDRESS_TOO_LONG: "not_found",
        Kind.UNAVAILABLE: "unavailable",
        Kind.LIMITED: "too_many_requests",
    }
    return by_kind.get(refusal.kind, "internal")
