"""A refusal as a page: its title, a sentence, what a citizen can do, and the form or the field that helps."""

from typing import Any

from aiohttp import web

from lookup import code as codes
from lookup.code import MalformedCode
from lookup.reading.access import KeyRequired
from lookup.reading.limits import TooManyRequests
from lookup.web.layout import language, language_of, page, page_of
from lookup.web.phrases import PHRASES, problem_words
from ops.errors import Kind, Refusal
from ops.http.problems import HTTP_STATUS


def render_problem(request: web.Request, refusal: Refusal) -> web.Response | None:
    """A refusal as a page; None for an API path, which gets problem+json."""
    return problem_page(request.path, refusal, request.match_info.get("code"))


def problem_page(path: str, refusal: Refusal, typed: str | None = None) -> web.Response | None:
    """A refusal as a page of this path, of whose request no more may be known; None for an API path.

    `typed`: the code in the path.
    """
    if path.startswith("/api/"):
        return None
    return refusal_page(path, refusal, typed)


def refusal_page(
    path: str, refusal: Refusal, typed: str | None, *, key_problem: str | None = None, status: int | None = None
) -> web.Response:
    lang = language_of(path)
    words = problem_words(_word_for(refusal), lang, refusal)
    context: dict[str, Any] = {"title": words.title, "sentence": words.sentence, "advice": words.advice}
    if refusal.code == "dossier_not_found" or isinstance(refusal, MalformedCode):
        context["typed"] = typed
    if refusal.kind is Kind.UNAVAILABLE:
        context["retry_url"] = path
    if isinstance(refusal, KeyRequired | TooManyRequests) and typed:
        context["dossier"] = {"key_form_url": path, "key_problem": key_problem}
    return page_of(lang, typed, "problem.html", context, status or HTTP_STATUS[refusal.kind])


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
