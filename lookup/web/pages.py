"""The citizen's pages, Vietnamese and English, without JavaScript: the form, a dossier, a refusal.

A lookup key appears in a URL once: `?key=` is answered with a redirect to the bare address and a cookie whose path is
this dossier's page.
"""

import functools
from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from lookup import code as codes
from lookup import lookup_key
from lookup.code import DossierCode, MalformedCode
from lookup.lookup_key import MalformedKey
from lookup.reading.access import AccessPolicy, DossierOrKeyNotFound, KeyRequired
from lookup.reading.limits import TooManyRequests
from lookup.web.answers import Answers, to_canonical
from lookup.web.codings import gzip_of, matches, packed_now
from lookup.web.faces import PageFace
from lookup.web.form_pages import ADDRESSES, FormPages
from lookup.web.layout import FORMS, KEY_COOKIE, language, static
from lookup.web.phrases import problem_words
from lookup.web.problem_pages import malformed, refusal_page, render_problem
from lookup.web.status_pages import dossier_page
from ops.http.bodies import read_body

COOKIE_SECONDS = 3600


def routes(
    policy: AccessPolicy, answers: Answers, forms: FormPages, faces: Mapping[str, PageFace], *, secure: bool
) -> list[web.RouteDef]:
    """The routes of all pages. `faces`: by language. `secure`: cookies only over TLS."""
    pages = _Pages(policy, answers, forms, faces, secure=secure)
    addresses = [web.get("/static/{name}", static), *(web.get(address, pages.form) for address in ADDRESSES)]
    for form in FORMS.values():
        addresses += [
            web.get(form + "/{code:.+}", pages.dossier),
            web.post(form + "/{code:.+}", pages.take_key),
        ]
    return addresses


class _Pages:
    def __init__(
        self,
        policy: AccessPolicy,
        answers: Answers,
        forms: FormPages,
        faces: Mapping[str, PageFace],
        *,
        secure: bool,
    ) -> None:
        self._policy = policy
        self._answers = answers
        self._forms = forms
        self._faces = faces
        self._secure = secure

    async def form(self, request: web.Request) -> web.StreamResponse:
        """The form; with `?ma=` or `?code=` a redirect to the dossier's page."""
        typed = request.query.get("ma", request.query.get("code"))
        if typed is None:
            return self._forms.pages[request.path].answer(request)
        try:
            code = codes.parse(typed)
        except MalformedCode as problem:
            return malformed(request, problem, typed, self._forms.pointed_out(language(request)))
        raise to_canonical(request.method, f"{FORMS[language(request)]}/{code.path}")

    async def dossier(self, request: web.Request) -> web.StreamResponse:
        """One dossier, for anyone or, with the cookie of its key, for its holder."""
        if "key" in request.query:
            code = codes.parse(request.match_info["code"])
            return self._remember(code, request.query["key"], FORMS[language(request)])
        code = self._canonical(request)
        key = request.cookies.get(KEY_COOKIE)
        try:
            found = await self._policy.find(code, key, asker=self._policy.asker(request.remote, request.headers))
        except (MalformedKey, DossierOrKeyNotFound) as problem:
            response = render_problem(request, problem)
            assert response is not None  # noqa: S101 - a page's problem always has a page
            _forget(response, code)
            return response
        lang = language(request)
        if key is None:
            held = functools.partial(matches, request)
            return self._faces[lang].late(found, code, held=held, gzip=gzip_of(request))
        announced = self._forms.maintenance()
        response = dossier_page(self._answers, lang, found, code, holder=True, maintenance=announced)
        return packed_now(response, gzip_of(request))

    async def take_key(self, request: web.Request) -> web.StreamResponse:
        """Sets the cookie for the key typed on the anonymous page, if it is this dossier's."""
        code = self._canonical(request)
        key = _typed_key(await read_body(request))
        try:
            await self._policy.find(code, key, asker=self._policy.asker(request.remote, request.headers))
        except MalformedKey as problem:
            words = problem_words(problem.code, language(request), problem)
            try:
                found = await self._policy.find(code, asker=self._policy.asker(request.remote, request.headers))
            except (KeyRequired, TooManyRequests) as refusal:
                return refusal_page(request.path, refusal, code.path, key_problem=words.sentence, status=400)
            return dossier_page(
                self._answers,
                language(request),
                found,
                code,
                holder=False,
                maintenance=self._forms.maintenance(),
                key_problem=words.sentence,
                status=400,
            )
        return self._remember(code, key, FORMS[language(request)])

    def _canonical(self, request: web.Request) -> DossierCode:
        typed = request.match_info["code"]
        code = codes.parse(typed)
        if typed != code.path:
            raise to_canonical(request.method, f"{FORMS[language(request)]}/{code.path}")
        return code

    def _remember(self, code: DossierCode, typed: str, form: str) -> web.Response:
        """A redirect to the bare address, with the key in a cookie. Raises MalformedKey."""
        key = lookup_key.canonical(typed)
        response = web.Response(status=303, headers={hdrs.LOCATION: f"{form}/{code.path}"})
        for each in FORMS.values():
            response.headers.add(hdrs.SET_COOKIE, self._cookie(f"{each}/{code.path}", key, COOKIE_SECONDS))
        return response

    def _cookie(self, path: str, key: str, seconds: int) -> str:
        secure = "; Secure" if self._secure else ""
        # Two cookies of one name under two paths: aiohttp's Response.cookies holds one per name.
        return f"{KEY_COOKIE}={key}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def _typed_key(body: bytes) -> str:
    """The key in a form body, whatever its content type; empty when there is none."""
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=16)).get("key", "")
    except ValueError:
        return ""


def _forget(response: web.Response, code: DossierCode) -> None:
    for form in FORMS.values():
        response.headers.add(hdrs.SET_COOKIE, f"{KEY_COOKIE}=; Path={form}/{code.path}; Max-Age=0; HttpOnly")
