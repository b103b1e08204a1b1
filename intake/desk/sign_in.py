"""Signing in and out, and the gate before every page: same origin, and a session below INBOX."""

import base64
import binascii
import logging
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import hdrs, web

from intake import metrics
from intake.desk.forms import read_form
from intake.desk.frame import session_over
from intake.desk.layout import INBOX, OFFICER, SIGN_IN, SIGN_OUT, own_address, page, see_other
from intake.desk.oidc import Attempt, Provider, SignInRefused
from intake.desk.same_origin import SAFE, require_same_origin
from intake.desk.sessions import Sessions, make_link
from intake.desk.words import WORDS
from intake.settings import SignInSettings
from ops.errors import Unavailable
from ops.http.middleware import Handler

log = logging.getLogger(__name__)

START: Final = f"{SIGN_IN}/di"
BACK: Final = f"{SIGN_IN}/ve"
"""Where the provider sends officers back; registered there under the desk's own host."""
LINK: Final = f"{SIGN_IN}/lien-ket"
ATTEMPT_SECONDS: Final = 600
SESSION_SECONDS: Final = 10 * 3600


class _Kept(msgspec.Struct):
    """What a sign-in leaves in its browser."""

    attempt: Attempt
    to: str


class SignIn:
    """`provider` is None where officers come by one-time links. `secure`: the desk is reached over TLS."""

    def __init__(self, sessions: Sessions, provider: Provider | None, *, secure: bool) -> None:
        self._sessions = sessions
        self._provider = provider
        prefix = "__Host-" if secure else ""
        self._secure = secure
        self._session_cookie = f"{prefix}hoso24-desk"
        self._attempt_cookie = f"{prefix}hoso24-sign-in"

    def routes(self) -> list[web.RouteDef]:
        """What is reached without a session."""
        return [
            web.get(SIGN_IN, self.form),
            web.get(START, self.start),
            web.get(BACK, self.back),
            web.get(LINK, self.link),
            web.post(LINK, self.use_link),
            web.post(SIGN_OUT, self.sign_out),
        ]

    def gate(self) -> Any:
        """The innermost middleware. Raises ForeignForm; answers requests without a session; sets OFFICER on others."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            require_same_origin(request.method, request.headers)
            if request.path == INBOX or request.path.startswith(f"{INBOX}/"):
                cookie = request.cookies.get(self._session_cookie)
                officer = await self._sessions.find(cookie) if cookie else None
                if officer is None and request.method in SAFE:
                    return see_other(f"{SIGN_IN}?{urlencode({'ve': request.path_qs})}")
                if officer is None:
                    return session_over(request, await read_form(request))
                request[OFFICER] = officer
            return await handler(request)

        return gate

    async def form(self, request: web.Request) -> web.Response:
        """How to sign in here."""
        says = [WORDS["sign_out.done"]] if "xong" in request.query else []
        if self._provider is None:
            return self._message(request, [*says, WORDS["sign_in.local"]])
        query = urlencode({"ve": own_address(request.query.get("ve", ""))})
        link = {"href": f"{START}?{query}", "says": WORDS["sign_in.button"]}
        return self._message(request, [*says, WORDS["sign_in.says"]], link=link)

    async def start(self, request: web.Request) -> web.Response:
        """On to the provider. Raises Unavailable."""
        if self._provider is None:
            return see_other(SIGN_IN)
        attempt = Attempt.new()
        try:
            response = see_other(await self._provider.begin(attempt))
        except Unavailable:
            metrics.DESK_SIGN_INS.labels("provider_away").inc()
            raise
        kept = msgspec.json.encode(_Kept(attempt, own_address(request.query.get("ve", ""))))
        self._set(response, self._attempt_cookie, base64.urlsafe_b64encode(kept).decode(), ATTEMPT_SECONDS)
        return response

    async def back(self, request: web.Request) -> web.Response:
        """Back from the provider: a session, if the officer is one of ours."""
        if self._provider is None:
            return see_other(SIGN_IN)
        try:
            kept = self._kept(request)
            subject = await self._provider.finish(kept.attempt, request.query)
        except SignInRefused as refused:
            log.warning("A sign-in was refused: %s", refused.detail)
            metrics.DESK_SIGN_INS.labels("refused").inc()
            return self._again(request, "sign_in.refused")
        except Unavailable:
            metrics.DESK_SIGN_INS.labels("provider_away").inc()
            raise
        secret = await self._sessions.begin(subject)
        if secret is None:
            metrics.DESK_SIGN_INS.labels("unknown").inc()
            return self._again(request, "sign_in.unknown")
        metrics.DESK_SIGN_INS.labels("signed_in").inc()
        response = self._begun(secret, kept.to)
        self._set(response, self._attempt_cookie, "", 0)
        return response

    async def link(self, request: web.Request) -> web.Response:
        """The page of a one-time link. Its button uses it: a mail program or a preview that opens it does not."""
        if self._provider is not None:
            return see_other(SIGN_IN)
        button = {
            "method": "post",
            "action": LINK,
            "fields": [("k", request.query.get("k", ""))],
            "says": WORDS["sign_in.link.button"],
        }
        return self._message(request, [WORDS["sign_in.link"]], button=button)

    async def use_link(self, request: web.Request) -> web.Response:
        """A session by a one-time link."""
        secret = await self._sessions.use_link((await read_form(request)).get("k", ""))
        if secret is None:
            metrics.DESK_SIGN_INS.labels("refused").inc()
            return self._again(request, "sign_in.link.over")
        metrics.DESK_SIGN_INS.labels("signed_in").inc()
        return self._begun(secret, INBOX)

    async def sign_out(self, request: web.Request) -> web.Response:
        """The session ends, here and in every other tab."""
        if cookie := request.cookies.get(self._session_cookie):
            await self._sessions.end(cookie)
        response = see_other(f"{SIGN_IN}?xong=1")
        self._set(response, self._session_cookie, "", 0)
        return response

    def _kept(self, request: web.Request) -> _Kept:
        try:
            cookie = base64.urlsafe_b64decode(request.cookies.get(self._attempt_cookie, ""))
            return msgspec.json.decode(cookie, type=_Kept)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise SignInRefused("the browser did not begin this sign-in, or more than ten minutes ago") from None

    def _begun(self, secret: str, to: str) -> web.Response:
        response = see_other(own_address(to))
        self._set(response, self._session_cookie, secret, SESSION_SECONDS)
        return response

    def _again(self, request: web.Request, word: str) -> web.Response:
        link = {"href": SIGN_IN, "says": WORDS["sign_in.title"]}
        response = self._message(request, [WORDS[word]], link=link, status=403)
        self._set(response, self._attempt_cookie, "", 0)
        return response

    def _message(
        self, request: web.Request, says: list[str], *, button: Any = None, link: Any = None, status: int = 200
    ) -> web.Response:
        context = {"heading": WORDS["sign_in.title"], "says": says, "button": button, "link": link}
        return page(request, "message.html", context | {"local": self._sessions.local}, status=status)

    def _set(self, response: web.Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name, value, path="/", max_age=seconds, httponly=True, samesite="Lax", secure=self._secure or None
        )


class NoLink(Exception):
    """There is no one-time link; the message says why."""


async def new_link(connection: Any, settings: SignInSettings, subject: str) -> str:
    """The address of a new one-time link for a local officer. Raises NoLink."""
    if settings.oidc_issuer is not None:
        raise NoLink("Officers sign in at HOSO24_DESK_OIDC_ISSUER; there are one-time links only where it is not set.")
    link = await make_link(connection, subject)
    if link is None:
        raise NoLink(
            f"There is no officer {subject} of issuer local who may sign in; `hoso24 officer list` shows them."
        )
    return f"{settings.desk_url.rstrip('/')}{LINK}?k={link}"


async def root(_: web.Request) -> web.StreamResponse:
    """The host's own address leads to the inbox."""
    raise web.HTTPSeeOther(INBOX, headers={hdrs.CACHE_CONTROL: "no-store"})
