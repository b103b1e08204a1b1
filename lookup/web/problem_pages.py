"""A refusal as a page: its title, a sentence, what a citizen can do, and the form or the field that helps."""

import functools
from typing import Any

from aiohttp import web

from lookup import code as codes
from lookup.code import MalformedCode
from lookup.reading.access import DossierNotFound, KeyRequired
from lookup.reading.limits import TooManyRequests
from lookup.web.codings import coded, gzip_of
from lookup.web.layout import FORMS, language, language_of, other_language, page, page_headers, page_of, render
from lookup.web.phrases import PHRASES, problem_words
from lookup.web.sheets import Shelf, words
from ops.errors import Kind, Refusal
from ops.http.problems import HTTP_STATUS
from ops.observe import logs


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


def refusal_page(
    path: str, refusal: Refusal, typed: str | None, *, key_problem: str | None = None, status: int | None = None
) -> web.Response:
    lang = language_of(path)
    context = _context(lang, path, refusal, typed, key_problem)
    return page_of(lang, typed, "problem.html", context, status or HTTP_STATUS[refusal.kind])


def _context(
    lang: str, path: str, refusal: Refusal, typed: str | None, key_problem: str | None = None
) -> dict[str, Any]:
    """The variables of problem.html. `path` and `typed` are words, as of lookup/web/status_pages.py."""
    said = problem_words(_word_for(refusal), lang, refusal)
    context: dict[str, Any] = {"title": said.title, "sentence": said.sentence, "advice": said.advice}
    if refusal.code == "dossier_not_found" or isinstance(refusal, MalformedCode):
        context["typed"] = typed
    if refusal.kind is Kind.UNAVAILABLE:
        context["retry_url"] = path
    if isinstance(refusal, KeyRequired | TooManyRequests) and typed:
        context["dossier"] = {"key_form_url": path, "key_problem": key_problem}
    return context


_shelf = Shelf(256)
_OFTEN = (DossierNotFound, TooManyRequests)


def _from_a_sheet(path: str, refusal: Refusal, typed: str | None, gzip: bool) -> web.Response | None:
    """The page of a refusal that comes often, for a canonical code, out of a sheet; None for any other."""
    if typed is None or not (isinstance(refusal, _OFTEN) or refusal.kind is Kind.UNAVAILABLE):
        return None
    lang = language_of(path)
    if path != f"{FORMS[lang]}/{typed}" or codes.at(typed) is None:
        return None
    values = (typed.encode(), (logs.request_id.get() or "").encode())
    shape = (lang, type(refusal), refusal.title, refusal.title_vi)
    sheet = _shelf.sheet(shape, (len(values[0]), len(values[1])), functools.partial(_text, lang, refusal))
    if sheet is None:
        return None
    response = web.Response(
        status=HTTP_STATUS[refusal.kind],
        headers=page_headers("private, no-store"),
        content_type="text/html",
        charset="utf-8",
    )
    return coded(response, sheet.gzipped(values) if gzip else sheet.plain(values), gzip)


def _text(lang: str, refusal: Refusal) -> str:
    """The page of a refusal with marks of its words."""
    code, request_id = words("typed", "request_id")
    context = _context(lang, f"{FORMS[lang]}/{code}", refusal, code)  # type: ignore[arg-type]
    other = {"other_url": f"{FORMS[other_language(lang)]}/{code}", "request_id": request_id}
    return render("problem.html", lang, context | other)


def malformed(
    request: web.Request, problem: MalformedCode, typed: str, maintenance: dict[str, Any] | None
) -> web.Response:
    empty = not typed.strip()
    words = problem_words("empty_code" if empty else problem.code, language(request), problem)
    context = {"typed": typed[: codes.LONGEST], "problem": words.sentence, "maintenance": maintenance}
    return page(request, "form.html", context, HTTP_STATUS[problem.kind])


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
