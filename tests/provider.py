"""An OpenID provider in the test process: it signs in whoever a test names, and checks what a desk has to prove."""

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

CLIENT_ID = "hoso24-desk"
CLIENT_SECRET = "not a secret: of tests"
Claims = dict[str, Any]


class Provider:
    """`subject` signs in next. `twist` may change the claims, `header` the token's, and `signs_with` its key."""

    def __init__(self) -> None:
        self.issuer = ""
        self.subject = "binh"
        self.twist: Callable[[Claims], Claims] = lambda claims: claims
        self.header: dict[str, Any] = {}
        self.signs_with: Any = None
        self.away = False
        self.keys_read = 0
        self.refused: list[str] = []
        """Why codes were not exchanged."""
        self._codes: dict[str, dict[str, str]] = {}
        self.rotate("RS256")

    def rotate(self, algorithm: str) -> None:
        """Sign with a new key from now on; the old one is published no longer."""
        made: dict[str, Callable[[], Any]] = {
            "RS256": lambda: RSAKey.generate_key(2048, {"kid": secrets.token_hex(4)}),
            "ES256": lambda: ECKey.generate_key("P-256", {"kid": secrets.token_hex(4)}),
            "Ed25519": lambda: OKPKey.generate_key("Ed25519", {"kid": secrets.token_hex(4)}),
            "EdDSA": lambda: OKPKey.generate_key("Ed25519", {"kid": secrets.token_hex(4)}),
        }
        self.algorithm = algorithm
        self.key: Any = made[algorithm]()

    def routes(self) -> list[web.RouteDef]:
        """Its endpoints."""
        return [
            web.get("/.well-known/openid-configuration", self._metadata),
            web.get("/authorize", self._authorize),
            web.post("/token", self._token),
            web.get("/keys", self._keys),
        ]

    async def _metadata(self, _: web.Request) -> web.Response:
        self._require_there()
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )

    async def _keys(self, _: web.Request) -> web.Response:
        self._require_there()
        self.keys_read += 1
        return web.json_response({"keys": [self.key.as_dict(private=False) | {"use": "sig"}]})

    async def _authorize(self, request: web.Request) -> web.Response:
        """Signs the subject in without asking, and sends it back with a code."""
        asked = dict(request.query)
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT_ID)
        assert (asked["code_challenge_method"], "openid" in asked["scope"].split()) == ("S256", True)
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"], "iss": self.issuer})
        return web.Response(status=303, headers={"Location": f"{asked['redirect_uri']}?{back}"})

    async def _token(self, request: web.Request) -> web.Response:
        """The token for a code: once, to its client, for its redirect address and its verifier."""
        self._require_there()
        sent = await request.post()
        asked = self._codes.pop(str(sent.get("code")), None)
        pair = base64.b64encode(f"{CLIENT_ID}:{quote(CLIENT_SECRET, safe='')}".encode()).decode()
        if asked is None:
            return self._refuse("no such code, or it was used")
        if request.headers.get("Authorization") != f"Basic {pair}":
            return self._refuse("client")
        if sent.get("redirect_uri") != asked["redirect_uri"]:
            return self._refuse("redirect_uri")
        digest = hashlib.sha256(str(sent.get("code_verifier")).encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return self._refuse("code_verifier")
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "sub": self.subject, "iat": now, "exp": now + 60}
        return web.json_response({"id_token": self.token(self.twist(claims | {"nonce": asked["nonce"]}))})

    def token(self, claims: Claims) -> str:
        """These claims as a token, signed as the test wants it."""
        header = {"alg": self.algorithm, "kid": self.key.kid} | self.header
        unsigned = f"{jwt_part(header)}.{jwt_part(claims)}"
        if header["alg"] == "none":
            return f"{unsigned}."
        if header["alg"] == "HS256":  # with the public key for a shared secret
            made = hmac.digest(self.key.as_pem(private=False), unsigned.encode(), "sha256")
            return f"{unsigned}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"
        key = self.signs_with or self.key
        return jwt.encode(header, claims, key, algorithms=["RS256", "ES256", "EdDSA", "Ed25519"])

    def _refuse(self, why: str) -> web.Response:
        self.refused.append(why)
        return web.json_response({"error": "invalid_grant"}, status=400)

    def _require_there(self) -> None:
        if self.away:
            raise web.HTTPServiceUnavailable


def jwt_part(content: dict[str, Any]) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@contextlib.asynccontextmanager
async def provider_running() -> AsyncIterator[Provider]:
    """A provider on a free port."""
    provider = Provider()
    app = web.Application()
    app.add_routes(provider.routes())
    server = TestServer(app)
    await server.start_server()
    provider.issuer = str(server.make_url("")).rstrip("/")
    try:
        yield provider
    finally:
        await server.close()
