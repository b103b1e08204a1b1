"""What every page has: its layout from a template, its language by its address, its headers, the static files."""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
from aiohttp import hdrs, web
from markupsafe import Markup

from lookup import ratings
from lookup.clock import VIETNAM
from lookup.maintenance import Notice, Part
from lookup.web.codings import Finished
from lookup.web.dates import when
from lookup.web.phrases import PHRASES, span_phrase
from lookup.web.site import Site, telephone_link
from ops.observe import logs

FORMS = {"vi": "/tra-cuu", "en": "/en/status"}
"""Language → the form's address; a dossier's page is below it."""

SERVICE_STATUS = {"vi": "/tinh-trang-he-thong", "en": "/en/service-status"}
"""Language → the address of the page about the service itself (lookup/web/service_pages.py)."""

KEY_COOKIE = "hoso24-key"
"""The cookie that holds a dossier's lookup key on that dossier's page."""

OWN_LIST = {"vi": "/ho-so-cua-toi", "en": "/en/my-applications"}
"""Language → the address of the person's own list (lookup/web/own_list.py)."""

RATING = ratings.ADDRESSES
"""Language → where ratings are sent: below the form and without a code (lookup/web/rating.py)."""

DEVELOPERS = {"vi": "/nha-phat-trien", "en": "/en/developers"}
"""Language → the address of the page for developers of other portals (lookup/web/developers.py)."""

ABOUT = {"vi": "/ve-trang-nay", "en": "/en/about"}
PRIVACY = {"vi": "/quyen-rieng-tu", "en": "/en/privacy"}
ACCESSIBILITY = {"vi": "/tro-nang", "en": "/en/accessibility"}
"""Language → the addresses of the pages about this site (lookup/web/about_pages.py)."""

SERVICES = {"vi": "/dich-vu", "en": "/en/services"}
"""Language → the list of services; a service's page is below it (lookup/web/catalogue_pages.py)."""

VERIFY = {"vi": "/kiem-tra", "en": "/en/verify"}
"""Language → the address of the page that verifies papers (lookup/web/paper_pages.py)."""

STATISTICS = {"vi": "/thong-ke", "en": "/en/statistics"}
"""Language → the address of the public figures (lookup/web/figure_pages.py)."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

POLICY_WHERE_FOUND = f"{CONTENT_SECURITY_POLICY}; connect-src 'self'"
"""Of pages that hold no dossier and may be stored anywhere: tools such as Lighthouse fetch robots.txt as if a script of
the page did. No script runs there either."""

FOR_A_YEAR = "public, max-age=31536000, immutable"

_STATIC = {"site.css": "text/css", "icon.svg": "image/svg+xml"}
_environment = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    auto_reload=False,  # else each page asks the file system for the age of each of its templates: 16 µs
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["telephone_link"] = telephone_link
_TOGETHER = re.compile(
    "(bổ|giấy|thực|nghĩa|tài|công|yêu|hồ|tiếp|kết|xử|thủ|hành|tình|hệ|hoạt|bình|bảo|tra|ghi)"
    " (sung|tờ|hiện|vụ|chính|dân|cầu|sơ|nhận|quả|lý|tục|trạng|thống|động|thường|trì|cứu|nhớ)\\b",
    re.IGNORECASE,
)


def bound(text: str) -> str:
    """The text of a heading, with the two syllables of its usual words on one line: a no-break space between them."""
    return _TOGETHER.sub("\\1\N{NO-BREAK SPACE}\\2", text)


def number(n: int, lang: str) -> str:
    """A whole number with its thousands set apart: 1.234 in Vietnamese, 1,234 in English."""
    return f"{n:,}".replace(",", "." if lang == "vi" else ",")


def percent(share: float, lang: str) -> str:
    """A share from 0 to 1 as a percentage: 98,5% in Vietnamese, 98.5% in English."""
    return f"{share:.1%}".replace(".", "," if lang == "vi" else ".")


_environment.filters["bound"] = bound
_environment.filters["number"] = number
_environment.filters["percent"] = percent
_site = Site()


def belongs_to(site: Site) -> None:
    """Make `site` the one that all pages of this process name. Called once, before the first page is made."""
    global _site  # noqa: PLW0603 - a process has one site, and every page, also that of a broken request, names it
    _site = site


def language(request: web.Request) -> str:
    """The page's language, "vi" or "en", by its address."""
    return language_of(request.path)


def language_of(path: str) -> str:
    """The language of the page with this path."""
    return "en" if path == "/en" or path.startswith("/en/") else "vi"


