"""The citizen's pages, Vietnamese and English, without JavaScript: the form, a dossier, a refusal.

A lookup key appears in a URL once: `?key=` is answered with a redirect to the bare address and a cookie whose path is
this dossier's page. A key that does not open it leads to what anyone sees, with what is wrong and the field to type it.
"""

import contextlib
import functools
from collections.abc import Iterable, Mapping

from aiohttp import hdrs, web

from lookup import code as codes
from lookup import lookup_key
from lookup.code import DossierCode, MalformedCode
from lookup.dossier import Record
from lookup.lookup_key import MalformedKey
from lookup.reading.access import AccessPolicy, DossierNotFound, DossierOrKeyNotFound, KeyRequired
from lookup.reading.limits import TooManyRequests
from lookup.reading.reader import Found
from lookup.web import own_list, typed
from lookup.web.answers import Answers, to_canonical
from lookup.web.codings import packed_now
from lookup.web.faces import PageFace
from lookup.web.form_pages import ADDRESSES, FormPages
from lookup.web.layout import FORMS, KEY_COOKIE, language, static
from lookup.web.phrases import PHRASES
from lookup.web.problem_pages import KeyFault, key_fault, malformed, refusal_page
from lookup.web.status_pages import dossier_page
from ops.errors import Refusal, Unavailable
from ops.http.finished import gzip_of, matches
from ops.http.posted import fields, is_ours
from ops.http.problems import HTTP_STATUS, completed

COOKIE_SECONDS = 3600
DETAILS = "details"
"""Parameter of a page's address after its key was taken (`shown`) or dropped (`hidden`): the page says so where the
cookie is missing, because the browser keeps none, or an hour is over."""


def routes(
    policy: AccessPolicy, answers: Answers, forms: FormPages, faces: Mapping[str, PageFace], *, secure: bool
) -> list[web.RouteDef]:
    """The routes of all pages. `faces`: by language. `secure`: cookies only over TLS."""
    pages = _Pages(policy, answers, forms, faces, secure=secure)
    addresses = [web.get("/static/{name}", static), *(web.get(address, pages.form) for address in ADDRESSES)]
    for form in FORMS.values():
        addresses += [
            web.get(form + r"/{code:[\s\S]+}", pages.dossier),
            web.post(form + r"/{code:[\s\S]+}", pages.posted),
        ]
    return [*addresses, web.get("/{path:.+}/", without_slash)]


