"""What every page of the desk has: the layout, its words, its headers, the static files."""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2
from aiohttp import hdrs, web

from intake.desk.officers import Officer
from intake.desk.words import WORDS
from ops.http.finished import VARY, Finished, gzip_of
from ops.observe import logs

OFFICER: Final = web.RequestKey("officer", Officer)
"""Whose session a request has; set on every request below INBOX that reaches its handler."""

INBOX: Final = "/quay"
"""The inbox; every page below it needs a session."""
RECEPTION: Final = "/quay/nhan"
SEARCH: Final = "/quay/tim"
REGISTER: Final = "/quay/so"
HANDOVER: Final = "/quay/ban-giao"
UNIT: Final = "/quay/don-vi"
SIGN_IN: Final = "/dang-nhap"
SIGN_OUT: Final = "/dang-xuat"

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    # Without a referrer browsers send `Origin: null` with a form, and over plain http Origin is all that is left.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "no-store",
}
"""Of every page."""

_STATIC = {"desk.css": "text/css", "desk.js": "text/javascript", "icon.svg": "image/svg+xml"}
_environment = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    auto_reload=False,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(
    request: web.Request, template: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> web.Response:
    """A page with the signed-in officer at its top, if there is one.

    A template extends layout.html, fills `title` and `main`, and has WORDS as `t`. It may be given `here`, the address
    of the navigation that it belongs to, and `search`, what stands in the search field.
    """
    officer = request.get(OFFICER)
    given = {"here": None, "search": "", "local": False, **(context or {})}
    text = _environment.get_template(template).render(
        t=WORDS,
        officer=officer,
        roles=[] if officer is None else [WORDS[f"role.{role}"] for role in sorted(officer.roles)],
        trial=officer is not None and officer.issuer == "local",
        inbox_url=INBOX,
        reception_url=RECEPTION,
        search_url=SEARCH,
        register_url=REGISTER,
        hand_over_url=HANDOVER,
        unit_url=UNIT,
        sign_out_url=SIGN_OUT,
        css_url=static_address("desk.css"),
        js_url=static_address("desk.js"),
        icon_url=static_address("icon.svg"),
        request_id=logs.request_id.get() or "",
        **given,
    )
    return answer(request, text.encode(), "text/html", status=status)


def answer(
    request: web.Request, body: bytes, content_type: str, *, status: int = 200, name: str | None = None
) -> web.Response:
    """Content under the headers of every page, text compressed where the browser takes it.

    `name`: under which a browser saves it; it shows it all the same.
    """
    text = content_type.startswith("text/")
    response = web.Response(
        body=body, status=status, content_type=content_type, charset="utf-8" if text else None, headers=HEADERS
    )
    if name is not None:
        response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"  # browsers show PDF by a page of theirs
        response.headers[hdrs.CONTENT_DISPOSITION] = f'inline; filename="{name}"'
    if text:
        response.headers[hdrs.VARY] = VARY
    if text and gzip_of(request):
        response.body = gzip.compress(body, 5, mtime=0)
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response


def see_other(address: str) -> web.Response:
    """A redirect after a form or to the sign-in; the browser asks for it with GET."""
    return web.Response(status=303, headers={**HEADERS, hdrs.LOCATION: address})


def own_address(text: str) -> str:
    """The address if it is one of the desk's pages, else the inbox: no redirect leads to another site."""
    of_ours = text == INBOX or text.startswith((f"{INBOX}/", f"{INBOX}?"))
    return text if of_ours and text.isascii() and text.isprintable() and "\\" not in text else INBOX


async def static(request: web.Request) -> web.StreamResponse:
    """A static file; kept for a year under the address that holds its hash, not at all under another one."""
    name = request.match_info["name"]
    if name not in _STATIC:
        raise web.HTTPNotFound
    kept = "public, max-age=31536000, immutable" if request.path_qs == static_address(name) else "no-store"
    return _content(name).answer(request, {hdrs.CACHE_CONTROL: kept})


@cache
def static_address(name: str) -> str:
    """The address of a static file of this release."""
    return f"/static/{name}?{hashlib.sha256(_content(name).content).hexdigest()[:8]}"


@cache
def _content(name: str) -> Finished:
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    return Finished(content, f"{_STATIC[name]}; charset=utf-8", {})
