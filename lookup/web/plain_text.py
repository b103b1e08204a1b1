"""A dossier's status as a few words of text, for call centres and SMS gateways: `/tra-cuu/{code}.txt`.

It is anyone's page in less than 300 bytes, and is charged by the limits as that page is: code, status, the first
sentence, the due date where anyone may see it, and when that was known to be true. The cookie of a key is never sent
to this address, because its path is the page's.
"""

from aiohttp import hdrs, web

from lookup import code as codes
from lookup.reading.access import AccessPolicy
from lookup.web import problem_pages
from lookup.web.answers import Answers, to_canonical
from lookup.web.layout import FORMS, language
from lookup.web.phrases import PHRASES
from lookup.web.status_pages import Shape, Words, page_context, parts
from ops.errors import Refusal
from ops.http.problems import HTTP_STATUS

SUFFIX = ".txt"
LONGEST = 300
"""Bytes that no text reaches: two text messages with diacritics, one without."""


def routes(policy: AccessPolicy, answers: Answers) -> list[web.RouteDef]:
    """The text in both languages. They stand before the pages, whose addresses take anything."""
    texts = _Texts(policy, answers)
    return [web.get(form + "/{code:.+}" + SUFFIX, texts.dossier) for form in FORMS.values()]


def is_plain_text(path: str) -> bool:
    """Whether refusals at this address are text too."""
    return path.endswith(SUFFIX) and path.startswith(tuple(f"{form}/" for form in FORMS.values()))


def render_problem(request: web.Request, refusal: Refusal) -> web.Response | None:
    """A refusal as text where text was asked for, else as a page; None for an API path, which gets problem+json."""
    if not is_plain_text(request.path):
        return problem_pages.render_problem(request, refusal)
    lang = language(request)
    title, sentence = problem_pages.title_and_sentence(lang, refusal, request.match_info.get("code"))
    return _text(lang, [f"{title}.", sentence], HTTP_STATUS[refusal.kind])


def lines(shape: Shape, words: Words) -> list[str]:
    """The text of a dossier: what anyone's page says first."""
    page, t = page_context(shape, words), PHRASES[shape.lang]
    code = words.number if shape.by_number else words.code
    said = [t["text.status"].format(code=code, status=page["status_name"]), page["lead"]]
    if page["due"] and not page["due_held"]:  # a date from before a hold is no news in so few words
        said.append(f"{page['due_label']}: {page['due']}.")
    return [*said, t["text.stale" if shape.stale else "text.as_of"].format(when=words.as_of)]


class _Texts:
    def __init__(self, policy: AccessPolicy, answers: Answers) -> None:
        self._policy = policy
        self._answers = answers

    async def dossier(self, request: web.Request) -> web.StreamResponse:
        """One dossier, for anyone. Raises what the page refuses with."""
        lang, typed = language(request), request.match_info["code"]
        code = codes.parse(typed)
        if typed != code.path:
            raise to_canonical(request.method, f"{FORMS[lang]}/{code.path}{SUFFIX}")
        found = await self._policy.find(code, asker=self._policy.asker(request.remote, request.headers))
        response = _text(lang, lines(*parts(self._answers, found, code, lang)))
        response.headers[hdrs.LINK] = f'<{FORMS[lang]}/{codes.parse(found.record.code).path}>; rel="canonical"'
        return response


def _text(lang: str, lines: list[str], status: int = 200) -> web.Response:
    headers = {hdrs.CONTENT_LANGUAGE: lang, "X-Robots-Tag": "noindex"}
    text = "\n".join([*lines, ""])
    return web.Response(text=text, content_type="text/plain", charset="utf-8", status=status, headers=headers)
