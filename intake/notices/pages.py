"""The notices' public port: the page that a mail's link opens, and the ratings of the citizens' pages.

The link holds no code that could be read, and neither page nor log tells what it is about. A mail program may withdraw
with one POST (RFC 8058); a person opens the page and presses the button, since whatever only opens a link withdraws
nothing.
"""

import hashlib
import math
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Final

from aiohttp import hdrs, web

from intake import metrics
from intake.books import consents
from intake.notices.messages import WITHDRAW
from intake.notices.tokens import Tokens
from intake.notices.words import PAGES
from lookup.clock import VIETNAM
from lookup.ratings import ADDRESSES, ALLOWANCE, SCORES, TooManyRatings, rated
from ops.errors import NoSuchPath, Refusal
from ops.http.client_address import FORWARDED, Clients
from ops.http.posted import fields, is_ours
from ops.http.problems import HTTP_STATUS
from ops.stores.postgres import Postgres

RATING_ALIAS: Final = "/danh-gia"
MOST_CLIENTS: Final = 20_000
"""Networks whose ratings are remembered: the longest ago is forgotten first."""

RATE = """
INSERT INTO rating AS r (day, language, status, score, n)
VALUES ($1, $2, $3, $4, 1)
ON CONFLICT (day, language, status, score) DO UPDATE
   SET n = r.n + 1
"""

_STYLE = (
    "body{font:1.125rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:40rem;padding:0 1rem;color:#1a1a1a;"
    "background:#fff}button{font:inherit;padding:.6rem 1.2rem;color:#fff;background:#0b4f8a;border:0}"
    "button:focus-visible,a:focus-visible{outline:3px solid #f5a623;outline-offset:2px}a{color:#0b4f8a}"
)
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def page(body: str, status: int = 200) -> web.Response:
    """A page in both languages. `body` is HTML."""
    vietnamese, english = PAGES["title"]
    text = (
        f'<!doctype html><html lang="vi"><head><meta charset="utf-8"><title>{vietnamese} · {english}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
    headers = {"Content-Security-Policy": _POLICY, hdrs.CACHE_CONTROL: "private, no-store", "X-Frame-Options": "DENY"}
    return web.Response(text=text, content_type="text/html", status=status, headers=headers)


def problem_page(_: web.Request, refusal: Refusal) -> web.StreamResponse | None:
    """A refusal as a page, for the chain of middlewares."""
    body = f'<h1>{escape(refusal.title_vi)}</h1><p lang="en">{escape(refusal.title)}</p>'
    return page(body, HTTP_STATUS[refusal.kind])


class NoticePages:
    """The endpoints; `monotonic` is for tests."""

    def __init__(
        self, postgres: Postgres, tokens: Tokens, clients: Clients, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._postgres = postgres
        self._tokens = tokens
        self._clients = clients
        self._monotonic = monotonic
        self._due: OrderedDict[bytes, float] = OrderedDict()
        """Network → the moment from which its allowance is whole again."""

    def routes(self) -> list[web.RouteDef]:
        """The link of mails, and where the form of ratings is sent in both languages."""
        return [
            web.get(f"{WITHDRAW}/{{token}}", self.ask),
            web.post(f"{WITHDRAW}/{{token}}", self.withdraw),
            *(web.post(address, self.rate) for address in (*ADDRESSES.values(), RATING_ALIAS)),
        ]

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Ask whether to withdraw, and change nothing. Raises NoSuchPath for a token that is none of ours."""
        self._read(request)
        return page(f'{_said("ask", "h1")}<form method="post"><button>{" · ".join(PAGES["button"])}</button></form>')

    async def withdraw(self, request: web.Request) -> web.StreamResponse:
        """Withdraw the consent; safe to repeat. Raises NoSuchPath, Unavailable."""
        code, channel = self._read(request)
        await self._postgres.fetch(consents.WITHDRAW, code, channel)
        return page(_said("done", "h1"))

    async def rate(self, request: web.Request) -> web.StreamResponse:
        """Count a rating, then lead to the page that thanks, which is the lookup's.

        Raises TooManyRatings, Malformed for what no form of ours sends, Unavailable.
        """
        lang = "en" if request.path == ADDRESSES["en"] else "vi"
        if not is_ours(request):
            raise web.HTTPSeeOther("/en/status" if lang == "en" else "/tra-cuu")  # another site's form counts nothing
        status, score = rated(await fields(request))
        self._spend(self._clients.client(request.remote, request.headers.get(FORWARDED)))
        today = datetime.now(UTC).astimezone(VIETNAM).date()
        await self._postgres.fetch(RATE, today, lang, status.value, len(SCORES) - SCORES.index(score))
        metrics.RATINGS.labels(score).inc()
        raise web.HTTPSeeOther(ADDRESSES[lang])

    def _read(self, request: web.Request) -> tuple[str, str]:
        read = self._tokens.read(request.match_info["token"])
        if read is None:
            raise NoSuchPath
        return read

    def _spend(self, client: bytes | None) -> None:
        """Charge a rating to this network. Raises TooManyRatings."""
        if client is None:
            return
        now = self._monotonic()
        ahead = max(0.0, self._due.get(client, 0.0) - now) + ALLOWANCE.interval
        if ahead > ALLOWANCE.tolerance:
            wait = math.ceil(ahead - ALLOWANCE.tolerance)
            raise TooManyRatings(retry_after=wait).with_headers(ALLOWANCE.used_up(wait))
        self._due[client] = now + ahead
        self._due.move_to_end(client)
        if len(self._due) > MOST_CLIENTS:
            self._due.popitem(last=False)


def _said(words: str, tag: str) -> str:
    vietnamese, english = PAGES[words]
    return f'<{tag}>{vietnamese}</{tag}><p lang="en">{english}</p>'
