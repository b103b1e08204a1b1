"""The citizen's pages, Vietnamese and English, without JavaScript: the form, a dossier, a refusal.

A lookup key appears in a URL once: `?key=` is answered with a redirect to the bare address and a cookie whose path is
this dossier's page.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, quote

import jinja2
from aiohttp import hdrs, web

from lookup import code as codes
from lookup import lookup_key
from lookup.clock import VIETNAM, moment
from lookup.code import DossierCode, MalformedCode
from lookup.dossier import Record
from lookup.lookup_key import MalformedKey
from lookup.maintenance import Notice
from lookup.reading.access import AccessPolicy, DossierOrKeyNotFound, KeyRequired
from lookup.reading.limits import TooManyRequests
from lookup.reading.reader import Found
from lookup.status import Status
from lookup.web.answers import Answers, to_canonical
from lookup.web.phrases import PHRASES, due_phrase, problem_words, span_phrase, status_words
from ops.errors import Kind, Refusal
from ops.http.bodies import read_body
from ops.http.problems import HTTP_STATUS
from ops.observe import logs

KEY_COOKIE = "hoso24-key"
COOKIE_SECONDS = 3600
SOON_DAYS = 2

FORMS = {"vi": "/tra-cuu", "en": "/en/status"}
"""Language → the form's address; a dossier's page is below it."""

SERVICE_STATUS = {"vi": "/tinh-trang-he-thong", "en": "/en/service-status"}
"""Language → the address of the page about the service itself (lookup/web/service_pages.py)."""

Pointed = Callable[[], tuple[Notice, bool] | None]
"""Returns the maintenance to announce and whether it is under way; None for none."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

FOR_A_YEAR = "public, max-age=31536000, immutable"

_STATIC = {"site.css": "text/css", "icon.svg": "image/svg+xml"}
_environment = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def routes(
    policy: AccessPolicy, answers: Answers, *, secure: bool, maintenance: Pointed = lambda: None
) -> list[web.RouteDef]:
    """The routes of all pages. `secure`: cookies only over TLS. `maintenance`: what the form announces."""
    pages = _Pages(policy, answers, secure=secure, maintenance=maintenance)
    addresses = [web.get("/", pages.form), web.get("/en", pages.form), web.get("/static/{name}", static)]
    for form in FORMS.values():
        addresses += [
            web.get(form, pages.form),
            web.get(form + "/{code:.+}", pages.dossier),
            web.post(form + "/{code:.+}", pages.take_key),
        ]
    return addresses


class _Pages:
    def __init__(self, policy: AccessPolicy, answers: Answers, *, secure: bool, maintenance: Pointed) -> None:
        self._policy = policy
        self._answers = answers
        self._secure = secure
        self._maintenance = maintenance

    async def form(self, request: web.Request) -> web.StreamResponse:
        """The form; with `?ma=` or `?code=` a redirect to the dossier's page."""
        typed = request.query.get("ma", request.query.get("code"))
        if typed is None:
            return _page(request, "form.html", {"maintenance": self._pointed_out(request)})
        try:
            code = codes.parse(typed)
        except MalformedCode as problem:
            return _malformed(request, problem, typed, self._pointed_out(request))
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
        return self._dossier(request, found, holder=key is not None)

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
                return _problem_page(request.path, refusal, code.path, key_problem=words.sentence, status=400)
            return self._dossier(request, found, holder=False, key_problem=words.sentence, status=400)
        return self._remember(code, key, FORMS[language(request)])

    def _pointed_out(self, request: web.Request) -> dict[str, Any] | None:
        pointed = self._maintenance()
        return pointed and notice_words(*pointed, language(request))

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

    def _dossier(
        self, request: web.Request, found: Found, *, holder: bool, key_problem: str | None = None, status: int = 200
    ) -> web.Response:
        lang = language(request)
        record = found.record
        path = codes.parse(record.code).path
        words = status_words(Status(record.status).slug, lang)
        dossier = {
            "code": record.code,
            "status": Status(record.status).slug,
            "status_number": record.status,
            "status_name": words.name,
            "status_explained": words.explained,
            "next_step": words.next_step,
            "final": Status(record.status).final,
            "completion": Status(record.status).completion,
            "due": None,
            "stale": found.stale,
            "as_of": f"{moment(found.as_of).astimezone(VIETNAM):%H:%M:%S %d/%m/%Y}",
            "holder": self._holder(record, lang) if holder else None,
            "key_form_url": f"{FORMS[lang]}/{path}",
            "key_problem": key_problem,
        }
        if holder or self._answers.shows_due:
            dossier |= _due(record, moment(found.as_of), lang, hour=holder)
        response = _page(request, "status.html", {"dossier": dossier, "page_url": f"{FORMS[lang]}/{path}"}, status)
        if not holder and not found.stale and status == 200:
            response.headers[hdrs.CACHE_CONTROL] = "private, no-cache"
        response.headers[hdrs.LINK] = f'<{FORMS[lang]}/{path}>; rel="canonical"'
        return response

    def _holder(self, record: Record, lang: str) -> dict[str, Any]:
        name = "name" if lang == "vi" else "name_en"
        agency = self._answers.catalogue.agency_view
        return {
            "service": self._answers.catalogue.service_view(record.service)[name] or record.service,
            "agency": agency(record.agency)[name] or record.agency,
            "official_number": record.official_number,
            "received": _date(record.received_at),
            "finished": _date(record.finished_at),
            "returned": _date(record.returned_at),
            "action_needed": record.action_needed,
            "timeline": [
                {
                    "at": _date(step.at),
                    "status_name": status_words(step.status, lang).name,
                    "agency": agency(step.agency)[name] or step.agency,
                    "department": step.department,
                }
                for step in record.timeline
            ],
        }