async def without_slash(request: web.Request) -> web.StreamResponse:
    """A redirect to this address without the slashes at its end, if anything is there. Raises HTTPNotFound."""
    path = request.rel_url.raw_path.rstrip("/")
    bare = request.rel_url.with_path(path, encoded=True).with_query(None)
    found = await request.app.router.resolve(request.clone(rel_url=bare))
    if found.http_exception is not None or path.startswith("//"):
        raise web.HTTPNotFound
    query = request.rel_url.raw_query_string
    redirect = to_canonical(request.method, f"{path}?{query}" if query else path)
    if query:  # there may be a lookup key in it, which no cache on the way may keep
        redirect.headers[hdrs.CACHE_CONTROL] = "no-store"
    raise redirect


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
        """The form; with `?ma=` or `?code=` a redirect to the dossier's page, opened with the key of a pasted link."""
        text = request.query.get("ma", request.query.get("code"))
        if text is None:
            return self._forms.pages[request.path].answer(request)
        try:
            code, key = typed.read(text)
        except MalformedCode as problem:
            return self._malformed(request, problem, text)
        key = request.query.get("key", key)
        if key is not None:
            return await self._open(request, code, key)
        raise to_canonical(request.method, f"{FORMS[language(request)]}/{code.path}")

    async def dossier(self, request: web.Request) -> web.StreamResponse:
        """One dossier, for anyone or, with the cookie of its key, for its holder."""
        text = request.match_info["code"]
        if not text.strip("/"):
            raise to_canonical(request.method, FORMS[language(request)])
        try:
            code, key = typed.read_address(text)
        except MalformedCode as problem:
            return self._malformed(request, problem, text)
        key = request.query.get("key", key)
        if key is not None:
            return await self._open(request, code, key)
        if text != code.path:
            raise to_canonical(request.method, f"{FORMS[language(request)]}/{code.path}")
        key = request.cookies.get(KEY_COOKIE)
        try:
            found = await self._find(request, code, key)
        except (MalformedKey, DossierOrKeyNotFound) as problem:
            response = await self._anyones(request, code, problem)
            self._forget(response, [code.path])
            return response
        lang = language(request)
        told = None if key is not None else PHRASES[lang].get(f"told.{request.query.get(DETAILS)}")
        if key is None and told is None:
            held = functools.partial(matches, request)
            return self._faces[lang].late(found, code, held=held, gzip=gzip_of(request))
        return packed_now(self._page(request, found, code, holder=key is not None, told=told), gzip_of(request))

    async def posted(self, request: web.Request) -> web.StreamResponse:
        """Takes the key that was typed on the page anyone sees, or drops the one that shows its holder's."""
        text = request.match_info["code"]
        try:
            code = typed.code_in(text)
        except MalformedCode as problem:
            return self._malformed(request, problem, text)
        if text != code.path:
            raise to_canonical(request.method, f"{FORMS[language(request)]}/{code.path}")
        form = await fields(request)
        if "hide" in form:
            return await self._hide(request, code)
        key = form.get("key", "")
        try:
            found = await self._find(request, code, key)
        except (MalformedKey, DossierOrKeyNotFound) as problem:
            return await self._anyones(request, code, problem, key)
        return self._remember(request, code, key, found.record)

    async def _open(self, request: web.Request, code: DossierCode, key: str) -> web.Response:
        """The answer to a link with a key: what it opens, or what anyone sees. A cookie that is right stays."""
        try:
            found = await self._find(request, code, key)
        except (MalformedKey, DossierOrKeyNotFound) as problem:
            return await self._anyones(request, code, problem, key)
        except Unavailable:
            if KEY_COOKIE in request.cookies:
                raise
            return self._remember(request, code, key)  # out of the address; whether it is right is found out later
        return self._remember(request, code, key, found.record)

    async def _anyones(self, request: web.Request, code: DossierCode, problem: Refusal, key: str = "") -> web.Response:
        """What anyone sees, with what is wrong with the key and the field that holds it, under the problem's status."""
        fault = key_fault(problem, code, key, language(request))
        status = HTTP_STATUS[problem.kind]
        try:
            found = await self._find(request, code, None)
        except (DossierNotFound, Unavailable) as refusal:
            missing = isinstance(refusal, DossierNotFound) and isinstance(problem, MalformedKey)
            shown = refusal if missing else problem
            return refusal_page(request.path, shown, code.path, key=fault, status=HTTP_STATUS[shown.kind])
        except (KeyRequired, TooManyRequests) as refusal:
            response = refusal_page(request.path, refusal, code.path, key=fault, status=status)
            completed(response, refusal)
            return response
        return self._page(request, found, code, holder=False, fault=fault, status=status)

    async def _hide(self, request: web.Request, code: DossierCode) -> web.Response:
        """A redirect to what anyone sees, without the cookies of this dossier and without the person's own list."""
        address = f"{FORMS[language(request)]}/{code.path}"
        if not is_ours(request):
            return web.Response(status=303, headers={hdrs.LOCATION: address})  # another site's form changes nothing
        paths = [code.path]
        with contextlib.suppress(Refusal):
            found = await self._find(request, code, request.cookies.get(KEY_COOKIE, ""))
            paths = _paths(code, found.record)
        response = web.Response(status=303, headers={hdrs.LOCATION: f"{address}?{DETAILS}=hidden"})
        self._forget(response, paths)
        own_list.forget(response)
        return response

    async def _find(self, request: web.Request, code: DossierCode, key: str | None) -> Found:
        return await self._policy.find(code, key, asker=self._policy.asker(request.remote, request.headers))

    def _page(
        self,
        request: web.Request,
        found: Found,
        code: DossierCode,
        *,
        holder: bool,
        told: str | None = None,
        fault: KeyFault | None = None,
        status: int = 200,
    ) -> web.Response:
        return dossier_page(
            self._answers,
            language(request),
            found,
            code,
            holder=holder,
            maintenance=self._forms.maintenance(),
            fault=fault,
            told=told,
            status=status,
        )

    def _malformed(self, request: web.Request, problem: MalformedCode, text: str) -> web.Response:
        return malformed(request, problem, text, self._forms.pointed_out(language(request)))

    def _remember(
        self, request: web.Request, code: DossierCode, typed_key: str, record: Record | None = None
    ) -> web.Response:
        """A redirect to the bare address, with the key in cookies for each address of the page. Raises MalformedKey."""
        key = lookup_key.canonical(typed_key)
        form = FORMS[language(request)]
        response = web.Response(status=303, headers={hdrs.LOCATION: f"{form}/{code.path}?{DETAILS}=shown"})
        self._set_cookies(response, _paths(code, record), key, COOKIE_SECONDS)
        return response

    def _forget(self, response: web.Response, paths: Iterable[str]) -> None:
        self._set_cookies(response, paths, "", 0)

    def _set_cookies(self, response: web.Response, paths: Iterable[str], key: str, seconds: int) -> None:
        secure = "; Secure" if self._secure else ""
        for path in paths:
            for form in FORMS.values():
                # Cookies of one name under several paths: aiohttp's Response.cookies holds one per name.
                cookie = f"{KEY_COOKIE}={key}; Path={form}/{path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
                response.headers.add(hdrs.SET_COOKIE, cookie)


def _paths(code: DossierCode, record: Record | None) -> list[str]:
    """The last parts of the addresses of a dossier's page: as it was asked for, by its code, by its number."""
    if record is None:
        return [code.path]
    others = (record.code, record.official_number)
    return list(dict.fromkeys([code.path, *(codes.parse(each).path for each in others if each)]))