def page(request: web.Request, template: str, context: Mapping[str, Any], status: int = 200) -> web.Response:
    """The page that answers this request: `page_of` in its language, about the code in its address."""
    return page_of(language(request), request.match_info.get("code"), template, context, status)


def page_of(lang: str, code: str | None, template: str, context: Mapping[str, Any], status: int) -> web.Response:
    """A page that no cache may keep. `code`: as it stood in the address, for the link to the other language."""
    form = FORMS[other_language(lang)]
    text = render(template, lang, {"other_url": f"{form}/{quote(code)}" if code else form} | dict(context))
    return web.Response(text=text, content_type="text/html", status=status, headers=page_headers("private, no-store"))


def page_headers(kept: str) -> dict[str, str]:
    """The headers of every page; `kept` is its Cache-Control."""
    return {
        "Content-Security-Policy": POLICY_WHERE_FOUND if kept.startswith("public") else CONTENT_SECURITY_POLICY,
        "X-Frame-Options": "DENY",  # for browsers older than frame-ancestors
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
        "Cross-Origin-Opener-Policy": "same-origin",
        hdrs.CACHE_CONTROL: kept,
    }


def render(template: str, lang: str, context: Mapping[str, Any]) -> str:
    """A page's HTML. `context`: the template's variables besides words and addresses; at least `other_url`.

    On any page: `errors`, each with a `text` and the `href` of its field, which come first and have the focus; `below`,
    what is said under them; `told`, what has been done. A page that search engines are meant to find sets `found_at`,
    its address in each language, and `description`.
    """
    context = {"errors": (), "below": None, "told": None, **context}
    return _environment.get_template(template).render(
        lang=lang,
        t=PHRASES[lang],
        home_url=FORMS[lang],
        form_url=FORMS[lang],
        service_url=SERVICE_STATUS[lang],
        list_url=OWN_LIST[lang],
        developers_url=DEVELOPERS[lang],
        rating_url=RATING[lang],
        services_url=SERVICES[lang],
        statistics_url=STATISTICS[lang],
        about_url=ABOUT[lang],
        privacy_url=PRIVACY[lang],
        accessibility_url=ACCESSIBILITY[lang],
        forms=FORMS,
        site=_site,
        css_url=static_address("site.css"),
        icon_url=static_address("icon.svg"),
        **{"request_id": logs.request_id.get() or "", **context},
    )


def fragment(template: str, lang: str, context: Mapping[str, Any]) -> Markup:
    """Part of a page, to be put into others as it is."""
    return Markup(_environment.get_template(template).render(lang=lang, t=PHRASES[lang], **context))  # noqa: S704


def other_language(lang: str) -> str:
    """The other of the two languages."""
    return "en" if lang == "vi" else "vi"


def notice_words(notice: Notice, running: bool, lang: str) -> dict[str, Any]:
    """The texts of a maintenance for a template."""
    return {
        "running": running,
        "when": span_phrase(notice.starts_at.astimezone(VIETNAM), notice.ends_at.astimezone(VIETNAM), lang),
        "ends": when(notice.ends_at, lang),
        "affects": [PHRASES[lang][f"part.{part.value}.name"] for part in notice.affects],
        "effects": _effects(notice, lang),
        "text": notice.text(lang),
    }


def _effects(notice: Notice, lang: str) -> list[str]:
    """What a maintenance means to who looks up, and what still works."""
    t = PHRASES[lang]
    effects = [t[f"maintenance.effect.{part.value}"] for part in notice.affects]
    if Part.LOOKUP not in notice.affects:
        return [t["form.maintenance.lookup_works"], *effects]
    return effects if len(set(notice.affects)) == len(Part) else [*effects, t["form.maintenance.others_work"]]


async def static(request: web.Request) -> web.StreamResponse:
    """The style sheet and the icon; their addresses contain a hash of the content.

    Under any other query no cache may keep them: during a rollout a process of the other release answers too, and its
    content would be kept for a year under this release's address.
    """
    name = request.match_info["name"]
    if name not in _STATIC:
        raise web.HTTPNotFound
    if request.path_qs != static_address(name):
        return _content(name).answer(request, {hdrs.CACHE_CONTROL: "no-store"})
    return _content(name).answer(request)


@cache
def _content(name: str) -> Finished:
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    return Finished(content, _STATIC[name], {hdrs.CACHE_CONTROL: FOR_A_YEAR})


@cache
def static_address(name: str) -> str:
    """The address of a static file of this release: with a hash of its content."""
    return f"/static/{name}?{hashlib.sha256(_content(name).content).hexdigest()[:8]}"