def _typed_key(body: bytes) -> str:
    """The key in a form body, whatever its content type; empty when there is none."""
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=16)).get("key", "")
    except ValueError:
        return ""


async def static(request: web.Request) -> web.StreamResponse:
    """The style sheet and the icon; their addresses contain a hash of the content.

    Under any other query no cache may keep them: during a rollout a process of the other release answers too, and its
    content would be kept for a year under this release's address.
    """
    name = request.match_info["name"]
    if name not in _STATIC:
        raise web.HTTPNotFound
    return web.Response(
        body=_content(name),
        content_type=_STATIC[name],
        headers={hdrs.CACHE_CONTROL: FOR_A_YEAR if request.path_qs == static_address(name) else "no-store"},
    )


def render_problem(request: web.Request, refusal: Refusal) -> web.Response | None:
    """A refusal as a page; None for an API path, which gets problem+json."""
    return problem_page(request.path, refusal, request.match_info.get("code"))


def problem_page(path: str, refusal: Refusal, typed: str | None = None) -> web.Response | None:
    """A refusal as a page of this path, of whose request no more may be known; None for an API path.

    `typed`: the code in the path.
    """
    if path.startswith("/api/"):
        return None
    return _problem_page(path, refusal, typed)


def _problem_page(
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
    return _page_of(lang, typed, "problem.html", context, status or HTTP_STATUS[refusal.kind])


def language(request: web.Request) -> str:
    """The page's language, "vi" or "en", by its address."""
    return language_of(request.path)


def language_of(path: str) -> str:
    """The language of the page with this path."""
    return "en" if path == "/en" or path.startswith("/en/") else "vi"


def notice_words(notice: Notice, running: bool, lang: str) -> dict[str, Any]:
    """The texts of a maintenance for a template."""
    return {
        "running": running,
        "when": span_phrase(notice.starts_at.astimezone(VIETNAM), notice.ends_at.astimezone(VIETNAM), lang),
        "ends": _date(notice.ends_at),
        "affects": [PHRASES[lang][f"part.{part.value}.name"] for part in notice.affects],
        "text": notice.text(lang),
    }


def _malformed(
    request: web.Request, problem: MalformedCode, typed: str, maintenance: dict[str, Any] | None
) -> web.Response:
    empty = not typed.strip()
    words = problem_words("empty_code" if empty else problem.code, language(request), problem)
    context = {"typed": typed[: codes.LONGEST], "problem": words.sentence, "maintenance": maintenance}
    return _page(request, "form.html", context, HTTP_STATUS[problem.kind])


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


def _page(request: web.Request, template: str, context: Mapping[str, Any], status: int = 200) -> web.Response:
    return _page_of(language(request), request.match_info.get("code"), template, context, status)


def _page_of(lang: str, code: str | None, template: str, context: Mapping[str, Any], status: int) -> web.Response:
    form = FORMS[other_language(lang)]
    text = render(template, lang, {"other_url": f"{form}/{quote(code)}" if code else form, **context})
    return web.Response(text=text, content_type="text/html", status=status, headers=page_headers("private, no-store"))


def page_headers(kept: str) -> dict[str, str]:
    """The headers of every page; `kept` is its Cache-Control."""
    return {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Frame-Options": "DENY",  # for browsers older than frame-ancestors
        hdrs.CACHE_CONTROL: kept,
    }


def render(template: str, lang: str, context: Mapping[str, Any]) -> str:
    """A page's HTML. `context`: the template's variables besides words and addresses; at least `other_url`."""
    return _environment.get_template(template).render(
        lang=lang,
        t=PHRASES[lang],
        home_url=FORMS[lang],
        form_url=FORMS[lang],
        service_url=SERVICE_STATUS[lang],
        css_url=static_address("site.css"),
        icon_url=static_address("icon.svg"),
        request_id=logs.request_id.get() or "",
        **context,
    )


def other_language(lang: str) -> str:
    """The other of the two languages."""
    return "en" if lang == "vi" else "vi"


def _forget(response: web.Response, code: DossierCode) -> None:
    for form in FORMS.values():
        response.headers.add(hdrs.SET_COOKIE, f"{KEY_COOKIE}=; Path={form}/{code.path}; Max-Age=0; HttpOnly")


def _due(record: Record, now: datetime, lang: str, *, hour: bool) -> dict[str, str | None]:
    """The due date, with its hour or without, and while the time limit runs its distance from now.

    That is counted by day in Vietnam, as on-time is judged.
    """
    due = _date(record.due_at)
    due = due if hour or due is None else due.partition(" ")[2]
    status = Status(record.status)
    if record.due_at is None or record.finished_at is not None or status.final or status.paused:
        return {"due": due, "due_state": None, "due_phrase": None}
    days = (record.due_at.astimezone(VIETNAM).date() - now.astimezone(VIETNAM).date()).days
    state = "overdue" if days < 0 else "soon" if days <= SOON_DAYS else "on_time"
    return {"due": due, "due_state": state, "due_phrase": due_phrase(days, lang)}


def _date(at: datetime | None) -> str | None:
    return f"{at.astimezone(VIETNAM):%H:%M %d/%m/%Y}" if at else None


@cache
def _content(name: str) -> bytes:
    return resources.files(__package__).joinpath("static", name).read_bytes()


@cache
def static_address(name: str) -> str:
    """The address of a static file of this release: with a hash of its content."""
    return f"/static/{name}?{hashlib.sha256(_content(name)).hexdigest()[:8]}"
